"""The benchmarks at their smallest: that they run and say what they promise, not what they measure."""

import json
import mmap
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import cpu_path, in_turns, memory, peers, promises, ranks, scaling, steps, workload, write_photographs
from benchmarks import input as chains
from evaluation.calibration import SURE
from regularizers import REGULARIZERS
from tests.scripts import call, run
from utils.errors import Failure, UsageError


def measured(line, cwd, start=run):
    """Start a benchmark; return what it prints and what it writes."""
    done = start(*line.split(), "--json", "out.json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    content = json.loads((cwd / "out.json").read_text())
    assert content["cores"] == os.cpu_count()
    assert content["threads"] == os.environ["OMP_NUM_THREADS"]
    assert {"paddle", "numpy"} <= content["versions"].keys()
    return done.stdout, content


def test_steps_measures_every_method(tmp_path):
    size = "--model_arch resnet8 --image_size 32 --batch_size 4 --classes 3"
    printed, content = measured(f"benchmarks/steps.py {size} --repeats 2 --attention", tmp_path)
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["method", "ms", "x", "L2", "x", "floor", "fastest", "at", "most"]
    names = [*REGULARIZERS, "eval forward"]
    assert [row["method"] for row in content["steps"]] == names
    assert [line[0] for line in lines[1:12]] == names[:11]
    assert all(len(content["seconds"][name]) == 2 and min(content["seconds"][name]) > 0 for name in names)
    assert lines[14] == ["64", "images", "ms", "x", "forward", "less", "than"]
    assert content["attention"]["forwards"] > 0


def test_steps_refuses_an_unknown_method():
    with pytest.raises(UsageError, match="no method 'l3'"):
        steps.main(["--methods", "l2,l3"])


def test_the_floor_is_an_l2_step_and_the_forwards_a_method_needs(capsys):
    times = {"l2": [3.0, 9.0, 1.0], "bss": [6.0], "smile": [5.0, 7.0, 6.0], "fe": [2.0], "eval forward": [1.0]}
    rows = {row["method"]: row for row in steps.steps_report(times)["steps"]}
    assert [rows[name]["x L2"] for name in times] == [1, 2, 2, 2 / 3, 1 / 3]
    assert [rows[name]["x floor"] for name in times] == [None, 2, 1.5, 2, None]
    assert [rows[name]["at most"] for name in times] == [None, 1.03, 1.05, 1.05, None]
    assert [rows[name]["fastest"] for name in times] == [None, 6, 2.5, 2, None]
    assert "smile         6000.0  2.000    1.500    2.500    1.050" in capsys.readouterr().out


def test_input_measures_both_chains_and_the_decoding(tmp_path):
    printed, content = measured("benchmarks/input.py --images 8 --size 64x48 --batch_size 4 --repeats 1", tmp_path)
    names = ["reference", "uint8", "float32", "decoding, 1 core"]
    if len(os.sched_getaffinity(0)) > 1:
        names.append("decoding, 2 cores")
    assert list(content["images_per_second"]) == names
    assert min(content["images_per_second"].values()) > 0
    assert all(name in line for name, line in zip(names, printed.splitlines()[1:]))


@pytest.mark.parametrize("size", ["500", "x375", "500x", "0x5", "5.0x5"])
def test_input_refuses_a_size_that_is_none(size):
    with pytest.raises(UsageError, match=f"'{size}': accepted is WIDTHxHEIGHT"):
        chains.main(["--size", size])


def test_memory_reads_a_run_ten_times(tmp_path):
    printed, content = measured("benchmarks/memory.py --steps 10 --images 8", tmp_path, call)
    assert list(content["kilobytes"]) == [str(step) for step in range(1, 11)]
    assert all(reading["VmRSS"] >= reading["RssAnon"] + reading["RssFile"] for reading in content["kilobytes"].values())
    assert content["cache_bytes"] == 8 * 37 * 37 * 3
    assert f"change of VmRSS {content['percent']['VmRSS']:+.2f} %" in printed


def test_resident_memory_is_that_of_the_process():
    before = memory.resident(os.getpid())
    with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:  # new, whatever was freed
        np.frombuffer(pages, dtype="uint8")[:] = 1
        after = memory.resident(os.getpid())
    assert 60_000 < after["RssAnon"] - before["RssAnon"] < 90_000


def test_a_change_is_from_the_first_reading_to_the_last():
    readings = {
        200: {"VmRSS": 400, "RssAnon": 300, "RssFile": 100},
        400: {"VmRSS": 900, "RssAnon": 800, "RssFile": 100},
        600: {"VmRSS": 404, "RssAnon": 303, "RssFile": 100},
    }
    assert memory.report(readings) == pytest.approx({"VmRSS": 1, "RssAnon": 1, "RssFile": 0})


def test_a_run_that_fails_is_a_failure(tmp_path):
    line = memory.command(tmp_path, 10, 1, 8)
    with pytest.raises(Failure, match="the run failed"):
        list(memory.watch([*line, "--val_split=2"], 1))


@pytest.mark.slow
def test_ranks_measures_one_process_and_two(tmp_path):
    size = "--model_arch resnet8 --image_size 32 --batch_size 8 --images 16"
    printed, content = measured(f"benchmarks/ranks.py {size} --steps 2 --repeats 1", tmp_path, call)
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["run", "images/s", "x", "1", "process", "at", "least"]
    assert [line[:2] for line in lines[1:3]] == [["1", "process"], ["2", "ranks"]]
    assert min(content["images_per_second"].values()) > 0
    assert [list(curve) for curve in content["loss"].values()] == [["1", "2"]] * 2
    assert 0 < content["difference"] < 0.1  # batch normalisation of 4 images each instead of 8


def test_the_gain_of_two_ranks_and_how_far_they_stray(capsys):
    rates = {"1 process": [3.0, 9.0, 1.0], "2 ranks": [6.0]}
    curves = {"1 process": {5: 4.0, 10: 2.0}, "2 ranks": {5: 4.1, 10: 1.9}}
    ranks.report(rates, curves, SimpleNamespace(json=None))
    printed = capsys.readouterr().out
    assert "2 ranks        6.00        2.000     1.700" in printed
    assert "largest difference 5.00 %" in printed


def test_a_run_of_ranks_that_fails_is_a_failure(tmp_path):
    options = SimpleNamespace(model_arch="resnet8", image_size=32, batch_size=8, steps=2)
    with pytest.raises(Failure, match="the run of 1 process failed: .*no such folder"):
        ranks.images_per_second(tmp_path, "1 process", options)


def test_work_is_done_in_turns_and_the_first_one_is_not_measured():
    calls = []

    def work(name):
        return lambda: calls.append(name) or len(calls)

    assert in_turns({"a": work("a"), "b": work("b")}, 2) == {"a": [3, 5], "b": [4, 6]}
    assert calls == ["a", "b"] * 3


def test_photographs_are_as_large_as_photographs(tmp_path):
    root = write_photographs(tmp_path, 5, (500, 375), classes=2)
    files = sorted(root.rglob("*.jpg"))
    assert [str(file.relative_to(root)) for file in files] == [
        *("class0/0000.jpg", "class0/0002.jpg", "class0/0004.jpg", "class1/0001.jpg", "class1/0003.jpg")
    ]
    for file in files:
        with Image.open(file) as image:
            assert image.size == (500, 375)
        assert 60_000 < file.stat().st_size < 120_000


def _flags(work, **more):
    return {"work": work, "model_arch": "resnet8", "image_size": 32, "batch_size": 4, "steps": 2, **more}


def test_a_workload_is_measured_in_a_process_with_its_threads(tmp_path):
    result = workload.measure(workload.OURS, _flags("training", classes=3), threads=1)
    assert len(result["seconds"]) == 2
    assert result["images_per_second"] == pytest.approx(4 / np.median(result["seconds"]))
    assert 0 < result["loss"] < 10


def test_a_workload_that_fails_is_a_failure():
    with pytest.raises(Failure, match="failed: .*can't open file"):
        workload.measure(workload.OURS.with_name("none.py"), _flags("training"), threads=1)


@pytest.mark.parametrize("work", ["training", "evaluation"])
def test_the_work_is_the_training_step_and_the_scoring(work, tmp_path, monkeypatch):
    calls = []
    for module, name in ((steps, "train_step"), (workload, "predict")):
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, whole=whole, name=name: calls.append(name) or whole(*a))
    workload.main([f"--{name}={value}" for name, value in _flags(work, classes=3, out=tmp_path / "out.json").items()])
    assert calls == {"training": ["train_step"] * 4, "evaluation": ["predict"] * 2}[work]
    assert (json.loads((tmp_path / "out.json").read_text())["loss"] is None) == (work == "evaluation")


