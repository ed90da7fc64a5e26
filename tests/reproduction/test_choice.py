"""Trials on held-out images, what they choose, and the tests: as many for each method, never mixed up."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import finetune
import reproduce
from evaluation import curves
from reproduction import choice, jobs, needs, places, report, worker
from reproduction.choice import Asked
from reproduction.parcels import pack, unpack
from reproduction.recipes import load
from reproduction.runs import Run
from reproduction.scheduler import Executor
from reproduction.worker import Terms
from tests.interrupted import Crash
from tests.reproduction import here
from tests.scripts import ROOT
from training.step import train_step
from utils.errors import UsageError

GRID = """
title: Pets
seeds: [0, 1]
datasets: {pets: {title: Pets, folder: pets}}
protocols: {few: {title: few, options: {sample_rate: 50}}, all: {title: all}}
choose: {options: {val_split: 0.5}, seeds: [3, 4], protocol: all, trials: [{lr: 0.001}, {lr: 0.01}]}
methods:
  l2: {title: L2, options: {regularizer: l2}}
  mixup: {title: MIX, options: {regularizer: mixup}, trials: [{lr: 0.01}, {lr: 0.01, alpha: 0.4}]}
measures: {acc: {title: top-1, from: last.acc}}
options: {model_arch: resnet8, image_size: 32, pretrained: none, max_iters: 2000}
"""


def written(folder, text=GRID):
    (folder / "grid.yaml").write_text(text)
    return load(folder / "grid.yaml")


def asked(recipe, out):
    return Asked(recipe, recipe.cells(), recipe.seeds, "data", out)


def pretend(run, accuracy):
    """Write what a finished run leaves behind."""
    run.save.mkdir(parents=True, exist_ok=True)
    summary = {"last": {"step": 9, "acc": accuracy}, "best": {"step": 5, "acc": 99.0}}
    run.file(".json").write_text(json.dumps({**summary, "seconds": 60, "samples_sha256": "s"}))


def pretend_trials(recipe, out, **accuracies):
    """Write the results of the trials of each method, of each trial one a seed; None for none, "d" for diverged."""
    for run in asked(recipe, out).trials():
        method, _, number = run.cell.method.rpartition("-")
        value = accuracies[method][int(number) - 1][recipe.choose.seeds.index(run.seed)]
        if value == "d":
            run.save.mkdir(parents=True)
            assert choice.is_result(run, "the loss is nan (exit code 6)")
        elif value is not None:
            pretend(run, value)


def test_every_method_has_as_many_trials_and_they_do_not_know_the_test_images(tmp_path):
    recipe = written(tmp_path)
    trials = asked(recipe, tmp_path).trials()
    of_method = {}
    for run in trials:
        of_method.setdefault(run.cell.method[:-2], []).append(run)
        (command, product), *more = run.commands()
        assert more == []
        assert product.is_relative_to(tmp_path / "trials")
        assert not any("pets/test" in word for word in command)
        options = run.parsed()
        assert (options.val_split, options.sample_rate, options.train_dir) == (0.5, None, "data/pets/train")
    assert {method: len(runs) for method, runs in of_method.items()} == {"l2": 4, "mixup": 4}
    assert [run.parsed().lr for run in of_method["l2"]] == [0.001, 0.001, 0.01, 0.01]
    assert [run.parsed().method["alpha"] for run in of_method["mixup"]] == [0.2, 0.2, 0.4, 0.4]
    assert {run.seed for run in trials} == {3, 4}
    assert len({run.name for run in trials}) == len(trials)
    needs.check(recipe, [*trials, *asked(recipe, tmp_path).possible_tests()])


def test_each_protocol_has_trials_of_its_own_unless_one_is_named(tmp_path):
    recipe = written(tmp_path, GRID.replace(" protocol: all,", ""))
    trials = asked(recipe, tmp_path).trials()
    assert {run.cell.protocol: run.parsed().sample_rate for run in trials} == {"few": 50, "all": None}
    assert len(trials) == 16
    for run in trials:
        if run.cell.protocol == "few":
            pretend(run, 60.0 + run.parsed().lr)
    assert {run.cell.protocol for run in asked(recipe, tmp_path).tests()} == {"few"}


def test_the_best_mean_is_tested_of_equal_ones_the_first(tmp_path):
    recipe = written(tmp_path)
    assert asked(recipe, tmp_path).tests() == []
    pretend_trials(recipe, tmp_path, l2=[(50.0, 61.0), (70.0, 42.0)], mixup=[(50.0, 50.0), (40.0, 60.0)])
    tests = asked(recipe, tmp_path).tests()
    assert [(run.cell.method, run.cell.protocol, run.seed) for run in tests] == [
        (method, protocol, seed) for protocol in ("few", "all") for method in ("l2", "mixup") for seed in (0, 1)
    ]
    for run in tests:
        options = run.parsed()
        assert (options.val_split, options.eval_dir) == (None, "data/pets/test")
        assert options.lr == (0.01 if run.cell.method == "l2" else 0.01)
        assert options.method.get("alpha", 0.2) == 0.2
        assert run.file(".json").is_relative_to(tmp_path / "runs")
    chosen = choice.decide(recipe, tmp_path).chosen
    assert {cell.method: place for cell, place in chosen.items()} == {"l2": 1, "mixup": 0}


def test_what_is_missing_or_diverged(tmp_path):
    recipe = written(tmp_path)
    pretend_trials(recipe, tmp_path, l2=[(50.0, 61.0), (70.0, None)], mixup=[("d", 90.0), (40.0, 60.0)])
    assert {cell.method: place for cell, place in choice.decide(recipe, tmp_path).chosen.items()} == {"mixup": 1}
    reasons = choice.undecided(recipe, recipe.cells(), tmp_path)
    assert reasons == dict.fromkeys(("pets few l2", "pets all l2"), "no test: a trial is not finished")
    table = report.write(recipe, tmp_path)
    assert "| L2 | lr 0.001: 55.50 ± 7.78 | lr 0.01: not finished |" in table
    assert "| MIX | lr 0.01: diverged | **lr 0.01, alpha 0.4: 50.00 ± 14.14** |" in table

    pretend_trials(recipe, tmp_path / "all", l2=[("d", 61.0), ("d", "d")], mixup=[(1.0, 1.0), (2.0, 2.0)])
    reasons = choice.undecided(recipe, recipe.cells(), tmp_path / "all")
    assert set(reasons.values()) == {"no test: every trial diverged"}


def test_only_a_trial_may_diverge(tmp_path):
    recipe = written(tmp_path)
    pretend_trials(recipe, tmp_path, l2=[(50.0, 61.0), (70.0, 60.0)], mixup=[(90.0, 90.0), (40.0, 60.0)])
    trial, test = asked(recipe, tmp_path).trials()[0], asked(recipe, tmp_path).tests()[0]
    assert not choice.is_result(test, "nan (exit code 6)")
    assert not choice.is_result(trial, "killed (exit code 137)")
    assert not trial.diverged.exists()


def test_a_test_of_other_options_is_in_no_table(tmp_path):
    """Results of a recipe without `choose`, and of an earlier choice, are not taken for the test of the choice."""
    recipe = written(tmp_path)
    plain = written(tmp_path, re.sub(r"(?m)^choose.*\n|, trials: .*(?=}$)", "", GRID))
    for run in asked(plain, tmp_path).tests():
        pretend(run, 11.0)
    for run in asked(recipe, tmp_path).possible_tests(first=True):
        pretend(run, 22.0)
    assert "11.00" not in report.write(recipe, tmp_path)
    assert "22.00" not in report.write(recipe, tmp_path)
    pretend_trials(recipe, tmp_path, l2=[(50.0, 61.0), (70.0, 60.0)], mixup=[(90.0, 90.0), (40.0, 60.0)])
    table = report.write(recipe, tmp_path)
    assert "11.00" not in table
    assert "| L2 |  |  | lr 0.01 |" in table
    assert "| MIX | 22.00 ± 0.00 | 2 | lr 0.01 |" in table
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert [(row["method"], row["seed"], row["acc"]) for row in rows[:2]] == [("l2-1", "3", "50"), ("l2-1", "4", "61")]
    assert len(rows) == 8


def test_two_recipes_of_photographs_are_one(tmp_path):
    """photos_choice.yaml and photos.yaml with the rates of the latter, option by option."""
    trial, test = (load(ROOT / "recipes" / f"{name}.yaml") for name in ("photos_choice", "photos"))
    one = yaml.load((ROOT / "recipes" / "photos.yaml").read_text(), yaml.BaseLoader)
    rates = ["0.001", "0.003", "0.01"]
    one["choose"] = {"options": {"val_split": "0.5"}, "seeds": ["0"], "protocol": "all",
                     "trials": [{"lr": rate} for rate in rates]}  # fmt: skip
    found = {}
    for name, entry in one["methods"].items():
        found[name] = rates.index(entry["options"].pop("lr"))
    one = written(tmp_path, yaml.dump(one, sort_keys=False))
    tried = choice.trials(one)
    settings = {(c.dataset, *c.method.rsplit("-")): tried.settings(c) for c in choice.of_cells(one, one.cells())}
    assert settings == {
        (cell.dataset, cell.method, str(1 + list(trial.protocols).index(cell.protocol))): trial.settings(cell)
        for cell in trial.cells()
    }
    assert len(settings) == 30
    decided = replace(one, chosen={cell: found[cell.method] for cell in one.cells()})
    names = [Run(recipe, cell, 1, "", tmp_path).name for recipe in (decided, test) for cell in test.cells()]
    assert names[:20] == names[20:]  # what was tested by the one is known to the other


MISTAKES = [
    ("val_split: 0.5", "lr: 0.5", "choose: options: what is a trial scored on? accepted is either val_split or folds"),
    ("val_split: 0.5", "val_split: 0.5, folds: 3", "accepted is either val_split or folds"),
    ("val_split: 0.5", "folds: 1", "choose: options: folds: '1': accepted are whole numbers from 2 to 1000"),
    ("protocol: all", "protocol: some", "choose: protocol: 'some': accepted are few, all"),
    ("{lr: 0.001}, {lr: 0.01}]", "{lr: 0.001}]", "accepted are two or more"),
    ("{lr: 0.001}, {lr: 0.01}]", "{lr: 1}, {lr: 2}, {lr: 3}]", "mixup: 2 trials; accepted are as many as of l2, 3"),
    ("{lr: 0.001}, {lr: 0.01}]", "{lr: 1}, {lr: 1}]", "choose: trials: {'lr': '1'}: accepted are sets of options that"),
    ("{lr: 0.001}, {lr: 0.01}]", "{lr: 1}, {sample_rate: 9}]", "sample_rate chooses images: all trials have the same"),
    ("{lr: 0.001}, {lr: 0.01}]", "{lr: 1}, {val_split: 0.3}]", "val_split chooses images"),
    ("{lr: 0.001}, {lr: 0.01}]", "{lr: 1}, {patience: 3}]", "patience: with choose it would stop the tests by"),
    ("{lr: 0.001}, {lr: 0.01}]", "{lr: 1}, {seed: 3}]", "seed belongs to a run"),
    ("seeds: [3, 4]", "seeds: [x]", "choose: seeds: 'x': accepted are whole numbers"),
    ("sample_rate: 50", "sample_rate: 50, val_split: 0.2", "val_split: with choose it is one of the options of choose"),
    ("last.acc", "best.acc", "measures: acc: from: best.acc: it is chosen on the test images"),
    ("title: Pets\n", "ranked: true\n", "ranked: only by last.acc with val_split"),
    ("choose:", "chose:", "unknown chose"),
    ("choose: {options", "note: {options", "note: {"),
    ("max_iters: 2000", "max_iters: 2000, folds: 3", "from: last.acc: the last network of folds has seen all images"),
    ("last.acc", "folds.acc", "from: folds.acc: accepted where every run has folds"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[row[1][:40] for row in MISTAKES])
def test_a_mistake_is_one_line(old, new, message, tmp_path):
    assert old in GRID
    with pytest.raises(UsageError, match="^[^\n]*$") as caught:
        written(tmp_path, GRID.replace(old, new, 1))
    assert message in str(caught.value)
    assert "grid.yaml" in str(caught.value)


def test_trials_without_choose_are_refused(tmp_path):
    with pytest.raises(UsageError, match="methods: mixup: trials: accepted with choose"):
        written(tmp_path, re.sub("(?m)^choose.*\n", "", GRID))


def test_an_option_that_a_trial_does_not_have_is_found_before_anything_runs(tmp_path):
    recipe = written(tmp_path, GRID.replace("alpha: 0.4", "alfa: 0.4"))
    with pytest.raises(UsageError, match="pets all mixup-2: unknown argument --alfa"):
        needs.check(recipe, asked(recipe, tmp_path).trials())


RECIPE = """
title: Pets
seeds: [0, 1]
datasets: {pets: {title: Pets, folder: pets}}
protocols: {all: {title: all}}
choose: {options: {val_split: 0.5}, seeds: [0], trials: [{lr: 0.001}, {lr: 0.02}, {lr: 1e30}]}
methods:
  l2: {title: L2, options: {regularizer: l2}}
  fe: {title: FE, options: {regularizer: fe}}
