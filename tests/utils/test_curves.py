import pytest
from PIL import Image
from visualdl import LogReader

from utils import curves

ROWS = [{"step": s, "train_loss": 3 / s, "val_loss": 4 / s, "train_acc": s, "val_acc": s / 2} for s in (1, 2, 3)]


def points(folder, tag):
    reader = LogReader(file_path=str(folder / curves.VISUAL_FILE))
    return [(record.id, round(record.value, 4)) for record in reader.get_data("scalar", tag)]


def test_the_picture_is_drawn(tmp_path):
    curves.draw(tmp_path / "run.png", "run", ROWS)
    with Image.open(tmp_path / "run.png") as image:
        assert image.size[0] > 800


def test_a_resumed_curve_has_no_step_twice(tmp_path):
    writer = curves.open_writer(tmp_path, 0, pytest.fail)
    for step in (1, 2, 3, 4):
        writer = curves.add(writer, step, {"train_loss": step / 10, "val/acc5": step}, pytest.fail)
    writer.close()
    writer = curves.open_writer(tmp_path, 2, pytest.fail)
    for step in (3, 4, 5):
        writer = curves.add(writer, step, {"train_loss": step / 10}, pytest.fail)
    writer.close()
    assert points(tmp_path, "train_loss") == [(s, s / 10) for s in (1, 2, 3, 4, 5)]
    assert points(tmp_path, "val/acc5") == [(1, 1), (2, 2)]
    curves.open_writer(tmp_path, 0, pytest.fail).close()
    assert (tmp_path / curves.VISUAL_FILE).stat().st_size < 100


def test_a_torn_record_is_dropped(tmp_path):
    writer = curves.add(curves.open_writer(tmp_path, 0, pytest.fail), 1, {"a": 1.0}, pytest.fail)
    writer.close()
    path = tmp_path / curves.VISUAL_FILE
    path.write_bytes(path.read_bytes() + b"\x50\0\0\0\0\0\0\0half")
    curves.open_writer(tmp_path, 1, pytest.fail).close()
    assert points(tmp_path, "a") == [(1, 1.0)]


def test_a_fault_in_visualdl_warns_once(tmp_path):
    class Broken:
        def add_scalar(self, **_):
            raise RuntimeError("broken")

    warnings = []
    writer = curves.add(Broken(), 1, {"a": 1.0}, warnings.append)
    assert curves.add(writer, 2, {"a": 1.0}, warnings.append) is None
    assert len(warnings) == 1
    (tmp_path / "file").write_text("")
    assert curves.open_writer(tmp_path / "file", 0, warnings.append) is None
    assert len(warnings) == 2
