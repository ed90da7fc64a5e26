"""Recipes as a person runs them: what is refused, what is listed, and tables that survive kills and failures."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import paddle
import pytest
import yaml

import reproduce
from models import build
from reproduction import recipes
from reproduction.runs import Run
from reproduction.scheduler import in_use
from tests.datasets import official
from tests.pictures import write_folder
from tests.scripts import ROOT, call, command, forked, run
from utils import errors

RECIPE = """
title: Pets
seeds: [0, 1]
threads: 1
options:
  model_arch: resnet8
  image_size: 32
  pretrained: "{data_root}/source.pdparams"
  max_iters: 24
  batch_size: 8
  batch_size_eval: 8
  eval_frequency: 12
  save_frequency: 1
datasets: {pets: {title: Pets, folder: pets}, food: {folder: food}}
protocols: {half: {options: {sample_rate: 50}}}
methods:
  l2: {title: L2, options: {regularizer: l2}}
  boom: {options: {regularizer: l2, lr: 1e30}}
  smile: {title: SMILE, options: {regularizer: smile, clean_tail: 2}}
scores: {train: {images: train, il: true}, test: {images: test}}
measures:
  acc: {title: top-1, from: test.acc}
  loss: {title: Label-IL, from: train.il.softmax.squared, digits: 4}
"""
COUNTS = {"table2": 108, "table3": 36, "table4": 16, "readme": 6}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a recipe, pets and no food."""
    write_folder(tmp_path / "dataset" / "pets" / "train", count=6)
    write_folder(tmp_path / "dataset" / "pets" / "test", count=4, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(tmp_path / "dataset" / "source.pdparams"))
    (tmp_path / "pets.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_a_dry_run_lists_every_cell_and_command(name, count, work, capsys):
    assert reproduce.main([str(ROOT / "recipes" / f"{name}.yaml"), "--dry_run", "--seeds", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line for line in lines if line.startswith("cell ")]
    assert len(cells) == len(set(cells)) == count
    assert lines[-1].startswith(f"{count} cells, ")
    recipe = recipes.load(ROOT / "recipes" / f"{name}.yaml")
    commands = [line.split() for line in lines if line.startswith("    ")]
    assert len(commands) == len(recipe.cells()) * (1 + len(recipe.scores))
    for words in commands:
        assert words[:2] in (["python", "finetune.py"], ["python", "test.py"])
        assert words[words.index("--seed") + 1] == "5"
    assert not (work / "reproduced").exists()


def test_only_leaves_what_it_names(work, capsys):
    reproduce.main(["pets.yaml", "--dry-run", "--only", "dataset=pets", "method=smile,l2", "--seeds", "7,8"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("cell ")] == [
        f"cell pets half {method} {measure}" for method in ("l2", "smile") for measure in ("acc", "loss")
    ]
    assert lines[-1] == "4 cells, 4 runs: 0 finished, 0 interrupted, 4 new"


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ("--only method=smail", 2, ("--only method=smail", "l2, boom, smile")),
        ("--only methods=smile", 2, ("--only methods=smile", "dataset=..., protocol=..., method=...")),
        ("--only smile", 2, ("--only smile", "method=...")),
        ("--seeds 1,x", 2, ("--seeds", "whole numbers")),
        ("--gpus a", 2, ("--gpus a", "numbers")),
        ("--gpus 99", 5, ("--gpus 99", "no GPU 99", "-1 is the CPU")),
        ("--only dataset=food", 3, ("no run can be made",)),
        ("--data_root nowhere", 3, ("no run can be made",)),
    ],
)
def test_what_makes_no_sense_is_refused(flags, code, words, work):
    with pytest.raises(errors.Failure) as raised:
        reproduce.main(["pets.yaml", *flags.split()])
    assert raised.value.exit_code == code
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--format jsonl", ("--format", "only with --dry_run")),
        ("--gpus_per_run 1", ("--gpus_per_run", "only with --ray")),
        ("--cpus_per_run 2", ("--cpus_per_run", "only with --ray")),
        ("--scratch /tmp", ("--scratch", "only with --ray")),
        ("--ray auto --gpus 0", ("--gpus and --ray", "--gpus_per_run")),
        ("--ray auto --gpus_per_run 2", ("--gpus_per_run", "from 0 to 1")),
        ("--ray auto --cpus_per_run 0", ("--cpus_per_run", "from 1")),
    ],
)
def test_options_that_do_not_go_together_are_named(flags, words, work):
    with pytest.raises(errors.UsageError) as raised:
        reproduce.main(["pets.yaml", *flags.split()])
    for word in words:
        assert word in str(raised.value)


