"""Sets of defaults under one name, for `--preset`; what is given beside it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import regularizers
from models import ARCHITECTURES
from utils.commandline import shortened
from utils.errors import UsageError

PAPER = "paper"
PRESETS: dict[str, dict[str, Any]] = {
    PAPER: {},  # the reference's values, which are the defaults of the options
    # up to about 20 images of a class; every value was chosen on held-out images, docs/few_images.md has the tables
    "few": {
        "regularizer": "fe",
        "max_iters": 300,
        "batch_size": 16,
        "lr": 0.001,
        "head_lr_mult": 3.0,
        "head_init": "probe",
        "freeze_bn": True,
        "probe": True,
    },
}


def regularizer(given: Mapping[str, Any]) -> str:
    """Return the method of a run for which the options in `given` were chosen."""
    return given.get("regularizer") or _chosen(given).get("regularizer", regularizers.DEFAULT)


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preset's values beside the options in `given`, without those that something given excludes.

    Raises:
        UsageError: there is no such preset.
    """
    if given.get("preset", PAPER) not in PRESETS:
        raise UsageError(f"--preset {shortened(str(given['preset']))}: accepted are {', '.join(PRESETS)}")
    excluded = {"max_iters"} if given.get("epochs") or given.get("time") else set()
    network = ARCHITECTURES.get(given.get("model_arch"))
    if given.get("bn_momentum") is not None or network and not network.network.normalises_batches:
        excluded.add("freeze_bn")
    if given.get("pretrained") == "none":
        excluded |= {"freeze_bn", "probe", "head_init"}
    return {name: value for name, value in _chosen(given).items() if name not in excluded}


def _chosen(given: Mapping[str, Any]) -> dict[str, Any]:
    return PRESETS.get(given.get("preset", PAPER), {})
