"""Draws and weights for classes of unequal size."""

from __future__ import annotations

from collections import Counter

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.balance import BalancedOrder, class_weights
from datasets.cache import StreamedImages
from datasets.folder import scan
from datasets.loader import Dataset, training_batches
from datasets.preprocess import Preprocess
from tests.pictures import write_folder

UNEQUAL = np.array([2] * 7 + [0] + [5] * 3)  # classes 1, 3 and 4 have no image


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=25), st.integers(1, 9), st.integers(0, 60), st.integers(0, 9))
def test_after_any_number_of_draws_classes_and_images_are_equal(labels, batch_size, steps, seed):
    labels = np.array(labels)
    order = BalancedOrder(labels, seed)
    drawn = np.concatenate([order(batch_size, step) for step in range(steps + 1)])
    assert drawn.dtype == np.int64
    of_classes = Counter({int(label): 0 for label in labels})
    of_classes.update(labels[drawn].tolist())
    assert max(of_classes.values()) - min(of_classes.values()) <= 1
    for label in of_classes:
        of_images = np.bincount(drawn, minlength=len(labels))[labels == label]
        assert of_images.max() - of_images.min() <= 1


def test_rounds_and_epochs_are_in_random_orders():
    order = BalancedOrder(UNEQUAL, 3)
    rounds = UNEQUAL[order(3 * 400, 0)].reshape(400, 3)
    assert len({tuple(each) for each in rounds}) == 6
    first = [int(image) for image in order(3 * 70, 0) if UNEQUAL[image] == 2]
    epochs = [first[start : start + 7] for start in range(0, 70, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10
    assert not np.array_equal(order(12, 0), BalancedOrder(UNEQUAL, 4)(12, 0))


def test_it_depends_on_seed_and_place_alone():
    order = BalancedOrder(UNEQUAL, 3)
    whole = np.concatenate([order(5, step) for step in range(20)])
    np.testing.assert_array_equal(whole, BalancedOrder(UNEQUAL, 3)(100, 0))
    np.testing.assert_array_equal(whole[85:90], BalancedOrder(UNEQUAL, 3)(5, 17))


def test_one_class_goes_through_its_images():
    assert sorted(BalancedOrder(np.array([4, 4, 4]), 0)(3, 5).tolist()) == [0, 1, 2]


@pytest.mark.parametrize("counts", [[5, 1, 94], [3], [7, 7], [1, 0, 9, 0]])
def test_weights_are_inverse_to_the_counts_and_1_on_average(counts):
    counts = np.array(counts)
    weights = class_weights(counts)
    present = counts > 0
    assert (counts * weights).sum() / counts.sum() == pytest.approx(1)
    products = (counts * weights)[present]
    np.testing.assert_allclose(products, products[0])  # each class weighs the same
    assert not weights[~present].any()
    assert weights[present].min() > 0


@pytest.fixture
def images(tmp_path):
    root = write_folder(tmp_path, count=6)
    for number in range(1, 6):
        (root / "dog" / f"{number:03d}.png").unlink()
    found = scan(root)
    return Dataset.of(StreamedImages(found, Preprocess(32, 37)), [*found.class_names, "fox"])  # a class without images


def test_batches_are_drawn_so_only_when_asked(images):
    def classes(balanced):
        batches = training_batches(images, 6, seed=1, balanced=balanced)
        return sum(next(batches).targets.numpy().sum(axis=0) for _ in range(4))

    np.testing.assert_array_equal(classes(True), [8, 8, 8, 0])
    assert classes(False)[1] < 4


def test_a_resumed_run_and_each_rank_repeat_the_draws(images):
    def batch(start, shard=slice(None)):
        return next(training_batches(images, 8, seed=1, start=start, shard=shard, balanced=True))

    run = training_batches(images, 8, seed=1, balanced=True)
    for _ in range(4):
        fourth = next(run)
    late, halves = batch(3), [batch(3, slice(start, start + 4)) for start in (0, 4)]
    assert paddle.equal_all(fourth.images, late.images)
    assert fourth.index.tolist() == late.index.tolist() == [i for half in halves for i in half.index.tolist()]
    assert paddle.equal_all(paddle.concat([half.images for half in halves]), late.images)
