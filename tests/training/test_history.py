"""What a checkpoint and the files beside it say of its training, and what they may not say."""

import json
import os
import shutil

import pytest

import finetune
from checkpoints import checkpoint
from tests.pictures import write_folder
from tests.scripts import tiny
from tests.toy_checkpoints import write_checkpoint
from training import history


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        write_folder(work / "dataset" / "train")
        write_folder(work / "dataset" / "test", count=2, seed=1)
        finetune.main(tiny("--regularizer", "mixup", "--pretrained", "none", "--name", "pets", "--seed", 7))
    return work / "output"


@pytest.mark.parametrize(("ending", "steps"), [("Last", {6}), ("Best", {3, 6})])
def test_a_run_is_told_with_its_table(output, ending, steps):
    found = history.of(output / f"pets_mixup_{ending}.pdparams")
    assert [row["step"] for row in found.rows] == ["3", "6"]
    assert found.step in steps
    facts = found.facts
    assert (facts["method"], facts["network"], facts["seed"]) == ("mixup", "resnet8", "7")
    assert facts["updates"] == f"{found.step} of 6"
    assert "alpha" in facts["its hyper-parameters"] or facts["its hyper-parameters"]
    assert "paddle " in facts["versions"]
    assert facts["trained on"].endswith("dataset/train")
    assert "--" not in facts["command"] or facts["command"]
    assert found.options["batch_size"] == "8"


def test_the_files_of_another_run_are_not_used(output, tmp_path):
    for ending in ("_Last.pdparams", ".csv", ".json"):
        shutil.copy(output / f"pets_mixup{ending}", tmp_path / f"a{ending}")
    assert history.of(tmp_path / "a_Last.pdparams").facts["command"]
    summary = json.loads((tmp_path / "a.json").read_text())
    summary["options"]["seed"] = 8
    (tmp_path / "a.json").write_text(json.dumps(summary))
    assert not history.of(tmp_path / "a_Last.pdparams").facts["command"]
    for text in ("", "[]", '{"options": 3}', "\0"):
        (tmp_path / "a.json").write_text(text)
        assert not history.of(tmp_path / "a_Last.pdparams").facts["command"]


def test_a_checkpoint_alone_says_little(tmp_path):
    path = write_checkpoint(tmp_path / "toy.pdparams", ["cat", "dog"])
    os.utime(path, (0, 0))
    found = history.of(path)
    assert (found.rows, found.step, found.options) == ([], None, {})
    assert {name for name, value in found.facts.items() if value} == {"weights", "network", "checkpoint written"}
    assert found.facts["checkpoint written"].startswith(("1970", "1969"))


def test_odd_entries_are_short_texts(tmp_path):
    content = checkpoint.read(write_checkpoint(tmp_path / "toy.pdparams", ["cat", "dog"]))
    odd = {"iter": 10**5000, "source": 3, "versions": [1], "regularizer": {"name": {}, "arguments": {"a": [1, "b"]}}}
    checkpoint.save(tmp_path / "odd.pdparams", {**content, **odd, "options": {"seed": 10**5000, "lr": list(range(99))}})
    facts = history.of(tmp_path / "odd.pdparams").facts
    assert facts["its hyper-parameters"] == "a 1, b"
    assert facts["seed"] == "an integer of 16610 bits"
    assert facts["learning rate"] == "a list of 99 items"
