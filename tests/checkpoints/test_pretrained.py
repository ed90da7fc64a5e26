"""Where weights come from: official files, by way of a server on the loopback address, and files of one's own."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import paddle
import paddle.vision.models as vision
import pytest

from checkpoints import pretrained
from models import build
from tests.pictures import write_folder
from utils.errors import UsageError, WeightsError


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve `files` as PaddlePaddle's; the cache is a folder of the test."""
    files, requests = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            content = files.get(self.path.strip("/"))
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(pretrained, "HAPI", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(pretrained, "cache_dir", lambda: tmp_path / "weights")
    yield files, requests
    server.shutdown()
    server.server_close()


def official(files, tmp_path, monkeypatch, damage=b""):
    """Publish a ResNet-18 of paddle.vision under the official name; return its state."""
    state = vision.resnet18().state_dict()
    paddle.save(state, str(tmp_path / "official.pdparams"))
    content = (tmp_path / "official.pdparams").read_bytes()
    files["resnet18.pdparams"] = content + damage
    monkeypatch.setitem(pretrained.OFFICIAL, "resnet18", ("resnet18.pdparams", hashlib.md5(content).hexdigest()))
    return {name: tensor.numpy() for name, tensor in state.items()}


def test_official_weights_are_fetched_once_checked_and_loaded(server, tmp_path, monkeypatch):
    files, requests = server
    state = official(files, tmp_path, monkeypatch)
    source = pretrained.load_source("imagenet", "resnet18")
    pretrained.load_source("imagenet", "resnet18")
    assert requests == ["/resnet18.pdparams"]
    assert source.num_classes == 1000
    assert source.sha256 == hashlib.sha256(files["resnet18.pdparams"]).hexdigest()
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in source.network.state_dict().items())
    assert all(tensor.stop_gradient for tensor in source.network.parameters())
    assert not source.network.training


def test_a_wrong_sum_is_refused(server, tmp_path, monkeypatch):
    files, _ = server
    official(files, tmp_path, monkeypatch, damage=b"x")
    with pytest.raises(WeightsError, match="resnet18.pdparams"):
        pretrained.load_source("imagenet", "resnet18")
    assert not (tmp_path / "weights" / "resnet18.pdparams").exists()


def test_an_absent_file_says_what_to_put_where(server, tmp_path):
    with pytest.raises(WeightsError) as caught:
        pretrained.load_source("imagenet", "resnet34")
    for words in ("resnet34.pdparams", str(tmp_path / "weights"), pretrained.OFFICIAL["resnet34"][1]):
        assert words in str(caught.value)


def test_a_file_placed_by_hand_needs_no_network(server, tmp_path, monkeypatch):
    files, requests = server
    official(files, tmp_path, monkeypatch)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18.pdparams").write_bytes(files["resnet18.pdparams"])
    assert pretrained.load_source("imagenet", "resnet18").num_classes == 1000
    assert requests == []


def test_plain_weights_our_checkpoints_and_the_references_are_sources(tmp_path):
    network = build("resnet8", 6)
    state = network.state_dict()
    auxiliary = {"aux_fc.weight": paddle.zeros([64, 9]), "aux_fc.bias": paddle.zeros([9])}
    for name, content in {
        "plain": state,
        "ours": {"model": state, "arch": "resnet8", "iter": 3},
        "reference": {"model": {**state, **auxiliary}, "optimizer": {}, "iter": 3, "lr_scheduler": {}},
    }.items():
        path = str(tmp_path / f"{name}.pdparams")
        paddle.save(content, path)
        source = pretrained.load_source(path, "resnet8")
        assert source.num_classes == 6
        assert all(np.array_equal(t.numpy(), state[key].numpy()) for key, t in source.network.state_dict().items())


def test_torchvisions_efficientnet_is_another_network(tmp_path, capsys):
    path = tmp_path / "b0.pdparams"
    paddle.save({"features.0.0.weight": paddle.zeros([3])}, str(path))
    assert list(pretrained.read_state(path, "efficientnet_b0")) == ["_conv_stem.weight"]
    assert capsys.readouterr().err.startswith(f"WARNING: {path}: torchvision's efficientnet_b0")
    pretrained.read_state(path, "mobilenet_v2")  # where the name is ours
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}, "arch": "resnet14"}, "its entry arch is 'resnet14', --model_arch is resnet8"),
        ({"a": 3}, "its entry 'a' holds no array"),
        ({"conv1.weight": np.zeros(3)}, "no matrix fc.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, content, message):
    path = str(tmp_path / "x.pdparams")
    paddle.save(content, path)
    with pytest.raises(WeightsError, match=message):
        pretrained.load_source(path, "resnet8")


def test_choices_are_checked_before_anything_is_loaded(tmp_path):
    with pytest.raises(UsageError, match="no file for --model_arch resnet20; there are files for resnet18"):
        pretrained.check_choice("imagenet", "resnet20")
    with pytest.raises(UsageError, match="is a resnet50"):
        pretrained.check_choice("places365", "resnet18")
    with pytest.raises(WeightsError, match="no such file"):
        pretrained.check_choice(str(write_folder(tmp_path / "folder")), "resnet8")
    pretrained.check_choice("none", "resnet20")
    pretrained.check_choice("places365", "resnet50")


def test_without_a_home_folder_the_message_says_where_weights_are_looked_for(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pretrained.Path, "home", no_home)
    with pytest.raises(WeightsError, match=r"looked for in \.cache/paddle/hapi/weights of the home folder.*set HOME"):
        pretrained.locate("imagenet", "resnet18")
