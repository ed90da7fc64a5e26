"""Every method and every allowed pair, crashed and resumed in a fresh process, ends with the same bits."""

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest

from checkpoints import pdparams
from models import build
from tests.pictures import write_folder
from tests.regularizers.test_contract import allowed
from tests.scripts import ROOT

NAMES = sorted({"+".join(sorted(name.split("+"))): name for name in allowed()}.values())


def in_one_process(mode, folder, names):
    command = [sys.executable, "-m", "tests.interrupted", mode, str(folder), "source.pdparams", *names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


def flat(content, path=""):
    if isinstance(content, dict):
        for key, value in content.items():
            yield from flat(value, f"{path}/{key}")
    else:
        yield path, content


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_a_crashed_run_resumes_to_the_same_bits(tmp_path, part):
    write_folder(tmp_path / "dataset" / "train", count=8)
    write_folder(tmp_path / "dataset" / "test", count=2, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(tmp_path / "source.pdparams"))
    names = NAMES[part::2]
    for mode in ("whole", "resume"):
        in_one_process(mode, tmp_path, names)
    for name in names:
        whole, half = (
            dict(flat(pdparams.load(tmp_path / side / f"dataset_{name}_Last.pdparams"))) for side in ("whole", "half")
        )
        ends = ("model/", "optimizer/", "regularizer/state/", "iter", "lr_scheduler/")
        compared = [key for key in whole if key[1:].startswith(ends)]
        assert whole.keys() == half.keys()
        assert len(compared) > 40
        assert [key for key in compared if not np.array_equal(whole[key], half[key])] == [], name
        tables = [(tmp_path / side / f"dataset_{name}.csv").read_text() for side in ("whole", "half")]
        assert tables[0] == tables[1], name


def test_all_pairs_are_covered():
    assert len(NAMES) > 40
    assert {"l2", "smile", "mixup+delta"} <= {*NAMES, *("+".join(reversed(name.split("+"))) for name in NAMES)}
