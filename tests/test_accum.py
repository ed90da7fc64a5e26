"""One update from several parts of a batch: `finetune.py --accum`."""

import sys

import numpy as np
import paddle
import pytest

import finetune
import models
from checkpoints import pdparams
from datasets.batch import Batch
from models import build
from models.network import Architecture
from tests.interrupted import crashing
from tests.pictures import write_folder
from tests.scripts import tiny
from tests.test_ranks import run
from tests.test_resume import flat
from tests.together import Plain
from training.table import read_rows
from utils.distributed import SINGLE_PROCESS, Ranks
from utils.errors import UsageError


@pytest.fixture
def work(tmp_path, monkeypatch, no_curves):
    """A folder with data and a source, where resnet8 has no batch normalisation."""
    monkeypatch.setitem(models.ARCHITECTURES, "resnet8", Architecture(Plain, {}))
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "dataset" / "train", count=8)
    write_folder(tmp_path / "dataset" / "test", count=3, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), "source.pdparams")
    return tmp_path


def train(save, name, *flags):
    often = ("--eval_frequency", 1, "--print_frequency", 1, "--save_frequency", 1, "--log_dir", f"{save}/curves")
    finetune.main(tiny("--regularizer", name, "--pretrained", "source.pdparams", "--save", save, *often, *flags))


def test_the_parts_are_the_batch():
    rows = paddle.arange(12)
    batch = Batch(images=rows * 1.0, targets=rows + 100, index=rows)
    assert next(batch.micro_batches(1)) is batch
    parts = list(batch.micro_batches(3))
    assert [part.index.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert parts[1].images.tolist() == [4, 5, 6, 7]
    assert parts[2].targets.tolist() == [108, 109, 110, 111]


@pytest.mark.parametrize(
    ("ranks", "accum", "words"),
    [
        (SINGLE_PROCESS, 5, "--accum 5: accepted with --batch_size 12 are divisors of 12"),
        (SINGLE_PROCESS, 24, "divisors of 12"),
        (Ranks(1, 2), 4, "--accum 4: .*12, of which each of 2 processes takes 6, are divisors of 6"),
    ],
)
def test_parts_of_unequal_size_are_refused(ranks, accum, words):
    with pytest.raises(UsageError, match=words):
        ranks.shard(12, accum)
    assert ranks.shard(12, 3) == ranks.shard(12)


@pytest.mark.parametrize("name", ["l2", "mixup", "delta"])
def test_without_batch_statistics_parts_change_nothing(work, name):
    own = ("--attention", "uniform", "--delta_lambda", 1) if name == "delta" else ()
    for accum in (1, 4):
        train(f"in{accum}", name, "--accum", accum, *own)
    one, four = (read_rows(work / f"in{accum}" / f"dataset_{name}.csv") for accum in (1, 4))
    assert len({row["train_loss"] for row in one}) == len(four) == 6
    for column in ("train_loss", "train_acc", "val_loss", "val_acc"):
        curves = [[float(row[column]) for row in rows] for rows in (one, four)]
        np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5, err_msg=column)


def test_an_interrupted_run_resumes_to_the_same_bits(work, monkeypatch):
    train("whole", "mixup", "--accum", 2, "--print_frequency", 4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune, "train_step", crashing(4, KeyboardInterrupt()))
        train("half", "mixup", "--accum", 2, "--print_frequency", 4)
    with pytest.raises(UsageError, match="--accum 2 is now 4"):
        train("half", "mixup", "--accum", 4, "--print_frequency", 4, "--resume")
    train("half", "mixup", "--accum", 2, "--print_frequency", 4, "--resume")
    whole, half = (dict(flat(pdparams.load(work / side / "dataset_mixup_Last.pdparams"))) for side in ("whole", "half"))
    compared = [key for key in whole if key[1:].startswith(("model/", "optimizer/", "iter"))]
    assert len(compared) > 10
    assert [key for key in compared if not np.array_equal(whole[key], half[key])] == []
    assert (work / "whole/dataset_mixup.csv").read_text() == (work / "half/dataset_mixup.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--accum", 3), "--accum 3: accepted with --batch_size 8 are divisors of 8"),
        (("--accum", 0), "--accum"),
        (("--regularizer", "smile", "--clean_tail", 2, "--accum", 2), "--regularizer smile is 1: .* fea is a norm"),
        (("--regularizer", "bss", "--accum", 2), "--regularizer bss is 1: .* singular value"),
        (("--regularizer", "regsl", "--self_label", "true", "--accum", 2), "self_label weighs the images"),
        (("--regularizer", "mixup+bss", "--accum", 2), r"--regularizer mixup\+bss is 1"),
    ],
)
def test_what_cannot_be_divided_is_refused(work, flags, words):
    with pytest.raises(UsageError, match=words):
        train("refused", "l2", *flags)
    assert not (work / "refused").exists()


TOGETHER = """
from tests import together
tiny = together.tiny
together.tiny = lambda *flags: tiny(*flags, "--accum", {accum})
together.main("plain", "in{accum}", "plain.pdparams", "l2", "delta")
"""


@pytest.mark.slow
def test_two_ranks_in_parts_follow_the_curve_of_one_process(work):
    for accum, processes in ((1, 1), (2, 2)):
        run(sys.executable, "-c", TOGETHER.format(accum=accum), cwd=work, processes=processes)
    for name in ("l2", "delta"):
        one, two = (read_rows(work / f"in{accum}" / f"dataset_{name}.csv") for accum in (1, 2))
        for column in ("train_loss", "train_acc", "val_loss", "val_acc"):
            curves = [[float(row[column]) for row in rows] for rows in (one, two)]
            np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5, err_msg=f"{name} {column}")
