"""What a saved run belongs to: the options, images, weights and processes that its result depends on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from datasets import splits
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from training.options import Options
from utils.commandline import shortened
from utils.errors import DataError, UsageError, names

_SPLITS = {"train": "train", "evaluation": "eval"}  # as in `Identity.images`, and in the names of the options
_PATHS = (*(f"{split}_{kind}" for split in _SPLITS.values() for kind in ("dir", "list")), "data_root", "sample_list")
_COLUMNS = ("path_column", "label_column", "group_column", "weight_column")
EARLIER = {"orientation": "ignore"}  # what versions without these options did, where it is not today's default


@dataclass(frozen=True)
class Identity:
    """What a run belongs to; a resumed one must have the same.

    Attributes:
        options: those that can change the result, hyper-parameters included, by name.
        listed: sha256 of the list of training files.
        images: sha256 of names, bytes and, where a list has them, labels of the "train" and "evaluation" images; {} in
            files of earlier versions.
        weights: sha256 of the pretrained weights; None without.
        ranks: the number of processes.
        variant: the edition of the architecture that the weights belong to; "" for the architecture's.
        preprocess: how the images are prepared; None in a summary, which does not record it.
    """

    options: dict[str, Any]
    listed: str
    images: dict[str, str]
    weights: str | None
    ranks: int
    variant: str = ""
    preprocess: dict[str, Any] | None = None

    @classmethod
    def of(
        cls, options: Options, train: Dataset, images: dict[str, str], source: dict[str, Any] | None, ranks: int
    ) -> Identity:
        """Return what a run with these options, images and weights belongs to; `source` is as a checkpoint has it."""
        source, preprocess = source or {}, train.store.preprocess.to_dict()
        weights, variant = source.get("sha256"), source.get("variant") or ""
        return cls(options.affecting(), splits.listing(train)[1], images, weights, ranks, variant, preprocess)

    @classmethod
    def saved(cls, options: dict[str, Any], method: dict[str, Any], listed: str, content: dict[str, Any]) -> Identity:
        """Return what a saved run belongs to; `content` is its checkpoint or its summary.

        An option or an entry of `preprocess` younger than the file had its default, or the value in `EARLIER`.
        """
        known = {**{option.name: option.default for option in fields(Options)}, **EARLIER}
        source, images, written = (content.get(name) or {} for name in ("source", "images", "preprocess"))
        weights, variant = source.get("sha256"), source.get("variant") or ""
        preprocess = Preprocess(**written).to_dict() if written else None
        ranks = content.get("ranks") or 1
        return cls({**known, **options, **method}, listed, images, weights, ranks, variant, preprocess)

    def require_same(self, then: Identity, path: Path) -> None:
        """Refuse to go on from the run in `path`, which belongs to `then`, unless only spellings differ.

        Raises:
            UsageError: naming what differs.
        """
        changed = self._changed_options(then) + self._changed_content(then)
        if not changed:
            return
        text = f"--resume {path}: the run was started with other options: {names(changed)}"
        if self.options["max_iters"] != then.options.get("max_iters"):
            text += (
                "; learning rate and method are scheduled over --max_iters, so a run keeps it: --overwrite starts the "
                "run again, --pretrained with its _Last.pdparams and another --name trains on from its weights"
            )
        raise UsageError(text)

    def _changed_options(self, then: Identity) -> list[str]:
        covered = set()  # paths whose content is compared
        if then.images:
            covered |= {*_PATHS, *_COLUMNS}
        if self.weights and self.weights == then.weights:
            covered.add("pretrained")
        return [
            f"--{name} {shortened(str(then.options.get(name)), 200)} is now {shortened(str(value), 200)}"
            for name, value in sorted(self.options.items())
            if name not in covered and not _same(name, value, then.options.get(name))
        ]

    def _origin(self, split: str) -> str:
        return self.options.get(f"{split}_list") or self.options[f"{split}_dir"]

    def _changed_content(self, then: Identity) -> list[str]:
        changed = []
        if self.listed != then.listed:
            changed.append(f"the list of training files in {self._origin('train')} has changed")
        for split, name in _SPLITS.items():
            known = {self.images.get(split), then.images.get(split)}
            if len(known - {None}) == 2 and not changed:
                changed.append(f"the {split} images in {self._origin(name)} are not those it was started with")
        if self.weights != then.weights:
            changed.append(f"the weights of --pretrained {self.options['pretrained']} have changed")
        if self.variant != then.variant:
            changed.append(f"the edition of the weights, {then.variant or 'standard'}, is {self.variant or 'standard'}")
        for name, value in (self.preprocess or {}).items() if then.preprocess else ():
            same_option = self.options.get(name) == then.options.get(name)  # another one is named already
            if value != then.preprocess[name] and same_option:
                changed.append(f"{name} of the images {then.preprocess[name]} is now {value}")
        if self.ranks != then.ranks:
            changed.append(f"{then.ranks} processes are now {self.ranks}")
        return changed


def digests(train: Dataset, evaluation: Dataset) -> dict[str, str]:
    """Return `Identity.images` of the images of a run.

    Raises:
        DataError: a file cannot be read.
    """
    return {"train": _digest(train), "evaluation": _digest(evaluation)}


def _digest(images: Dataset) -> str:
    value = hashlib.sha256()
    folder, positions = images.store.images, images.positions.tolist()
    for position, content in zip(positions, images.store.contents(positions)):
        if not content.digest:
            raise DataError(f"{folder.root / folder.paths[position]}: cannot be read")
        value.update(os.fsencode(f"{folder.key(position)}\t{content.digest}\n"))
    return value.hexdigest()


def _same(name: str, first: object, second: object) -> bool:
    if name in _PATHS and type(first) is type(second) is str:
        return first == second or os.path.realpath(first) == os.path.realpath(second)
    return first == second
