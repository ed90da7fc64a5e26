"""Several ranks: the shares of one, and whole runs as the launcher starts them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from checkpoints import pdparams
from models import build
from regularizers import RegSL
from regularizers.losses import cross_entropies, frobenius_norm
from tests.pictures import write_folder
from tests.scripts import ROOT, call, tiny
from tests.test_resume import flat
from training import embedded
from training.table import read_rows
from utils.distributed import SINGLE_PROCESS, Ranks, join
from utils.errors import UsageError

METHODS = ("smile", "delta", "regsl")


@dataclass(frozen=True)
class Both(Ranks):
    """Rank `rank` of two, who knows what the other one would send."""

    other: object = None

    def all_reduce_sum(self, value):
        return value.detach() + self.other

    def gather(self, rows):
        return paddle.concat([rows.detach(), self.other] if self.first else [self.other, rows.detach()])


def test_the_shares_are_the_batch():
    rows = np.arange(12)
    assert np.array_equal(np.concatenate([rows[Ranks(rank, 3).shard(12)] for rank in range(3)]), rows)
    assert list(rows[SINGLE_PROCESS.shard(12)]) == list(rows)
    for count in (5, 24):
        with pytest.raises(UsageError, match=f"--batch_size 12.*{count} processes"):
            Ranks(0, count).shard(12)


def test_alone_changes_nothing():
    assert join() == SINGLE_PROCESS
    x = paddle.to_tensor([1.0, 2.0])
    SINGLE_PROCESS.average([x])
    SINGLE_PROCESS.barrier()
    with SINGLE_PROCESS.rank0_first():
        assert SINGLE_PROCESS.first
    assert SINGLE_PROCESS.gather(x).tolist() == SINGLE_PROCESS.all_reduce_sum(x).tolist() == x.tolist() == [1, 2]
    assert SINGLE_PROCESS.any_signal(15, look=False) == 15


def test_the_norm_of_a_batch_in_two_parts():
    rows = np.random.default_rng(0).normal(size=(2, 3, 4))
    norm = np.sqrt((rows**2).sum())
    for rank in range(2):
        x = paddle.to_tensor(rows[rank].astype("float32"), stop_gradient=False)
        value = frobenius_norm(x, Both(rank, 2, float((rows[1 - rank] ** 2).sum())))
        value.backward()
        np.testing.assert_allclose(value.item(), norm, rtol=1e-6)
        np.testing.assert_allclose(x.grad.numpy() / 2, rows[rank] / norm, rtol=1e-5)
    x = paddle.zeros([3])
    x.stop_gradient = False
    frobenius_norm(x, Both(0, 2, 0.0)).backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_images_are_weighed_within_the_whole_batch():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (8, 3)).astype("float32"), paddle.to_tensor(rng.integers(0, 3, 8))

    def weighed(part, ranks):
        method = RegSL(self_label=True, reweight_epoch=1)
        method.labels, method.batch_size, method.ranks = labels, 8, ranks
        z = paddle.to_tensor(logits[part], stop_gradient=False)
        batch = SimpleNamespace(index=paddle.arange(8)[part], mix=None)
        value = method.loss(None, batch, SimpleNamespace(logits=z), 0)["ce"]
        value.backward()
        return value.item(), z.grad.numpy()

    losses = cross_entropies(paddle.to_tensor(logits), F.one_hot(labels, 3))
    parts = [slice(0, 4), slice(4, 8)]
    whole = weighed(slice(0, 8), SINGLE_PROCESS)
    halves = [weighed(parts[rank], Both(rank, 2, losses[parts[1 - rank]])) for rank in range(2)]
    np.testing.assert_allclose(np.mean([value for value, _ in halves]), whole[0], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate([gradient for _, gradient in halves]) / 2, whole[1], rtol=1e-5)


def start(*command, cwd, processes=2):
    """Start `command` on `processes` ranks in the folder `cwd`, or as it is on one."""
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [*(launch if processes > 1 else []), *map(str, command)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*command, cwd, processes=2) -> str:
    """Run `command` to its good end and return what it printed."""
    process = start(*command, cwd=cwd, processes=processes)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


def module(name, *arguments):
    return [sys.executable, "-m", f"tests.{name}", *arguments]


@pytest.fixture
def work(tmp_path):
    """A folder with data, an odd number of images to be scored, and a source network."""
    write_folder(tmp_path / "dataset" / "train", count=8)
    write_folder(tmp_path / "dataset" / "test", count=3, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(tmp_path / "source.pdparams"))
    return tmp_path


@pytest.mark.slow
def test_two_ranks_follow_the_curve_of_one_process_and_hold_the_same_bits(work):
    names = ("l2", "delta", "smile")
    run(*module("together", "plain", "1", "plain.pdparams", *names), cwd=work, processes=1)
    plain, resnet8 = ("plain", "2", "plain.pdparams", *names), ("resnet8", "bits", "source.pdparams", *METHODS)
    run(*module("together", *plain, "and", *resnet8), cwd=work)
    for name in names:
        one, two = (read_rows(work / str(processes) / f"dataset_{name}.csv") for processes in (1, 2))
        assert [row["step"] for row in one] == [row["step"] for row in two] == list("123456")
        for column in ("train_loss", "train_acc", "val_loss", "val_acc"):
            curves = [[float(row[column]) for row in rows] for rows in (one, two)]
            np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5, err_msg=f"{name} {column}")
        assert len({row["train_loss"] for row in one}) == 6
    for name in METHODS:
        digests = [(work / "bits" / f"dataset_{name}.{rank}.sha256").read_text() for rank in range(2)]
        assert digests[0] == digests[1], name
    state = pdparams.load(work / "bits" / "dataset_regsl_Last.pdparams")["regularizer"]["state"]
    assert not np.array_equal(state["labels"], np.repeat(np.arange(3), 8))  # both ranks' corrections are in both


@pytest.mark.slow
def test_a_crashed_run_resumes_to_the_same_bits_and_rank_0_alone_writes(work):
    for mode in ("whole", "resume"):
        run(*module("interrupted", mode, str(work), "source.pdparams", *METHODS), cwd=work)
    for name in METHODS:
        whole, half = (
            dict(flat(pdparams.load(work / side / f"dataset_{name}_Last.pdparams"))) for side in ("whole", "half")
        )
        compared = [key for key in whole if key[1:].startswith(("model/", "optimizer/", "regularizer/state/", "iter"))]
        assert len(compared) > 50
        assert [key for key in compared if not np.array_equal(whole[key], half[key])] == [], name
        assert (work / f"whole/dataset_{name}.csv").read_text() == (work / f"half/dataset_{name}.csv").read_text()
        log = (work / f"whole/dataset_{name}.txt").read_text()
        assert log.count("evaluation:") == log.count("/9)") == 1
        assert len((work / f"whole/dataset_{name}_samples.txt").read_text().splitlines()) == 24
        assert len(list((work / "whole_curves" / f"dataset_{name}").iterdir())) == 1
    assert not list((work / "whole").glob(".*"))
    assert "evaluation:" not in (work / "log" / "workerlog.1").read_text()


@pytest.mark.slow
def test_a_signal_stops_all_ranks_at_one_step_and_as_many_resume(work):
    flags = tiny("--regularizer", "l2", "--pretrained", "none", "--max_iters", 5000, "--eval_frequency", 5000)
    process = start(ROOT / "finetune.py", *flags, cwd=work)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("step 4/"):
            process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    last = pdparams.load(work / "output" / "dataset_l2_Last.pdparams")["iter"] + 1
    for rank in range(2):
        assert f"stopped after step {last};" in (work / "log" / f"workerlog.{rank}").read_text(), said
    refused = call("finetune.py", *flags, "--resume", cwd=work)
    assert "2 processes are now 1" in refused.stderr
    assert refused.returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--batch_size", 7), "error: --batch_size 7: accepted with 2 processes are multiples of 2"),
        (("--eval_dir", "nowhere"), "error: --eval_dir nowhere: no such folder"),
        (("--lr", "1e30", "--max_iters", 50), "error: the loss term ce is"),
    ],
)
def test_what_a_failed_rank_said_can_be_seen(work, flags, words):
    process = start(ROOT / "finetune.py", *tiny("--regularizer", "l2", "--pretrained", "none", *flags), cwd=work)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert words in output
    assert "Traceback" not in output


EMBEDDED = """
from utils import startup
startup.configure()
import finetune
from datasets import glyphs
from training import embedded
glyphs.SPLITS.update(dict.fromkeys(glyphs.SPLITS, 3))
embedded.SOURCE_OPTIONS.update({"--max_iters": 4, "--eval_frequency": 4})
finetune.main("--regularizer l2 --gpu -1 --max_iters 4 --eval_frequency 4".split())
"""


@pytest.mark.slow
def test_the_embedded_tasks_source_is_trained_by_one_process(tmp_path):
    said = run(sys.executable, "-c", EMBEDDED, cwd=tmp_path)
    assert said.count("training the source network") == 1
    summary = json.loads((tmp_path / "cache/latin_to_greek/source/latin_l2.json").read_text())
    assert summary["ranks"] == 1
    assert json.loads((tmp_path / "output" / "greek_l2.json").read_text())["ranks"] == 2


def test_the_embedded_tasks_source_is_no_rank(tmp_path, monkeypatch):
    seen = {}

    def training(command, env):
        seen.update(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(embedded.glyphs, "write_task", lambda folder: None)
    monkeypatch.setattr(embedded.subprocess, "run", training)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_MASTER", "127.0.0.1:9")
    monkeypatch.setenv("HERE_TO_STAY", "1")
    embedded.prepare(str(tmp_path), -1)
    assert seen["HERE_TO_STAY"] == "1"
    assert not [name for name in seen if name.startswith("PADDLE_")]
