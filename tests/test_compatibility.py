"""Checkpoints and interrupted runs of earlier versions: `data/format1` was written before the code was rearranged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from checkpoints import pdparams
from tests.checksums import SMILE, TINY, digest, write_images
from tests.scripts import ROOT, run

DATA = ROOT / "tests" / "data" / "format1"
EXPECTED = json.loads((DATA / "expected.json").read_text())
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_DEBUG_CPU_TYPE": "5"}


@pytest.fixture
def work(tmp_path):
    write_images(tmp_path / "dataset")
    shutil.copy(DATA / "source.pdparams", tmp_path)
    (tmp_path / "output").mkdir()
    for path in DATA.glob("old_smile*"):
        shutil.copy(path, tmp_path / "output")
    return tmp_path


def test_an_interrupted_run_goes_on_to_the_same_end(work):
    flags = f"{TINY} --regularizer smile {SMILE} --pretrained source.pdparams --name old --save_frequency 3 --resume"
    done = run("finetune.py", *flags.split(), cwd=work, **ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mkl_debug_cpu_type was not set or not recorded, is 5: the weights can differ") == 1
    content = pdparams.load(work / "output" / "old_smile_Last.pdparams")
    assert content["machine"]["mkl_debug_cpu_type"] == "5"
    last = json.loads((work / "output" / "old_smile.json").read_text())["last"]
    assert content["iter"] == 8
    assert last["loss"] == pytest.approx(EXPECTED["loss"], rel=1e-2)
    norms = {name: float(np.linalg.norm(content["model"][name])) for name in EXPECTED["norms"]}
    assert norms == pytest.approx(EXPECTED["norms"], rel=1e-4)
    command = [sys.executable, "-m", "tests.probe"]
    probe = subprocess.run(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    if probe.stdout.strip() == EXPECTED["probe"]:  # this machine computes the bits of the one that wrote the file
        assert digest(content["model"]) == EXPECTED["weights"]
        assert digest(content["regularizer"]["state"]) == EXPECTED["method"]


def test_its_checkpoint_is_scored_and_labels_images(work):
    scores = run("test.py", "--ckpts", "output/old_smile_Last.pdparams", "--json", "scores.json", cwd=work)
    assert scores.returncode == 0, scores.stderr
    assert json.loads((work / "scores.json").read_text())[0]["loss"] == pytest.approx(EXPECTED["loss_at_6"], rel=1e-2)
    labels = run("predict.py", "--ckpts", "output/old_smile_Last.pdparams", "dataset/test", cwd=work)
    assert labels.returncode == 0, labels.stderr
    assert labels.stdout.count("\n") == 13
