"""Defaults that follow the length of a run: the reference's values at 9,000 updates, sensible ones at any other."""

import math

import pytest

import regularizers
from training.parsing import parse
from utils.shares import HalfLife, Period, Share, at

LENGTHS = [1, 2, 7, 60, 300, 1999, 8999, 9000, 20000]


@pytest.mark.parametrize("value", [Share(1000), Period(6666), Period(500), Period(50), HalfLife(0.9999), HalfLife(1.0)])
def test_at_9000_updates_a_default_is_what_is_written(value):
    assert at(value, 9000) == value
    assert type(at(value, 9000)) in (int, float)


def test_a_share_of_another_length_is_what_is_written_there():
    assert (Period(200, 300).at(300), Share(33, 300).at(300), HalfLife(0.99, 300).at(300)) == (200, 33, 0.99)
    assert (Period(200, 300).at(9000), Share(33, 300).at(9000)) == (6000, 990)


@pytest.mark.parametrize("steps", LENGTHS)
def test_every_length_has_its_parts(steps):
    drop, tail = Period(6666).at(steps), Share(1000).at(steps)
    assert abs(drop - steps * 6666 / 9000) <= 1
    assert abs(tail - steps / 9) <= 0.5 or steps == 1
    assert 1 <= drop <= max(1, steps - 1)
    assert 0 <= tail < steps
    half_life = math.log(0.5) / math.log(HalfLife(0.9999).at(steps))
    assert half_life / steps == pytest.approx(math.log(0.5) / math.log(0.9999) / 9000, rel=1e-9)


@pytest.mark.parametrize("value", [7, 0.5, "step", None, True])
def test_other_values_are_left_alone(value):
    assert at(value, 3) is value


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("name", regularizers.REGULARIZERS)
def test_every_method_has_options_at_any_length(name, steps):
    options = parse(["--train_dir", "a", "--regularizer", name, "--max_iters", str(steps)])
    assert 1 <= options.lr_drop <= max(1, steps - 1)
    assert 1 <= options.eval_frequency <= max(1, steps - 1)
    assert set(options.following()) >= {"lr_drop", "eval_frequency", "print_frequency"}
    assert all(type(value) in (int, float) for value in options.following().values())
    assert options.save_frequency == options.eval_frequency


def test_what_is_given_does_not_follow():
    options = parse(
        [
            "--train_dir",
            "a",
            "--max_iters",
            "90",
            "--lr_drop",
            "77",
            "--clean_tail",
            "3",
            "--ema_decay",
            "0.5",
            "--eval_frequency",
            "90",
        ]
    )
    assert (options.lr_drop, options.method["clean_tail"], options.method["ema_decay"]) == (77, 3, 0.5)
    assert (options.eval_frequency, options.print_frequency) == (90, 1)
