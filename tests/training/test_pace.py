"""The length of a run as a time or in epochs, and what is said of how long a run takes."""

import json
from pathlib import Path

import numpy as np
import pytest

import finetune
from checkpoints import pdparams
from tests.interrupted import Crash, crashing
from tests.pictures import write_folder
from training import pace
from training.pace import Pace, _most_steps
from training.parsing import parse
from training.step import train_step
from utils import startup
from utils.errors import UsageError

WORDS = "--model_arch resnet8 --image_size 32 --batch_size 8 --batch_size_eval 4 --gpu -1 --pretrained none"
FLAGS = f"{WORDS} --regularizer l2 --train_dir pets/train --eval_dir pets/test --name pets".split()  # noqa: SIM905
TRAIN, TEST = 12, 6  # images


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets" / "train", count=TRAIN // 3)
    write_folder(tmp_path / "pets" / "test", count=TEST // 3, seed=1)
    monkeypatch.chdir(tmp_path)


def weights(run):
    return pdparams.load(f"output/{run}_Last.pdparams")["model"]


def test_epochs_are_updates_rounded_up():
    summary = finetune.main([*FLAGS, "--epochs", "3"])  # 12 images three times in batches of 8
    assert summary.options["max_iters"] == 5
    assert summary.options["lr_drop"] == 4
    again = finetune.main([*FLAGS, "--max_iters", "5", "--name", "again"])
    assert again.last == summary.last
    assert all(np.array_equal(value, weights("again_l2")[name]) for name, value in weights("pets_l2").items())


def test_a_time_is_the_updates_that_fit(monkeypatch):
    measured = iter([Pace(update=2.0, evaluation=0.5)])
    monkeypatch.setattr(pace, "measure", lambda *_: (next(measured), 0.0))
    summary = finetune.main([*FLAGS, "--time", "17s", "--eval_frequency", "3"])
    assert summary.options["max_iters"] == 7  # 14 seconds, 3 evaluations and 5 % of 17
    assert json.loads(Path("output/pets_l2.json").read_text())["options"]["lr_drop"] == 5


def test_a_resumed_run_keeps_the_number_that_was_chosen(monkeypatch):
    measured = iter([Pace(update=1.0, evaluation=0.0)])  # asked once
    monkeypatch.setattr(pace, "measure", lambda *_: (next(measured), 0.0))
    flags = [*FLAGS, "--time", "10s", "--save_frequency", "2"]
    monkeypatch.setattr(finetune, "train_step", crashing(5, Crash()))
    with pytest.raises(Crash):
        finetune.main(flags)
    monkeypatch.setattr(finetune, "train_step", train_step)
    resumed = finetune.main([*flags, "--resume"])
    assert resumed.options["max_iters"] in (8, 9)  # what the start took is not left for updates
    whole = finetune.main([*FLAGS, "--max_iters", str(resumed.options["max_iters"]), "--name", "whole"])
    assert whole.last == resumed.last
    assert finetune.main([*flags, "--resume"]) is None  # finished


def test_the_pace_is_measured_and_leaves_no_trace(capsys):
    summary = finetune.main([*FLAGS, "--time", "3s"])
    steps = summary.options["max_iters"]
    assert f": --max_iters {steps}\n" in capsys.readouterr().out
    again = finetune.main([*FLAGS, "--max_iters", str(steps), "--name", "again"])
    assert again.last == summary.last


def test_a_time_that_is_too_short_is_said(capsys, monkeypatch):
    monkeypatch.setattr(pace, "measure", lambda *_: (Pace(update=50.0, evaluation=0.0), 0.0))
    assert finetune.main([*FLAGS, "--time", "3s"]).options["max_iters"] == 1
    assert "--time 3 s is too short: 1 update takes longer" in capsys.readouterr().err


@pytest.mark.parametrize("seconds, save_frequency", [(1, None), (5, None), (333.3, None), (5000, 7)])
def test_the_largest_number_that_fits(seconds, save_frequency):
    words = [] if save_frequency is None else ["--save_frequency", str(save_frequency)]
    options = parse([*FLAGS, "--time", "10m", *words])
    found = Pace(update=0.3, evaluation=1.7, checkpoint=0.1)
    steps = _most_steps(found, options, seconds)
    assert steps == 1 or found.seconds(options, steps) <= seconds
    assert all(found.seconds(options, more) > seconds for more in range(steps + 10, steps + 50))


def test_a_method_that_does_not_accept_so_few_updates_says_so(monkeypatch):
    monkeypatch.setattr(pace, "measure", lambda *_: (Pace(update=1.0, evaluation=0.0), 0.0))
    flags = ["smile" if word == "l2" else word for word in FLAGS]
    source = [*FLAGS, "--max_iters", "1", "--name", "source"]
    finetune.main(source)
    flags[flags.index("none")] = "output/source_l2_Last.pdparams"
    with pytest.raises(UsageError, match="accepted with --regularizer smile is 1001 or more"):
        finetune.main([*flags, "--time", "10s", "--clean_tail", "1000"])


def test_the_teachers_score_and_the_probe_count(monkeypatch):
    options = parse([*FLAGS, "--time", "10m"])
    assert Pace(0.3, 1.7, 0.1, teacher=5).seconds(options, 90) == Pace(0.3, 1.7, 0.1).seconds(options, 90) + 5
    finetune.main([*FLAGS, "--max_iters", "1", "--name", "source"])
    measured, measure = [], pace.measure
    monkeypatch.setattr(pace, "measure", lambda *run: measured.append(measure(*run)) or measured[-1])
    monkeypatch.setattr(pace, "evaluation_seconds", lambda run, images: float(100 * len(images)))
    flags = [*FLAGS, "--time", "3s", "--pretrained", "output/source_l2_Last.pdparams"]
    finetune.main([*flags, "--name", "plain"])
    finetune.main([*flags, "--name", "taught", "--regularizer", "smile", "--head_init", "probe"])
    (plain, without), (taught, with_probe) = measured
    assert (plain.teacher, taught.teacher) == (0, 100 * TEST)
    assert without < 100 < 100 * TRAIN < with_probe < 100 * TRAIN + 100


def test_the_time_of_a_script_counts_from_its_start(monkeypatch):
    seen = []
    monkeypatch.setattr(finetune, "with_length", lambda options, *rest: seen.append(rest[-1]) or options.lasting(1))
    monkeypatch.setattr("sys.argv", ["finetune.py", *FLAGS, "--time", "3s"])
    finetune.main()
    finetune.main([*FLAGS, "--time", "3s", "--name", "called"])
    assert seen[0] == startup.STARTED < seen[1]


def test_how_long_it_takes_is_said_early(capsys):
    finetune.main([*FLAGS, "--max_iters", "12", "--eval_frequency", "12", "--print_frequency", "12"])
    lines = capsys.readouterr().out.splitlines()
    said = next(i for i, line in enumerate(lines) if " to the end" in line)
    assert "an update takes" in lines[said]
    assert "an evaluation" in lines[said]
    assert said < next(i for i, line in enumerate(lines) if line.startswith("step 12/12"))
    assert "12 updates of 8 images, 8 epochs" in lines
    assert "print_frequency 12, eval_frequency 12, lr_drop 9" in lines


def test_thousands_of_epochs_and_days_are_said(capsys, monkeypatch):
    monkeypatch.setattr(pace, "A_DAY", 1e-9)
    monkeypatch.setattr("training.runlog.MANY_EPOCHS", 5)
    finetune.main([*FLAGS, "--max_iters", "12", "--eval_frequency", "12"])
    said = capsys.readouterr().err
    assert "sees each image 8 times; --epochs N or --time 10m makes a shorter one" in said
    assert "this run takes about" in said
