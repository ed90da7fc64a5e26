"""How long runs would take, and what is said of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from reproduction import budget
from reproduction.budget import Times
from reproduction.progress import Progress
from reproduction.runs import Run

OPTIONS = {"model_arch": "resnet8", "image_size": 32, "batch_size": 8, "batch_size_eval": 4, "max_iters": 100}


def options(**more):
    return SimpleNamespace(**{**OPTIONS, "eval_frequency": 30, "val_split": None, **more})


def test_a_run_is_its_updates_its_evaluations_and_its_starts():
    times = Times(step=2.0, image=0.5, start=7.0, megabytes=1.0)
    # 100 updates, 4 evaluations and 1 score of 10 images, 2 processes
    assert times.run(options(), images=10, scores=1) == 100 * 2 + (4 + 1) * 10 * 0.5 + 2 * 7


def test_a_network_is_timed_in_another_process(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    times = budget.measure("resnet8", 32, 8, 4, -1)
    assert times.step > 0
    assert times.image > 0
    assert times.start > 0.1  # importing paddle alone takes longer
    assert times.megabytes == pytest.approx(4 * 4 * 88_120 / 1e6, rel=0.2)
    assert budget.measure("resnet51", 32, 8, 4, -1) is None


class Fake:
    """What `estimate` needs of a run."""

    def __init__(self, name, seconds=None, folder="val", folds=0, **more):
        self.name, self.folds, self.options = name, folds, options(**more)
        self.seconds, self.files = (lambda: seconds), (lambda ending: [ending] * (folds + 1))
        self.recipe = SimpleNamespace(scores={"test": {}})

    parsed = lambda self: self.options  # noqa: E731
    folder = lambda self, part: part  # noqa: E731
    summary = lambda self: {"options": vars(self.options)}  # noqa: E731


def test_finished_runs_tell_more_than_timing(monkeypatch):
    timed = []
    monkeypatch.setattr(budget, "measure", lambda *network: timed.append(network) or Times(1.0, 0.0, 0.0, 3.0))
    monkeypatch.setattr(budget, "_count", lambda folder: 10)
    left = [Fake("a"), Fake("b", max_iters=50), Fake("c", max_iters=70)]
    seconds, megabytes, basis = budget.estimate(left, [Fake("x", 11.0), Fake("y", 13.0)], -1)
    assert seconds == {"a": 12.0, "b": 50.0, "c": 70.0}
    assert timed == [("resnet8", 32, 8, 4, -1)]
    assert megabytes == 6.0
    assert basis.startswith("2 finished runs and a few timed updates")


def test_only_the_share_that_is_held_out_is_scored(monkeypatch):
    monkeypatch.setattr(budget, "measure", lambda *_: Times(0.0, 1.0, 0.0, 3.0))
    monkeypatch.setattr(budget, "_count", lambda folder: 10)
    seconds, _, _ = budget.estimate([Fake("a"), Fake("b", val_split=0.2)], [], -1)
    assert seconds["a"] == 5 * seconds["b"]


def test_folds_are_a_run_each_and_one_of_all_images(monkeypatch):
    monkeypatch.setattr(budget, "measure", lambda *_: Times(1.0, 0.0, 0.0, 3.0))
    monkeypatch.setattr(budget, "_count", lambda folder: 10)
    left = [Fake("a", folds=4, max_iters=7), Fake("b", max_iters=50)]
    seconds, megabytes, _ = budget.estimate(left, [Fake("x", 11.0, max_iters=7)], -1)
    assert (seconds, megabytes) == ({"a": 5 * 7, "b": 50}, 6 * 3.0)
    seconds, _, _ = budget.estimate(left[:1], [Fake("x", 11.0, max_iters=7), Fake("y", 9.0, folds=4, max_iters=7)], -1)
    assert seconds == {"a": 9.0}


def test_without_a_timing_nothing_is_foretold(monkeypatch):
    monkeypatch.setattr(budget, "measure", lambda *_: None)
    seconds, _, _ = budget.estimate([Fake("a")], [], -1)
    assert seconds == {}
    assert "no estimate" in Progress(1, seconds, 1).budget("")


def test_the_time_left_follows_how_long_runs_really_take(capsys):
    progress = Progress(4, {"a": 100.0, "b": 100.0, "c": 300.0}, processes=2)
    assert progress.left() == (100 + 100 + 300 + 500 / 3) / 2  # the one it does not know is average
    progress.ended("a", "A", 200.0, "acc 1.00", failed=False, running=1)
    assert progress.left() == pytest.approx(2 * (100 + 300 + 500 / 3) / 2)
    progress.ended("b", "B", 1.0, "broken", failed=True, running=1)  # says nothing about the others
    assert progress.left() == pytest.approx(2 * (300 + 500 / 3) / 2)
    progress.ended("c", "C", 600.0, "acc 2.00", failed=False, running=1)
    progress.ended("d", "D", 9.0, "acc 3.00", failed=False, running=0)
    progress.bar.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "done A: acc 1.00  [1/4 ended, 1 running, 0 failed, 9 min left]"
    assert lines[1].startswith("FAILED B: broken  [2/4 ended, 1 running, 1 failed, ")
    assert lines[3] == "done D: acc 3.00  [4/4 ended, 0 running, 1 failed]"
    assert progress.failures == {"B": "broken"}


def test_the_stand_in_has_what_a_run_has():
    assert all(hasattr(Run, name) for name in ("parsed", "folder", "summary", "name", "seconds", "files", "folds"))
