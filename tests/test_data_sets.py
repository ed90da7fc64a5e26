"""From an official archive, in miniature, to a scored checkpoint; subsets and source networks on the command line."""

import hashlib
import json

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from checkpoints import pdparams
from datasets.subsets import pick_classes
from models import build
from tests.datasets import official
from tests.pictures import write_folder
from tests.scripts import call, tiny

pytestmark = pytest.mark.usefixtures("no_curves")
SCRATCH = ("--regularizer", "l2", "--pretrained", "none")


def succeed(script, *arguments, cwd):
    done = call(script, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", official.ALL)
def test_an_official_archive_becomes_a_scored_checkpoint(tmp_path, name):
    miniature = official.ALL[name]()
    archives = miniature.write(tmp_path / "archives", "tar")
    out = tmp_path / "data" / miniature.name
    assert official.prepare(miniature, archives, out) == 0
    folders = ("--train_dir", out / "train", "--eval_dir", out / "test")
    succeed("finetune.py", *tiny(*SCRATCH, *folders, "--keep_aspect"), cwd=tmp_path)
    checkpoint = tmp_path / "output" / f"{miniature.name}_l2_Last.pdparams"
    summary = json.loads((tmp_path / "output" / f"{miniature.name}_l2.json").read_text())
    scored = succeed("test.py", "--ckpts", checkpoint, "--test_dir", out / "test", "--gpu", -1, cwd=tmp_path)
    assert f"top-1 {summary['last']['acc']:.2f} %" in scored
    assert pdparams.load(checkpoint)["classes"] == sorted(path.name for path in (out / "train").iterdir())


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("subsets")
    classes = [f"c{i}" for i in range(8)]
    write_folder(folder / "dataset" / "train", classes, count=10)
    write_folder(folder / "dataset" / "test", classes, count=2, seed=1)
    return folder


@pytest.mark.parametrize(
    ("flags", "images", "classes"),
    [
        ("--sample_rate 15", 16, 8),
        ("--sample_rate 30 --sampling author", 25, 8),
        ("--sample_classes 25% --sample_total 6", 6, 2),
        ("--sample_classes 3", 30, 3),
    ],
)
def test_subsets_from_the_command_line(work, flags, images, classes):
    name = f"n{images}"
    out = succeed("finetune.py", *tiny(*SCRATCH, *flags.split(), "--seed", 1, "--name", name), cwd=work)
    assert f"{images} images, {classes} classes" in out
    listed = (work / "output" / f"{name}_l2_samples.txt").read_text()
    summary = json.loads((work / "output" / f"{name}_l2.json").read_text())
    assert summary["samples_sha256"] == hashlib.sha256(listed.encode()).hexdigest()
    assert len(listed.splitlines()) == images
    assert summary["scored_on"]["images"] == 2 * classes
    kept = [f"c{i}" for i in sorted(pick_classes(8, classes, 1))]
    assert pdparams.load(work / "output" / f"{name}_l2_Last.pdparams")["classes"] == kept


def test_a_run_is_repeated_from_its_list(work):
    succeed("finetune.py", *tiny(*SCRATCH, "--sample_rate", 30, "--seed", 4, "--name", "first"), cwd=work)
    listed = "output/first_l2_samples.txt"
    succeed("finetune.py", *tiny(*SCRATCH, "--sample_list", listed, "--seed", 4, "--name", "again"), cwd=work)
    first, again = (pdparams.load(work / f"output/{name}_l2_Last.pdparams") for name in ("first", "again"))
    assert all(np.array_equal(first["model"][key], again["model"][key]) for key in first["model"])


def test_a_checkpoint_of_chosen_classes_is_scored_on_those_of_the_folder(work):
    succeed("finetune.py", *tiny(*SCRATCH, "--sample_classes", 3, "--seed", 1, "--name", "three"), cwd=work)
    out = succeed("test.py", "--ckpts", "output/three_l2_Last.pdparams", "--gpu", -1, cwd=work)
    assert "/6)" in out
    assert "5 classes of dataset/test are not among the checkpoint's 3: left out" in out


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["mobilenet_v2", "efficientnet_b4"])
def test_other_source_networks_train_save_and_test(work, arch):
    """Weights go in as a safetensors file under torch's layout of names, as timm and torchvision publish them."""
    paddle.seed(0)
    state = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in build(arch, 7).state_dict().items()}
    paddle.save(state, str(work / f"{arch}.pdparams"))
    save_file(state, str(work / f"{arch}.safetensors"))
    for ending in ("pdparams", "safetensors"):
        flags = ["--model_arch", arch, "--pretrained", f"{arch}.{ending}", "--image_size", 64, "--batch_size", 4]
        flags += ["--max_iters", 2, "--eval_frequency", 2, "--gpu", -1, "--sample_classes", 2, "--sample_total", 8]
        succeed("finetune.py", *flags, "--clean_tail", 0, "--name", f"{arch}_{ending}", "--seed", 1, cwd=work)
    first, second = (f"output/{arch}_{ending}_smile_Last.pdparams" for ending in ("pdparams", "safetensors"))
    assert pdparams.load(work / first)["source"]["classes"] == 7
    out = succeed("test.py", "--ckpts", first, second, "--gpu", -1, cwd=work).splitlines()
    scores = [line.split(": top-1")[1].split("  ")[0] for line in out if ": top-1" in line]
    assert len(scores) == 2
    assert scores[0] == scores[1]
