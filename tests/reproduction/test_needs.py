"""What runs need before they start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reproduction import needs
from reproduction.recipes import Cell, load
from reproduction.runs import Run
from tests.scripts import ROOT
from training import embedded
from utils.errors import DataError, UsageError, WeightsError


def runs(name, tmp_path, **only):
    recipe = load(ROOT / "recipes" / f"{name}.yaml")
    return [Run(recipe, cell, 0, str(tmp_path / "data"), tmp_path / "out") for cell in recipe.cells(only)]


def folders(tmp_path, *names):
    for name in names:
        for part in ("train", "test"):
            (tmp_path / "data" / name / part).mkdir(parents=True)


def test_every_data_set_that_is_absent_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "locate", lambda pretrained, arch: None)
    folders(tmp_path, "cars")
    asked = runs("table2", tmp_path)
    found = needs.obstacles(asked)
    assert set(found) == {run.name for run in asked if run.cell.dataset != "cars"}
    for run in asked:
        if run.name in found:
            assert isinstance(found[run.name], DataError)
            assert f"no folder {tmp_path}/data/{run.cell.dataset}/train" in str(found[run.name])
            assert f"python -m datasets.prepare {run.cell.dataset} --archive FILE ..." in str(found[run.name])


def test_weights_are_asked_for_once_and_a_file_says_where_it_is(tmp_path, monkeypatch):
    asked = []

    def locate(pretrained, arch):
        asked.append((pretrained, arch))
        raise WeightsError("no network")

    monkeypatch.setattr(needs, "locate", locate)
    folders(tmp_path, "indoor", "food")
    found = needs.obstacles(runs("table3", tmp_path))
    assert len(found) == 36
    assert asked == [("places365", "resnet50")]
    assert {str(failure).split(":")[0] for failure in found.values()} == {"indoor", "food"}
    where = r"efficientnet-b4-6ed6700e.pth: no such file; accepted are .*; it is at https://github.com/lukemelas"
    assert any(re.search(where, str(failure)) for failure in found.values())


def test_runs_from_scratch_need_no_weights(tmp_path, monkeypatch):
    def locate(pretrained, arch):
        raise WeightsError("no network")

    monkeypatch.setattr(needs, "locate", locate)
    folders(tmp_path, "cub", "cars")
    found = needs.obstacles(runs("figure1", tmp_path))
    assert {name.split("_C50_")[1].rsplit("_", 2)[0] for name in found} == {"l2", "mixup"}


def test_the_embedded_task_waits_for_a_source_network_in_training(tmp_path, monkeypatch):
    (run,) = runs("demo", tmp_path, protocol=["N3"], method=["l2"])
    log = Path(embedded.source_path(run.cache_dir)).with_name("latin_l2.txt")
    log.parent.mkdir(parents=True)
    log.write_text("")
    code = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); time.sleep(1)"
    other = subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE)
    assert other.stdout.readline()
    prepared = []
    monkeypatch.setattr(embedded, "prepare", lambda *where: prepared.append((where, needs.in_use(log))))
    assert needs.in_use(log)
    needs.provide([run], -1)
    other.communicate()
    assert prepared == [((run.cache_dir, -1), False)]


def test_finished_runs_of_another_folder_are_refused(tmp_path, monkeypatch):
    run = runs("readme", tmp_path)[0]
    monkeypatch.chdir(tmp_path)
    for then in (str(tmp_path / "data" / "cub" / "train"), "data/cub/train", "./data/../data/cub/train"):
        monkeypatch.setattr(Run, "summary", lambda self, then=then: {"options": {"train_dir": then}})
        needs.same_images(run)
    monkeypatch.setattr(Run, "summary", lambda self: {"options": {"train_dir": "other/cub/train"}})
    with pytest.raises(UsageError, match="was trained on other/cub/train"):
        needs.same_images(run)


def test_a_mistake_names_the_cell(tmp_path):
    run = runs("readme", tmp_path)[1]
    wrong = Run(run.recipe, Cell("cub", "CAll_N100pct", "smile"), 0, "data", tmp_path)
    wrong.recipe.options["clean_tail"] = "9000"
    wrong.recipe.methods["smile"]["options"].pop("clean_tail")
    with pytest.raises(UsageError, match="readme.yaml: cub CAll_N100pct smile: --max_iters 9000: .* 9001 or more"):
        needs.check(wrong.recipe, [wrong])
