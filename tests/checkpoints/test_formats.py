import struct

import numpy as np
import paddle
import pytest
import safetensors.numpy

from checkpoints import formats
from utils.errors import WeightsError

ARRAYS = {
    "conv.weight": np.random.default_rng(0).normal(size=(2, 3, 1, 1)).astype("float32"),
    "bn._mean": np.arange(3, dtype="float32"),
    "count": np.array(7, "int64"),
}


def assert_same(got, expected):
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert np.array_equal(got[name], array)
        assert got[name].shape == array.shape


def test_pdparams(tmp_path):
    network = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2))
    path = str(tmp_path / "weights.pdparams")
    paddle.save(network.state_dict(), path)
    assert_same(formats.read(path), {name: tensor.numpy() for name, tensor in network.state_dict().items()})


def test_a_checkpoint_stays_nested(tmp_path):
    path = str(tmp_path / "run_Best.pdparams")
    paddle.save({"model": {"w": paddle.to_tensor([1.0, 2.0])}, "iter": 5}, path)
    content = formats.read(path)
    assert content["iter"] == 5
    assert_same(content["model"], {"w": np.array([1, 2], "float32")})


def test_a_pdparams_file_that_holds_no_dictionary(tmp_path):
    path = str(tmp_path / "list.pdparams")
    paddle.save([paddle.to_tensor([1.0])], path)
    with pytest.raises(WeightsError, match=r"list\.pdparams: holds a list; accepted is a dictionary"):
        formats.read(path)


def test_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    assert_same(formats.read(path), ARRAYS)


def test_half_and_double_floats_become_single(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({"half": np.array([1.5, -2], "float16"), "double": np.array([[0.1]])}, path)
    content = formats.read(path)
    assert np.array_equal(content["half"], np.array([1.5, -2], "float32"))
    assert np.array_equal(content["double"], np.array([[0.1]], "float32"))
    assert {array.dtype for array in content.values()} == {np.dtype("float32")}


def write_safetensors(path, header, data):
    header = header.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_bfloat16_becomes_float32(tmp_path):
    header = '{"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}'
    data = struct.pack("<4H", 0x3F80, 0xC020, 0x0000, 0x7F80)  # 1, -2.5, 0 and infinity
    content = formats.read(write_safetensors(tmp_path / "w.safetensors", header, data))
    assert_same(content, {"w": np.array([[1, -2.5], [0, np.inf]], "float32")})


def test_a_type_without_meaning_here_is_named(tmp_path):
    header = '{"w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}'
    with pytest.raises(WeightsError, match=r"w\.safetensors: w is of type F8_E4M3; accepted are F64, F32"):
        formats.read(write_safetensors(tmp_path / "w.safetensors", header, b"\0"))


@pytest.mark.parametrize("shape", [[0, 2**62], [0] * 70, [2**40, 0, 2**40], [2**64 - 1, 0], [0, *[2**31 - 1] * 3]])
def test_a_shape_that_no_array_can_have_is_named(tmp_path, shape):
    header = f'{{"w": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 0]}}}}'
    with pytest.raises(WeightsError, match=r"w\.safetensors: (w has a shape that no array can have|damaged)"):
        formats.read(write_safetensors(tmp_path / "w.safetensors", header, b""))


@pytest.mark.parametrize("shape", [[0], [3, 0], [0, 2**40]])
def test_an_empty_tensor_has_its_shape(tmp_path, shape):
    header = f'{{"w": {{"dtype": "F64", "shape": {shape}, "data_offsets": [0, 0]}}}}'
    content = formats.read(write_safetensors(tmp_path / "w.safetensors", header, b""))
    assert content["w"].shape == tuple(shape)


def test_the_contents_decide_not_the_suffix(tmp_path):
    path = tmp_path / "weights.pdparams"
    safetensors.numpy.save_file(ARRAYS, path)
    assert set(formats.read(path)) == set(ARRAYS)


@pytest.mark.parametrize("size", [20, 200])
def test_a_file_that_was_cut_short(tmp_path, size):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(ARRAYS, path)
    assert path.stat().st_size > size
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=r"weights\.safetensors: damaged or cut short"):
        formats.read(path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>\n<html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_no_weights_is_shown(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth: not a file of weights.*accepted are") as caught:
        formats.read(path)
    assert repr(content[:16]) in str(caught.value)


def test_a_path_that_cannot_be_read(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth: cannot be read: No such file"):
        formats.read(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match=r"cannot be read: Is a directory"):
        formats.read(tmp_path)
