"""The curves of a run: as a picture, and for VisualDL."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

from utils.files import replacing

VISUAL_FILE = "vdlrecords.run.log"


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
    try:
        if writer is not None:
            for tag, value in values.items():
                writer.add_scalar(tag=tag, value=float(value), step=step)
            writer.flush()
        return writer
    except Exception as error:  # curves are never worth a run
        warn(f"WARNING: no VisualDL curves from here on: {error}")
        return None


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
