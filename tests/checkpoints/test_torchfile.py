"""Torch's files: written here byte by byte, and where torch is installed by torch, which then reads them as well."""

import argparse
import collections
import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from checkpoints import formats
from utils.errors import WeightsError

W = np.arange(6, dtype="<f4") - 2.5
ORDERED = b"ccollections\nOrderedDict\n)R"


def literal(value):
    return pickle.dumps(value, 2)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def storage(type_="FloatStorage", key="0", count=6, module="torch", view=b""):
    start = b"(" + literal("storage") + named(module, type_) + literal(key) + literal("cpu") + literal(count)
    return start + view + b"tQ"


def tensor(stored=None, offset=0, shape=(2, 3), strides=(3, 1), function="_rebuild_tensor_v2", more=None):
    more = literal(False) + ORDERED if more is None else more
    values = b"".join(literal(value) for value in (offset, shape, strides))
    return named("torch._utils", function) + b"(" + (stored or storage()) + values + more + b"tR"


def dictionary(**items):
    return b"}(" + b"".join(literal(name) + value for name, value in items.items()) + b"u"


def zipped(path, value, storages=None, order=b"little", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + value + b".")
        if order:
            archive.writestr("archive/byteorder", order)
        for key, data in (storages or {"0": W.tobytes()}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def stream(path, value, storages=None):
    """`storages` are counts and data by key."""
    storages = storages or {"0": (6, W.tobytes())}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps(system, 2)]
    parts += [b"\x80\x02" + value + b".", pickle.dumps(list(storages), 2)]
    parts += [struct.pack("<q", count) + data for count, data in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


FORMS = pytest.mark.parametrize("write", [zipped, stream])


@FORMS
def test_a_state_dict(tmp_path, write):
    content = formats.read(write(tmp_path / "a.pth", dictionary(w=tensor())))
    assert list(content) == ["w"]
    assert content["w"].dtype == "float32"
    assert content["w"].flags.c_contiguous
    assert np.array_equal(content["w"], W.reshape(2, 3))


@FORMS
@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, (3, 2), (1, 3), W.reshape(2, 3).T),
        (3, (3,), (1,), W[3:]),
        (1, (2, 2), (2, 1), [[W[1], W[2]], [W[3], W[4]]]),
        (2, (), (), W[2]),
        (5, (4, 2), (0, 0), np.full((4, 2), W[5])),
        (0, (3,), (2,), W[::2]),
        (6, (0, 3), (3, 1), np.zeros((0, 3))),
    ],
)
def test_offsets_and_strides(tmp_path, write, offset, shape, strides, expected):
    value = dictionary(w=tensor(offset=offset, shape=shape, strides=strides), all=tensor())
    content = formats.read(write(tmp_path / "a.pth", value))
    assert content["w"].shape == shape
    assert np.array_equal(content["w"], expected)
    assert np.array_equal(content["all"], W.reshape(2, 3))


TYPES = {
    "DoubleStorage": ("f8", "f4"),
    "FloatStorage": ("f4", "f4"),
    "HalfStorage": ("f2", "f4"),
    "LongStorage": ("i8", "i8"),
    "IntStorage": ("i4", "i4"),
    "ShortStorage": ("i2", "i2"),
    "CharStorage": ("i1", "i1"),
    "ByteStorage": ("u1", "u1"),
    "BoolStorage": ("?", "?"),
}


@pytest.mark.parametrize("order", ["little", "big", ""])
@pytest.mark.parametrize("type_", TYPES)
def test_types_and_byte_orders(tmp_path, type_, order):
    stored, returned = TYPES[type_]
    values = np.array([0, 1, 100, 3, 127, 0]).astype(stored)
    data = values.astype(values.dtype.newbyteorder(">" if order == "big" else "<")).tobytes()
    value = dictionary(w=tensor(storage(type_, module="torch.cuda")))
    content = formats.read(zipped(tmp_path / "a.pth", value, {"0": data}, order.encode()))
    assert content["w"].dtype == np.dtype(returned)
    assert np.array_equal(content["w"], values.reshape(2, 3))
    content = formats.read(stream(tmp_path / "b.pth", value, {"0": (6, values.tobytes())}))
    assert np.array_equal(content["w"], values.reshape(2, 3))


@FORMS
def test_bfloat16_becomes_float32(tmp_path, write):
    data = struct.pack("<6H", 0x3F80, 0xC020, 0x0000, 0x7F80, 0x4000, 0xBF80)
    value = dictionary(
        w=tensor(storage("BFloat16Storage"), shape=(3, 2), strides=(1, 3)),
        s=tensor(storage("BFloat16Storage"), shape=(), strides=()),
    )
    content = formats.read(write(tmp_path / "a.pth", value, {"0": data if write is zipped else (6, data)}))
    assert content["w"].dtype == content["s"].dtype == np.dtype("float32")
    assert np.array_equal(content["w"], np.array([[1, -2.5, 0], [np.inf, 2, -1]]).T)
    assert content["s"].shape == ()


