"""Right and wrong answers of a network, by class, pair of classes and image."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from datasets import sheet
from datasets.loader import Dataset
from evaluation import confusion_matrix
from evaluation.metrics import softmax
from utils.errors import warn
from utils.files import write_text
from utils.optional import absent

WORST = 40  # images in the picture of the worst
PICTURES = ("confusion.png", "worst.png")

Ranking = list[tuple[str, float]]  # classes and their probabilities, the highest first


def write(folder: str | os.PathLike, images: Dataset, logits: np.ndarray, top_k: int = 5) -> None:
    """Write the report of one network into `folder`.

    The files are per_class.csv, confusion.csv and .png, confused_pairs.csv, predictions.csv and worst.png; without
    matplotlib a line of warning takes the place of the pictures.

    Args:
        folder: created if absent; files of these names are replaced.
        images: the images scored, with their labels.
        logits: of the network for `images`, in order, [N, K].
        top_k: classes listed for each image in predictions.csv.
    """
    folder = Path(folder)
    matrix = confusion(images.labels, logits.argmax(axis=1), len(images.class_names))
    write_text(folder / "per_class.csv", csv_text(per_class(matrix, images.class_names)))
    corner, rows = "true class (rows), predicted class (columns)", zip(images.class_names, matrix.tolist())
    cells = [{corner: name, **dict(zip(images.class_names, row))} for name, row in rows]
    write_text(folder / "confusion.csv", csv_text(cells))
    pairs = confused_pairs(matrix, images.class_names)
    write_text(folder / "confused_pairs.csv", csv_text(pairs, ("true", "predicted", "images", "share")))
    write_text(folder / "predictions.csv", _predictions(images, logits, top_k))
    lacking = absent("matplotlib")
    if lacking:
        warn(f"{folder}: without {' and '.join(PICTURES)}: {lacking}")
        return
    confusion_matrix.draw(folder / PICTURES[0], matrix, images.class_names)
    worst_picture(folder / PICTURES[1], images, logits)


def folders(root: Path, checkpoints: list[str]) -> dict[str, Path]:
    """Return a folder in `root` for each checkpoint, by its name, or by its path where two have the same name."""
    names = {path: Path(path).stem for path in checkpoints}
    if len({*names.values()}) < len(names):
        parents = [os.path.dirname(os.path.abspath(path)) for path in checkpoints]
        if len({os.path.splitdrive(parent)[0] for parent in parents}) > 1:  # on Windows
            names = {path: os.path.abspath(path).replace(":", "").lstrip("\\") for path in checkpoints}
        else:
            names = {path: os.path.relpath(path, os.path.commonpath(parents)) for path in checkpoints}
    return {path: root / name for path, name in names.items()}


def confusion(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """Return the number of images by true class (row) and predicted class (column), int64 [count, count]."""
    return np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)


def per_class(matrix: np.ndarray, class_names: list[str]) -> list[dict]:
    """Return a row for each class: images, accuracy in percent, and the class it is most often confused with."""
    rows = []
    for label, name in enumerate(class_names):
        images, correct = int(matrix[label].sum()), int(matrix[label, label])
        wrong = np.where(np.arange(len(class_names)) == label, 0, matrix[label])
        other = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "images": images,
                "correct": correct,
                "accuracy": f"{100 * correct / images:.2f}" if images else "",
                "most_confused_with": class_names[other] if wrong[other] else "",
                "confused_images": int(wrong[other]),
            }
        )
    return rows


def confused_pairs(matrix: np.ndarray, class_names: list[str]) -> list[dict]:
    """Return every pair of a true and a wrongly predicted class, the most images first.

    `share` is the percentage of the true class's images.
    """
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    return [
        {
            "true": class_names[true],
            "predicted": class_names[predicted],
            "images": int(wrong[true, predicted]),
            "share": f"{100 * wrong[true, predicted] / matrix[true].sum():.2f}",
        }
        for true, predicted in zip(*np.unravel_index(order, matrix.shape))
    ]


def top(probabilities: np.ndarray, class_names: list[str], k: int) -> list[Ranking]:
    """Return the `k` most probable classes of each row of `probabilities` [N, K]; ties keep the class order."""
    order = (-probabilities).argsort(axis=1, kind="stable")[:, :k]
    return [[(class_names[i], float(row[i])) for i in best] for best, row in zip(order, probabilities)]


def ranking_cells(ranking: Ranking) -> dict[str, str]:
    """Return the classes and probabilities of one image by their columns: `predicted`, ..., `probability_2`, ..."""
    cells = {}
    for place, (name, probability) in enumerate(ranking, 1):
        ending = f"_{place}" if place > 1 else ""
        cells.update({f"predicted{ending}": name, f"probability{ending}": f"{probability:.6f}"})
    return cells


def _predictions(images: Dataset, logits: np.ndarray, k: int) -> str:
    rankings = top(softmax(logits.astype("float64")), images.class_names, k)
    rows = zip(images.paths, images.labels, rankings)
    return csv_text([{"path": p, "true": images.class_names[label], **ranking_cells(r)} for p, label, r in rows])


def worst_picture(path: str | os.PathLike, images: Dataset, logits: np.ndarray, limit: int = WORST) -> None:
    """Draw the `limit` images with the highest cross-entropy, with predicted and true class and their probabilities.

    A bar is red where the prediction is wrong and green where it is right.
    """
    from scipy.special import log_softmax  # slow to import: only where the mistakes are reported

    logs = log_softmax(logits.astype("float64"), axis=1)
    losses = -logs[np.arange(len(logs)), images.labels]
    tiles = []
    for i in np.argsort(-losses, kind="stable")[:limit]:
        label, predicted = images.labels[i], logs[i].argmax()
        tiles.append(
            sheet.Tile(
                path=images.store.images.root / images.paths[i],
                name=images.class_names[predicted],
                share=float(np.exp(logs[i, predicted])),
                note=f"true: {images.class_names[label]} ({100 * np.exp(-losses[i]):.1f} %)",
                colour=sheet.GREEN if predicted == label else sheet.RED,
            )
        )
    sheet.contact_sheet(path, f"The {len(tiles)} worst of {len(images)} images, the highest loss first", tiles)


def csv_text(rows: list[dict], header: tuple[str, ...] | None = None) -> str:
    """Return `rows` as a CSV table; the columns are `header`, or the keys of the first row."""
    content = io.StringIO()
    writer = csv.DictWriter(content, header or rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue()
