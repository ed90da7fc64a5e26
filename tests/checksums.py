"""SHA-256 sums of what short runs leave behind, to compare two versions of the code on one machine.

python tests/checksums.py            all runs, then test.py and predict.py
python tests/checksums.py smile l2   these runs only

Bits depend on the processor, the library and the number of threads: sums are compared on one machine, with one thread.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TINY = "--model_arch resnet8 --image_size 32 --batch_size 8 --batch_size_eval 4 --max_iters 9 --gpu -1"
TINY += " --eval_frequency 3 --print_frequency 2 --lr 0.02 --lr_drop 6"
SMILE = "--clean_tail 2 --ema_decay 0.9 --alpha 0.4"
METHODS = {
    "l2": "",
    "fe": "",
    "mixup": "--alpha 0.4",
    "cutmix": "--cutmix_prob 1.0",
    "l2sp": "--sp_lambda 0.01 --sp_head_lambda 0.01",
    "delta": "--attention_batches 1",
    "bss": "--bss_k 2",
    "rifle": "--reinits 3",
    "cotuning": "--relationship reverse",
    "regsl": "--self_label true --correct_epoch 1 --reweight_epoch 1 --label_threshold 0.4",
    "smile": SMILE,
}
RUNS = {name: f"--regularizer {name} {flags}" for name, flags in METHODS.items()}
RUNS["mixup+delta"] = "--regularizer mixup+delta --alpha 0.4 --delta_form official --attention_batches 1"
RUNS["smile+rifle"] = f"--regularizer smile+rifle --reinits 3 {SMILE}"
RUNS["accum"] = "--regularizer mixup --alpha 0.4 --accum 2"
RUNS["ranks"] = f"--regularizer smile {SMILE}"
RUNS["keep_aspect"] = f"--regularizer smile {SMILE} --keep_aspect --sample_rate 60"


def write_images(root: Path) -> None:
    """Write class folders of noisy coloured PNGs of several shapes."""
    for split, count, seed in (("train", 10, 0), ("test", 4, 1)):
        for k, name in enumerate(("cat", "dog", "emu")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                shape = ((40, 52), (64, 48), (37, 37))[i % 3]
                noise = np.random.default_rng([seed, k, i]).integers(-60, 60, (*shape, 3))
                colour = np.array([k * 97 % 256, (k * 57 + 60) % 256, (k * 131 + 20) % 256])
                pixels = np.clip(colour + noise, 0, 255).astype("uint8")
                Image.fromarray(pixels).save(root / split / name / f"{i:03d}.png")


def call(folder: Path, *words: str) -> str:
    """Run a command of the project in `folder`; return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_DEBUG_CPU_TYPE": "5", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


def train(folder: Path, name: str, flags: str) -> None:
    """Make one run."""
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2"] if name == "ranks" else []
    words = [*launcher, str(ROOT / "finetune.py"), *TINY.split(), *flags.split()]
    call(folder, *words, "--pretrained", "source/a_l2_Last.pdparams", "--name", name, "--save", f"out/{name}")


def digest(content) -> str:
    """Return the sum of bytes, text, an array or a dictionary of arrays."""
    value = hashlib.sha256()
    if isinstance(content, dict):
        for key in sorted(content):
            value.update(key.encode() + np.ascontiguousarray(content[key]).tobytes())
    else:
        value.update(content if isinstance(content, bytes) else content.encode())
    return value.hexdigest()


def run_sums(folder: Path, name: str) -> dict[str, str]:
    """Return the sums of one run's files."""
    (last,) = (folder / "out" / name).glob("*_Last.pdparams")
    base = str(last)[: -len("_Last.pdparams")]
    sums = {}
    for ending in ("Last", "Best"):
        with open(f"{base}_{ending}.pdparams", "rb") as file:
            content = pickle.load(file)  # noqa: S301  it was written a moment ago
        tensors = {key: value for key, value in content["model"].items() if isinstance(value, np.ndarray)}
        sums[f"{ending} weights"] = digest(tensors or _arrays(content["model"]))
        sums[f"{ending} optimizer"] = digest(_arrays(content["optimizer"]))
        sums[f"{ending} method"] = digest(_arrays(content["regularizer"]["state"]))
    with open(f"{base}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for column in rows[0]:
        sums[f"csv {column}"] = digest(",".join(row[column] for row in rows))
    sums["samples"] = digest(Path(f"{base}_samples.txt").read_bytes())
    return sums


def _arrays(content: dict) -> dict:
    """Return the arrays of what `paddle.save` wrote, a pair (name, array) for a tensor."""
    found = {}
    for key, value in content.items():
        value = value[1] if isinstance(value, tuple) else value
        if isinstance(value, np.ndarray):
            found[key] = value
    return found


def main(names: list[str]) -> dict[str, str]:
    """Make the runs `names`, all of them when there are none, and return every sum by name."""
    sums = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "dataset")
        source = ["--regularizer", "l2", "--pretrained", "none", "--name", "a", "--save", "source"]
        call(folder, str(ROOT / "finetune.py"), *TINY.split(), *source)
        for name in names or RUNS:
            train(folder, name, RUNS[name])
            sums.update({f"{name}: {key}": value for key, value in run_sums(folder, name).items()})
        if not names:
            pair = [str(folder / "out" / name / f"{name}_{name}_Last.pdparams") for name in ("l2", "smile")]
            arguments = ["--ckpts", *pair, "--compare", *pair, "--il", "--json", "scores.json", "--report", "mistakes"]
            call(folder, str(ROOT / "test.py"), *arguments, "--gpu", "-1")
            for entry in (scores := json.loads((folder / "scores.json").read_text())):
                entry.pop("path")
                entry.get("compared", {}).pop("with", None)
            sums["test.py: json"] = digest(json.dumps(scores, sort_keys=True))
            for path in sorted((folder / "mistakes").rglob("*.csv")):
                sums[f"test.py: {path.relative_to(folder)}"] = digest(path.read_bytes())
            labels = call(folder, str(ROOT / "predict.py"), "--ckpts", *pair, "dataset/test", "--gpu", "-1")
            sums["predict.py: csv"] = digest(labels)
    return sums


if __name__ == "__main__":
    for name, value in main(sys.argv[1:]).items():
        print(value, name)
