"""Pooled features of images in a file, and the nearest of them to others by cosine."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np

from checkpoints.classifier import Classifier
from evaluation.predictions import Neighbours, Predictions
from models.parameters import backbone_parameters
from utils.errors import WeightsError
from utils.files import replacing

BLOCK = 2**22  # similarities that are sorted at a time
_DAMAGED = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def identity(model: Classifier) -> str:
    """Return the sha256 of all that the features of `model` depend on: its backbone and how its images are prepared."""
    value = hashlib.sha256(json.dumps([model.arch, model.preprocess.to_dict()], sort_keys=True).encode())
    for name, tensor in sorted(backbone_parameters(model.network).items()):
        array = np.ascontiguousarray(tensor.numpy())
        value.update(f"{name} {array.dtype} {array.shape}".encode())
        value.update(array)
    return value.hexdigest()


@dataclass(frozen=True)
class Features:
    """What the head of one network reads of some images.

    Attributes:
        features: float32 [N, C].
        paths: of the images, N.
        classes: the names of the network's outputs, in their order.
        network: its `identity`.
    """

    features: np.ndarray
    paths: list[str]
    classes: list[str]
    network: str

    @classmethod
    def of(cls, model: Classifier, labelled: Predictions) -> Features:
        """Return those of images that `model` labelled with its features."""
        return cls(labelled.features, labelled.paths, labelled.class_names, identity(model))

    def save(self, path: str | os.PathLike) -> None:
        """Write the four as arrays of a file for `numpy.load`; texts are Unicode arrays."""
        texts = {"paths": np.array(self.paths), "classes": np.array(self.classes), "network": np.array(self.network)}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, features=self.features.astype("float32"), **texts)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Features:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            WeightsError: the file is absent, damaged or another one.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:  # NumPy leaves a torn one open
                arrays = {name: archive[name] for name in ("features", "paths", "classes", "network")}
        except FileNotFoundError:
            raise WeightsError(f"{path}: no such file") from None
        except (*_DAMAGED, KeyError, TypeError, AttributeError):  # the last two: an array, which is no archive
            raise WeightsError(f"{path}: not a file of predict.py --features, or damaged") from None
        found = {name: (array.dtype.kind, array.ndim) for name, array in arrays.items()}
        features, paths = arrays["features"], arrays["paths"]
        if found != {"features": ("f", 2), "paths": ("U", 1), "classes": ("U", 1), "network": ("U", 0)} or not (
            len(features) == len(paths) > 0 and np.isfinite(features).all()
        ):
            raise WeightsError(f"{path}: not a file of predict.py --features: arrays of other kinds or shapes")
        return cls(features.astype("float32"), paths.tolist(), arrays["classes"].tolist(), str(arrays["network"]))

    @classmethod
    def load_for(cls, model: Classifier, path: str, origin: str) -> Features:
        """Read those of the same network as `model`, which was loaded from `origin`.

        Raises:
            WeightsError: they are of another one, or as `load`.
        """
        found = cls.load(path)
        if found.network != identity(model) or found.features.shape[1] != model.network.head.weight.shape[0]:
            raise WeightsError(
                f"--nearest_to {path}: not of the backbone and the image size of {origin}; accepted is what --features "
                "writes with it"
            )
        return found

    def nearest(self, features: np.ndarray, count: int) -> list[Neighbours]:
        """Return the `count` images, or all, whose features have the highest cosine with each row of `features` [M, C].

        Cosines are rounded to six places; of equal ones the first image is the nearest. That of zeros is 0.
        """
        known, rows, found = _directions(self.features), max(1, BLOCK // len(self.paths)), []
        for start in range(0, len(features), rows):
            cosines = np.round(_directions(features[start : start + rows]) @ known.T, 6)
            for row, order in zip(cosines, (-cosines).argsort(axis=1, kind="stable")[:, :count]):
                found.append([(self.paths[i], float(row[i])) for i in order])
        return found


def _directions(features: np.ndarray) -> np.ndarray:
    """Return the rows of `features` [N, C] at length 1; one of zeros stays so."""
    wide = features.astype("float64")
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return wide / np.where(lengths > 0, lengths, 1)[:, None]