measures: {acc: {title: top-1, from: last.acc}}
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(curves, "draw", lambda *_: None)
    monkeypatch.setattr(curves.VisualLog, "image", lambda *_: None)
    here.write(tmp_path, RECIPE)
    return tmp_path


def flag(command, name):
    return command[command.index(f"--{name}") + 1]


def test_killed_anywhere_and_started_again_it_ends_in_the_same_table(work, monkeypatch, capsys):
    commands = here.install(monkeypatch)
    assert here.reproduced("--out", "whole") == 0
    said = capsys.readouterr().out
    assert "Pets, trials: 6 runs, 0 finished" in said
    assert "Pets: 4 runs, 0 finished" in said
    assert said.count("done pets all l2-3 seed 0: diverged: ") == 1
    assert len(commands) == 10
    for command in commands[:6]:
        assert not any("pets/test" in word for word in command)
        assert flag(command, "val_split") == "0.5"
    for command in commands[6:]:
        assert flag(command, "eval_dir") == "dataset/pets/test"
        assert "--val_split" not in command
    best = {}
    for row in csv.DictReader(Path("whole/trials.csv").read_text().splitlines()):
        method, _, number = row["method"].rpartition("-")
        best.setdefault(method, []).append((-float(row["acc"]), int(number)))
    rates = {1: "0.001", 2: "0.02"}
    for command in commands[6:]:
        assert flag(command, "lr") == rates[min(best[flag(command, "regularizer")])[1]]

    assert here.reproduced("--out", "whole") == 0  # once more: nothing is run
    assert len(commands) == 10

    steps = iter(range(10**6))

    def crash(*arguments):
        if next(steps) % 7 == 6:
            raise Crash
        return train_step(*arguments)

    monkeypatch.setattr(finetune, "train_step", crash)
    crashes = 0
    while True:
        try:
            assert here.reproduced("--out", "half") == 0
            break
        except Crash:
            crashes += 1
    assert crashes >= 5
    for file in ("results.csv", "trials.csv", "table.md"):
        assert Path("half", file).read_text() == Path("whole", file).read_text().replace("whole", "half"), file


