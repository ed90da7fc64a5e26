"""Compiled networks compute what they were compiled from; `test.py --onednn` scores by them."""

import json

import numpy as np
import paddle
import pytest

import finetune
import test as scoring
from benchmarks.steps import random_images, random_source
from evaluation.compiled import Compiled
from evaluation.scores import eval_mode
from models import ARCHITECTURES
from tests.pictures import write_folder
from tests.scripts import tiny
from utils.errors import UsageError

NETWORKS = ["resnet8", "mobilenet_v2", "efficientnet_lite0", "mobilenet_v3_small", "resnet18_vd"]


@pytest.mark.parametrize("arch", NETWORKS)
def test_the_logits_are_the_networks_but_for_rounding(arch):
    network, images = random_source(arch), random_images(3, max(64, ARCHITECTURES[arch].smallest))
    with eval_mode(network), paddle.no_grad():
        expected = network(images).logits.numpy()
        compiled = Compiled(network, images.shape[-1])
        actual = compiled(images).logits.numpy()
        network.head.bias.set_value(network.head.bias + 1)  # is not seen any more
        again = compiled(images[:1]).logits.numpy()
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(again - expected[:1]).max() <= 1e-5 * np.abs(expected).max()


def test_a_checkpoint_is_scored_alike(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets" / "train", count=4)
    write_folder(tmp_path / "pets" / "test", count=3, seed=1)
    monkeypatch.chdir(tmp_path)
    folders = "--train_dir pets/train --eval_dir pets/test --regularizer l2 --pretrained none --name a"
    finetune.main(tiny(*folders.split()))
    words = "--ckpts output/a_l2_Last.pdparams --test_dir pets/test --gpu -1 --json"
    scoring.main([*words.split(), "plain.json"])
    scoring.main([*words.split(), "onednn.json", "--onednn"])
    plain, onednn = (json.loads((tmp_path / name).read_text())[0] for name in ("plain.json", "onednn.json"))
    assert onednn["acc"] == plain["acc"]
    assert onednn["loss"] == pytest.approx(plain["loss"], rel=1e-5)


def test_on_a_gpu_it_is_refused(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets", count=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring.device, "select", lambda gpu: "gpu:0 of a test")
    with pytest.raises(UsageError, match="--onednn is of the CPU: accepted with --gpu -1"):
        scoring.main(["--ckpts", "a.pdparams", "--test_dir", "pets", "--onednn"])
