"""What cached results of a method are named by."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

from checkpoints.pretrained import Source
from datasets.preprocess import ORDINARY
from training.build import _setup
from utils.distributed import SINGLE_PROCESS
from utils.precision import Precision


def fingerprint(variant):
    names = ("max_iters", "batch_size", "seed", "head_init", "accum")
    options = SimpleNamespace(**dict.fromkeys(names, 1), cache_dir="x", image_size=224)
    store = SimpleNamespace(fingerprint=lambda positions: "files", preprocess=ORDINARY)
    train = SimpleNamespace(store=store, positions=SimpleNamespace(tolist=list))
    source = Source(None, "x", "weights", 3, variant)
    return _setup(options, train, SINGLE_PROCESS, Precision("off"), None, source).fingerprint


def test_the_edition_of_the_weights_is_in_the_name_and_names_of_earlier_files_stay():
    assert fingerprint("") == hashlib.sha256(b"weights files 224").hexdigest()
    assert fingerprint("symmetric") != fingerprint("")
