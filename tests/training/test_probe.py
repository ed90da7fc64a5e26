"""The linear probe: folds, the minimum, and the checkpoint that it leaves, against independent computations."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize

import finetune
import test as scoring
from checkpoints import checkpoint
from datasets.subsets import folds
from tests.pictures import write_folder
from training import probe
from utils.errors import UsageError

WORDS = "--model_arch resnet8 --image_size 32 --batch_size 8 --batch_size_eval 4 --gpu -1 --max_iters 2"
FLAGS = f"{WORDS} --regularizer l2 --train_dir pets/train --eval_dir pets/test".split()  # noqa: SIM905


@pytest.mark.parametrize("counts, count", [((5, 5, 5), 5), ((4, 7, 13), 4), ((2, 2), 2), ((9,), 3), ((3, 0, 4), 3)])
def test_folds_are_even_in_all_and_in_each_class(counts, count):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    found = folds(labels, count, seed=3)
    assert np.ptp(np.bincount(found, minlength=count)) <= 1
    for label in np.unique(labels):
        assert np.ptp(np.bincount(found[labels == label], minlength=count)) <= 1
    assert np.array_equal(found, folds(labels, count, seed=3))


def test_folds_depend_on_the_seed():
    labels = np.repeat(np.arange(4), 10)
    assert not np.array_equal(folds(labels, 5, seed=1), folds(labels, 5, seed=2))


def drawn(images, dimensions, classes, distance, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), images // classes)
    centres = rng.normal(size=(classes, dimensions))
    return 40 * (distance * centres[labels] + rng.normal(size=(len(labels), dimensions))), labels


@pytest.mark.parametrize("images, dimensions", [(24, 6), (24, 60)])
def test_the_fit_is_the_minimum_over_all_features(images, dimensions):
    features, labels = drawn(images, dimensions, 3, 0.3)
    found = probe.fit(features, labels, seed=0)
    x = features / np.sqrt(np.mean(np.sum(features**2, axis=1)))

    def objective(flat):
        weight, bias = flat[:-3].reshape(-1, 3), flat[-3:]
        logits = x @ weight + bias
        highest = logits.max(axis=1, keepdims=True)
        log_sum = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
        return np.mean(log_sum - logits[np.arange(images), labels]) + found.decay / 2 * np.sum(weight**2)

    exact = {"ftol": 1e-15, "maxiter": 9999}
    least = minimize(objective, np.zeros(3 * dimensions + 3), method="L-BFGS-B", options=exact)
    scale = np.sqrt(np.mean(np.sum(features**2, axis=1)))
    reached = objective(np.concatenate([(found.weight * scale).ravel(), found.bias]))
    assert reached <= least.fun + 1e-6


def test_features_that_say_nothing_are_right_by_chance():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 60)  # of a fit to all of these features every image would be right
    found = probe.fit(rng.normal(size=(240, 300)), labels, seed=0)
    assert 10 < found.acc < 40
    assert (found.count, found.folds) == (240, 5)


def test_features_that_say_all_are_right():
    assert probe.fit(*drawn(40, 10, 4, 9.0), seed=0).acc == 100


def test_folds_are_no_more_than_the_images_of_a_class():
    features, labels = drawn(24, 6, 3, 1.0)
    assert probe.fit(features[:-5], labels[:-5], seed=0).folds == 3
    assert probe.fit(features[:3], np.arange(3), seed=0) is None


def test_the_only_image_of_a_class_is_fitted_and_not_scored():
    features, labels = drawn(24, 6, 3, 9.0)
    found = probe.fit(features[:-7], labels[:-7], seed=0)  # one is left of the last class
    assert (found.count, found.folds, found.acc) == (16, 5, 100)
    assert np.argmax(features[16] @ found.weight + found.bias) == 2
    others = probe.fit(features[:16], labels[:16], seed=0)
    assert (others.count, others.folds) == (16, 5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets" / "train", count=4)
    write_folder(tmp_path / "pets" / "test", count=2, seed=1)
    monkeypatch.chdir(tmp_path)
    finetune.main([*FLAGS, "--pretrained", "none", "--name", "source"])
    return tmp_path


SOURCE = ["--pretrained", "output/source_l2_Last.pdparams"]


def test_a_run_begins_with_a_probe_that_can_be_scored_and_goes_on_as_without(folder, capsys):
    with_it = finetune.main([*FLAGS, *SOURCE, "--name", "a", "--probe"])
    said = capsys.readouterr().out
    assert "a linear probe of the pretrained features: " in said
    assert with_it.last == finetune.main([*FLAGS, *SOURCE, "--name", "b"]).last
    words = "--ckpts output/a_l2_Probe.pdparams --test_dir pets/test --gpu -1 --json p.json"
    scoring.main(words.split())
    (row,) = json.loads((folder / "p.json").read_text())
    assert 0 <= row["acc"] <= 100


def test_only_the_probe(folder, capsys):
    assert finetune.main([*FLAGS, *SOURCE, "--name", "a", "--probe", "only"]) is None
    assert (folder / "output/a_l2_Probe.pdparams").exists()
    assert not (folder / "output/a_l2_Last.pdparams").exists()


@pytest.mark.parametrize("flags", ["--probe", "--head_init probe"])
def test_without_pretrained_features_it_is_refused(folder, flags):
    with pytest.raises(UsageError, match=f"{flags} needs a pretrained network"):
        finetune.main([*FLAGS, "--pretrained", "none", *flags.split()])


TINY = "--lr 1e-30 --eval_frequency 2"  # the updates change no bit


def test_the_head_starts_from_the_probe(folder, capsys):
    began = finetune.main(
        [*FLAGS, *SOURCE, *TINY.split(), "--name", "a", "--probe", "--freeze_bn", "--head_init", "probe"]
    )
    words = "--ckpts output/a_l2_Probe.pdparams --test_dir pets/test --gpu -1 --json p.json"
    scoring.main(words.split())
    (row,) = json.loads((folder / "p.json").read_text())
    assert (row["acc"], row["loss"]) == (began.last["acc"], began.last["loss"])
    finetune.main([*FLAGS, *SOURCE, *TINY.split(), "--name", "b", "--freeze_bn", "--head_init", "probe"])
    last = [checkpoint.read(folder / f"output/{name}_l2_Last.pdparams")["model"]["fc.weight"] for name in "ab"]
    assert np.array_equal(*last)
    assert not (folder / "output/b_l2_Probe.pdparams").exists()
    assert capsys.readouterr().out.count("a linear probe of the pretrained features: ") == 2


def test_a_run_that_goes_on_keeps_its_head(folder, monkeypatch):
    words = [*FLAGS, *SOURCE, "--head_init", "probe", "--save_frequency", "1", "--eval_frequency", "2"]
    whole = finetune.main([*words, "--name", "whole"])
    monkeypatch.setattr(finetune, "report", stopped)
    with pytest.raises(KeyboardInterrupt):
        finetune.main([*words, "--print_frequency", "2", "--name", "cut"])
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(probe, "of_run", stopped)
    assert finetune.main([*words, "--print_frequency", "2", "--name", "cut", "--resume"]).last == whole.last


def stopped(*_):
    raise KeyboardInterrupt


def test_where_nothing_can_be_held_out_the_head_starts_at_zero(folder, capsys):
    for path in (folder / "pets/train").glob("*/00[1-9].png"):
        path.unlink()
    finetune.main([*FLAGS, *SOURCE, *TINY.split(), "--name", "a", "--head_init", "probe"])
    assert (
        "no linear probe: it needs images of every class, and one class with two images; the head starts at zero"
        in capsys.readouterr().out
    )
    assert np.abs(checkpoint.read(folder / "output/a_l2_Last.pdparams")["model"]["fc.weight"]).max() < 1e-20