def test_a_dry_run_lists_the_trials_and_says_that_tests_follow(work, monkeypatch, capsys):
    assert here.reproduced("--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("trial ", "cell "))] == [
        f"trial pets all {method}-{number} acc" for method in ("l2", "fe") for number in (1, 2, 3)
    ]
    assert lines[-2:] == [
        "6 trials, 6 runs: 0 finished, 0 interrupted, 6 new",
        "tests follow: 2 cells, 4 runs, 0 of them chosen by now",
    ]
    assert not any("pets/test" in line for line in lines)
    here.install(monkeypatch)
    here.reproduced("--only", "method=fe", "--seeds", "7")
    capsys.readouterr()
    assert here.reproduced("--dry_run", "--seeds", "7") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "tests follow: 2 cells, 2 runs, 1 of them chosen by now" in lines
    assert lines[-1] == "1 cells, 1 run: 1 finished, 0 interrupted, 0 new"
    assert "6 trials, 6 runs: 2 finished, 0 interrupted, 3 new, 1 diverged" in lines


class Elsewhere(Executor):
    """What `reproduction.cluster` does without a shared folder, without Ray: a job at a time on "another machine"."""

    busy, running = property(lambda self: bool(self.jobs)), 0

    def __init__(self, out, runs, drop, ended, say):
        super().__init__(ended, say)
        self.jobs, self.out = [], out
        self.terms = Terms(str(Path.cwd()), -1, 1, None, jobs.scratch_folder("scratch", out))
        self.parcels = {run.name: jobs.parcel(run, self.terms.scratch) for run in runs}
        self.board = SimpleNamespace(tell=SimpleNamespace(remote=lambda *_: None))

    def wait(self):
        job = self.jobs.pop(0)
        there, parcel = self.parcels[job.name]
        inputs = pack(list(parcel.inputs), parcel.links)
        result = worker.work(there, self.terms, self.board, inputs, parcel.outputs)
        if result.files is not None:
            unpack(result.files, self.out)
        self.ended(job, result.seconds, result.reason)

    def submit(self, job):
        self.jobs.append(job)

    def cancel(self, number):
        self.jobs.clear()

    def close(self):
        assert not self.jobs


