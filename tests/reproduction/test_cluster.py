"""Recipes on a Ray cluster of two machines, both of which are this one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings

import paddle
import pytest

from models import build
from tests import on_ray
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
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


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
    """Two machines with a CPU each, and one that keeps the books."""
    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    made.machines = [made.add_node(**NODE) for _ in range(2)]
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


def until(condition, what):
    for _ in range(6000):
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    return pytest.fail(f"waited for ten minutes: {what}")


def count(folder, cluster, jobs):
    """Start jobs that count, in `folder`, on the cluster."""
    folder.mkdir(exist_ok=True)
    line = [sys.executable, "-m", "tests.on_ray", cluster.address, str(folder), str(jobs)]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def starts(folder):
    """Return for each job where it began each time, and the processes of itself and of its worker."""
    return {
        path.stem: [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
        for path in folder.glob("*.starts")
    }


def counting(folder):
    """Return the jobs that have counted to something and are not done."""
    return [path.stem for path in folder.glob("*.saved") if not path.with_suffix(".product").exists()]


def products(folder):
    """Return when each product was written."""
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.product")}


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


def test_a_driver_that_was_killed_or_stopped_goes_on_where_it_was(tmp_path, cluster):
    process = count(tmp_path, cluster, 4)
    until(lambda: products(tmp_path) and counting(tmp_path), "a product and a job that counts")
    process.kill()
    process.wait()
    begun, before = starts(tmp_path), products(tmp_path)
    process = count(tmp_path, cluster, 4)
    until(lambda: starts(tmp_path) != begun, "the next start")
    process.send_signal(signal.SIGINT)
    printed = ended(process)
    assert process.returncode == 130, printed
    assert "interrupted: every process has saved and stopped; the same command goes on from there" in printed
    assert "Traceback" not in printed
    assert len(products(tmp_path)) < 4
    process = count(tmp_path, cluster, 4)
    printed = ended(process)
    assert process.returncode == 0, printed
    assert len(products(tmp_path)) == 4
    assert products(tmp_path).items() >= before.items()
    for name, each in starts(tmp_path).items():
        firsts = [first for first, *_ in each]
        assert firsts == sorted(firsts), (name, each)  # gone on, not begun anew
        assert name not in before or each == begun[name], (name, each)


def test_a_lost_worker_and_a_lost_machine_lose_nothing(tmp_path, cluster):
    process = count(tmp_path, cluster, 2)
    here = process.stdout.readline().split()[-1]
    until(lambda: len(counting(tmp_path)) == 2, "two jobs that count")
    other = next(machine for machine in cluster.machines if machine._node_id != here)
    cluster.remove_node(other, allow_graceful=False)
    until(lambda: max(map(len, starts(tmp_path).values())) == 2, "the lost machine's job, again")
    (lost,) = [name for name, each in starts(tmp_path).items() if len(each) == 2]
    os.kill(starts(tmp_path)[lost][-1][-1], signal.SIGKILL)
    printed = ended(process)
    assert process.returncode == 0, printed
    assert printed.count(f"{lost}: running on ") == 3
    assert printed.count(" again, its worker or machine was lost") == 2
    assert {(tmp_path / f"job{i}.product").read_text() for i in range(2)} == {str(on_ray.LAST)}
    begun = starts(tmp_path)
    assert sorted(map(len, begun.values())) == [1, 3]
    assert 0 < begun[lost][1][0] <= begun[lost][2][0]
