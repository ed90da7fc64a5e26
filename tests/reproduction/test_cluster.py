"""Recipes on a Ray cluster of two machines, both of which are this one, on its loopback address."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import warnings
from pathlib import Path

import paddle
import pytest

from models import build
from tests.pictures import write_folder
from tests.scripts import ROOT, command, forked

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as reproduction.cluster sets it, before Ray is imported
os.environ.setdefault("RAY_worker_niceness", "0")  # else 15: the trainings would wait for everything else
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-cluster.txt")
    from ray.cluster_utils import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
RECIPE = """
title: Pets
seeds: [0, 1]
threads: 1
options:
  model_arch: resnet8
  image_size: 32
  pretrained: "{data_root}/source.pdparams"
  max_iters: 80
  batch_size: 8
  batch_size_eval: 8
  eval_frequency: 80
  save_frequency: 4
datasets: {pets: {title: Pets, folder: pets}}
protocols: {half: {options: {sample_rate: 50}}}
methods:
  smile: {title: SMILE, options: {regularizer: smile, clean_tail: 2}}
  boom: {options: {regularizer: l2, lr: 1e30}}
scores: {train: {images: train}}
measures: {acc: {title: top-1, from: train.acc}, loss: {title: loss, from: last.loss, digits: 4}}
"""
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a recipe and pets, and what this machine's own pool makes of it."""
    folder = tmp_path_factory.mktemp("work")
    write_folder(folder / "dataset" / "pets" / "train", count=6)
    write_folder(folder / "dataset" / "pets" / "test", count=4, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(folder / "dataset" / "source.pdparams"))
    (folder / "pets.yaml").write_text(RECIPE)
    done = forked("pets.yaml", "--gpus", "-1", "--only", "method=smile", "--out", "local", cwd=folder, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cluster():
    """Two machines with a CPU each."""
    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.second = made.add_node(**NODE)
    made.wait_for_nodes()
    yield made
    made.shutdown()


def start(work, cluster, *more):
    """Start the recipe on the cluster."""
    line = command("reproduce.py", "pets.yaml", "--ray", cluster.address, *more)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(line, cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)


def ended(process, timeout=900):
    """Return what the process printed, after its end."""
    try:
        return process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"still running: {process.communicate()[0][-3000:]}")


def results(work, out):
    return (work / out / "results.csv").read_bytes()


def trainings(work, out):
    """Return the process of each training whose results go to `out`, and its parent, by run name."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode().split("\0")
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, UnicodeDecodeError):
            continue
        name = next((words[i + 1] for i, word in enumerate(words) if word == "--name"), None)
        if name and any(word.startswith(f"{out}/") for word in words) and any("finetune.py" in word for word in words):
            found[name] = int(place.name), parent
    return found


def until(condition, what):
    for _ in range(6000):
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    return pytest.fail(f"waited for ten minutes: {what}")


def saved(work, out):
    """Return the names of the runs that are being trained and have saved their state."""
    return [name for name in trainings(work, out) if list((work / out / "runs" / name).glob("*_Last.pdparams"))]


def finished(work, out):
    """Return when each file of the finished runs was written."""
    return {path: path.stat().st_mtime_ns for path in (work / out / "runs").glob("*/*.json")}


def test_a_cluster_makes_what_this_machine_makes_and_a_failed_run_is_told(work, cluster):
    printed = ended(start(work, cluster, "--out", "shared"))
    assert len(re.findall(r"^pets_half_smile_\w+: running on ", printed, re.MULTILINE)) == 2, printed
    assert "FAILED pets half boom seed 0: error: the loss term ce is" in printed
    assert "(exit code 6)" in printed
    assert "4 runs left; no estimate of their time" in printed
    assert results(work, "shared") == results(work, "local")
    assert not list((work / "shared").glob(".shared-*"))


def test_without_a_shared_folder_results_come_back_as_bytes(work, cluster):
    flags = ("--only", "method=smile", "--out", "bytes", "--scratch", str(work / "scratch"), "--drop_checkpoints")
    printed = ended(start(work, cluster, *flags))
    assert results(work, "bytes") == results(work, "local"), printed
    assert not list((work / "bytes").rglob("*.pdparams"))
    assert len(list((work / "bytes" / "visual_log").iterdir())) == 2
    names = {path.name for path in (work / "bytes" / "runs").iterdir()}
    assert {path.name for path in (work / "scratch").glob("bytes_*/runs/*")} == names


def test_a_driver_that_was_killed_or_stopped_goes_on_where_it_was(work, cluster):
    flags = ("--only", "method=smile", "--out", "driver", "--seeds", "0,1,2", "--cpus_per_run", "1")
    process = start(work, cluster, *flags)
    until(lambda: finished(work, "driver") and saved(work, "driver"), "a finished run and one on its way")
    process.kill()
    process.wait()
    until(lambda: not trainings(work, "driver"), "the end of the trainings")
    before = finished(work, "driver")
    process = start(work, cluster, *flags)
    until(lambda: trainings(work, "driver"), "the next training")
    process.send_signal(signal.SIGINT)
    printed = ended(process)
    assert process.returncode in (0, 130), printed
    assert "Traceback" not in printed
    assert not trainings(work, "driver")
    assert finished(work, "driver").items() >= before.items()
    process = start(work, cluster, *flags)
    printed = ended(process)
    assert process.returncode == 0, printed
    assert finished(work, "driver").items() >= before.items()
    rows = results(work, "driver").splitlines()
    assert rows[:3] == results(work, "local").splitlines()


def test_a_lost_worker_and_a_lost_machine_lose_nothing(work, cluster):
    process = start(work, cluster, "--only", "method=smile", "--out", "lost")
    until(lambda: len(saved(work, "lost")) == 2, "two trainings")
    cluster.remove_node(cluster.second, allow_graceful=False)
    until(lambda: finished(work, "lost") and saved(work, "lost"), "the lost machine's run, again")
    _, worker = trainings(work, "lost").popitem()[1]
    os.kill(worker, signal.SIGKILL)
    printed = ended(process)
    assert process.returncode == 0, printed
    assert printed.count("again, its worker or machine was lost") >= 2
    assert results(work, "lost") == results(work, "local"), printed
    texts = [path.read_text() for path in (work / "lost" / "runs").glob("*/*_smile.txt")]
    assert sum(text.count("evaluation:") for text in texts) == 2  # of the one at the end of each