def test_without_ray_one_line_says_how_to_get_it(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        errors.UsageError, match=r"--ray: Ray is not installed; pip install -r requirements-cluster\.txt$"
    ):
        reproduce.main(["pets.yaml", "--only", "dataset=pets", "--ray", "local"])
    assert (ROOT / "requirements-cluster.txt").is_file()


def jsonl(capsys, *flags):
    assert reproduce.main(["pets.yaml", "--dry-run", "--format", "jsonl", "--only", "method=l2", *flags]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_run_is_a_line_of_json_with_its_command(work, capsys):
    runs = jsonl(capsys, "dataset=pets", "--gpus", "7")
    assert [(run["dataset"], run["protocol"], run["method"], run["seed"], run["state"]) for run in runs] == [
        ("pets", "half", "l2", 0, "new"),
        ("pets", "half", "l2", 1, "new"),
    ]
    for line in runs:
        assert [words.split()[0] for words in line["command"].split(" && ")] == ["{"] * 3
        assert line["command"].count("OMP_NUM_THREADS=1 python ") == 3
        assert line["command"].count(f"--name {line['name']} ") == 1
        assert line["command"].count("--gpu 7; }") == 3  # no such GPU here: it is for another machine
    assert "--gpu 0;" in jsonl(capsys)[0]["command"]


@pytest.mark.slow
def test_the_script_for_slurm_makes_the_runs_and_the_report_shows_what_is_there(work, capsys):
    text = (ROOT / "docs" / "scale.md").read_text()
    script = next(part for part in text.split("```") if part.startswith("bash\n#!/bin/bash"))[len("bash\n") :]
    assert len(script.splitlines()) <= 10
    (work / "array.sh").write_text(script)
    for name in ("finetune.py", "test.py"):
        os.symlink(ROOT / name, work / name)
    assert reproduce.main(["pets.yaml", "--prepare", "--only", "dataset=pets", "method=l2"]) == 0
    assert capsys.readouterr().out == "2 runs can be made\n"
    lines = jsonl(capsys, "dataset=pets", "--gpus", "-1")
    (work / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "2", "SLURM_SUBMIT_DIR": str(work), "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    subprocess.run(["bash", "array.sh"], cwd=work, env=environment, check=True, timeout=120)
    report = call("reproduce.py", "pets.yaml", "--report", cwd=work)
    assert "1 finished runs" in report.stdout
    assert [(row["method"], row["seed"]) for row in results(work / "reproduced" / "pets")] == [("l2", "1")]
    assert [line["state"] for line in jsonl(capsys, "dataset=pets")] == ["new", "finished"]
    again = subprocess.run(["bash", "array.sh"], cwd=work, env=environment, check=True, timeout=60, capture_output=True)
    assert again.stdout == again.stderr == b""


def test_a_missing_folder_is_told_with_the_command_that_makes_it(work, capsys):
    with pytest.raises(errors.DataError):
        reproduce.main(["pets.yaml", "--only", "dataset=food"])
    said = capsys.readouterr().err
    assert "no folder dataset/food/train; make it with: python -m datasets.prepare food" in said
    assert "--out dataset/food: left out 6 runs" in said
    assert said.count("food/train") == 1


def test_missing_weights_are_told_before_anything_runs(work, capsys):
    (work / "dataset" / "source.pdparams").unlink()
    with pytest.raises(errors.WeightsError, match="no run can be made"):
        reproduce.main(["pets.yaml", "--only", "dataset=pets"])
    assert "pets: --pretrained dataset/source.pdparams: no such file" in capsys.readouterr().err


def test_a_mistake_in_a_recipe_is_one_line(work):
    (work / "bad.yaml").write_text(RECIPE.replace("sample_rate", "sampel_rate"))
    done = run("reproduce.py", "bad.yaml", cwd=work)
    assert done.returncode == 2
    assert done.stderr == (
        "error: bad.yaml: pets half l2: unknown argument --sampel_rate; --help lists the accepted ones\n"
    )


def test_two_at_a_time_in_one_folder_are_refused(work):
    out = work / "reproduced" / "pets"
    with reproduce.alone(out), pytest.raises(errors.UsageError, match="another reproduce.py is at work there"):
        reproduce.main(["pets.yaml", "--only", "dataset=pets"])


def results(out):
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_failed_cell_is_reported_and_the_rest_goes_on(work):
    done = forked("pets.yaml", "--gpus", "-1,-1", cwd=work)
    assert done.returncode == 1, done.stderr
    assert "\r" not in done.stderr
    assert "no folder dataset/food/train" in done.stderr
    assert "left out 6 runs" in done.stderr
    assert re.search(r"6 runs left: about .* each, .* in all with 2 at a time \(from a few timed updates", done.stdout)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED pets half boom seed 1")]
    assert len(failed) == 2  # as it happens, and at the end
    assert "the loss term ce is" in failed[0]
    assert "(exit code 6)" in failed[0]
    out = work / "reproduced" / "pets"
    assert [(row["method"], row["seed"]) for row in results(out)] == [
        (m, s) for m in ("l2", "smile") for s in ("0", "1")
    ]
    for row in results(out):
        test = json.loads(next((out / "runs" / row["run"]).glob("*_test_*.json")).read_text())[0]
        train = json.loads(next((out / "runs" / row["run"]).glob("*_train_*.json")).read_text())[0]
        assert float(row["acc"]) == pytest.approx(test["acc"], rel=1e-5)
        assert float(row["loss"]) == pytest.approx(train["il"]["softmax"]["squared"], rel=1e-5)
        assert (test["count"], train["count"]) == (12, 9)
    assert "| boom |  |  |" in (out / "table.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*.json")}
    again = call(
        "reproduce.py", "pets.yaml", "--only", "dataset=pets", "method=l2,smile", "--drop_checkpoints", cwd=work
    )
    assert again.returncode == 0, again.stderr
    assert "4 runs, 4 finished" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*.json")} == before

    (out / "table.md").unlink()
    (out / "table.png").unlink()
    report = call("reproduce.py", "pets.yaml", "--report", cwd=work)
    assert report.returncode == 0
    assert report.stdout.strip() == (out / "table.md").read_text().strip()
    assert (out / "table.png").stat().st_size > 0

    os.rename(work / "dataset", work / "elsewhere")
    moved = call("reproduce.py", "pets.yaml", "--data_root", "elsewhere", "--only", "method=l2", cwd=work)
    assert moved.returncode == 2
    assert "was trained on dataset/pets/train, asked for is elsewhere/pets/train" in moved.stderr


def start_and_stop(work, out, number):
    """Start the recipe, end it with a signal when a run has saved something; return the exit code."""
    flags = ("pets.yaml", "--only", "dataset=pets", "method=smile", "--gpus", "-1", "--out", out)
    process = subprocess.Popen(command("reproduce.py", *flags), cwd=work, stdout=subprocess.DEVNULL)
    recipe = recipes.load("pets.yaml")
    runs = [Run(recipe, recipes.Cell("pets", "half", "smile"), seed, "dataset", work / out) for seed in recipe.seeds]
    until(lambda: any(in_use(made.file(".txt")) and made.file("_Last.pdparams").exists() for made in runs))
    process.send_signal(number)
    code = process.wait(timeout=60)
    until(lambda: not any(in_use(made.file(".txt")) for made in runs))
    return code


def until(condition):
    for _ in range(900):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited for a minute and a half")


@pytest.mark.slow
def test_killed_and_started_again_it_ends_in_the_same_results(work):
    shorter = RECIPE.replace("train: {images: train, il: true}, ", "").replace("train.il.softmax.squared", "test.loss")
    (work / "pets.yaml").write_text(shorter)
    flags = ("pets.yaml", "--only", "dataset=pets", "method=smile", "--gpus", "-1")
    whole = forked(*flags, "--out", "whole", cwd=work)
    assert whole.returncode == 0, whole.stderr
    assert start_and_stop(work, "half", signal.SIGKILL) == -signal.SIGKILL
    assert start_and_stop(work, "half", signal.SIGTERM) == 128 + signal.SIGTERM
    assert len(results(work / "half")) < 2
    done = run("reproduce.py", *flags, "--gpus", "-1,-1", "--out", "half", cwd=work)
    assert done.returncode == 0, done.stderr
    assert (work / "half" / "results.csv").read_bytes() == (work / "whole" / "results.csv").read_bytes()
    assert len(results(work / "half")) == 2


SMALL = {
    "model_arch": "resnet8", "image_size": "32", "max_iters": "4", "batch_size": "2", "batch_size_eval": "4",
    "lr_drop": "3", "eval_frequency": "2", "save_frequency": "2",
}  # fmt: skip
SUBSETS = {"sample_total": "2", "sample_classes": "2"}
SMALLER = {"efficientnet_b4": "efficientnet_b0", "resnet50": "resnet8", "1000": "2"}
SMALLER.update(dict.fromkeys(("imagenet", "places365"), "{data_root}/source.pdparams"))


def shrink(value):
    """Return a part of a recipe with networks, runs and subsets of a size that miniatures allow."""
    if not isinstance(value, dict):
        return SMALLER.get(value, value) if isinstance(value, str) else value
    return {name: SUBSETS.get(name) or shrink(part) for name, part in value.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "only", "rows"),
    [
        ("table2", "dataset=aircraft protocol=CAll_N15pct", 9),
        ("table2", "method=l2 protocol=C25_N800", 3),
        ("table3", "method=smile protocol=N30pct", 2),
        ("table4", "method=l2_more,smile", 2),
        ("figure1", "dataset=cars method=mixup,l2_scratch", 2),
        ("readme", "dataset=cub", 2),
        ("ablation", "dataset=cub method=no_features,frozen_teacher", 2),
    ],
)
def test_recipes_of_the_paper_run_on_miniatures_of_the_official_archives(name, only, rows, work):
    for data_set in ("cub", "cars", "aircraft", "indoor", "food_txt"):
        miniature = official.ALL[data_set]()
        paths = miniature.write(work / data_set, "tar")
        official.prepare(miniature, paths, work / "dataset" / miniature.name)
    weights = build("efficientnet_b0", 5).state_dict()
    paddle.save(weights, str(work / "dataset" / "efficientnet-b4-6ed6700e.pth"))  # what a file is, its content says
    recipe = shrink(yaml.load((ROOT / "recipes" / f"{name}.yaml").read_text(), yaml.BaseLoader))
    recipe = {**recipe, "options": {**recipe["options"], **SMALL}, "seeds": ["0"], "threads": "1"}
    if "published" in recipe:
        recipe["published"]["file"] = str(ROOT / "recipes" / "published" / f"{name}.csv")
    if name == "table3":
        del recipe["options"]["model_arch"]
    (work / f"{name}.yaml").write_text(yaml.dump(recipe))
    done = forked(f"{name}.yaml", "--only", *only.split(), "--gpus", "-1,-1", cwd=work, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    out = work / "reproduced" / name
    found = results(out)
    assert len(found) == rows
    for row in found:
        for measure in recipe["measures"]:
            assert float(row[measure]) >= 0
    assert (out / "table.md").read_text().count("| 1 |") == rows * len(recipe["measures"])
    assert (out / "table.png").stat().st_size > 0