WRAPPERS = ["state_dict", "model", "ema", "state_dict_ema", "model_ema", "model_state_dict"]
NAMESPACE = named("argparse", "Namespace") + b")\x81}(" + literal("lr") + literal(0.1) + b"ub"
OPTIMIZER = dictionary(state=b"}(K\1" + dictionary(step=literal(3)) + b"u", groups=b"](" + NAMESPACE + b"e")


@FORMS
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_lies_beside_the_weights_is_left_out(tmp_path, write, wrapper):
    beside = {
        "epoch": literal(3),
        "arch": literal("resnet18"),
        "args": NAMESPACE,
        "optimizer": OPTIMIZER,
        "pairs": b"}(K\1K\2\x86K\1u",
        "defaults": named("collections", "defaultdict") + named("builtins", "list") + b"\x85R(" + literal("a") + b"Nu",
        "queue": named("collections", "deque") + b")R(K\1e",
        "numbers": b"c__builtin__\nset\n](K\1e\x85R",
        "best": named("numpy.core.multiarray", "scalar") + named("numpy", "dtype") + b"U\2f8\x85RU\1a\x86R",
        "hook": named("os", "system") + literal(("touch executed",)) + b"R",
    }
    value = dictionary(**beside, **{wrapper: dictionary(w=tensor())})
    content = formats.read(write(tmp_path / "a.pth", value))
    assert list(content) == ["w"]
    assert np.array_equal(content["w"], W.reshape(2, 3))


def test_the_plain_weights_come_before_their_average(tmp_path):
    average = tensor(shape=(6,), strides=(1,))
    value = dictionary(state_dict_ema=dictionary(w=average), state_dict=dictionary(w=tensor()))
    assert formats.read(zipped(tmp_path / "a.pth", value))["w"].shape == (2, 3)


@FORMS
def test_parameters_and_metadata(tmp_path, write):
    parameter = named("torch._utils", "_rebuild_parameter") + tensor() + b"\x88" + ORDERED + b"\x87R"
    state = ORDERED + b"(" + literal("p") + parameter + b"u}" + literal("_metadata") + ORDERED + b"sb"
    content = formats.read(write(tmp_path / "a.pth", state))
    assert np.array_equal(content["p"], W.reshape(2, 3))


def test_the_files_of_python_2(tmp_path):
    old = (
        named("torch._utils", "_rebuild_tensor")
        + b"("
        + storage(module="torch.cuda", view=b"N")
        + b"K\0K\2K\3\x86K\3K\1\x86tR"
    )
    pairs = b"]](U\1we" + old + b"aa"
    ordered = named("collections", "OrderedDict") + pairs + b"\x85R"
    value = b"}(U\5notesU\4r\xe9s\xe9U\nstate_dict" + ordered + b"u"
    content = formats.read(stream(tmp_path / "a.pth", value))
    assert np.array_equal(content["w"], W.reshape(2, 3))


def test_a_view_of_a_storage(tmp_path):
    view = storage(view=b"(" + literal("1") + b"K\2K\4t")
    content = formats.read(stream(tmp_path / "a.pth", dictionary(w=tensor(view, shape=(4,), strides=(1,)))))
    assert np.array_equal(content["w"], W[2:])


# What is refused


