from pathlib import Path

import numpy as np
import paddle
import pytest

from checkpoints import checkpoint
from models import build
from utils.errors import WeightsError


def test_what_is_saved_is_read_and_paddle_reads_it_too(tmp_path):
    model = build("resnet8", 3)
    content = {"model": model.state_dict(), "iter": 7, "nested": {"list": [1.5, None, True], "array": np.arange(3)}}
    checkpoint.save(tmp_path / "x.pdparams", content)
    ours, theirs = checkpoint.read(tmp_path / "x.pdparams"), paddle.load(str(tmp_path / "x.pdparams"))
    assert list(ours["model"]) == list(theirs["model"]) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert np.array_equal(ours["model"][name], tensor.numpy())
        assert paddle.equal_all(theirs["model"][name], tensor)
    assert (ours["iter"], ours["nested"]["list"]) == (7, [1.5, None, True])
    assert np.array_equal(ours["nested"]["array"], np.arange(3))


def test_loading_is_exact():
    model = build("resnet8", 3)
    state = {name: tensor.numpy() + 1 for name, tensor in build("resnet8", 3).state_dict().items()}
    checkpoint.load_exactly(model, state, "x")
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in model.state_dict().items())


def test_misfits_are_listed_and_change_nothing():
    model = build("resnet8", 3)
    state = {name: tensor.numpy() + 1 for name, tensor in model.state_dict().items()}
    before = model.conv1.weight.numpy().copy()
    state["more.weight"] = state.pop("bn1.bias")
    state["fc.weight"] = np.zeros((64, 5))
    with pytest.raises(WeightsError) as caught:
        checkpoint.load_exactly(model, state, "file.pdparams")
    for part in ("file.pdparams", "missing: bn1.bias", "unknown: more.weight", "fc.weight [64, 5] instead of [64, 3]"):
        assert part in str(caught.value)
    assert np.array_equal(model.conv1.weight.numpy(), before)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"fc.weight": np.zeros(3)}, "no entry 'model'"), ({"model": {}, "format_version": 99}, "format 99")],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, message):
    checkpoint.save(tmp_path / "x.pdparams", content)
    with pytest.raises(WeightsError, match=message):
        checkpoint.read(tmp_path / "x.pdparams")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.pdparams"
    checkpoint.save(path, {"model": {}})
    before = path.read_bytes()

    def full(content, target, **_):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paddle, "save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"model": {}, "iter": 1})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.pdparams"]
