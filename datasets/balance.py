"""Classes of unequal size made equal: in the draws of the images, or by weights of their losses."""

from __future__ import annotations

import numpy as np

from utils.rng import generator


class BalancedOrder:
    """An endless order of images in which each class is drawn equally often.

    The order is cut into rounds. A round has one image of each class that has any, in a random order of the classes; a
    class goes through random permutations of its images, one after the other. So after any number of draws two classes
    differ by one at most, and so do two images of a class. It depends on the seed and the place in the order alone.

    Args:
        labels: the class of each image, int64 [N].
        seed: of the run.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._seed = seed

    def __call__(self, batch_size: int, step: int) -> np.ndarray:
        """Return which images step number `step` trains on, int64 [batch_size]."""
        places = np.arange(step * batch_size, (step + 1) * batch_size)
        rounds, turns = (part.tolist() for part in np.divmod(places, len(self._members)))
        classes = {number: self._permutation(len(self._members), 0, number) for number in {*rounds}}
        return np.array([self._image(int(classes[number][turn]), number) for number, turn in zip(rounds, turns)])

    def _image(self, member: int, number: int) -> int:
        """Return the image of class `member` in round `number`."""
        images = self._members[member]
        epoch, place = divmod(number, len(images))
        return images[self._permutation(len(images), 1 + member, epoch)[place]]

    def _permutation(self, count: int, *position: int) -> np.ndarray:
        return generator(self._seed, "balance", *position).permutation(count)


def class_weights(class_counts: np.ndarray) -> np.ndarray:
    """Return a weight for each class, inverse to its number of images; its mean over the images is 1.

        w_c = N / (K n_c),   N images, n_c of class c, K classes with images

    Args:
        class_counts: the number of images of each class, [C].

    Returns:
        float64 [C]; 0 for a class without images, which no target has a part in.
    """
    present = class_counts > 0
    return class_counts.sum() / (present.sum() * np.where(present, class_counts, 1)) * present