def test_only_paddle_gets_the_setting_of_its_mkl(monkeypatch):
    seen = {}

    def run(command, env, **_):
        seen[command[-1].startswith("--out") and command[1]] = env
        raise KeyboardInterrupt

    monkeypatch.setattr(workload.subprocess, "run", run)
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "5")
    for script in (workload.OURS, peers.PEER):
        with pytest.raises(KeyboardInterrupt):
            workload.measure(script, {}, threads=3)
    ours, torch = seen[str(workload.OURS)], seen[str(peers.PEER)]
    assert (ours["MKL_DEBUG_CPU_TYPE"], "MKL_DEBUG_CPU_TYPE" in torch) == ("5", False)
    assert ours["OMP_NUM_THREADS"] == torch["OMP_NUM_THREADS"] == "3"


def test_peers_are_compared_at_the_same_threads_and_ranks_with_one_process_too(capsys):
    one, two = peers.Case("resnet50", "training", 2, 1), peers.Case("resnet50", "training", 1, 2)
    rates = {(one, "ours"): [3.0, 9.0, 1.0], (one, "PyTorch"): [4.0], (two, "ours"): [6.0], (two, "PyTorch"): [5.0]}
    peers.report(rates, SimpleNamespace(json=None))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[2] == ["resnet50", "training,", "2", "threads", "3.00", "4.00", "0.750", "1.000"]
    assert printed[3] == ["resnet50", "training,", "2", "ranks", "6.00", "5.00", "1.200", "1.000"]
    assert printed[4] == ["over", "one", "process", "6.00", "4.00", "1.500", "1.250"]
    peers.report({(one, "ours"): [3.0]}, SimpleNamespace(json=None))
    assert capsys.readouterr().out.splitlines()[-1].split()[-2:] == ["3.00", "1.000"]


