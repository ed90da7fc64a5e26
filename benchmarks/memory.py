"""Resident memory of a SMILE run, which must not grow.

python benchmarks/memory.py --json memory.json

It runs `finetune.py` on small generated images and reads the process's memory from Linux whenever it reports: what is
its own (anonymous), and what are pages of files it maps, the decoded images among them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, only its own folder is searched

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

import re

import paddle

from benchmarks import show, write_json, write_photographs
from models import build
from utils import errors
from utils.commandline import Parser, number

ROOT = Path(__file__).resolve().parent.parent
ARCH = "resnet8"
FIELDS = ("VmRSS", "RssAnon", "RssFile")
TARGET = 1.0  # percent that may be gained or lost
READINGS = 10


def main(argv: list[str] | None = None) -> None:
    """Run, read the memory at every tenth of the steps, print it and its change since the first reading."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=number(int, READINGS), default=2000, help="updates")
    parser.add_argument("--images", type=number(int, 8), default=200, help="how many are written")
    parser.add_argument("--json", metavar="FILE", help="where every reading goes")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    every = options.steps // READINGS
    with tempfile.TemporaryDirectory() as scratch:
        readings = dict(watch(command(Path(scratch), options.steps, every, options.images), every))
        cache = sum(file.stat().st_size for file in Path(scratch, "cache").glob("*.images"))
    changes = report(readings)
    print(f"\nchange of VmRSS {changes['VmRSS']:+.2f} %, of RssAnon {changes['RssAnon']:+.2f} %; at most {TARGET:g} %")
    print(f"decoded images on the disk {cache / 2**20:.1f} MB")
    write_json(options.json, options, {"kilobytes": readings, "percent": changes, "cache_bytes": cache})


def command(folder: Path, steps: int, every: int, images: int) -> list[str]:
    """Return the command line of a SMILE run below `folder` that reports at `every` so many steps.

    It scores twice as often, so that whatever scoring needs is loaded before the first report.
    """
    write_photographs(folder / "images", images, (48, 40))
    paddle.save(build(ARCH, 10).state_dict(), str(folder / "source.pdparams"))
    flags = {
        "regularizer": "smile",
        "clean_tail": 0,
        "model_arch": ARCH,
        "pretrained": folder / "source.pdparams",
        "train_dir": folder / "images",
        "val_split": 0.2,
        "image_size": 32,
        "batch_size": 16,
        "max_iters": steps,
        "print_frequency": every,
        "eval_frequency": max(1, every // 2),
        "save": folder / "output",
        "log_dir": folder / "visual_log",
        "cache_dir": folder / "cache",
        "gpu": -1,
    }
    return [sys.executable, str(ROOT / "finetune.py"), *(f"--{name}={value}" for name, value in flags.items())]


def watch(line: list[str], every: int) -> Iterator[tuple[int, dict[str, int]]]:
    """Run `line` and yield each step that is a multiple of `every` with the memory then, in kB.

    Raises:
        Failure: the run failed; its message stands above.
    """
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        for text in process.stdout:
            found = re.match(r"step (\d+)/\d+  lr", text)
            if found and int(found[1]) % every == 0:
                yield int(found[1]), resident(process.pid)
    if process.returncode:
        raise errors.Failure("the run failed; its message stands above")


def resident(process: int) -> dict[str, int]:
    """Return the resident memory of a process in kB, by the names Linux has for it."""
    status = Path(f"/proc/{process}/status").read_text()
    return {name: int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) for name in FIELDS}


def report(readings: dict[int, dict[str, int]]) -> dict[str, float]:
    """Print the readings in MB; return by how many percent each grew from the first to the last."""
    rows = [(step, *(f"{reading[name] / 1024:.1f}" for name in FIELDS)) for step, reading in readings.items()]
    show(("step", *(f"{name} MB" for name in FIELDS)), rows)
    first, last = readings[min(readings)], readings[max(readings)]
    return {name: 100 * (last[name] / first[name] - 1) for name in FIELDS}


if __name__ == "__main__":
    errors.run(main)
