"""The report of one network as a page: one file, with its pictures and without a network connection."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation import charts, markup, matrix, mistakes
from evaluation.coverage import curve
from evaluation.error_analysis import confusion, per_class
from evaluation.intervals import interval
from evaluation.markup import Cell, Section, escaped, number
from evaluation.metrics import BINS, METRICS, bin_of, confidences, hits
from evaluation.scoring import Scored
from utils.files import write_text

NAME = "index.html"
SHARES = ("acc", "acc5")  # the metrics that are shares of the images, which have an interval
LEVELS = (100, 90, 80, 70, 50)  # of coverage in percent, in the table


class History(NamedTuple):
    """What is known of the training of a checkpoint.

    Attributes:
        rows: of the run's table, in order of step; empty without one.
        step: updates behind the checkpoint; None where it does not say.
        facts: what was trained, on what, by what, and when, by name.
        options: every option of the run by name.
    """

    rows: list[dict[str, str]]
    step: int | None
    facts: dict[str, object]
    options: dict[str, object]


def write(folder: Path, scored: Scored, history: History) -> None:
    """Write the page of a checkpoint scored on a folder, `index.html` in `folder`."""
    images, logits = scored.images, scored.logits
    sure, right = confidences(logits), hits(logits, images.labels, 1)
    counts = confusion(images.labels, logits.argmax(axis=1), len(images.class_names))
    parts = [
        Section("scores", "Scores", scores(scored)),
        *([Section("training", "Training", training(history))] if history.rows else []),
        Section("classes", "Classes", classes(counts, images.class_names)),
        Section("confusion", "What is taken for what", matrix.confusion(counts, images.class_names)),
        Section("confidence", "Confidence", confidence(sure, right, scored)),
        Section("mistakes", "Mistakes", mistakes.mistakes(scored.network, images, logits)),
        Section("how", "What was trained, and how", how(history, scored)),
    ]
    lead = f"{len(images)} images of {len(images.class_names)} classes in {escaped(images.store.images.origin)}"
    write_text(folder / NAME, markup.document(Path(scored.path).name, lead, parts))


def scores(scored: Scored) -> str:
    """Return the accuracy with its interval, and every metric."""
    count, values = scored.scores.count, scored.scores.values
    low, high = interval(scored.scores.correct, count)
    rows = []
    for name, value in values.items():
        ends = interval(round(value * count / 100), count) if name in SHARES else None
        unit = " %" if "%" in METRICS[name].form else ""
        shown = "not defined" if value is None else f"{value:.2f}{unit}" if unit else f"{value:.4f}"
        better = "higher" if METRICS[name].higher_is_better else "lower"
        span = Cell(f"{ends[0]:.1f} to {ends[1]:.1f} %", ends[0]) if ends else Cell("", math.nan)
        found = Cell(shown, math.nan if value is None else value)
        rows.append([Cell(escaped(METRICS[name].title)), found, span, Cell(better)])
    told = f"right, 95 % interval {low:.1f} to {high:.1f} %"
    return (
        f'<p class="headline">{scored.scores.acc1:.1f} % <small>{told}</small></p>\n'
        f"<p>{scored.scores.correct} of {count} images. Such an interval holds the share among all images of this "
        "kind 95 times of 100 (Wilson); what varies with the seed of the training comes on top.</p>\n"
        + markup.table("Every metric", ("metric", "value", "95 % interval", "better is"), rows)
    )


def training(history: History) -> str:
    """Return the curves of the run."""
    figures = []
    for key, title in (("loss", "loss"), ("acc", "top-1 accuracy in %")):
        drawn = [
            charts.Line(name, points(history.rows, f"{split}_{key}"), colour, dashed)
            for split, name, colour, dashed in (("val", "evaluation", 0, False), ("train", "training", 1, True))
        ]
        last = "; ".join(f"{line.title} ends at {line.points[-1][1]:.3g}" for line in drawn if line.points)
        chart = charts.lines(f"{title} by step: {last}", drawn, ("step", title), mark=history.step)
        figures.append(f"<figure>{chart}<figcaption>{charts.legend(drawn)}</figcaption></figure>")
    at = "" if history.step is None else f" This checkpoint was written after step {history.step}, the vertical line."
    told = f"{len(history.rows)} evaluations of the run.{at}"
    return f'<p class="quiet">{told}</p>\n<div class="side">{"".join(figures)}</div>'


def points(rows: list[dict[str, str]], column: str) -> list[charts.Point]:
    """Return step and value of each row that has a number in `column`."""
    found = []
    for row in rows:
        try:
            found.append((float(row["step"]), float(row[column])))
        except (KeyError, ValueError):
            continue
    return [point for point in found if math.isfinite(point[1])]


def classes(counts: np.ndarray, class_names: list[str]) -> str:
    """Return a row for each class, the lowest accuracy first; `counts` is the confusion matrix [K, K]."""
    predicted = counts.sum(axis=0)
    rows = []
    for row, named in zip(per_class(counts, class_names), predicted.tolist()):
        images, correct = row["images"], row["correct"]
        share = 100 * correct / images if images else None
        ends = "{:.0f} to {:.0f} %".format(*interval(correct, images)) if images else ""
        precision = 100 * correct / named if named else None
        rows.append(
            [
                Cell(escaped(row["class"])),
                number(images, "{}"),
                number(share, "{:.1f} %"),
                Cell(ends, interval(correct, images)[0] if images else math.nan),
                number(precision, "{:.1f} %"),
                Cell(escaped(row["most_confused_with"])),
                number(row["confused_images"] or None, "{}"),
            ]
        )
    rows.sort(key=lambda row: math.inf if math.isnan(row[2].value) else row[2].value)
    heads = ("class", "images", "accuracy", "95 % interval", "precision", "most taken for", "so often")
    caption = f"{len(rows)} classes, the lowest accuracy first"
    return markup.table(caption, heads, rows, "accuracy", tall=True)


def confidence(sure: np.ndarray, right: np.ndarray, scored: Scored) -> str:
    """Return the reliability diagram and the accuracy against the coverage.

    Args:
        sure: the probability of each image's top class, [N].
        right: whether that is its class, bool [N].
        scored: what they are of.
    """
    return f'<div class="side">\n{_reliability(sure, right, scored)}\n{_coverage(sure, right)}\n</div>'


def _reliability(sure: np.ndarray, right: np.ndarray, scored: Scored) -> str:
    place, bins, rows = bin_of(sure), [], []
    for each in range(BINS):
        inside = place == each
        count, correct = int(inside.sum()), int(right[inside].sum())
        low, high = 100 * each / BINS, 100 * (each + 1) / BINS
        if count and np.isfinite(sure[inside]).all():
            mean, share = 100 * float(sure[inside].mean()), 100 * correct / count
            bins.append((low, high, mean, share, *interval(correct, count)))
            numbers = number(count, "{}"), number(mean, "{:.1f} %"), number(share, "{:.1f} %")
            rows.append([Cell(f"{low:.1f} to {high:.1f} %", low), *numbers])
    error = scored.scores.values.get("ece", math.nan)
    label = f"Reliability diagram: {len(bins)} of {BINS} bins have images; expected calibration error {error:.2f} %"
    fitted = f"<p>{escaped(scored.calibration)}.</p>" if scored.calibration else ""
    heads = ("confidence", "images", "mean confidence", "accuracy")
    return (
        f"<figure><h3>Does the confidence mean what it says?</h3>{charts.reliability(label, bins)}"
        f"<figcaption>Expected calibration error {error:.2f} %: {BINS} bins of equal width, each with its lower end "
        "left out, weighted by their images. Below the dashed line the network is too sure. The dots stand at the mean "
        f"confidence of a bin, the lines through them are 95 % intervals.</figcaption>{fitted}"
        f"<details><summary>The bins in numbers</summary>{markup.table('Bins of confidence', heads, rows)}</details>"
        "</figure>"
    )


def _coverage(sure: np.ndarray, right: np.ndarray) -> str:
    found, count = curve(right, sure), len(sure)
    shares, accuracies = 100 * found.accepted / count, 100 * found.correct / np.maximum(found.accepted, 1)
    line = charts.Line("accuracy of what is accepted", [*zip(shares.tolist(), accuracies.tolist())])
    rows, texts = [], []
    for level in LEVELS:
        reached = np.flatnonzero(found.accepted * 100 >= level * count)
        if not len(reached):
            continue
        at = reached[0]
        accepted, correct = int(found.accepted[at]), int(found.correct[at])
        low, high = interval(correct, accepted)
        exact = number(float(shares[at]), "{:.1f} %"), number(float(accuracies[at]), "{:.1f} %")
        rows.append([*exact, Cell(f"{low:.1f} to {high:.1f} %", low), number(float(found.confidence[at]), "{:.4f}")])
        texts.append(f"{accuracies[at]:.1f} % right at {shares[at]:.0f} % coverage")
    floor = 10 * math.floor(min(accuracies.min() if len(accuracies) else 0, 90) / 10)
    label = f"Accuracy against coverage: {'; '.join(texts)}"
    titles = "coverage: accepted images in %", "accuracy of them in %"
    chart = charts.lines(label, [line], titles, (0, 100), (floor, 100))
    heads = ("coverage", "accuracy", "95 % interval", "from a confidence of")
    return (
        f"<figure><h3>What if only sure answers count?</h3>{chart}<figcaption>The most confident answers are accepted "
        "first. A threshold that is read off here was chosen on these images, and promises a little too much for "
        f"others.</figcaption>{markup.table('Accuracy at some coverages', heads, rows)}</figure>"
    )


def how(history: History, scored: Scored) -> str:
    """Return what is known of the training, and of this page."""
    origin = scored.images.store
    preprocess = ", ".join(f"{name} {value}" for name, value in origin.preprocess.to_dict().items())
    now: dict[str, Any] = {
        "checkpoint": scored.path,
        **history.facts,
        "scored on": f"{len(scored.images)} images in {origin.images.origin}",
        "images are": preprocess,
        "page written": time.strftime("%Y-%m-%d %H:%M"),
    }
    if not history.options:
        return markup.facts(now)
    return f"{markup.facts(now)}\n<details><summary>Every option</summary>{markup.facts(history.options)}</details>"
