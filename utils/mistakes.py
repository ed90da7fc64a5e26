"""What a network gets right and wrong, by class, pair of classes and image; and how two networks differ in it."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, softmax

from datasets.batches import ImageSet
from utils import pictures
from utils.files import write_text

WORST = 40  # images in the picture of the worst
RESAMPLES = 10_000

Ranking = list[tuple[str, float]]  # classes and their probabilities, the highest first


def write(folder: str | os.PathLike, images: ImageSet, logits: np.ndarray, top_k: int = 5) -> float:
    """Write the report of one network into `folder`.

    It is per_class.csv, confusion.csv and .png, confused_pairs.csv, predictions.csv and worst.png.

    Args:
        folder: made when it is absent; files of these names are replaced.
        images: the images scored, with their labels.
        logits: of the network for them, in order, [N, K].
        top_k: classes named for each image in predictions.csv.

    Returns:
        The mean accuracy over the classes in percent.
    """
    folder = Path(folder)
    matrix = confusion(images.labels, logits.argmax(axis=1), len(images.classes))
    write_text(folder / "per_class.csv", _csv(per_class(matrix, images.classes)))
    corner = "true class (rows), predicted class (columns)"
    rows = [{corner: name, **dict(zip(images.classes, row.tolist()))} for name, row in zip(images.classes, matrix)]
    write_text(folder / "confusion.csv", _csv(rows))
    pairs = confused_pairs(matrix, images.classes)
    write_text(folder / "confused_pairs.csv", _csv(pairs, ("true", "predicted", "images", "share")))
    write_text(folder / "predictions.csv", _predictions(images, logits, top_k))
    pictures.confusion_matrix(folder / "confusion.png", matrix, images.classes)
    worst_picture(folder / "worst.png", images, logits)
    return mean_class_accuracy(matrix)


def confusion(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """Return how many images of each true class (row) were taken for each class (column), int64 [count, count]."""
    return np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)


def mean_class_accuracy(matrix: np.ndarray) -> float:
    """Return the mean over the classes of the accuracy on each, in percent; a class without images does not count."""
    images = matrix.sum(axis=1)
    return float(100 * np.mean(matrix.diagonal()[images > 0] / images[images > 0]))


def per_class(matrix: np.ndarray, classes: list[str]) -> list[dict]:
    """Return a row for each class: its images, the share that is right in percent, what it is most often taken for."""
    rows = []
    for label, name in enumerate(classes):
        images, correct = int(matrix[label].sum()), int(matrix[label, label])
        wrong = np.where(np.arange(len(classes)) == label, 0, matrix[label])
        other = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "images": images,
                "correct": correct,
                "accuracy": f"{100 * correct / images:.2f}" if images else "",
                "most_confused_with": classes[other] if wrong[other] else "",
                "confused_images": int(wrong[other]),
            }
        )
    return rows


def confused_pairs(matrix: np.ndarray, classes: list[str]) -> list[dict]:
    """Return every pair of a true class and another it was taken for, the most images first.

    `share` is the part of the true class's images in percent.
    """
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    return [
        {
            "true": classes[true],
            "predicted": classes[predicted],
            "images": int(wrong[true, predicted]),
            "share": f"{100 * wrong[true, predicted] / matrix[true].sum():.2f}",
        }
        for true, predicted in zip(*np.unravel_index(order, matrix.shape))
    ]


def top(probabilities: np.ndarray, classes: list[str], k: int) -> list[Ranking]:
    """Return the `k` likeliest classes of each row of `probabilities` [N, K]; of equal ones the first comes first."""
    order = (-probabilities).argsort(axis=1, kind="stable")[:, :k]
    return [[(classes[i], float(row[i])) for i in best] for best, row in zip(order, probabilities)]


def ranking_header(k: int) -> list[str]:
    """Return the names of the columns that `ranking_cells` fills."""
    names = ["predicted", "probability"]
    return names + [f"{name}_{place}" for place in range(2, k + 1) for name in names]


def ranking_cells(ranking: Ranking) -> list[str]:
    """Return the classes and probabilities of one image as cells of a table."""
    return [cell for name, probability in ranking for cell in (name, f"{probability:.6f}")]


def _predictions(images: ImageSet, logits: np.ndarray, k: int) -> str:
    rankings = top(softmax(logits.astype("float64"), axis=1), images.classes, k)
    header = ["path", "true", *ranking_header(len(rankings[0]))]
    true = [images.classes[label] for label in images.labels]
    lines = [[path, name, *ranking_cells(ranking)] for path, name, ranking in zip(images.paths, true, rankings)]
    return _csv([dict(zip(header, line)) for line in lines])


def worst_picture(path: str | os.PathLike, images: ImageSet, logits: np.ndarray, limit: int = WORST) -> None:
    """Draw the `limit` images with the highest cross-entropy: what was predicted, what is true and how likely it was.

    A bar is red where the prediction is wrong and green where it is right.
    """
    logs = log_softmax(logits.astype("float64"), axis=1)
    losses = -logs[np.arange(len(logs)), images.labels]
    tiles = []
    for i in np.argsort(-losses, kind="stable")[:limit]:
        label, predicted = images.labels[i], logs[i].argmax()
        tiles.append(
            pictures.Tile(
                path=images.store.images.root / images.paths[i],
                name=images.classes[predicted],
                share=float(np.exp(logs[i, predicted])),
                note=f"true: {images.classes[label]} ({100 * np.exp(-losses[i]):.1f} %)",
                colour=pictures.GREEN if predicted == label else pictures.RED,
            )
        )
    pictures.contact_sheet(path, f"The {len(tiles)} worst of {len(images)} images, the highest loss first", tiles)


def _csv(rows: list[dict], header: tuple[str, ...] | None = None) -> str:
    content = io.StringIO()
    writer = csv.DictWriter(content, header or rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue()


@dataclass(frozen=True)
class Comparison:
    """Two networks, A and B, on the same images.

    Attributes:
        count: the images.
        correct_a: images that A has right.
        correct_b: images that B has right.
        only_a: images that A alone has right.
        only_b: images that B alone has right.
        low: lower end of the 95 % interval of `difference`.
        high: its upper end.
        p_value: of McNemar's exact test, two-sided: how likely so uneven a split of the images that one network alone
            has right is when both are equally good.
    """

    count: int
    correct_a: int
    correct_b: int
    only_a: int
    only_b: int
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of B minus that of A, in percentage points."""
        return 100 * (self.only_b - self.only_a) / self.count

    def __str__(self) -> str:
        return (
            f"A {100 * self.correct_a / self.count:.2f} %, B {100 * self.correct_b / self.count:.2f} %: "
            f"B - A = {self.difference:+.2f} points, 95 % interval {self.low:+.2f} to {self.high:+.2f}; "
            f"right in A alone {self.only_a}, in B alone {self.only_b} of {self.count} images, "
            f"McNemar's exact p = {self.p_value:.2g}"
        )


