import io

import numpy as np
import pytest
import visualdl
from PIL import Image
from visualdl import LogReader

from datasets.preprocess import MEAN, STD
from evaluation import curves

ROWS = [{"step": s, "train_loss": 3 / s, "val_loss": 4 / s, "train_acc": s, "val_acc": s / 2} for s in (1, 2, 3)]


def points(folder, tag):
    reader = LogReader(file_path=str(folder / curves.VISUAL_FILE))
    return [(record.id, round(record.value, 4)) for record in reader.get_data("scalar", tag)]


def test_the_picture_is_drawn(tmp_path):
    curves.draw(tmp_path / "run.png", "run", ROWS)
    with Image.open(tmp_path / "run.png") as image:
        assert image.size[0] > 800


def written(folder, step, curve):
    """Write `curve`, the values of each step, with a log that goes on after `step`."""
    log = curves.VisualLog(folder, step, pytest.fail)
    for place, values in curve.items():
        log.scalars(place, values)
    log.close()


def test_a_resumed_curve_has_no_step_twice(tmp_path):
    written(tmp_path, 0, {step: {"train_loss": step / 10, "val/acc5": step} for step in (1, 2, 3, 4)})
    written(tmp_path, 2, {step: {"train_loss": step / 10} for step in (3, 4, 5)})
    assert points(tmp_path, "train_loss") == [(s, s / 10) for s in (1, 2, 3, 4, 5)]
    assert points(tmp_path, "val/acc5") == [(1, 1), (2, 2)]
    written(tmp_path, 0, {})
    assert (tmp_path / curves.VISUAL_FILE).stat().st_size < 100


def test_a_torn_record_is_dropped(tmp_path):
    written(tmp_path, 0, {1: {"a": 1.0}})
    path = tmp_path / curves.VISUAL_FILE
    path.write_bytes(path.read_bytes() + b"\x50\0\0\0\0\0\0\0half")
    written(tmp_path, 1, {})
    assert points(tmp_path, "a") == [(1, 1.0)]


def test_a_fault_in_visualdl_warns_once(tmp_path, monkeypatch):
    class Broken(visualdl.LogWriter):
        def add_scalar(self, **_):
            raise RuntimeError("broken")

    warnings = []
    with monkeypatch.context() as patched:
        patched.setattr(visualdl, "LogWriter", Broken)
        log = curves.VisualLog(tmp_path / "run", 0, warnings.append)
    for step in (1, 2):
        log.scalars(step, {"a": 1.0})
    log.close()
    assert warnings == ["WARNING: no VisualDL curves from here on: broken"]
    (tmp_path / "file").write_text("")
    log = curves.VisualLog(tmp_path / "file", 0, warnings.append)
    log.scalars(1, {"a": 1.0})
    log.close()
    assert len(warnings) == 2
    assert warnings[1].startswith("WARNING: no VisualDL curves: ")


def test_a_panel_shows_the_images_in_their_colours_and_their_labels():
    colours = np.array([(0, 0, 1), (0.5, 0.25, 0.75)])
    images = np.broadcast_to(((colours - MEAN) / STD)[:, :, None, None], (2, 3, 8, 8))
    targets = np.array([[0.7, 0.3, 0], [0, 1, 0]])
    names = ("$a$ 鳥", "b" * 300, "c")
    shown = curves.panel(images.astype("float32"), targets, names)
    assert {(0, 0, 255), (127, 63, 191)} <= set(map(tuple, shown.reshape(-1, 3).tolist()))
    other = curves.panel(images.astype("float32"), targets, ("other", "b" * 300, "c"))
    assert (shown != other).any()


def test_images_and_options_are_records_that_a_resumed_run_keeps(tmp_path):
    log = curves.VisualLog(tmp_path, 0, pytest.fail)
    images, targets = np.zeros((9, 3, 8, 8), "float32"), np.eye(9, dtype="float32")
    for step in (2, 5):
        log.image(step, "train/mixed", images, targets, "abcdefghi")
    log.options({"lr": 0.5, "wd": 0, "cut": True, "of": "l2"}, ["val_acc"])
    log.close()
    written(tmp_path, 4, {})
    reader = LogReader(file_path=str(tmp_path / curves.VISUAL_FILE))
    (panel,) = reader.get_data("image", "train/mixed")
    assert panel.id == 2
    with Image.open(io.BytesIO(panel.image.encoded_image_string)) as image:
        assert image.size == (800, 450)
    (record,) = reader.get_data("hyper_parameters", "hparam")
    found = {info.name: getattr(info, info.WhichOneof("type")) for info in record.hparam.hparamInfos}
    assert found == {"lr": 0.5, "wd": 0, "cut": 1, "of": "l2"}
    assert [info.name for info in record.hparam.metricInfos] == ["val_acc"]