def test_the_two_paths_of_the_processor_are_compared(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(cpu_path, "is_amd_with_avx2", lambda: True)
    runs = {"without": [{"images_per_second": 2.0, "loss": 5.0}], "with": [{"images_per_second": 5.0, "loss": 5.25}]}
    cpu_path.report(runs, SimpleNamespace(json=None, work="training", model_arch="resnet50"))
    printed = capsys.readouterr().out.splitlines()
    assert printed[3].split() == ["with", "MKL_DEBUG_CPU_TYPE", "5.00", "2.500", "2.000", "5.2500000"]
    assert printed[4].startswith("difference of the losses 2.5e-01")


def test_scaling_measures_every_size_in_its_own_process(tmp_path):
    printed, content = measured("benchmarks/scaling.py --images 12 --classes 3 20", tmp_path, call)
    (row,) = content["measured"]  # 12 images have no 20 classes
    assert (row["images"], row["classes"]) == (12, 3)
    assert all(row[phase] > 0 for phase in (*scaling.PHASES, "MB"))
    assert printed.splitlines()[-1].split()[:2] == ["12", "3"]


def test_growth_is_of_the_time_of_an_image_at_the_same_number_of_classes(capsys):
    def row(images, classes, taken):
        return {"images": images, "classes": classes, **dict.fromkeys(scaling.PHASES, taken)}

    rows = [row(10, 2, 1.0), row(100, 2, 20.0), row(1000, 2, 100.0), row(1000, 5, 9000.0)]
    assert set(scaling.growth(rows).values()) == {2.0}
    scaling.report([{**row, "MB": 70.4} for row in rows])
    printed = capsys.readouterr().out
    assert printed.splitlines()[3].split() == ["100", "2", *["200000.0"] * 6, "70"]
    assert "first pass: the time of an image grows 2.00 times at most; 1.25 or less wanted" in printed


def test_frozen_compares_a_network_with_its_compiled_form(tmp_path):
    line = "benchmarks/frozen.py --networks resnet8 --image_size 32 --batch_size 2 --repeats 2"
    printed, content = measured(line, tmp_path)
    assert [text.split()[0] for text in printed.splitlines()[1:3]] == ["network", "resnet8"]
    result = content["networks"]["resnet8"]
    assert result["difference"] < 1e-5
    assert all(len(taken) == 2 and min(taken) > 0 for taken in result["seconds"].values())


def test_promises_are_counted_where_they_are_known_to_break(capsys):
    promises.main(["--target", "0.8", "--counts", "40", "--draws", "60"])
    header, *rows = (re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines())
    assert header[0] == "answers"
    assert len(rows) == 3
    for row in rows:
        given, rejects, broken, share = map(float, row[3:7])
        assert 0 <= broken <= given <= 1
        assert np.isnan(share) == (given == 0)
    assert float(rows[-1][4]) < 1
    assert rows[-1][3] == rows[-1][5]  # never right often enough, so broken whenever given
    assert float(rows[-1][7]) > 1 - SURE
