import copyreg
import functools
import importlib
import io
import operator
import os
import pathlib
import pickle
import runpy
import shutil
import struct
import subprocess
import tracemalloc

import numpy as np
import paddle
import pytest

import models
from checkpoints import pdparams
from utils.errors import WeightsError

RNG = np.random.default_rng(0)


def read(tmp_path, content):
    path = tmp_path / "file.pdparams"
    path.write_bytes(content)
    return pdparams.load(path)


def refusal(tmp_path, content):
    """Return why `content` is refused, after the file's name; nothing may have run."""
    with pytest.raises(WeightsError) as caught:
        read(tmp_path, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'file.pdparams'}: ")
    assert message.isprintable()
    assert len(message) < len(str(tmp_path)) + 250
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.pdparams"]
    return message


def assert_same(value, expected):
    """Compare with what paddle.load gave: equal values, types and order."""
    if isinstance(expected, dict):
        assert list(value) == list(expected)
        for key in expected:
            assert_same(value[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert type(value) is type(expected)
        assert len(value) == len(expected)
        for mine, theirs in zip(value, expected):
            assert_same(mine, theirs)
    elif isinstance(expected, np.ndarray):
        assert type(value) is np.ndarray
        assert value.dtype == expected.dtype.newbyteorder("=")
        assert value.flags.c_contiguous
        assert value.flags.writeable
        assert value.flags.aligned
        np.testing.assert_array_equal(value, expected)
        assert value.shape == expected.shape
    else:
        assert value == expected
        assert type(value) is type(expected.item() if isinstance(expected, np.generic) else expected)


# Pickles by hand


def literal(value, protocol=3):
    return pickle.dumps(value, protocol)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def dtype(name="f4", state=(3, "<", None, None, None, -1, -1, 0)):
    return named("numpy", "dtype") + literal((name, False, True)) + b"R" + literal(state) + b"b"


NEW_ARRAY = (
    named("numpy.core.multiarray", "_reconstruct")
    + (named("numpy", "ndarray") + literal((0,)) + literal(b"b") + b"\x87")
    + b"R"
)


def array(shape=(2,), kind=None, data=b"\0\0\x80?\0\0\0@", version=1, fortran=False, new=NEW_ARRAY):
    parts = literal(version), literal(shape), kind or dtype(), literal(fortran), literal(data)
    return new + b"(" + b"".join(parts) + b"tb"


def whole(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


class Call:
    """Pickles to the call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# What paddle.save writes


@pytest.fixture(scope="module")
def checkpoint():
    network = models.build("resnet8", 5)
    schedule = paddle.optimizer.lr.PiecewiseDecay(boundaries=[3], values=[0.1, 0.01])
    optimizer = paddle.optimizer.Momentum(schedule, parameters=network.parameters())
    network(paddle.ones([2, 3, 8, 8])).logits.sum().backward()
    optimizer.step()
    numbers = np.arange(6)
    return {
        "model": network.state_dict(),
        "optimizer": {key: value for key, value in optimizer.state_dict().items() if key != "LR_Scheduler"},
        "iter": 9000,
        "lr_scheduler": schedule.state_dict(),
        "classes": ["Ara", "Kakadu", "ἄρα", "\udcff"],
        "options": {"ema_decay": None, "keep_aspect": False, "lr": 1e-2, "seed": 2**70, "sizes": (224, 256), 3: ()},
        "metrics": [{"acc": np.float32(81.5), "count": np.int64(7), "flag": np.bool_(True)}, []],
        "arrays": {
            **{name: numbers.astype(name) for name in ("bool", "int8", "uint16", "int64", "float16", "float64")},
            "0-d": np.array(2.5, "float32"),
            "empty": np.zeros((0, 3), "float32"),
            "one byte": np.array([True]),
            "big-endian": numbers.astype(">f4"),
            "big-endian integers": numbers.astype(">i2").reshape(2, 3),
            "fortran": np.asfortranarray(RNG.normal(size=(3, 4, 2))),
            "fortran, big-endian": np.asfortranarray(RNG.normal(size=(3, 4)).astype(">f8")),
            "strided": RNG.normal(size=(6, 6))[::2, ::3],
        },
        "tensors": [paddle.to_tensor(1.5), (paddle.zeros([0, 2]), [paddle.ones([2], "int64")])],
    }


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_paddle_saves(tmp_path, checkpoint, protocol):
    path = tmp_path / "file.pdparams"
    paddle.save(checkpoint, str(path), protocol=protocol)
    value = pdparams.load(path)
    assert_same(value, paddle.load(str(path), return_numpy=True))
    assert type(value["model"]) is dict
    for name, tensor in checkpoint["model"].items():
        np.testing.assert_array_equal(value["model"][name], tensor.numpy())
    assert value["tensors"][0].shape == ()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_drops_the_name_table_of_a_bare_state_dict(tmp_path, checkpoint, protocol):
    path = tmp_path / "file.pdparams"
    paddle.save(checkpoint["model"], str(path), protocol=protocol)
    assert b"StructuredToParameterName@@" in path.read_bytes()
    value = pdparams.load(str(path))
    assert list(value) == list(checkpoint["model"])
    assert_same(value, paddle.load(str(path), return_numpy=True))


def test_drops_a_nested_name_table(tmp_path):
    content = pickle.dumps({"model": {"w": np.ones(1), "StructuredToParameterName@@": {"w": "linear_0.w_0"}}}, 4)
    assert list(read(tmp_path, content)["model"]) == ["w"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_a_single_tensor(tmp_path, protocol):
    path = tmp_path / "file.pdparams"
    paddle.save(paddle.to_tensor([1.0, 2.0]), str(path), protocol=protocol)
    np.testing.assert_array_equal(pdparams.load(path), [1.0, 2.0])


@pytest.mark.parametrize("ours, theirs", [(b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")])
@pytest.mark.parametrize("protocol", [2, 3])
def test_reads_the_names_of_both_numpy_versions(tmp_path, ours, theirs, protocol):
    expected = {"w": np.arange(4.0), "best": np.float64(0.5)}
    content = pickle.dumps(expected, protocol).replace(ours, theirs)
    assert theirs in content
    assert_same(read(tmp_path, content), expected)


def test_reads_the_strings_of_python_2(tmp_path):
    def old(data):
        return b"U" + bytes([len(data)]) + data

    numbers = np.array([1.5, -2.0], "<f4")
    kind = named("numpy", "dtype") + old(b"f4") + b"K\0K\1\x87R" + b"(K\3" + old(b"<") + b"NNNJ" + b"\xff" * 4
    kind += b"J" + b"\xff" * 4 + b"K\0tb"
    state = b"(K\1K\2\x85" + kind + b"\x89T" + struct.pack("<i", 8) + numbers.tobytes() + b"tb"
    content = b"\x80\x02}" + old(b"r\xe9seau") + NEW_ARRAY + state + b"s."
    assert_same(read(tmp_path, content), {"r\xe9seau": numbers})
    assert_same(read(tmp_path, content), pickle.loads(content, encoding="latin1"))


def test_what_is_shared_stays_shared_when_it_is_an_array(tmp_path):
    numbers, sizes = np.arange(3.0), [1, 2]
    value = read(tmp_path, pickle.dumps({"a": numbers, "b": [numbers], "c": sizes, "d": sizes}, 4))
    assert value["a"] is value["b"][0]
    assert value["c"] == value["d"] == [1, 2]


def test_a_pair_of_text_and_array_is_the_array_at_any_depth(tmp_path):
    value = read(tmp_path, pickle.dumps([("x", np.ones(1)), ("y", ("z", np.zeros(2))), ("x", 1)], 4))
    assert_same(value, [np.ones(1), ("y", np.zeros(2)), ("x", 1)])


def test_the_pickles_by_hand_are_what_numpy_reads(tmp_path):
    content = whole(array())
    assert_same(pickle.loads(content), np.array([1.0, 2.0], "float32"))
    assert_same(read(tmp_path, content), np.array([1.0, 2.0], "float32"))


# What is not such a file


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (b"PK\x03\x04" + b"\0" * 30, "zip archive"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2), "torch file of the old format"),
        (struct.pack("<Q", 60) + b'{"w":{"dtype":"F32"}}', "safetensors"),
        (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "starts with b'version '"),
        (pickle.dumps({"a": 1}, 0), "starts with"),
        (b"\x80\x09}.", "starts with"),
    ],
)
def test_names_what_else_a_file_looks_like(tmp_path, content, reason):
    message = refusal(tmp_path, content)
    assert "not a .pdparams file" in message
    assert reason in message


def test_says_what_is_wrong_with_the_path(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere.pdparams: it is not there"):
        pdparams.load(tmp_path / "nowhere.pdparams")
    with pytest.raises(WeightsError, match="is a folder"):
        pdparams.load(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read: File name too long"):
        pdparams.load(tmp_path / ("x" * 5000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="not a regular file"):
        pdparams.load(tmp_path / "pipe")


# What would run something

COMMAND = "touch executed"
CALLS = {
    "os.system": Call(os.system, COMMAND),
    "os.mkdir": Call(os.mkdir, "executed"),
    "subprocess.call": Call(subprocess.call, ["touch", "executed"]),
    "subprocess.Popen": Call(subprocess.Popen, ["touch", "executed"]),
    "eval": Call(eval, "open('executed', 'w').close()"),
    "exec": Call(exec, "open('executed', 'w').close()"),
    "open": Call(open, "executed", "w"),
    "import": Call(__import__, "antigravity"),
    "import_module": Call(importlib.import_module, "antigravity"),
    "run_path": Call(runpy.run_path, "file.pdparams"),
    "shutil.copy": Call(shutil.copy, "file.pdparams", "executed"),
    "Path.touch": Call(pathlib.Path.touch, pathlib.Path("executed")),
    "nested pickle": Call(pickle.loads, pickle.dumps(Call(os.system, COMMAND))),
    "partial": Call(functools.partial(os.system, COMMAND)),
    "methodcaller": Call(operator.methodcaller("touch"), pathlib.Path("executed")),
    "tuple of a map": Call(tuple, Call(map, os.system, [COMMAND])),
    "in a list": [1, {"a": (2, Call(os.system, COMMAND))}],
    "beside tensors": {"model": {"w": np.ones(2)}, "iter": Call(os.system, COMMAND)},
    "in an object array": np.array([Call(os.system, COMMAND)], dtype=object),
    "numpy.memmap": Call(np.memmap, "executed", "u1", "w+", 0, (4,)),
    "numpy.savetxt": Call(np.savetxt, "executed", [0]),
    "numpy.fromfile": Call(np.fromfile, "file.pdparams"),
    "reconstructor": Call(copyreg._reconstructor, pathlib.PurePath, object, None),
}


def test_the_calls_would_run_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "eval", "nested pickle", "tuple of a map", "numpy.memmap", "in an object array"):
        pickle.loads(pickle.dumps(CALLS[name], 4))
        (tmp_path / "executed").unlink()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", CALLS)
def test_calls_nothing(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    assert "refused: " in refusal(tmp_path, pickle.dumps(CALLS[name], protocol))


GLOBALS = [
    ("os", "system"),
    ("posix", "system"),
    ("os", "path.os.system"),
    ("builtins", "getattr"),
    ("builtins", "tuple.__class__"),
    ("builtins", "list"),
    ("builtins", "bytearray"),
    ("builtins", "eval"),
    ("__builtin__", "eval"),
    ("collections", "OrderedDict.__init__"),
    ("collections", "defaultdict"),
    ("collections", ""),
    ("", ""),
    ("_codecs", "decode"),
    ("numpy", "ndarray.__class__"),
    ("numpy", "core.multiarray._reconstruct"),
    ("numpy", "load"),
    ("numpy.core", "multiarray._reconstruct"),
    ("numpy._core.multiarray", "fromfile"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "scalar.__class__"),
    ("checkpoints.pdparams", "load"),
    ("checkpoints.pdparams", "_NAMES"),
    ("x" * 10_000, "\n\x1b[31m"),
]


@pytest.mark.parametrize("module, name", GLOBALS)
def test_knows_no_other_name(tmp_path, module, name):
    message = refusal(tmp_path, whole(literal(module), literal(name), b"\x93"))
    assert "refused: it asks for" in message
    assert module[:50] in message


SYSTEM, ARGUMENTS = named("os", "system"), literal((COMMAND,))
TUPLE, ENCODE = named("builtins", "tuple"), named("_codecs", "encode")
INSTRUCTIONS = {
    "INST": b"(" + literal(COMMAND) + b"ios\nsystem\n",
    "INST of a known name": b"(" + literal((1,)) + b"ibuiltins\ntuple\n",
    "OBJ": b"(" + TUPLE + literal(COMMAND) + b"o",
    "NEWOBJ": TUPLE + literal(([1],)) + b"\x81",
    "NEWOBJ of an array": named("numpy", "ndarray") + literal((3,)) + b"\x81",
    "NEWOBJ_EX": TUPLE + literal(()) + b"}\x92",
    "PERSID": b"Pexecuted\n",
    "BINPERSID": literal("executed") + b"Q",
    "EXT1": b"\x82\xf0" + ARGUMENTS + b"R",
    "EXT2": b"\x83\xf0\x00" + ARGUMENTS + b"R",
    "EXT4": b"\x84\xf0\x00\x00\x00" + ARGUMENTS + b"R",
    "NEXT_BUFFER": b"\x97",
    "READONLY_BUFFER": literal(b"x") + b"\x98",
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", 2**62),
    "EMPTY_SET": b"\x8f",
    "FROZENSET": b"(\x91",
    "DUP": b"}2",
    "POP": b"]]0",
    "LONG": b"L" + b"9" * 10_000 + b"L\n",
    "0xfe": b"\xfe",
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_carries_out_no_other_instruction(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("os", "system", 240)
    try:
        assert name.split()[0] in refusal(tmp_path, whole(INSTRUCTIONS[name]))
    finally:
        copyreg.remove_extension("os", "system", 240)


PLAIN = (3, "<", None, None, None, -1, -1, 0)
MALFORMED = {
    "huge shape": array(shape=(2**30, 2**30)),
    "huge shape without data": array(shape=(2**40,), data=b""),
    "huge empty shape": array(shape=(0, *[2**31 - 1] * 5), data=b""),
    "product that wraps round": array(shape=(2**31 - 1, 2**31 - 1, 4), data=b""),
    "negative shape": array(shape=(-2,)),
    "two negative sizes": array(shape=(-1, -2)),
    "shape of a boolean": array(shape=(True, 2)),
    "shape of floats": array(shape=(2.0,)),
    "shape as a list": array(shape=[2]),
    "shape as a number": array(shape=2),
    "many dimensions": array(shape=(1,) * 100 + (2,)),
    "many huge dimensions": array(shape=(2**2000,) * 5000),
    "short data": array(data=b"\0" * 7),
    "long data": array(data=b"\0" * 9),
    "data in a list": array(data=[1.0, 2.0]),
    "data as text beyond latin1": array(data="\u20ac" * 8),
    "no data": array(data=None),
    "version": array(version=2),
    "order flag": array(fortran="C"),
    "short state": NEW_ARRAY + literal((1, (2,))) + b"b",
    "state as a dictionary": NEW_ARRAY + literal({"__class__": 1}) + b"b",
    "no state": NEW_ARRAY,
    "empty state": NEW_ARRAY + b"Nb",
    "slots": NEW_ARRAY + literal(({}, {"value": "x", "build": "x"})) + b"b",
    "type without state": array(kind=named("numpy", "dtype") + literal(("f4", False, True)) + b"R"),
    "type as text": array(kind=literal("f4")),
    "object type": array(kind=dtype("O8", (3, "|", None, None, None, -1, -1, 63))),
    "complex type": array(shape=(1,), kind=dtype("c8")),
    "void type": array(shape=(1,), kind=dtype("V8", (3, "|", None, None, None, 8, 1, 0))),
    "structured type": array(shape=(2,), kind=dtype("f4", (3, "<", None, ("a",), {"a": ("f4", 0)}, 4, 1, 16))),
    "type with a subarray": array(shape=(1,), kind=dtype("f4", (3, "<", ("f4", (2,)), None, None, -1, -1, 0))),
    "type with flags": array(kind=dtype("f4", (*PLAIN[:-1], 63))),
    "type with metadata": array(kind=dtype("f4", (4, *PLAIN[1:], {}))),
    "type without byte order": array(kind=dtype("f4", (3, "|", *PLAIN[2:]))),
    "type with a foreign byte order": array(kind=dtype("f4", (3, "f4,(9999999,)", *PLAIN[2:]))),
    "type as a list of fields": array(kind=dtype([("a", "f4")])),
    "type by expression": array(kind=dtype("f4,f4")),
    "type with a count": array(kind=dtype("(9999999,)f4")),
    "type called with less": named("numpy", "dtype") + literal(("f4",)) + b"R",
    "reconstruct of another class": array(new=NEW_ARRAY.replace(named("numpy", "ndarray"), named("numpy", "dtype"))),
    "reconstruct at a size": array(new=NEW_ARRAY.replace(literal((0,)), literal((2**40,)))),
    "reconstruct at a type": array(new=NEW_ARRAY.replace(literal(b"b"), literal(b"O"))),
    "ndarray called": named("numpy", "ndarray") + literal((2**40,)) + b"R",
    "ndarray as a value": named("numpy", "ndarray"),
    "type as a value": dtype(),
    "scalar of an object": named("numpy.core.multiarray", "scalar") + dtype("O8") + literal(b"\0" * 8) + b"\x86R",
    "scalar of the wrong size": named("numpy.core.multiarray", "scalar") + dtype() + literal(b"\0" * 8) + b"\x86R",
    "scalar without type": named("numpy.core.multiarray", "scalar") + literal(("f4", b"\0" * 4)) + b"R",
    "codec": ENCODE + literal(("x", "rot13")) + b"R",
    "codec of nothing": ENCODE + literal((1, "latin1")) + b"R",
    "errors of a codec": ENCODE + literal(("x", "latin1", "strict")) + b"R",
    "bytes": literal(b"x"),
    "bytes of protocol 2": literal(b"x", 2),
    "sized bytes": named("builtins", "bytes") + literal((2**40,)) + b"R",
    "tuple of a number": TUPLE + literal((7,)) + b"R",
    "filled ordered dictionary": named("collections", "OrderedDict") + literal(({"a": 1},)) + b"R",
    "call of a text": literal("x") + literal(()) + b"R",
    "call of a list": literal([]) + literal(()) + b"R",
    "call with a text": TUPLE + literal("abc") + b"R",
    "state for a name": ENCODE + literal(({"a": 1}, {"__code__": 1, "__defaults__": (1,)})) + b"b",
    "state for a class": named("numpy", "dtype") + literal((None, {"build": "x"})) + b"b",
    "state for an ordered dictionary": named("collections", "OrderedDict")
    + literal(())
    + b"R"
    + literal({"a": 1})
    + b"b",
    "state for a list": literal([]) + literal({"__class__": 1}) + b"b",
    "item of a name": named("numpy", "dtype") + literal("value") + literal(1) + b"s",
    "item of a list": literal([1]) + literal(0) + literal(2) + b"s",
    "append to a dictionary": literal({}) + literal(1) + b"a",
    "append to a name": TUPLE + b"(" + literal(1) + b"e",
    "odd items": b"}(" + literal("a") + b"u",
    "key that is a list": b"}" + literal([]) + b"Ns",
    "key that is a tuple": b"}" + literal((1, 2)) + b"Ns",
    "key that is an array": b"}" + array() + b"Ns",
    "key that is not a number": b"}" + literal(float("nan")) + b"Ns",
    "key that is huge": b"}" + literal(2**61 - 1) + b"Ns",
    "list inside itself": b"]q\0h\0a",
    "dictionary inside itself": b"}q\0\x8c\1ah\0s",
    "tuple inside itself": b"]q\0h\0\x85a",
    "deep tuples": b")" + b"\x85" * 200_000,
    "deep lists": b"]" * 200_000 + b"a" * 199_999,
    "nothing": b"",
    "mark without end": b"(",
    "tuple without mark": b"Nt",
    "memo never filled": b"h\7",
    "memo of nothing": b"q\0",
    "text that is not UTF-8": b"\x8c\1\xff",
    "name that is not text": b"NN\x93",
    "negative string": b"T" + struct.pack("<i", -1),
    "negative integer": b"\x8b" + struct.pack("<i", -1),
    "frame in a frame": b"\x95" + struct.pack("<Q", 20) + b"\x95" + struct.pack("<Q", 1) + b"N" * 30,
    "trailing pickle": literal(1) + b"." + SYSTEM + ARGUMENTS + b"R",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_what_paddle_does_not_write(tmp_path, name):
    refusal(tmp_path, whole(MALFORMED[name]))


def laughs(new, add, levels=60):
    return b"N" + b"".join(b"q" + bytes([i]) + new + add.replace(b"?", b"h" + bytes([i])) for i in range(levels))


KEYS = b"}q\xff" + laughs(b"", b"??\x86") + b"q\xfeh\xffh\xfeNs"
MEGABYTE = b"\x8e" + struct.pack("<Q", 2**20) + b"\0" * 2**20
TEXT = b"\x8d" + struct.pack("<Q", 2**20) + b"a" * 2**20
SHARED_STATE = b"(K\1" + literal((2**18,)) + dtype() + b"\x89h\xfet" + b"q\xfe"
ARRAYS = b"](" + (NEW_ARRAY + b"h\xfeb") * 2000 + b"e"
BOMBS = {
    "bytes": b"\x8e" + struct.pack("<Q", 2**62),
    "bytes of 4 GB": b"B" + b"\xff" * 4 + b"x",
    "text": b"\x8d" + struct.pack("<Q", 2**40) + b"x",
    "text of 4 GB": b"X" + b"\xff" * 4 + b"x",
    "bytes beyond the address space": b"\x8e" + b"\xff" * 8,
    "integer": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x",
    "string": b"T" + struct.pack("<i", 2**31 - 1) + b"x",
    "frame": b"\x95" + struct.pack("<Q", 2**60) + b"N",
    "laughing lists": laughs(b"]", b"(????e"),
    "laughing tuples": laughs(b"", b"???\x87"),
    "laughing dictionaries": laughs(b"}", b"(K\1?K\2?u"),
    "laughing keys": KEYS,
    "arrays of the same bytes": MEGABYTE + b"q\xfe" + SHARED_STATE + ARRAYS,
    "arrays of the same text": TEXT + b"q\xfe" + SHARED_STATE + ARRAYS,
    "text encoded often": TEXT + literal("latin1") + b"\x86q\xfe](" + (ENCODE + b"h\xfeR") * 2000 + b"e",
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_unfold_takes_no_memory(tmp_path, name):
    content = whole(BOMBS[name])
    tracemalloc.start()
    try:
        refusal(tmp_path, content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(content) + 2**24


def test_a_huge_memo_index_takes_no_memory(tmp_path):
    tracemalloc.start()
    try:
        assert read(tmp_path, whole(b"]r\xff\xff\xff\xff")) == []
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_one_file_cannot_change_what_the_next_one_reads(tmp_path):
    for name in ("state for a name", "state for a class", "item of a name", "slots"):
        refusal(tmp_path, whole(MALFORMED[name]))
    assert_same(read(tmp_path, whole(array())), np.array([1.0, 2.0], "float32"))


# What a disk or a network does


@pytest.fixture(scope="module", params=[2, 4])
def saved(request, checkpoint):
    buffer = io.BytesIO()
    paddle.save({**checkpoint, "model": {"w": paddle.ones([3])}, "optimizer": {}}, buffer, protocol=request.param)
    return buffer.getvalue()


def test_every_truncation_is_refused(tmp_path, saved):
    read(tmp_path, saved)
    for length in {*range(20), *RNG.integers(20, len(saved), 40).tolist(), len(saved) - 1}:
        refusal(tmp_path, saved[:length])


def test_flipped_bits_are_read_or_refused(tmp_path, saved):
    failures = []
    for position, bit in zip(RNG.integers(2, len(saved), 300), RNG.integers(0, 8, 300)):
        content = bytearray(saved)
        content[position] ^= 1 << bit
        try:
            read(tmp_path, bytes(content))
        except WeightsError as failure:
            failures.append(str(failure))
    assert 0 < len(failures) < 300
    assert all(failure.isprintable() for failure in failures)