@FORMS
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (tensor(), "holds a tensor; accepted is a dictionary of tensors"),
        (named("torch.nn.modules.linear", "Linear") + b")\x81}b", "holds a torch.nn.modules.linear.Linear; accepted"),
        (dictionary(w=tensor(), epoch=literal(3)), "'epoch' is a int; accepted"),
        (dictionary(w=tensor(), n=literal("x")), "'n' is a str; accepted"),
        (dictionary(w=tensor(), a=NAMESPACE), "'a' is a argparse.Namespace; accepted"),
        (dictionary(state_dict=dictionary(w=literal(None))), "'w' is a nonetype; accepted"),
        (b"}(K\3" + tensor() + b"u", "int is a tensor; accepted"),
        (b"}(" + literal((1, 2)) + tensor() + b"u", "placeholder is a tensor; accepted"),
        (dictionary(w=tensor(function="_rebuild_sparse_tensor")), "'w' is a torch._utils._rebuild_sparse_tensor"),
        (dictionary(w=tensor(more=b"\x89" + ORDERED + dictionary(neg=b"\x88"))), "'w' is a tensor with pending"),
        (dictionary(w=tensor(shape=(2, 4))), "'w' reaches beyond its storage"),
        (dictionary(w=tensor(offset=1)), "'w' reaches beyond its storage"),
        (dictionary(w=tensor(strides=(4, 1))), "'w' reaches beyond its storage"),
        (dictionary(w=tensor(storage(count=7))), "'w' reaches beyond its storage"),
        (dictionary(w=tensor(offset=-1)), "malformed shape"),
        (dictionary(w=tensor(strides=(-3, 1))), "malformed shape"),
        (dictionary(w=tensor(shape=(2.0, 3))), "malformed shape"),
        (dictionary(w=tensor(shape=(2**40, 2**40), strides=(0, 0))), "repeats the same data too often"),
        (dictionary(w=tensor(shape=(2**25,), strides=(0,))), "repeats the same data too often"),
        (dictionary(w=tensor(shape=(1,) * 33, strides=(1,) * 33)), "more than 32 dimensions"),
        (dictionary(w=tensor(shape=(2, 3), strides=(1,))), "no shape"),
        (dictionary(w=tensor(literal("x"))), "a tensor without a storage"),
        (dictionary(w=tensor(storage(key=1.5))), "a malformed storage"),
        (dictionary(w=tensor(storage(count=-1))), "a malformed storage"),
        (dictionary(w=tensor(), v=tensor(storage("HalfStorage"))), "a storage of two types"),
        (dictionary(w=tensor(storage(view=b"(" + literal("1") + b"K\4K\4t"))), "'w' reaches beyond its storage"),
        (dictionary(w=tensor(storage(view=b"N1"))), "POP_MARK|damaged"),
        (literal([1]) + b"K\0K\1s", "items for something other than a dictionary"),
        (b"\x96" + struct.pack("<Q", 2**60), "the pickle instruction BYTEARRAY8"),
        (b"\x82\xf0)R", "the pickle instruction EXT1"),
        (b"B" + b"\xff" * 4, "damaged or cut short"),
        (b"h\7", "damaged or cut short"),
    ],
)
def test_other_content_is_refused(tmp_path, write, value, complaint):
    path = write(tmp_path / "odd.pt", value)
    with pytest.raises(WeightsError, match=complaint) as caught:
        formats.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def test_types_without_meaning_here_are_named(tmp_path):
    value = dictionary(w=tensor(storage("ComplexFloatStorage")))
    with pytest.raises(WeightsError, match="'w' is a tensor of an unknown type; accepted"):
        formats.read(zipped(tmp_path / "a.pt", value))
    value = dictionary(other=tensor(storage("ComplexFloatStorage", "1")), model=dictionary(w=tensor()))
    assert list(formats.read(zipped(tmp_path / "a.pt", value))) == ["w"]
    both = {"1": (1, bytes(8)), "0": (6, W.tobytes())}
    with pytest.raises(WeightsError, match="a storage of an unknown type"):  # whose size is unknown as well
        formats.read(stream(tmp_path / "b.pt", value, both))


def test_entries_of_the_archive_are_stored_and_no_larger_than_the_file(tmp_path):
    path = zipped(tmp_path / "a.pt", dictionary(w=tensor()), {"0": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="is compressed; accepted are entries as torch stores them"):
        formats.read(path)
    path = zipped(tmp_path / "b.pt", dictionary(w=tensor(storage(key="../data.pkl"))))
    with pytest.raises(WeightsError, match=r"it lacks its entry 'archive/data/\.\./data.pkl'"):
        formats.read(path)
    with pytest.raises(WeightsError, match="a byte order other than"):
        formats.read(zipped(tmp_path / "c.pt", dictionary(w=tensor()), order=b"middle"))
    with zipfile.ZipFile(tmp_path / "d.pt", "w") as archive:
        archive.writestr("word/document.xml", "x")
    with pytest.raises(WeightsError, match="not a torch file: it has 0 entries NAME/data.pkl"):
        formats.read(tmp_path / "d.pt")


def test_a_size_in_the_directory_allocates_nothing(tmp_path):
    path = zipped(tmp_path / "a.pt", dictionary(w=tensor()))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")  # of data/0 in the directory
    content[place + 20 : place + 28] = struct.pack("<II", 2**31 - 1, 2**31 - 1)
    path.write_bytes(bytes(content))
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="larger than the file"):
            formats.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [-1, 7, 2**60, -(2**63)])
def test_a_stream_that_promises_more_data_than_it_has(tmp_path, count):
    path = stream(tmp_path / "a.pt", dictionary(w=tensor()), {"0": (count, W.tobytes())})
    with pytest.raises(WeightsError, match="storages that the file cuts short"):
        formats.read(path)