def test_another_executor_makes_the_same_of_the_trials_and_of_the_tests(work, monkeypatch):
    here.install(monkeypatch)
    place = SimpleNamespace(slots=1, device=-1, timed_on=None, threads=lambda _: 1, executor=Elsewhere)
    monkeypatch.setattr(places, "on_ray", lambda *_: contextlib.nullcontext(place))
    few = ["--only", "method=fe", "--seeds", "0"]
    assert here.reproduced(*few, "--out", "whole") == 0
    assert reproduce.main(["pets.yaml", "--ray", "auto", "--scratch", "scratch", *few, "--out", "far"]) == 0
    for file in ("results.csv", "trials.csv"):
        assert Path("far", file).read_text() == Path("whole", file).read_text(), file
    assert len([*Path("far", "trials").glob("*/diverged.txt")]) == 1
    assert len([*Path("far", "visual_log").iterdir()]) == 3  # two trials and a test


def test_trials_by_folds(work, monkeypatch, capsys):
    commands = here.install(monkeypatch)
    text = RECIPE.replace("val_split: 0.5", "folds: 2").replace(", {lr: 1e30}", "")
    (work / "pets.yaml").write_text(text + here.OPTIONS)
    assert here.reproduced("--only", "method=fe", "--seeds", "0") == 0
    assert [flag(command, "folds") for command in commands[:2]] == ["2", "2"]
    assert [flag(command, "eval_dir") for command in commands[2:]] == ["dataset/pets/test"]
    rows = list(csv.DictReader(Path("reproduced/pets/trials.csv").read_text().splitlines()))
    for row in rows:
        pooled = next(Path("reproduced/pets/trials", row["run"]).glob("*_folds.json"))
        assert float(row["acc"]) == pytest.approx(json.loads(pooled.read_text())["scores"]["acc"], rel=1e-5)
        assert row["last_acc"] == row["best_acc"] == ""  # of the images that the last network was trained on
    assert "held out by folds 2" in capsys.readouterr().out