def compare(logits_a: np.ndarray, logits_b: np.ndarray, labels: np.ndarray, seed: int = 0) -> Comparison:
    """Compare two networks by the images that only one of them has right.

    Args:
        logits_a: of A, [N, K].
        logits_b: of B for the same images in the same order, [N, K].
        labels: the true classes, int [N].
        seed: of the percentile bootstrap over the images, `RESAMPLES` times.
    """
    from scipy.stats import binomtest  # takes a second: only where two are compared

    right_a, right_b = logits_a.argmax(axis=1) == labels, logits_b.argmax(axis=1) == labels
    only_a, only_b, count = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()), len(labels)
    # resampling the images is drawing how many of each kind there are
    kinds = np.array([only_a, only_b, count - only_a - only_b]) / count
    draws = np.random.default_rng(seed).multinomial(count, kinds, size=RESAMPLES)
    low, high = np.percentile(100 * (draws[:, 1] - draws[:, 0]) / count, [2.5, 97.5])
    discordant = only_a + only_b
    p_value = binomtest(only_a, discordant).pvalue if discordant else 1.0
    return Comparison(
        count=count,
        correct_a=int(right_a.sum()),
        correct_b=int(right_b.sum()),
        only_a=only_a,
        only_b=only_b,
        low=float(low),
        high=float(high),
        p_value=float(p_value),
    )
