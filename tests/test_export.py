"""Exported networks: that they agree, that a disagreement is found, and that a failure leaves nothing."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import paddle
import pytest
import yaml
from paddle import nn

import export
from checkpoints import checkpoint
from checkpoints.classifier import Classifier
from datasets.preprocess import Preprocess
from evaluation.export import comparison_images, description
from models import build
from tests.models.random_weights import random_weights
from tests.pictures import picture, sideways, write_folder
from tests.scripts import ROOT, call, run
from tests.toy_checkpoints import write_checkpoint
from utils.errors import DataError, UsageError, WeightsError

CLASSES = ["cat", "dog", "001", "öwl"]
ONNX = all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnx", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not ONNX, reason="paddle2onnx, onnx or onnxruntime is absent: requirements-export.txt")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a checkpoint, photographs of several sizes and an export of it, as ONNX too where that can be."""
    folder = tmp_path_factory.mktemp("work")
    write_checkpoint(folder / "net.pdparams", CLASSES, orientation="exif")
    write_folder(folder / "photos", count=3, size=(61, 45))
    picture(9, 3, (33, 90)).convert("L").save(folder / "photos" / "grey.jpg")
    sideways(folder / "photos" / "phone.jpg", picture(10, 2, (90, 33)))
    flags = ["--ckpts", "net.pdparams", "--out", "deploy", "--images", "photos", *(["--onnx"] if ONNX else [])]
    done = run("export.py", *flags, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder, done


def labels(folder):
    """Return class and probability of each photograph as `predict.py` has them."""
    done = call("predict.py", "--ckpts", "net.pdparams", "photos", "--top_k", 1, "--gpu", -1, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [line.split(",") for line in done.stdout.splitlines()[1:]]


def test_the_folder_holds_the_promised_files(exported):
    folder, done = exported
    names = {path.name for path in (folder / "deploy").iterdir()} - {"inference.pdiparams.info"}  # of 2.6
    assert names - {"inference.json", "inference.pdmodel", "inference.onnx"} == {"inference.pdiparams", "inference.yml"}
    assert len(names) == (4 if ONNX else 3)
    assert {path.name for path in folder.iterdir()} == {"net.pdparams", "photos", "deploy"}
    assert done.stderr == ""
    *lines, last = done.stdout.splitlines()
    assert len(lines) == (3 if ONNX else 2)
    assert all(re.fullmatch(r"[\w.]+ +[\d.]+ images/s on the CPU(, differs by at most \S+)?", line) for line in lines)
    assert last.startswith("deploy: inference.")


def test_the_description_is_what_paddlex_reads(exported):
    folder, _ = exported
    content = yaml.safe_load((folder / "deploy" / "inference.yml").read_text(encoding="utf-8"))
    assert content["Global"] == {"model_name": "ResNet50", "orientation": "exif"}
    steps = content["PreProcess"]["transform_ops"]
    assert [list(step) for step in steps] == [["ResizeImage"], ["CropImage"], ["NormalizeImage"], ["ToCHWImage"]]
    assert steps[0]["ResizeImage"] == {"size": 37, "interpolation": "bilinear", "backend": "pil"}
    assert steps[1]["CropImage"] == {"size": 32}
    assert content["PostProcess"] == {"Topk": {"topk": 4, "label_list": CLASSES}}


def code_blocks():
    """Return the blocks of the document that a person copies: by onnxruntime, by Paddle Inference."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[:2]


def follow(script, folder):
    """Run a script from the document in a folder that knows nothing of this project; return its table."""
    (folder / "label.py").write_text(script, encoding="utf-8")
    photos = sorted(map(str, (folder / "photos").rglob("*.*g")))
    command = [sys.executable, "label.py", "deploy", *photos]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    (folder / "label.py").unlink()
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(str(folder))]  # Paddle Inference adds its own
    table = [line.rsplit(" ", 2) for line in lines]
    return [[path[len(str(folder)) + 1 :], name, probability] for path, name, probability in table], done.stderr


def same(found, wanted):
    assert [row[:2] for row in found] == [row[:2] for row in wanted]
    np.testing.assert_allclose([float(row[2]) for row in found], [float(row[2]) for row in wanted], atol=1e-5)


def test_paddle_inference_labels_as_the_document_says(exported):
    folder, _ = exported
    whole, instead = code_blocks()
    script = whole.replace("import onnxruntime\n", "")
    script = re.sub(r"session = .*\n", lambda _: instead, script)
    script = script.replace('session.run(None, {"x": images})[0]', "outputs")
    assert "onnx" not in script.split("folder, *paths")[1]
    same(follow(script, folder)[0], labels(folder))


@needs_onnx
def test_onnxruntime_labels_as_the_document_says_and_warns_of_nothing(exported):
    folder, _ = exported
    kept = folder / "deploy" / "inference.pdiparams"
    kept.rename(folder / "away")  # the file stands alone
    try:
        table, warnings = follow(code_blocks()[0], folder)
    finally:
        (folder / "away").rename(kept)
    same(table, labels(folder))
    assert warnings == ""


def test_a_failed_comparison_leaves_nothing(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "a.pdparams", CLASSES)
    constant = np.full((3, 4), 0.25, "float32")
    monkeypatch.setattr("evaluation.export.runner", lambda program: lambda batch: constant[: len(batch)])
    with pytest.raises(WeightsError, match=r"inference\.(json|pdmodel) does not agree .* nothing was kept"):
        export.main(["--ckpts", str(path), "--out", str(tmp_path / "deploy"), "--count", "3"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pdparams"]


def test_bad_input_is_found_before_anything_is_written(tmp_path, monkeypatch):
    path = str(write_checkpoint(tmp_path / "a.pdparams", CLASSES))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    new = str(tmp_path / "new")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "paddle2onnx" else True)
    cases = [
        (["--out", str(tmp_path / "full")], UsageError, "full exists"),
        (["--out", path], UsageError, "exists"),
        (["--out", new, "--onnx"], UsageError, "--onnx needs paddle2onnx: pip install -r requirements-export.txt"),
        (["--out", new, "--images", str(tmp_path / "nowhere")], DataError, "no such folder"),
        (["--out", new, "--images", str(tmp_path / "empty")], DataError, "no images in it"),
        (["--out", new, "--model_arch", "resnet18"], UsageError, "contradicts"),
        (["--out", new, "--count", "0"], UsageError, "--count"),
    ]
    for flags, error, words in cases:
        with pytest.raises(error, match=words):
            export.main(["--ckpts", path, *flags])
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.pdparams", "full", "empty"}


def write_live_checkpoint(path, arch, size):
    """Write a checkpoint of `arch` whose outputs depend on the image; return their spread over images.

    Its normalisation has the statistics of images of this size. With others a deep random network loses the signal, and
    anything agrees, or amplifies rounding, and nothing does.
    """
    paddle.seed(1)  # drop-connect draws what the statistics are of; after some draws the network amplifies rounding
    network = build(arch, 10)
    network.set_state_dict(random_weights(network))
    for layer in network.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._momentum = 0.0
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    images = paddle.to_tensor(comparison_images(Preprocess(size, size), None, 16))
    with paddle.no_grad():
        network.train()
        network(images)
        network.eval()
        spread = network(images).logits.std(axis=0).mean().item()
    content = {
        "model": {name: value.numpy() for name, value in network.state_dict().items()},
        "format_version": checkpoint.FORMAT_VERSION,
        "arch": arch,
        "classes": [f"c{label}" for label in range(10)],
        "preprocess": Preprocess(size, size).to_dict(),
    }
    checkpoint.save(path, content)
    return spread


@pytest.mark.slow
@pytest.mark.parametrize("form", ["paddle", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("arch", ["resnet8", "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b4"])
def test_every_family_agrees_on_64_images(arch, form, tmp_path):
    assert write_live_checkpoint(tmp_path / "a.pdparams", arch, 64) > 0.05
    flags = ["--ckpts", "a.pdparams", "--out", "deploy", *(["--onnx"] if form == "onnx" else [])]
    done = run("export.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [float(number) for number in re.findall(r"differs by at most (\S+)", done.stdout)]
    assert len(found) == (2 if form == "onnx" else 1)
    assert max(found) < 1e-3
    program = tmp_path / "deploy" / "inference.json"
    if program.exists():  # oneDNN's padding of channels overwrites memory, and is not always caught at it
        assert '"1.pad' not in program.read_text()


def test_the_description_of_an_earlier_checkpoint_stays(tmp_path):
    earlier = Classifier.load(write_checkpoint(tmp_path / "a.pdparams", CLASSES))
    assert description(earlier)["Global"] == {"model_name": "ResNet50"}
