"""Every method trains for any number of updates, with the shares of the run that the reference's values are of 9000.

`FUZZ=full` takes the longer runs too.
"""

import json
import re
from fractions import Fraction

import paddle
import pytest

import finetune
import regularizers
from models import build
from tests.fuzzing import FULL
from tests.pictures import write_folder
from training.table import read_rows

LENGTHS = (1, 7, 60, 300, 1999) if FULL else (1, 7)
FLAGS = "--model_arch resnet8 --image_size 16 --batch_size 4 --batch_size_eval 8 --lr 0.001 --gpu -1"
QUICK = {"delta": ("--attention_batches", "1")}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data and a source network of five classes."""
    folder = tmp_path_factory.mktemp("lengths")
    write_folder(folder / "dataset" / "train", count=5)
    write_folder(folder / "dataset" / "test", count=2, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(folder / "source.pdparams"))
    return folder


def share(value, steps):
    """Return the nearest whole number to `value` * `steps` / 9000, the even one of two."""
    return round(Fraction(value * steps, 9000))


@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("method", regularizers.REGULARIZERS)
def test_a_run_of_any_length(work, monkeypatch, method, steps):
    monkeypatch.chdir(work)
    name = f"of_{steps}"
    flags = ["--regularizer", method, "--max_iters", str(steps), "--pretrained", "source.pdparams", "--name", name]
    finetune.main([*FLAGS.split(), *flags, *QUICK.get(method, ())])
    base = work / "output" / f"{name}_{method}"
    made = json.loads(base.with_suffix(".json").read_text())
    drop, tail = min(share(6666, steps), steps - 1), min(share(1000, steps), steps - 1)
    periods = {name: max(1, min(share(each, steps), steps - 1)) for name, each in (("eval", 500), ("print", 50))}
    assert made["options"]["lr_drop"] == max(1, drop)
    assert {name: made["options"][f"{name}_frequency"] for name in periods} == periods
    rows = read_rows(base.with_suffix(".csv"))
    assert int(rows[-1]["step"]) == steps
    assert {float(row["lr"]) for row in rows if int(row["step"]) <= drop} <= {0.001}
    assert [float(row["lr"]) for row in rows if int(row["step"]) > drop > 0] == pytest.approx(
        [0.0001 for row in rows if int(row["step"]) > drop > 0]
    )
    if method == "smile":
        hyper = made["options"]["method"]
        assert (hyper["clean_tail"], hyper["ema_decay"]) == (tail, pytest.approx(0.9999 ** (9000 / steps)))
        lines = re.findall(rf"step (\d+)/{steps}  lr (.*)", base.with_suffix(".txt").read_text())
        mixed = {int(step): "fea" in line for step, line in lines}
        assert all(there == (step - periods["print"] < steps - tail) for step, there in mixed.items())
