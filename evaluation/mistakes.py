"""The mistakes on a page: the worst and the most confident, each with a map of what decided."""

from __future__ import annotations

import numpy as np
from PIL import Image

from datasets.loader import Dataset, normalise
from evaluation.activation import contributions, overlay, where
from evaluation.markup import escaped, picture
from evaluation.metrics import softmax
from models import Network

SHOWN = 12  # of each kind
SIDE = 144  # of a picture in pixels
_WITH = (
    "Left the image as the network sees it, right what decided between its answer and the true class: red speaks for "
    "the answer, blue for the true class. The values of such a map add up to the difference of the two logits, before "
    "any temperature and but for the biases; nothing is estimated. The map is coarser than the image, and each of its "
    "values sees more than the pixels below it."
)
_WITHOUT = (
    "No maps of what decided: the head of this network does not read the mean of a map, of which the logits would be "
    "sums."
)


def mistakes(network: Network, images: Dataset, logits: np.ndarray) -> str:
    """Return the mistakes with the highest loss and those with the highest confidence.

    Args:
        network: in eval mode; its maps are shown.
        images: what it was scored on.
        logits: that the scores are from, [N, K].
    """
    wrong = np.flatnonzero(logits.argmax(axis=1) != images.labels)
    if not len(wrong):
        return "<p>No mistake: every image is right.</p>"
    probabilities = softmax(logits[wrong].astype("float64"))
    truth = probabilities[np.arange(len(wrong)), images.labels[wrong]]
    worst = truth.argsort(kind="stable")[:SHOWN]
    surest = (-probabilities.max(axis=1)).argsort(kind="stable")[:SHOWN]
    places = np.unique(np.concatenate([worst, surest]))
    index, crops = wrong[places], images.centre_crops(wrong[places])
    pairs = np.stack([logits[index].argmax(axis=1), images.labels[index]], axis=1)
    maps = contributions(network, normalise(crops, images.store.preprocess), pairs)
    paths = images.paths
    shown = {}
    for i, place in enumerate(places.tolist()):
        names = tuple(images.class_names[label] for label in pairs[i])
        difference = None if maps is None else maps[i, 0] - maps[i, 1]
        shown[place] = _figure(crops[i], difference, paths[index[i]], names, probabilities[place][pairs[i]])
    parts = [
        f'<p class="quiet">{_WITHOUT if maps is None else _WITH}</p>',
        _group("Worst", "the lowest probability of the true class, so the highest loss", worst, shown, len(wrong)),
        _group("Most confident", "the highest probability of a wrong class", surest, shown, len(wrong)),
    ]
    return "\n".join(parts)


def _group(title: str, order: str, places: np.ndarray, shown: dict[int, str], count: int) -> str:
    figures = "\n".join(shown[place] for place in places.tolist())
    line = f"{len(places)} of {count} mistakes: {order}."
    return f'<h3>{title}</h3>\n<p class="quiet">{line}</p>\n<div class="mistakes">\n{figures}\n</div>'


def _figure(
    crop: np.ndarray, difference: np.ndarray | None, path: str, names: tuple[str, str], shares: np.ndarray
) -> str:
    """Return one mistake.

    Args:
        crop: what the network saw, uint8 [S, S, 3].
        difference: what speaks for its answer rather than the true class, [h, w]; None where that is not known.
        path: of the image.
        names: the answer and the true class.
        shares: their probabilities.
    """
    answer, truth = names
    whole = Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    shown = picture(whole, f"{path}, as the network sees it")
    if difference is not None:
        most = f"most for {answer} at the {where(difference)}, most for {truth} at the {where(-difference)}"
        shown += picture(overlay(crop, difference, SIDE), f"What decided: {most}")
    caption = (
        f"<b>{escaped(answer)}</b> {100 * shares[0]:.1f} %, true is <b>{escaped(truth)}</b> {100 * shares[1]:.2g} %<br>"
        f"{escaped(path)}"
    )
    return f'<figure><div class="pair">{shown}</div><figcaption>{caption}</figcaption></figure>'
