"""Interpolation losses: how far a network is from linear between two images (arXiv 2103.13941, Eq. 1 and Table 4).

    IL(f) = E || f(lam x1 + (1 - lam) x2) - (lam f(x1) + (1 - lam) f(x2)) ||_2^2

f is the classifier's output for the Label-IL, here once as probabilities and once as logits, and the pooled last map
for the Feature-IL. The network is in eval mode, the images are those of a test: centre crops, mixed after they were
normalised. In a pairing every image is x1 once and x2 once, never both at a time; the mean is over several pairings.

The paper says neither how lam and the pairs are drawn nor how f is scaled or whether it ends in a softmax: its values
cannot be reproduced, only their order and the ratio of test to training images. `relative` alone compares networks
whose outputs differ in scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from tqdm import tqdm

from datasets.loader import Dataset, ahead, normalise
from evaluation import figures
from evaluation.curves import VisualLog
from evaluation.metrics import softmax
from evaluation.scores import eval_mode
from utils.bars import progress_bar
from utils.errors import DataError
from utils.rng import generator
from utils.words import printable

TITLES = {"softmax": "Label-IL, softmax", "logits": "Label-IL, logits", "features": "Feature-IL"}
RATIO_LAWS = ("uniform", "beta")
BETA = 0.2  # the reference's alpha in training
CURVE_RATIOS = np.linspace(0, 1, 11)
CURVE_PAIRS = 256


@dataclass(frozen=True)
class Loss:
    """The interpolation loss of one f, in four forms, each a mean over the pairs.

    Attributes:
        squared: Eq. 1 to the letter, summed over the dimensions of f.
        per_dimension: the same over the number of dimensions.
        norm: of the un-squared norm.
        relative: `squared` over the mean of || f(x1) - f(x2) ||^2; None when that mean is 0.
    """

    squared: float
    per_dimension: float
    norm: float
    relative: float | None

    @classmethod
    def of(cls, deviations: np.ndarray, distances: np.ndarray, dimensions: int) -> Loss:
        """Return the loss over the pairs of `squares`, for an f of so many `dimensions`."""
        squared, distance = float(deviations.mean()), float(distances.mean())
        norm = float(np.sqrt(deviations).mean())
        return cls(squared, squared / dimensions, norm, squared / distance if distance > 0 else None)


def squares(mixed: np.ndarray, first: np.ndarray, second: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Return the two squared norms that the losses are made of, for each pair.

    Args:
        mixed, first, second: f of the mixed, the first and the second image, float64 [P, D] each.
        ratio: lam, the share of the first image, float64 [P].

    Returns:
        || f(x_mix) - (lam f(x1) + (1 - lam) f(x2)) ||^2 and || f(x1) - f(x2) ||^2, float64 [2, P].
    """
    share = ratio[:, None]
    deviation = mixed - (share * first + (1 - share) * second)
    return np.stack([(deviation**2).sum(axis=1), ((first - second) ** 2).sum(axis=1)])


