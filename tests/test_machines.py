"""One run over two machines, both of which are this one: two launchers, each with a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest

import finetune
from checkpoints import pdparams
from models import build
from tests.pictures import write_folder
from tests.scripts import ROOT, call, tiny
from training.start import require_agreement
from training.step import train_step
from training.table import read_rows
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UsageError


@pytest.fixture
def machines(tmp_path):
    """Two folders with the same data and weights, as two machines that share no disk have them."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_folder(first / "dataset" / "train", count=8)
    write_folder(first / "dataset" / "test", count=3, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(first / "source.pdparams"))
    shutil.copytree(first, second)
    return first, second


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(folders, *words):
    """Start `words` on two machines, one process each, the first of them with rank 0."""
    master, started = f"127.0.0.1:{free_port()}", []
    for rank, folder in enumerate(folders):
        flags = ["--nnodes", "2", "--nproc_per_node", "1", "--rank", str(rank), "--master", master]
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "paddle.distributed.launch", *flags, "--host", "127.0.0.1", *map(str, words)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
    return started


def trainer(folder) -> int:
    """Return the process of the training that works in `folder`."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
            if os.readlink(place / "cwd") == str(folder) and b"launch" not in words and b"finetune.py" in words:
                return int(place.name)
        except OSError:
            continue
    return pytest.fail(f"no training in {folder}")


@pytest.mark.slow
def test_two_machines_follow_the_curve_of_one_process(machines):
    first, second = machines
    names = ("l2", "smile")
    alone = [sys.executable, "-m", "tests.together", "plain", "1", "plain.pdparams", *names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(alone, cwd=first, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)
    both = launch(machines, sys.executable, "-m", "tests.together", "plain", "2", "plain.pdparams", *names)
    printed = [process.communicate(timeout=180)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    for name in names:
        one, two = (read_rows(first / folder / f"dataset_{name}.csv") for folder in ("1", "2"))
        for column in ("train_loss", "train_acc", "val_loss", "val_acc"):
            curves = [[float(row[column]) for row in rows] for rows in (one, two)]
            np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5, err_msg=f"{name} {column}")
        weights = [pdparams.load(first / folder / f"dataset_{name}_Last.pdparams")["model"] for folder in ("1", "2")]
        for key, value in weights[0].items():
            np.testing.assert_allclose(value, weights[1][key], rtol=1e-4, atol=1e-6, err_msg=f"{name} {key}")
        digests = [(folder / "2" / f"dataset_{name}.{rank}.sha256").read_text() for rank, folder in enumerate(machines)]
        assert digests[0] == digests[1], name
    assert sorted(path.suffix for path in (second / "2").iterdir() if path.is_file()) == [".sha256"] * 2
    assert list((second / "2" / "cache").iterdir())  # each machine has decoded its own


@pytest.mark.slow
def test_a_lost_machine_ends_the_other_and_one_process_goes_on(machines):
    first, second = machines
    flags = ("--regularizer", "l2", "--pretrained", "none", "--max_iters", 4000, "--eval_frequency", 4000)
    flags = tiny(*flags, "--save_frequency", 2)
    both = launch(machines, ROOT / "finetune.py", *flags)
    said = []
    for line in both[0].stdout:
        said.append(line)
        if line.startswith("step 4/"):
            break
    os.kill(trainer(second), signal.SIGKILL)
    os.killpg(both[1].pid, signal.SIGKILL)
    lost = time.monotonic()
    said.append(both[0].communicate(timeout=60)[0])
    both[1].communicate()
    assert time.monotonic() - lost < 45, said
    assert both[0].returncode != 0
    text = "".join(said)
    assert "error: another process of this run is gone" in text, text
    assert "Traceback" not in text
    done = pdparams.load(first / "output" / "dataset_l2_Last.pdparams")["iter"] + 1
    refused = call("finetune.py", *flags, "--resume", cwd=first)
    assert refused.returncode == 2
    assert "2 processes are now 1" in refused.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train_step", stop_at(done + 3))
        on = call("finetune.py", *flags, "--resume", "--elastic", cwd=first)
    assert "--elastic: 2 processes are now 1; the run goes on to other bits" in on.stderr
    assert f"stopped after step {done + 3};" in on.stderr, on.stderr
    assert pdparams.load(first / "output" / "dataset_l2_Last.pdparams")["ranks"] == 1


def stop_at(count):
    """Return a `train_step` that ends the run, as Ctrl-C does, after `count` updates."""

    def step_and_stop(model, regularizer, optimizer, meter, batch, step, *more):
        if step + 1 == count:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(model, regularizer, optimizer, meter, batch, step, *more)

    return step_and_stop


@pytest.mark.slow
def test_a_machine_with_other_images_is_refused(machines):
    shutil.rmtree(machines[1] / "dataset" / "test" / "cat")
    write_folder(machines[1] / "dataset" / "test", count=3, seed=2)
    both = launch(machines, ROOT / "finetune.py", *tiny("--regularizer", "l2", "--pretrained", "none"))
    printed = [process.communicate(timeout=90)[0] for process in both]
    assert 0 not in [process.returncode for process in both]
    for text in printed:
        assert "error: the processes do not start from the same: this one has 0 updates behind it" in text, text
        assert "Traceback" not in text


def test_processes_that_agree_may_start(monkeypatch):
    images = {"train": "a" * 64, "evaluation": "b" * 64}
    require_agreement(SINGLE_PROCESS, 3, images, None)
    monkeypatch.setattr(Ranks, "agree", lambda self, value: False)
    with pytest.raises(UsageError, match=r"3 updates behind it, train images aaaaaaaa, .* weights none; every machine"):
        require_agreement(Ranks(0, 2), 3, images, None)
