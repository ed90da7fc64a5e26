"""Where weights come from: official files, by way of a server on the loopback address, and files of one's own."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import paddle
import paddle.vision.models as vision
import pytest
import safetensors.numpy

from checkpoints import checkpoint, formats, pretrained
from checkpoints.classifier import Classifier
from datasets.preprocess import MEAN, Preprocess
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
    source = pretrained.read_weights("imagenet", "resnet18").network()
    pretrained.read_weights("imagenet", "resnet18").network()
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
        pretrained.read_weights("imagenet", "resnet18").network()
    assert not (tmp_path / "weights" / "resnet18.pdparams").exists()


def test_an_absent_file_says_what_to_put_where(server, tmp_path):
    with pytest.raises(WeightsError) as caught:
        pretrained.read_weights("imagenet", "resnet34").network()
    for words in ("resnet34.pdparams", str(tmp_path / "weights"), pretrained.OFFICIAL["resnet34"][1]):
        assert words in str(caught.value)


def test_a_file_placed_by_hand_needs_no_network(server, tmp_path, monkeypatch):
    files, requests = server
    official(files, tmp_path, monkeypatch)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18.pdparams").write_bytes(files["resnet18.pdparams"])
    assert pretrained.read_weights("imagenet", "resnet18").network().num_classes == 1000
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
        source = pretrained.read_weights(path, "resnet8").network()
        assert source.num_classes == 6
        assert all(np.array_equal(t.numpy(), state[key].numpy()) for key, t in source.network.state_dict().items())


@pytest.mark.parametrize(
    ("wrapper", "expected"),
    [
        ({"arch": "deit_small_patch16_224"}, "bilinear"),
        ({"iter": 3, "optimizer": {}}, "bilinear"),
        ({"iter": 3, "preprocess": {"image_size": 32, "resize_size": 37, "keep_aspect": False}}, "bilinear"),
        ({}, "bicubic"),  # as DeiT's authors publish it
    ],
)
def test_a_checkpoint_without_preprocess_has_imagenets(tmp_path, wrapper, expected):
    path = tmp_path / "x.pdparams"
    paddle.save({"model": {"fc.weight": np.zeros([384, 3], "float32")}, **wrapper}, str(path))
    assert pretrained.trained_with(str(path), "deit_small_patch16_224").interpolation == expected


NAMES = {"torchvision": "features.0.0.weight", "timm": "conv_stem.weight", "lukemelas": "_conv_stem.weight"}


@pytest.mark.parametrize(
    ("origin", "path", "variant"),
    [
        ("torchvision", "model.pdparams", "symmetric"),
        ("lukemelas", "efficientnet-b0.pth", ""),
        ("timm", "tf_efficientnet_b0.pth", ""),
        ("timm", "efficientnet_b0_ra.pth", "symmetric"),
        ("timm", "efficientnet_models/tf_efficientnet_b0.aa_in1k/model.safetensors", ""),
        ("timm", "models--timm--efficientnet_b0.ra_in1k/model.safetensors", "symmetric"),
    ],
)
def test_names_and_path_tell_the_edition(origin, path, variant):
    content = {NAMES[origin]: np.zeros([3])}
    assert pretrained.variant_of(content, "efficientnet_b0", Path(path)) == variant
    prefixed = {f"module.{name}": array for name, array in content.items()}
    assert pretrained.variant_of({"model": prefixed}, "efficientnet_b0", Path(path)) == variant
    assert pretrained.variant_of(content, "mobilenet_v2", Path(path)) == ""  # where the name is ours


def test_an_edition_that_is_left_open_is_refused():
    with pytest.raises(WeightsError, match="model.safetensors: timm's tf_efficientnet_b0 and efficientnet_b0 have the"):
        pretrained.variant_of({NAMES["timm"]: np.zeros([3])}, "efficientnet_b0", Path("model.safetensors"))


def test_another_edition_is_built_with_its_settings_and_recorded(tmp_path):
    state = build("efficientnet_b0", 3, "symmetric").state_dict()
    path = tmp_path / "own.pdparams"
    written = {"image_size": 32, "resize_size": 37, "mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}
    content = {"model": state, "arch": "efficientnet_b0", "source": {"variant": "symmetric"}, "preprocess": written}
    paddle.save(content, str(path))
    source = pretrained.read_weights(str(path), "efficientnet_b0").network()
    assert source.variant == "symmetric"
    assert source.network._bn0._epsilon == 1e-5
    handed_on = pretrained.trained_with(str(path), "efficientnet_b0")
    assert (*handed_on.mean, *handed_on.std) == (0.4, 0.5, 0.6, 0.1, 0.2, 0.3)
    assert handed_on.interpolation == "bilinear"
    classifier = Classifier.load(path)
    assert classifier.network._bn0._epsilon == 1e-5
    assert classifier.preprocess == Preprocess(32, 37, False, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    paddle.save({**content, "source": {"variant": "odd"}}, str(path))
    with pytest.raises(WeightsError, match=r"source\.variant is 'odd'; accepted with efficientnet_b0: symmetric"):
        pretrained.read_weights(str(path), "efficientnet_b0").network()


@pytest.mark.parametrize(
    ("name", "arch", "mean", "interpolation"),
    [
        ("none", "efficientnet_lite0", MEAN, "bilinear"),
        ("imagenet", "efficientnet_lite0", (0.5, 0.5, 0.5), "bicubic"),
        ("imagenet", "resnet50", MEAN, "bilinear"),
        ("places365", "resnet50", MEAN, "bilinear"),
        ("imagenet", "vit_small_patch16_224", (0.5, 0.5, 0.5), "bicubic"),
        ("imagenet", "deit_small_patch16_224", MEAN, "bicubic"),
    ],
)
def test_named_weights_know_their_images(name, arch, mean, interpolation):
    found = pretrained.trained_with(name, arch)
    assert (found.mean, found.interpolation) == (mean, interpolation)


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
        pretrained.read_weights(path, "resnet8").network()


def plain():
    paddle.seed(1)
    return {name: tensor.numpy() for name, tensor in build("resnet8", 6).state_dict().items()}


def write(path, state):
    """Save `state` in the format of the suffix; a path as `read_weights` takes it."""
    path.write_bytes(safetensors.numpy.save(state)) if path.suffix == ".safetensors" else paddle.save(state, str(path))
    return str(path)


def assert_loaded(path, state):
    network = pretrained.read_weights(str(path), "resnet8").network().network
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "model.", "backbone.", "net.", "module._orig_mod.", "model.backbone.module."]
)
@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_what_a_wrapper_put_before_the_names_is_dropped(tmp_path, prefix, suffix):
    state = plain()
    path = write(tmp_path / f"w{suffix}", {prefix + name: value for name, value in state.items()})
    assert_loaded(path, state)


def test_a_prefix_of_the_backbone_alone_is_dropped_and_an_ambiguous_one_is_not(tmp_path):
    state = plain()
    path = tmp_path / "w.pdparams"
    renamed = {name if name.startswith("fc.") else f"backbone.{name}": value for name, value in state.items()}
    assert_loaded(write(path, renamed), state)
    with pytest.raises(WeightsError, match="backbone.conv1.weight and conv1.weight are both conv1.weight"):
        pretrained.read_weights(write(path, {**renamed, "conv1.weight": state["conv1.weight"]}), "resnet8").network()
    with pytest.raises(WeightsError, match="unknown: encoder_k.conv1.weight"):
        written = write(path, {**renamed, "encoder_k.conv1.weight": state["conv1.weight"]})
        pretrained.read_weights(written, "resnet8").network()


def test_names_of_no_network_of_ours_are_shown(tmp_path):
    path = write(tmp_path / "w.pdparams", {f"encoder_q.{name}": value for name, value in plain().items()})
    with pytest.raises(WeightsError, match="no matrix fc.weight; its entries are encoder_q.conv1.weight, "):
        pretrained.read_weights(path, "resnet8").network()
    path = write(tmp_path / "w.pdparams", {"\x1b[2J" * 1000: np.zeros(3, "float32")})
    with pytest.raises(WeightsError) as caught:
        pretrained.read_weights(path, "resnet8").network()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(path) + 300


@pytest.mark.parametrize(
    "wrappers", [["state_dict"], ["model"], ["ema"], ["net"], ["model", "state_dict"], ["state_dict", "model", "net"]]
)
def test_the_entry_that_holds_the_weights_is_taken(tmp_path, wrappers):
    state = content = plain()
    for wrapper in wrappers:
        content = {wrapper: content, "epoch": 3, "best": [0.5]}
    assert_loaded(write(tmp_path / "w.pdparams", content), state)


def bits(values):
    """Return the bfloat16 of `values` as paddle.save writes it."""
    return (values.view("uint32") >> 16).astype("uint16")


def test_bfloat16_is_read_as_such(tmp_path):
    half = {name: tensor.astype("bfloat16") for name, tensor in build("resnet8", 6).state_dict().items()}
    paddle.save(half, str(tmp_path / "w.pdparams"))
    assert formats.read(tmp_path / "w.pdparams")["fc.weight"].dtype == "uint16"
    assert_loaded(tmp_path / "w.pdparams", {name: t.astype("float32").numpy() for name, t in half.items()})


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", ">f8"])
def test_floats_of_any_size_and_byte_order_are_weights(tmp_path, dtype):
    state = {name: value.astype("float16") for name, value in plain().items()}
    path = write(tmp_path / "w.pdparams", {name: value.astype(dtype) for name, value in state.items()})
    assert_loaded(path, {name: value.astype("float32") for name, value in state.items()})


UNUSABLE = {
    "int64": lambda value: value.astype("int64"),
    "uint8": lambda value: value.astype("uint8"),
    "bool": lambda value: value > 0,
    "not finite": lambda value: np.where(value == value.max(), np.nan, value),
    "not finite in": lambda value: np.where(value == value.max(), -np.inf, value),
    "not finite in float32": lambda value: np.where(value == value.max(), 1e300, value.astype("float64")),
    "that are not finite": lambda value: bits(np.where(value == value.max(), np.inf, value).astype("float32")),
}


@pytest.mark.parametrize("name", ["layer1.0.conv1.weight", "fc.bias", "bn1._mean"])
@pytest.mark.parametrize("reason", UNUSABLE)
def test_values_that_are_no_weights_are_refused_by_name(tmp_path, reason, name):
    state = {**plain(), "fc.bias": np.ones(6, "float32")}
    state[name] = UNUSABLE[reason](state[name])
    path = write(tmp_path / "w.pdparams", state)
    with pytest.raises(WeightsError, match=f"w.pdparams: {name} .*{reason}.*; accepted ") as caught:
        pretrained.read_weights(path, "resnet8").network()
    assert len(str(caught.value)) < len(path) + 200
    checkpoint.save(path, {"model": state, "arch": "resnet8", "classes": list("abcdef")})
    with pytest.raises(WeightsError, match=f"w.pdparams: {name} "):
        Classifier.load(path)


def test_a_negative_variance_is_refused(tmp_path):
    path = write(tmp_path / "w.pdparams", {**plain(), "bn1._variance": np.full(16, -0.5, "float32")})
    with pytest.raises(WeightsError, match="w.pdparams: bn1._variance has negative values; accepted"):
        pretrained.read_weights(path, "resnet8").network()


@pytest.mark.parametrize(
    ("shape", "classes"), [([0, 10**7], 1), ([64, 0], 1), ([1, 10**6], 15625), ([10**5, 64], 64), ([0, 0], 1)]
)
def test_no_network_is_larger_than_the_head_in_its_file(tmp_path, monkeypatch, shape, classes):
    built = []
    monkeypatch.setattr(
        pretrained, "build", lambda arch, count, *more: built.append(count) or build(arch, count, *more)
    )
    path = write(tmp_path / "w.safetensors", {"fc.weight": np.zeros(shape, "float32")})
    with pytest.raises(WeightsError, match=rf"another shape: fc.weight \[{shape[0]}, {shape[1]}\] instead of \[64, "):
        pretrained.read_weights(path, "resnet8").network()
    assert built == [classes]


def test_choices_are_checked_before_anything_is_loaded(tmp_path):
    with pytest.raises(UsageError, match="no file for --model_arch resnet20; there are files for resnet18"):
        pretrained.check_choice("imagenet", "resnet20")
    with pytest.raises(UsageError, match="no file for --model_arch resnet18; there are files for resnet50"):
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
