import numpy as np
import paddle
import pytest

from utils.batch import Batch
from utils.errors import Diverged
from utils.meter import Meter


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
