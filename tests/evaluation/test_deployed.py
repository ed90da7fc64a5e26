import numpy as np
import pytest

from evaluation.deployed import compare
from utils.errors import WeightsError


def test_the_difference_is_a_share_of_the_images_highest_probability():
    wanted = np.array([[0.5, 0.25, 0.25], [0.002, 0.001, 0.001]])
    assert compare(wanted, wanted, "x") == 0
    near = wanted + [[0, 0.0002, 0], [0, 0, 0.000001]]
    assert compare(wanted, near, "x") == pytest.approx(0.0005)
    for far in ([[0, 0.001, 0], [0, 0, 0]], [[0, 0, 0], [0, 0.00001, 0]], [[0, 0, 0], [0, 0, np.nan]]):
        with pytest.raises(WeightsError, match="x does not agree"):
            compare(wanted, wanted + far, "x")


def test_a_changed_top_class_is_a_failure_however_small_the_difference():
    wanted, found = np.array([[0.50001, 0.49999]]), np.array([[0.49999, 0.50001]])
    with pytest.raises(WeightsError, match="on 1 of 1 images the top class changes"):
        compare(wanted, found, "x")