@FORMS
def test_truncated_and_damaged_files_are_read_or_refused(tmp_path, write):
    path = write(tmp_path / "a.pt", dictionary(state_dict=dictionary(w=tensor()), args=NAMESPACE))
    content = path.read_bytes()
    for length in range(16, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError):
            formats.read(path)
    failures = []
    for seed in range(300):
        draw = random.Random(seed)
        changed = bytearray(content)
        changed[draw.randrange(16, len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(changed))
        try:
            formats.read(path)
        except WeightsError as failure:
            failures.append(str(failure))
    assert 50 < len(failures) < 300
    assert all(failure.isprintable() for failure in failures)


@FORMS
@pytest.mark.parametrize(
    "call", [(os.mkdir, "executed"), (eval, "open('executed', 'w')"), (os.system, "touch executed")]
)
def test_nothing_is_called_and_nothing_imported(tmp_path, monkeypatch, write, call):
    class Call:
        def __reduce__(self):
            return call[0], call[1:]

    monkeypatch.chdir(tmp_path)
    evil = pickle.dumps(Call(), 2)[2:-1]
    absent = named("antigravity", "geohash") + literal((1, 2)) + b"R"
    unknown = b"(" + literal(1) + b"iantigravity\ngeohash\n(" + named("antigravity", "fly") + b"o\x86"
    value = dictionary(evil=evil, absent=absent, unknown=unknown, model=dictionary(w=tensor()))
    assert list(formats.read(write(tmp_path / "a.pt", value))) == ["w"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]
    assert "antigravity" not in sys.modules


# What torch writes


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: it alone writes its files")


def assert_read_as_torch_does(torch, path):
    expected = torch.load(path, weights_only=False)
    content = formats.read(path)
    assert list(content) == list(expected)
    for name, value in expected.items():
        value = value.detach()
        wanted = (value.float() if value.is_floating_point() else value).numpy()
        assert content[name].dtype == wanted.dtype, name
        assert content[name].shape == wanted.shape, name
        assert np.array_equal(content[name], wanted, equal_nan=wanted.dtype.kind == "f"), name


@pytest.mark.parametrize("zipped_", [True, False])
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
)
def test_every_type_and_stride_of_torch(torch, tmp_path, dtype, zipped_):
    values = (torch.arange(24).reshape(2, 3, 4) * 5 % 7).to(getattr(torch, dtype))
    tensors = {
        "plain": values,
        "transposed": values.transpose(0, 2),
        "slice": values[1:, ::2, 1:3],
        "expanded": values[:1, :1].expand(5, 3, 4),
        "scalar": values[1, 2, 3],
        "empty": values[:0],
        "alone": torch.zeros(0, 2, dtype=getattr(torch, dtype)),
    }
    if dtype.startswith(("float", "bfloat")):
        tensors["parameter"] = torch.nn.Parameter(values * float("nan"))
    torch.save(tensors, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped_)
    assert_read_as_torch_does(torch, tmp_path / "a.pt")


@pytest.mark.parametrize("zipped_", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_whole_checkpoint_of_torch(torch, tmp_path, zipped_, protocol):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(network.parameters())
    network[2](torch.ones(1, 4)).sum().backward()
    optimizer.step()
    checkpoint = {
        "args": argparse.Namespace(lr=0.1),
        "optimizer": optimizer.state_dict(),
        "best": np.float64(3.5),
        "numbers": {1, 2},
        "fixed": frozenset([1]),
        "counts": collections.Counter("aab"),
        "whole": network if zipped_ else None,
        "dtype": torch.float32,
        "size": torch.Size([1, 2]),
        "state_dict": network.state_dict(),
    }
    options = {"_use_new_zipfile_serialization": zipped_, "pickle_protocol": protocol}
    torch.save(checkpoint, tmp_path / "a.pt", **options)
    content = formats.read(tmp_path / "a.pt")
    torch.save(network.state_dict(), tmp_path / "b.pt", **options)
    assert_read_as_torch_does(torch, tmp_path / "b.pt")
    assert content.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert np.array_equal(content[name], value.numpy())


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda t: t.ones(2), "holds a tensor"),
        (lambda t: {"w": t.ones(2), "epoch": 3}, "'epoch' is a int"),
        (lambda t: {"w": t.ones(2).to_sparse()}, "'w' is a torch._utils._rebuild_sparse_tensor"),
        (lambda t: {"w": t.ones(2, dtype=t.complex64)}, "'w' is a tensor of an unknown type"),
        (lambda t: {"w": t.ones(2, dtype=t.uint16)}, "'w' is a torch._utils._rebuild_tensor_v3"),
        (lambda t: t.nn.Linear(2, 2), "holds a torch.nn.modules.linear.Linear"),
    ],
)
def test_other_torch_files_are_refused(torch, tmp_path, make, complaint):
    buffer = io.BytesIO()
    torch.save(make(torch), buffer)
    (tmp_path / "odd.pt").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match=rf"odd\.pt: {complaint}.*; accepted "):
        formats.read(tmp_path / "odd.pt")
