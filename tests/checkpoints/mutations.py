"""Small files of weights in every format, and random damage to them."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable

import numpy as np

from tests.checkpoints.test_torchfile import NAMESPACE, ORDERED, dictionary, literal, named, storage, tensor

CANARY = "executed"  # a folder that some of the pickles ask for
_OPCODES = b"".join(opcode.code.encode("latin1") for opcode in pickletools.opcodes)
_NUMBERS = (0, 1, 7, 255, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**61, 2**62, 2**63 - 1)
_TOKENS = (b"-1", b"0", b"1e999", b"70", b"4611686018427387904", b"[]", b"{}", b'"F64"', b'"BF16"', b"[0,9]", b"null")
_MKDIR = named("os", "mkdir") + literal((CANARY,)) + b"R"


class _Call:
    def __reduce__(self) -> tuple:
        import os

        return os.mkdir, (CANARY,)


def pickles() -> list[bytes]:
    """Return what paddle.save writes: weights, a checkpoint, and one that asks for a call."""
    rng = np.random.default_rng(0)
    weights = {
        "conv1.weight": rng.normal(size=(2, 3, 1, 1)).astype("f4"),
        "fc.weight": ("fc.w_0", rng.normal(size=(64, 2)).astype("f4").T.copy().T),
        "fc.bias": rng.integers(0, 2**16, 2).astype("u2"),
        "bn1._variance": np.array([1, np.inf], "f8"),
        "half": np.arange(3, dtype=">f2"),
        "empty": np.zeros((0, 4), "f4"),
        "StructuredToParameterName@@": {"conv1.weight": "conv2d_0.w_0"},
    }
    entries = {"iter": 3, "classes": ["a", "b"], "options": {"lr": 0.1, "seed": 2**70}, "best": np.float64(0.5)}
    contents = [weights, {"model": weights, "arch": "resnet8", **entries}, {"state_dict": weights, "hook": _Call()}]
    return [pickle.dumps(content, protocol) for content in contents for protocol in (2, 4)]


def safetensors() -> list[bytes]:
    """Return a file with a tensor of each of several types, and one without any."""
    header = {
        "__metadata__": {"format": "np"},
        "fc.weight": {"dtype": "F32", "shape": [2, 64], "data_offsets": [0, 512]},
        "fc.bias": {"dtype": "BF16", "shape": [2], "data_offsets": [512, 516]},
        "bn1.running_mean": {"dtype": "F16", "shape": [2], "data_offsets": [516, 520]},
        "count": {"dtype": "I64", "shape": [], "data_offsets": [520, 528]},
        "empty": {"dtype": "F64", "shape": [0, 4], "data_offsets": [528, 528]},
    }
    return [_safetensors(json.dumps(content).encode(), bytes(528) if content else b"") for content in (header, {})]


def _safetensors(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _objects() -> list[bytes]:
    weights = {
        "conv1.weight": tensor(),
        "fc.weight": tensor(storage("HalfStorage", "1", 6), shape=(3, 2), strides=(1, 3)),
        "bn1.running_mean": tensor(storage("BFloat16Storage", "2", 6), shape=(), strides=()),
    }
    beside = {"args": NAMESPACE, "epoch": literal(3), "hook": _MKDIR, "meta": ORDERED}
    return [dictionary(**weights), dictionary(state_dict=dictionary(**weights), **beside)]


_STORAGES = {"0": bytes(24), "1": bytes(12), "2": bytes(12)}


def torch_zip() -> list[bytes]:
    """Return torch's files of today."""
    return [_zip(b"\x80\x02" + value + b".") for value in _objects()]


def _zip(pickled: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        for key, data in _STORAGES.items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


def torch_stream() -> list[bytes]:
    """Return torch's files from before 1.6."""
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    end = b"".join(struct.pack("<q", 6) + data for data in _STORAGES.values())
    return [start + b"\x80\x02" + value + b"." + pickle.dumps(list(_STORAGES), 2) + end for value in _objects()]


FORMATS: dict[str, Callable[[], list[bytes]]] = {
    "pickle": pickles,
    "safetensors": safetensors,
    "torch zip": torch_zip,
    "torch stream": torch_stream,
}


def mutated(kind: str, seeds: list[bytes], draw: random.Random) -> bytes:
    """Return one of `seeds` of the format `kind` with some damage, half the time inside its checked container."""
    content = draw.choice(seeds)
    if kind == "torch zip" and draw.random() < 0.7:  # a wrong sum would hide the damage
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _zip(_damaged(archive.read("archive/data.pkl"), draw))
    if kind == "safetensors" and draw.random() < 0.7:  # a wrong length would
        (length,) = struct.unpack("<Q", content[:8])
        return _safetensors(_damaged(content[8 : 8 + length], draw, _TOKENS), content[8 + length :])
    return _damaged(content, draw)


def _damaged(content: bytes, draw: random.Random, tokens: tuple[bytes, ...] = ()) -> bytes:
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        if not content:
            break
        at = draw.randrange(len(content))
        end = min(len(content), at + draw.choice((1, 2, 4, 8, 40)))
        how = draw.randrange(8 if tokens else 7)
        if how == 0:
            content[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            content[at] = draw.randrange(256)
        elif how == 2:
            content[at] = draw.choice(_OPCODES)
        elif how == 3:
            del content[at:end]
        elif how == 4:
            content[at:at] = content[at:end] * draw.choice((1, 2, 50))
        elif how == 5:
            width, number = draw.choice((1, 2, 4, 8)), draw.choice(_NUMBERS)
            number = number.to_bytes(8, "little")[:width]
            content[at : at + width] = number
        elif how == 6:
            other = draw.randrange(len(content))
            content[at:end] = content[other : other + end - at]
        else:
            content[at:end] = draw.choice(tokens)
    if draw.random() < 0.05:
        del content[draw.randrange(len(content) + 1) :]
    return bytes(content)
