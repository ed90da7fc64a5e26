"""Folds in a recipe: the pooled accuracy with its interval, and methods compared on the same images."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from math import comb, sqrt
from pathlib import Path

import pytest

from evaluation import curves
from reproduction import budget, paired
from reproduction.recipes import Cell, load
from reproduction.runs import Run, finished
from tests.reproduction import here
from utils.errors import UsageError

RECIPE = """
title: Pets
seeds: [0, 1]
datasets: {pets: {title: Pets, folder: pets}}
protocols: {cv: {title: by folds, options: {folds: 2}}}
methods:
  l2: {title: L2, options: {regularizer: l2, lr: 0.02}}
  fe: {title: FE, options: {regularizer: fe}}
measures: {acc: {title: top-1, from: folds.acc}, kappa: {title: kappa, from: folds.kappa}}
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(curves, "draw", lambda *_: None)
    monkeypatch.setattr(curves.VisualLog, "image", lambda *_: None)
    here.write(tmp_path, RECIPE)
    return tmp_path


def wilson(hits, count, z=1.959963984540054):
    centre, half = (hits + z * z / 2) / (count + z * z), sqrt(hits * (count - hits) / count + z * z / 4)
    return [100 * (centre + sign * z * half / (count + z * z)) for sign in (-1, 1)]


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_pooled_accuracies_and_the_paired_test_are_those_of_the_images(work, monkeypatch, capsys):
    commands = here.install(monkeypatch)
    assert here.reproduced() == 0
    assert len(commands) == 4
    assert not any("pets/test" in word for command in commands for word in command)
    out = Path("reproduced/pets")
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    right = {}
    for row in rows:
        with open(next((out / "runs" / row["run"]).glob("*_folds.csv"))) as file:
            images = list(csv.DictReader(file))
        assert len({image["path"] for image in images}) == len(images) == 18
        right[row["method"], row["seed"]] = {image["path"]: image["class"] == image["predicted"] for image in images}
        folds = {image["path"]: image["fold"] for image in images}
        assert folds == right.setdefault(row["seed"], folds)  # the same of both methods
        assert float(row["acc"]) == pytest.approx(100 * sum(right[row["method"], row["seed"]].values()) / 18, rel=1e-5)
    table = (out / "table.md").read_text().split("## Pets, by folds, top-1\n")[1]
    lines = {line.split("|")[1].strip(): cells(line) for line in table.split("Image by")[0].splitlines() if "|" in line}
    assert lines["method"] == ["method", "measured", "seeds", "95 % interval"]
    for method, title in (("l2", "L2"), ("fe", "FE")):
        hits = sum(sum(right[method, seed].values()) for seed in "01") / 2
        low, high = wilson(hits, 18)
        assert lines[title][3] == f"{low:.1f} to {high:.1f}"
    only_fe = sum(right["fe", "0"][path] > right["l2", "0"][path] for path in right["fe", "0"])
    only_l2 = sum(right["fe", "0"][path] < right["l2", "0"][path] for path in right["fe", "0"])
    discordant, fewer = only_fe + only_l2, min(only_fe, only_l2)
    p = min(1, 2 * sum(comb(discordant, k) for k in range(fewer + 1)) / 2**discordant)
    (line,) = (cells(line) for line in table.splitlines() if line.startswith("| FE | 0 |"))
    assert line[:4] == ["FE", "0", "18", f"{100 * (only_fe - only_l2) / 18:+.2f}"]
    assert line[5:] == [str(only_fe), str(only_l2), f"{p:.2g}"]
    assert table.split("## Pets, by folds, kappa")[1].count("Image by image") == 0

    assert here.reproduced("--drop_checkpoints") == 0
    assert len(commands) == 4
    recipe = load("pets.yaml")
    made = [replace(run, data_root="dataset") for run in finished(recipe, out)]
    for run in made:
        summaries = [json.loads(path.read_text()) for path in run.save.glob("*.json") if "_folds" not in path.name]
        assert len(summaries) == 3
        assert run.seconds() == pytest.approx(sum(summary["seconds"] for summary in summaries))
    seconds, _, basis = budget.estimate(made[:1], made[1:], -1)
    assert seconds == {made[0].name: pytest.approx(sum(run.seconds() for run in made[1:]) / 3)}
    made[0].drop_checkpoints()
    assert list(made[0].save.glob("*.pdparams")) == []
    assert made[0].state() == "finished"


def pretend(run, correct, folds=None):
    run.save.mkdir(parents=True)
    rows = [f"c/{number}.png,{folds or 1 + number % 3},a,a,{hit},0.5" for number, hit in enumerate(correct)]
    run.file("_folds.csv").write_text("\n".join(["path,fold,class,predicted,correct,probability", *rows]) + "\n")


def test_methods_are_compared_by_the_lowest_common_seed_and_on_equal_folds_only(work):
    recipe = load("pets.yaml")
    run = lambda method, seed: Run(recipe, Cell("pets", "cv", method), seed, "dataset", work)  # noqa: E731
    pretend(run("l2", 0), [0] * 12)
    pretend(run("l2", 5), [1] * 9 + [0] * 3)
    pretend(run("fe", 5), [1] * 3 + [0] * 6 + [1] * 3)
    runs = [run("l2", 0), run("l2", 5), run("fe", 5)]
    *_, line, _ = paired.section(recipe, runs, "pets", "cv")
    # 6 of 9 images against 3: 2 (1 + 9 + 36 + 84) / 512 = 0.5078125
    assert cells(line)[:4] == ["FE", "5", "12", "-25.00"]
    assert cells(line)[5:] == ["3", "6", "0.51"]
    assert paired.section(recipe, runs[:2], "pets", "cv") == []
    assert paired.section(recipe, [run("l2", 0), run("fe", 5)], "pets", "cv") == []
    pretend(run("l2", 6), [1] * 12)
    pretend(run("fe", 6), [1] * 12, folds=1)
    *_, line, _ = paired.section(recipe, [run("l2", 6), run("fe", 6)], "pets", "cv")
    assert cells(line)[:3] == ["FE", "6", "other images"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("folds.acc", "last.acc", "last.acc: the last network of folds has seen all images; accepted is folds.acc"),
        ("folds.acc", "best.acc", "from: best.acc: the last network of folds has seen all images"),
        ("{folds: 2}}", "{}}", "from: folds.acc: accepted where every run has folds"),
        ("folds: 2", "folds: x", "folds: 'x': accepted are whole numbers from 2 to 1000"),
        ("folds: 2", "folds: 1001", "folds: '1001': accepted are whole numbers from 2 to 1000"),
        ("title: Pets\n", "scores: {own: {images: train}}\n", "folds: not with a score on the train images"),
    ],
)
def test_a_mistake_is_one_line(old, new, message, work):
    (work / "pets.yaml").write_text(RECIPE.replace(old, new, 1) + here.OPTIONS)
    with pytest.raises(UsageError, match="^[^\n]*$") as caught:
        load("pets.yaml")
    assert message in str(caught.value)


def test_methods_may_be_ranked_by_folds(work, monkeypatch, capsys):
    here.install(monkeypatch)
    text = RECIPE.replace("seeds: [0, 1]", "seeds: [0]\nranked: true").replace(", kappa: {title: kappa, from: ", "} #")
    (work / "pets.yaml").write_text(text + here.OPTIONS)
    assert here.reproduced() == 0
    said = capsys.readouterr().out
    assert "First is" in said
    assert "On 18 images" in said
    assert "--folds 2" in said
