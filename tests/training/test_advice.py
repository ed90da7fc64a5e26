"""What a run says of its own numbers: each thing once, and nothing of ordinary ones."""

import math

import pytest

from training.advice import Advice


@pytest.fixture
def said():
    return []


@pytest.fixture
def advice(said):
    return Advice(said.append, classes=22, source_classes=1000, total=900)


def rows(*values):
    """Return the table of a run: (step, train_acc, val_acc) each, as text like that of a resumed run."""
    return [{"step": str(step), "train_acc": str(train), "val_acc": str(val)} for step, train, val in values]


@pytest.mark.parametrize(
    "value, lines", [(math.log(22), 0), (1.49 * math.log(22), 0), (1.51 * math.log(22), 1), (60, 1)]
)
def test_a_first_cross_entropy_far_above_guessing(advice, said, value, lines):
    advice.first(value)
    assert len(said) == lines
    assert all("guessing has 3.1" in line and "--head_init zero" in line for line in said)


def test_a_rate_that_diverges_is_said_once_and_not_at_the_start(advice, said):
    advice.report(50, {"ce": 9.0})
    assert said == []
    for done in (100, 150, 200):
        advice.report(done, {"ce": 9.0})
    assert len(said) == 1
    assert "try a tenth of --lr" in said[0]


@pytest.mark.parametrize("classes, value, lines", [(1, 0.0, 1), (1, 0.1, 0), (2, 0.0, 0), (None, 0.0, 0)])
def test_a_source_of_one_output_makes_a_term_zero(said, classes, value, lines):
    advice = Advice(said.append, 22, classes, 900)
    for done in (1, 2):
        advice.report(done, {"ce": 1.0, "fea": 0.3, "aux": value})
    assert len(said) == lines
    assert all(line.startswith("the term aux is 0") for line in said)


FELL = [(100, 90.0, 64.0), (200, 100.0, 62.0), (300, 100.0, 61.0)]


def test_everything_learned_while_the_evaluation_falls(advice, said):
    advice.evaluation(rows(*FELL))
    advice.evaluation(rows(*FELL, (400, 100.0, 60.0)))
    assert len(said) == 1
    assert "fell from 64.0 % at step 100" in said[0]
    assert "--max_iters 100" in said[0]


@pytest.mark.parametrize(
    "table",
    [
        FELL[:2],
        [*FELL[:2], (300, 100.0, 62.5)],  # it rises again
        [*FELL[:2], (300, 99.0, 61.0)],  # something is left to learn
        [(500, 90.0, 64.0), (600, 100.0, 62.0), (800, 100.0, 61.0)],  # nearly done
        [],
    ],
)
def test_other_tables_are_ordinary(advice, said, table):
    advice.evaluation(rows(*table))
    assert said == []
