"""Checkpoints of small networks with random weights, with the entries that `finetune.py` writes and others read."""

from __future__ import annotations

from pathlib import Path

from checkpoints import checkpoint
from models import build
from tests.models.random_weights import random_weights


def write_checkpoint(
    path: Path, classes, arch="resnet8", size=32, resize=37, keep_aspect=False, seed=0, **preprocess
) -> Path:
    """Write a checkpoint of `arch` for `classes` and return its path; `preprocess` are more of its entries."""
    content = {
        "model": random_weights(build(arch, len(classes)), seed),
        "format_version": checkpoint.FORMAT_VERSION,
        "arch": arch,
        "classes": list(classes),
        "preprocess": {"image_size": size, "resize_size": resize, "keep_aspect": keep_aspect, **preprocess},
    }
    checkpoint.save(path, content)
    return path
