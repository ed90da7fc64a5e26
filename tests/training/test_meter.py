from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from datasets.batch import Batch
from training.meter import Meter, Stopwatch
from utils.errors import Diverged


def batch(labels, classes=3):
    return Batch(None, paddle.to_tensor(np.eye(classes, dtype="float32")[labels]), None)


def logits(labels, classes=3):
    return paddle.to_tensor(np.eye(classes, dtype="float32")[labels])


def terms(**values):
    return {name: paddle.to_tensor(float(value)) for name, value in values.items()}


def test_means_are_over_the_steps_that_had_the_term():
    meter = Meter()
    meter.add(0, terms(ce=1, fea=4), logits([0, 1]), batch([0, 2]))
    meter.add(1, terms(ce=2, fea=6), logits([1, 1]), batch([1, 1]))
    meter.add(2, terms(ce=6), logits([2, 0]), batch([0, 0]))
    means, accuracy = meter.means()
    assert means == {"loss": pytest.approx((5 + 8 + 6) / 3), "ce": 3.0, "fea": 5.0}
    assert accuracy == pytest.approx(100 * (0.5 + 1 + 0.5) / 3)
    meter.add(3, terms(ce=7), logits([2]), batch([2]))
    assert meter.means() == ({"loss": 7.0, "ce": 7.0}, 100.0)


def test_what_was_saved_half_way_is_not_lost():
    whole, half = Meter(), Meter()
    for step in range(4):
        whole.add(step, terms(ce=step / 3), logits([0]), batch([step % 3]))
    for step in range(2):
        half.add(step, terms(ce=step / 3), logits([0]), batch([step % 3]))
    resumed = Meter()
    resumed.resume(half.state())
    for step in range(2, 4):
        resumed.add(step, terms(ce=step / 3), logits([0]), batch([step % 3]))
    assert resumed.means() == whole.means()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_term_and_step_that_diverged_are_named(bad):
    meter = Meter()
    meter.add(6, terms(ce=1, fea=1), logits([0]), batch([0]))
    meter.add(7, terms(ce=1, fea=bad), logits([0]), batch([0]))
    meter.add(8, terms(ce=bad, fea=bad), logits([0]), batch([0]))
    with pytest.raises(Diverged, match="fea is (nan|inf) at step 8;"):
        meter.means()


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves: `clock(3)` lets three seconds pass."""
    now = [100.0]
    monkeypatch.setattr("training.meter.time", SimpleNamespace(perf_counter=lambda: now[0]))
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_time_outside_the_steps_is_lost_once(clock):
    watch = Stopwatch()
    clock(7)  # before the start nothing counts
    watch.start()
    clock(6)
    with watch.exclude():
        clock(1)
        with watch.exclude():
            clock(2)
        clock(0.5)
    clock(0.5)
    assert (watch.seconds, watch.lost, watch.step_share) == (10, 3.5, 0.65)


def test_waiting_for_a_batch_is_lost_and_working_on_it_is_not(clock):
    def batches():
        for number in range(3):
            clock(1)
            yield number

    watch = Stopwatch()
    watch.start()
    seen = []
    for number in watch.data_wait(batches()):
        seen.append(number)
        clock(3)
    assert (seen, watch.lost, watch.seconds) == ([0, 1, 2], 3, 12)


def test_a_resumed_run_counts_on(clock):
    first, second = Stopwatch(), Stopwatch()
    first.start()
    clock(8)
    with first.exclude():
        clock(2)
    second.resume(**first.state())
    clock(50)  # between the two processes
    second.start()
    clock(10)
    assert (second.seconds, second.step_share) == (20, 0.9)
