"""What a run leaves for VisualDL, read as its server reads it."""

import contextlib
import errno
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from visualdl import LogReader
from visualdl.server import lib

from datasets.batch import Batch, Mix
from evaluation.scores import Scores
from reproduction.scheduler import in_use
from training.advice import Advice
from training.runlog import RunLog
from utils import system


@pytest.fixture
def log(tmp_path):
    with contextlib.closing(RunLog(str(tmp_path / "output"), str(tmp_path / "visual"), "pets_mixup")) as log:
        log.start(0, 9)
        log.advice = Advice(print, 2, None, 9)
        yield log


def batch(mixed):
    images, targets = paddle.zeros([2, 3, 8, 8]), paddle.to_tensor(np.eye(2, dtype="float32"))
    partner = paddle.to_tensor([1, 0])
    return Batch(images, targets, partner, Mix(images, partner, 0.75) if mixed else None)


def panels(log):
    reader = LogReader(file_path=str(log.visual_dir / "vdlrecords.run.log"))
    return [record.id for record in reader.get_data("image", "train/mixed")]


def test_a_run_that_starts_again_forgets_its_table(tmp_path):
    for _ in range(2):
        with contextlib.closing(RunLog(str(tmp_path), str(tmp_path / "visual"), "pets_l2")) as log:
            log.start(0, 9)
            assert log.rows == []
            log.replace_earlier(log.path("_Last.pdparams"))
            assert not log.path(".csv").exists()
            log.path(".csv").write_text("step\n3\n")


def test_a_file_system_without_locks_will_do(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(system, "take_lock", flock)
    RunLog(str(tmp_path), str(tmp_path / "visual"), "pets_l2").close()
    assert not in_use(tmp_path / "pets_l2.txt")


def test_the_first_mixed_batch_is_shown_and_no_other(log):
    for step, mixed in ((1, False), (2, True), (3, True)):
        log.mixed(step, batch(mixed), ["cat", "dog"])
    log.summary(SUMMARY)
    assert panels(log) == [2]


def test_a_batch_that_is_not_shown_costs_nothing(log):
    log.mixed(1, SimpleNamespace(mix=None), [])  # nothing else of it is looked at
    log.mixed(1, batch(True), ["cat", "dog"])
    log.mixed(2, SimpleNamespace(mix=True), [])


OPTIONS = {"regularizer": "mixup", "lr": 0.01, "val_split": None, "amp": "off", "keep_aspect": True, "gpu": -1}
OPTIONS.update({"name": "pets", "run": "pets_mixup", "save": "output", "method": {"alpha": 0.2}})
SUMMARY = SimpleNamespace(teacher=None, best={"acc": 62.5, "step": 3}, options=OPTIONS, to_dict=dict)


def test_runs_can_be_compared_by_options_and_final_accuracies(log, tmp_path):
    for step, accuracy in ((3, 62.5), (9, 50.0)):
        log.training(step, 0.01, {"loss": 1.0, "ce": 1.0}, 40.0, 100.0)
        scores = Scores(8, {"acc": accuracy, "acc5": 90.0, "loss": 0.75, "class_acc": 60.0})
        log.evaluation(step, scores, step == 3)
    log.summary(SUMMARY)
    (run,) = lib.get_hparam_list(LogReader(logdir=str(tmp_path / "visual")))
    assert list(run["hparams"]) == ["regularizer", "alpha", "lr", "amp", "keep_aspect"]
    assert {name: pytest.approx(value) for name, value in run["metrics"].items()} == {
        "val_acc": 50.0,
        "val/best_acc": 62.5,
        "val/acc5": 90.0,
        "val_loss": 0.75,
        "val/class_acc": 60.0,
    }
    assert run["hparams"]["alpha"] == pytest.approx(0.2)
