"""The curves of a run: as a picture, and for VisualDL, with its options and some of its images beside them."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.preprocess import ORDINARY, Preprocess
from evaluation import figures
from utils.files import replacing
from utils.optional import installed
from utils.words import printable

if TYPE_CHECKING:
    from visualdl import LogWriter

VISUAL_FILE = "vdlrecords.run.log"
SHOWN = 8  # images of a batch


def draw(path: Path, title: str, rows: list[dict]) -> None:
    """Draw loss and accuracy of training and evaluation against the step as a PNG."""
    steps = [int(row["step"]) for row in rows]
    with figures.figure(path, (9, 3.6)) as figure:
        for axes, key, label in zip(figure.subplots(1, 2), ("loss", "acc"), ("loss", "top-1 accuracy in %")):
            for split, name, style in (("train", "training", "--"), ("val", "evaluation", "-")):
                values = [float(row[f"{split}_{key}"]) for row in rows]
                axes.plot(steps, values, style, marker="o", markersize=3, label=f"{name} (last {values[-1]:.3g})")
            axes.set(xlabel="step", ylabel=label)
            axes.grid(alpha=0.3)
            axes.legend()
        figure.suptitle(printable(title))


class VisualLog:
    """The curves, images and options of a run for VisualDL; after a fault there, one warning and nothing more.

    Without VisualDL nothing is written.

    Args:
        folder: of the run; made when it is absent.
        step: updates made; points of later steps, which a resumed run writes again, are dropped. 0 drops all of them.
        warn: takes the line of warning.
    """

    def __init__(self, folder: Path, step: int, warn: Callable[[str], None]):
        self._warn, self._writer = warn, None
        if not installed("visualdl"):
            return
        try:
            from visualdl import LogWriter

            _keep_until(folder / VISUAL_FILE, step)
            with contextlib.redirect_stdout(io.StringIO()):  # it reports that the file exists
                self._writer = LogWriter(str(folder), file_name=VISUAL_FILE)
        except Exception as error:  # curves are never worth a run
            warn(f"WARNING: no VisualDL curves: {error}")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write one point of each curve, by its tag."""

        def points(writer: LogWriter) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag=tag, value=float(value), step=step)

        self._write(points)

    def image(self, step: int, tag: str, *arguments: Any) -> None:
        """Write a panel of training images; `arguments` are those of `panel`."""
        self._write(lambda writer: writer.add_image(tag=tag, img=panel(*arguments), step=step))

    def options(self, options: dict[str, str | float], tags: list[str]) -> None:
        """Write the options that tell runs apart, and the tags of the curves that say how the run ended."""
        plain = {name: int(value) if isinstance(value, bool) else value for name, value in options.items()}
        self._write(lambda writer: writer.add_hparams(plain, tags))

    def close(self) -> None:
        """Close the file."""
        self._write(lambda writer: writer.close())

    def _write(self, write: Callable[[LogWriter], None]) -> None:
        try:
            if self._writer is not None:
                write(self._writer)
                self._writer.flush()
        except Exception as error:  # curves are never worth a run
            self._warn(f"WARNING: no VisualDL curves from here on: {error}")
            self._writer = None


def panel(
    images: np.ndarray, targets: np.ndarray, class_names: Sequence[str], preprocess: Preprocess = ORDINARY
) -> np.ndarray:
    """Draw the first images of a batch, each below the classes of its target and their shares.

    Args:
        images: normalised, [B, 3, H, W].
        targets: a distribution over the classes for each image, [B, K].
        class_names: the K names.
        preprocess: how the images were normalised.

    Returns:
        uint8 [height, width, 3].
    """
    pictures = images[:SHOWN].transpose(0, 2, 3, 1) * preprocess.std + preprocess.mean
    with figures.canvas((8, 4.5), 100) as figure:
        every = list(figure.subplots(2, SHOWN // 2).flat)
        for axes in every:
            axes.set_axis_off()
        for axes, picture, target in zip(every, pictures, targets):
            largest = [k for k in np.argsort(-target, kind="stable")[:2] if target[k] > 0]
            lines = [f"{100 * target[k]:.0f} % {printable(class_names[k])[:20]}" for k in largest]
            axes.set_title("\n".join(lines), fontsize=11)
            axes.imshow(picture.clip(0, 1))
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3]


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