def pairs(count: int, law: str, seed: int, repeat: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one pairing of `count` images, the same for either law.

    Args:
        law: of the ratio: "uniform" on [0, 1], or "beta" for Beta(0.2, 0.2) folded to [0.5, 1] as in training.

    Returns:
        The first and the second images, int64 [count] each, and the shares of the first, float64 [count].
    """
    rng = generator(seed, "pairs", repeat)
    first = rng.permutation(count)
    if law == "uniform":
        return first, np.roll(first, 1), rng.random(count)
    ratio = rng.beta(BETA, BETA, count)
    return first, np.roll(first, 1), np.maximum(ratio, 1 - ratio)


class Interpolation:
    """The interpolation losses of one network on one set of images, whose outputs are computed once.

    Args:
        network: returns `Outputs`; it is run in eval mode; the modes of its layers are restored.
        images: at least two.
        batch_size: pairs in one forward pass; affects only speed and memory.
        seed: of the pairs and ratios.

    Raises:
        DataError: fewer than two images.
    """

    @paddle.no_grad()
    def __init__(self, network: nn.Layer, images: Dataset, batch_size: int, seed: int):
        if len(images) < 2:
            raise DataError(f"{images.store.images.origin}: {len(images)} image; interpolation losses need two or more")
        self.network, self.images, self.batch_size, self.seed = network, images, batch_size, seed
        parts = []
        with eval_mode(network), _bar(len(images), "scoring") as bar:
            for batch, _ in images.batches(batch_size):
                parts.append(self._forward(batch, bar))
        self._logits, self._features = (np.concatenate(part) for part in zip(*parts))

    def losses(self, law: str = "uniform", repeats: int = 5) -> dict[str, Loss]:
        """Return the loss of each f of `TITLES` over `repeats` pairings of all images."""
        drawn = [pairs(len(self.images), law, self.seed, repeat) for repeat in range(repeats)]
        return self.between(*(np.concatenate(part) for part in zip(*drawn)))

    def curve(self) -> list[dict[str, Loss]]:
        """Return the losses at each of `CURVE_RATIOS` over the same pairs of one pairing, at most `CURVE_PAIRS`."""
        first, second, _ = (part[:CURVE_PAIRS] for part in pairs(len(self.images), "uniform", self.seed, 0))
        return [self.between(first, second, np.full(len(first), ratio)) for ratio in CURVE_RATIOS]

    def report(self, law: str, repeats: int) -> dict:
        """Print the losses as a table; return them, and how the pairs were drawn, as a file of results holds them."""
        losses, count = self.losses(law, repeats), repeats * len(self.images)
        print(table(losses, count, law), flush=True)
        drawn = {"pairs": count, "repeats": repeats, "ratio": law, "seed": self.seed}
        return {**drawn, **{name: asdict(loss) for name, loss in losses.items()}}

    @paddle.no_grad()
    def between(self, first: np.ndarray, second: np.ndarray, ratio: np.ndarray) -> dict[str, Loss]:
        """Return the loss of each f of `TITLES` over the given pairs.

        Args:
            first, second: positions in the set, int [P] each.
            ratio: the share of the first, in [0, 1], float64 [P].
        """
        values, dimensions = {name: [] for name in TITLES}, {}
        with eval_mode(self.network), _bar(len(first), "mixing") as bar:
            for batch, rows in self._mixed(first, second, ratio):
                at_first, at_second = self._clean(first[rows]), self._clean(second[rows])
                for name, mixed in _functions(*self._forward(batch, bar)).items():
                    values[name].append(squares(mixed, at_first[name], at_second[name], ratio[rows]))
                    dimensions[name] = mixed.shape[1]
        return {name: Loss.of(*np.concatenate(parts, axis=1), dimensions[name]) for name, parts in values.items()}

    def _clean(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return _functions(self._logits[index], self._features[index])

    def _mixed(
        self, first: np.ndarray, second: np.ndarray, ratio: np.ndarray
    ) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
        chunks = np.split(np.arange(len(first)), range(self.batch_size, len(first), self.batch_size))
        crops = ((self.images.centre_crops(np.concatenate([first[rows], second[rows]])), rows) for rows in chunks)
        for both, rows in ahead(crops):
            at_first, at_second = normalise(both, self.images.store.preprocess).chunk(2)
            share = paddle.to_tensor(ratio[rows].astype("float32")).reshape([-1, 1, 1, 1])
            yield share * at_first + (1 - share) * at_second, rows

    def _forward(self, batch: paddle.Tensor, bar: tqdm) -> tuple[np.ndarray, np.ndarray]:
        outputs = self.network(batch)
        bar.update(len(batch))
        return outputs.logits.numpy(), outputs.features.numpy()


def _functions(logits: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    logits = logits.astype("float64")
    return {"softmax": softmax(logits), "logits": logits, "features": features.astype("float64")}


def _bar(total: int, title: str) -> tqdm:
    return progress_bar(total=total, desc=title, unit="image")


def table(losses: dict[str, Loss], count: int, law: str) -> str:
    """Return the losses over `count` pairs as a table for a person."""
    lines = [f"{f'{count} pairs, {law} ratio':>24}{'Eq. 1':>12}{'/ dimension':>12}{'norm':>12}{'relative':>12}"]
    for name, loss in losses.items():
        values = (loss.squared, loss.per_dimension, loss.norm, loss.relative)
        cells = ("-" if value is None else f"{value:.4g}" for value in values)
        lines.append(f"{TITLES[name]:>24}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def draw(path: str | Path, curves: dict[str, list[dict[str, Loss]]]) -> None:
    """Draw the relative losses of each network of `curves` against the mixing ratio as a PNG."""
    with figures.figure(path, (9, 3.6 + 0.2 * len(curves))) as figure:
        for axes, name in zip(figure.subplots(1, 2), ("softmax", "features")):
            for label, losses in curves.items():
                values = [np.nan if loss[name].relative is None else loss[name].relative for loss in losses]
                axes.plot(CURVE_RATIOS, values, marker="o", markersize=3, label=printable(label))
            axes.set(xlabel="share of the first image", ylabel="relative interpolation loss", title=TITLES[name])
            axes.grid(alpha=0.3)
        figure.legend(handles=axes.lines, loc="outside lower center")


def log(folder: Path, curve: list[dict[str, Loss]]) -> None:
    """Write the relative losses of one network for VisualDL in place of those in the folder.

    The step in VisualDL is the share of the first image in percent.
    """
    visual = VisualLog(folder, 0, print)
    for ratio, losses in zip(CURVE_RATIOS, curve):
        values = {f"il/{name}": loss.relative for name, loss in losses.items() if loss.relative is not None}
        visual.scalars(round(100 * ratio), values)
    visual.close()
