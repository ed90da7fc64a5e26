"""The curves of a run: as a picture, and for VisualDL, with its options and some of its images beside them."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from datasets.preprocess import MEAN, STD
from evaluation.pictures import printable
from utils.files import replacing

VISUAL_FILE = "vdlrecords.run.log"
SHOWN = 8  # images of a batch


def draw(path: Path, title: str, rows: list[dict]) -> None:
    """Draw loss and accuracy of training and evaluation against the step as a PNG."""
    from matplotlib.figure import Figure  # takes half a second: only where a picture is drawn

    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key, label in zip(figure.subplots(1, 2), ("loss", "acc"), ("loss", "top-1 accuracy in %")):
        for part, name, style in (("train", "training", "--"), ("val", "evaluation", "-")):
            values = [float(row[f"{part}_{key}"]) for row in rows]
            axes.plot(steps, values, style, marker="o", markersize=3, label=f"{name} (last {values[-1]:.3g})")
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def open_writer(folder: Path, step: int, warn):
    """Return a VisualDL writer that goes on after `step`; None, with one warning, when VisualDL fails."""
    path = folder / VISUAL_FILE
    try:
        from visualdl import LogWriter

        _keep_until(path, step)
        with contextlib.redirect_stdout(io.StringIO()):  # it says that the file is there
            return LogWriter(str(folder), file_name=VISUAL_FILE)
    except Exception as error:  # curves are never worth a run
        warn(f"WARNING: no VisualDL curves: {error}")
        return None


def add(writer, step: int, values: dict[str, float], warn):
    """Write one point of each curve; return the writer, or None after a failure, with one warning."""

    def points() -> None:
        for tag, value in values.items():
            writer.add_scalar(tag=tag, value=float(value), step=step)

    return _written(writer, points, warn)


def add_images(writer, step: int, tag: str, images: np.ndarray, targets: np.ndarray, classes: Sequence[str], warn):
    """Write a panel of training images; arguments as of `panel`, result as of `add`."""
    return _written(writer, lambda: writer.add_image(tag=tag, img=panel(images, targets, classes), step=step), warn)


def add_options(writer, options: dict[str, str | float], metrics: list[str], warn):
    """Write what the run is compared by: its options and the names of the curves that say how it ended."""
    plain = {name: int(value) if isinstance(value, bool) else value for name, value in options.items()}
    return _written(writer, lambda: writer.add_hparams(plain, metrics), warn)


def _written(writer, write: Callable[[], None], warn):
    try:
        if writer is not None:
            write()
            writer.flush()
        return writer
    except Exception as error:  # curves are never worth a run
        warn(f"WARNING: no VisualDL curves from here on: {error}")
        return None


def panel(images: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Draw the first images of a batch, each below the classes of its target and their shares.

    Args:
        images: normalised, [B, 3, H, W].
        targets: a distribution over the classes for each image, [B, K].
        classes: the K names.

    Returns:
        uint8 [height, width, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    every = list(figure.subplots(2, SHOWN // 2).flat)
    for axes in every:
        axes.set_axis_off()
    pictures = images[:SHOWN].transpose(0, 2, 3, 1) * STD + MEAN
    for axes, picture, target in zip(every, pictures, targets):
        largest = [k for k in np.argsort(-target, kind="stable")[:2] if target[k] > 0]
        lines = [f"{100 * target[k]:.0f} % {printable(classes[k])[:20]}".replace("$", r"\$") for k in largest]
        axes.set_title("\n".join(lines), fontsize=11)
        axes.imshow(picture.clip(0, 1))
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script the font has not
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _keep_until(path: Path, step: int) -> None:
    """Drop the points after `step`, which the resumed run writes again; all of them when it is 0."""
    from visualdl.proto.record_pb2 import Record

    if step == 0:
        path.unlink(missing_ok=True)
    if not path.exists():
        return
    data, kept, start = path.read_bytes(), [], 0
    while start + 8 <= len(data):
        end = start + 8 + struct.unpack_from("<Q", data, start)[0]
        if end > len(data):
            break
        if all(value.id <= step for value in Record.FromString(data[start + 8 : end]).values):
            kept.append(data[start:end])
        start = end
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(kept))
