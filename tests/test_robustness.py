"""Killed runs, full disks, broken images, damaged and hostile files: nothing is lost, nothing is trusted."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image
from visualdl import LogReader

import finetune
import regularizers
import test as scoring
from checkpoints import checkpoint, pdparams
from datasets import splits
from evaluation import metrics
from models import build
from tests.checkpoints.test_pdparams import CALLS
from tests.faults import Changes, failing
from tests.interrupted import SHORT, Crash, crashing
from tests.pictures import write_folder
from tests.scripts import ROOT, run, tiny
from tests.test_resume import flat
from training.optimizer import Optimizer
from training.step import train_step
from training.table import COLUMNS
from utils import errors

pytestmark = pytest.mark.slow
L2 = ("--regularizer", "l2", "--pretrained", "none", "--save_frequency", 1)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current folder, with data and a source network of five classes."""
    write_folder(tmp_path / "dataset" / "train", count=8)
    write_folder(tmp_path / "dataset" / "test", count=2, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(tmp_path / "source.pdparams"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_hang():
    """Let the alarm of `outcome` fail the test, past whatever catches exceptions on the way."""

    def late(*_):
        raise Crash("a fault led to a hang")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcome(main, flags, capsys):
    """Call a script's main as the script does, for a minute at most; return the exit code and stderr's lines.

    Warnings are left out of them.
    """
    signal.alarm(60)
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        errors.run(lambda: main([str(flag) for flag in flags]))
    signal.alarm(0)
    lines = capsys.readouterr().err.splitlines()
    return left.value.code, [line for line in lines if not line.startswith("WARNING")]


def weights(path):
    return {key: value for key, value in flat(pdparams.load(path)) if key[1:].startswith(("model/", "optimizer/"))}


def assert_same_weights(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    assert [key for key in first if not np.array_equal(first[key], second[key])] == []


def interrupt(flags, step):
    """Train up to a crash in step number `step`."""
    finetune.train_step = crashing(step, Crash())
    try:
        with pytest.raises(Crash):
            finetune.main([str(flag) for flag in flags])
    finally:
        finetune.train_step = train_step


def assert_whole_files(folder):
    """Every file under a final name can be read; there is no other."""
    assert [str(path) for path in folder.rglob(".*")] == []
    for path in folder.rglob("*.pdparams"):
        assert "model" in pdparams.load(path)
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in folder.rglob("*.png"):
        Image.open(path).load()
    for path in folder.rglob("*.csv"):
        assert {line.count(",") for line in path.read_text().splitlines()} == {len([*COLUMNS, *metrics.columns()]) - 1}


# Killed

KILLS, STEPS = 25, 40


def flags_of(name, side):
    own = regularizers.arguments(name)
    method = [word for key, value in SHORT.items() if key in own for word in (f"--{key}", value)]
    places = ["--save", f"{side}/output", "--log_dir", f"{side}/curves", "--cache_dir", f"{side}/cache"]
    often = ["--max_iters", STEPS, "--print_frequency", 1, "--eval_frequency", 10, "--save_frequency", 5]
    return tiny("--regularizer", name, *method, *often, "--pretrained", "source.pdparams", *places, "--resume", "auto")


def drive(*command, cwd):
    """Run tests.faults and return the JSON that it prints; nothing but warnings may be said on stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800)
    said = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
    assert (done.returncode, said) == (0, []), done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def faults(folder, work, side, runs):
    """Let tests.faults do `work` with `runs` in the folder `folder`."""
    (folder / "runs.json").write_text(json.dumps(runs))
    return drive(sys.executable, "-m", "tests.faults", work, side, "runs.json", cwd=folder)


def ending(number, rng, first):
    """Return how a run is killed: as it opens, writes, flushes or renames a file, or soon after one of its next steps.

    The first run of a method decodes the images before its first step.
    """
    if number % 2:
        return {"steps": int(rng.integers(1, 9)), "pause": rng.uniform(0, 0.05)}
    return {"change": int(rng.integers(1, 120 if first else 50))}


def curves(folder, name):
    reader = LogReader(file_path=str(folder / "curves" / f"dataset_{name}" / "vdlrecords.run.log"))
    return {tag: [record.id for record in reader.get_data("scalar", tag)] for tag in reader.get_tags()["scalar"]}


def test_killed_runs_lose_nothing(work):
    rng = np.random.default_rng(0)
    names = list(regularizers.REGULARIZERS)
    kills = [
        {"flags": flags_of(names[kill % len(names)], "killed"), **ending(kill, rng, kill < len(names))}
        for kill in range(KILLS)
    ]
    found = faults(work, "kill", "killed", kills)
    assert found["codes"] == [-signal.SIGKILL] * KILLS
    assert found["half"]
    for side in ("killed", "whole"):
        assert faults(work, "whole", side, [flags_of(name, side) for name in names]) == []
    assert [str(path) for path in (work / "killed").rglob("*.tmp")] == []
    files = [sorted(path.name for path in (work / side).rglob("*")) for side in ("killed", "whole")]
    assert files[0] == files[1]
    for name in names:
        run_name = f"output/dataset_{name}"
        for end in ("_Last", "_Best"):
            assert_same_weights(*(work / side / f"{run_name}{end}.pdparams" for side in ("killed", "whole")))
        tables = [(work / side / f"{run_name}.csv").read_text() for side in ("killed", "whole")]
        assert tables[0] == tables[1], name
        assert curves(work / "killed", name) == curves(work / "whole", name), name


# A disk that fails


@pytest.mark.parametrize("number, stride", [(errno.ENOSPC, 1), (errno.EROFS, 9)])
def test_a_disk_that_fails_at_any_change_leaves_the_old_or_the_new(work, capsys, number, stride):
    flags = tiny(*L2, "--save", "run/output", "--log_dir", "run/curves", "--cache_dir", "run/cache", "--resume", "auto")
    interrupt(flags, 4)
    shutil.copytree("run", "before")
    finetune.main(flags)
    shutil.copytree("run", "whole")
    known = [(work / side / "output" / "dataset_l2_Last.pdparams").read_bytes() for side in ("before", "whole")]
    stopped = 0
    for at in range(1, 400, stride):
        shutil.rmtree("run")
        shutil.copytree("before", "run")
        with Changes("run", at, failing(number)) as changes:
            code, lines = outcome(finetune.main, flags, capsys)
        if changes.count < at:
            break
        assert code == 5, (at, lines)
        assert len(lines) == 1, (at, lines)
        assert os.strerror(number) in lines[0], (at, lines)
        stopped += 1
        assert_whole_files(work / "run")
        last = work / "run" / "output" / "dataset_l2_Last.pdparams"
        assert pdparams.load(last)["iter"] >= 2
        assert last.read_bytes() == known[0] or pdparams.load(last)["iter"] > 2
        if stopped % 10 == 1:
            assert outcome(finetune.main, flags, capsys) == (0, [])
            assert_same_weights(last, "whole/output/dataset_l2_Last.pdparams")
    assert stopped * stride > 40


def mounts():
    try:
        probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
        return subprocess.run(probe, capture_output=True).returncode == 0
    except OSError:
        return False


def on_small_disks(folder, sizes, *flags):
    """Run finetune.py with `./small` on a disk of so many KiB: for each size the exit code, the output, the errors."""
    (folder / "small").mkdir()
    (folder / "sizes.json").write_text(json.dumps(dict.fromkeys(sizes, flags)))
    command = ["unshare", "--mount", sys.executable, "-m", "tests.faults", "fill", "small", "sizes.json"]
    return drive(*command, cwd=folder)


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a small file system")
@pytest.mark.parametrize("place", ["save", "cache_dir"])
def test_a_small_disk_ends_in_one_line(work, place):
    flags = tiny("--regularizer", "delta", "--pretrained", "source.pdparams", "--keep_aspect", "--save_frequency", 1)
    found = on_small_disks(work, [4, 40, 160, 400, 900, 1400], *flags, "--overwrite", f"--{place}", "small")
    assert found["4"][0] == 5
    for size, (code, _, said) in found.items():
        lines = said.splitlines()
        assert code in (0, 5), (size, said)
        assert len(lines) == (code != 0), (size, said)
        if code:
            assert lines[0].startswith("error: cannot "), size
            assert "No space left" in lines[0] or "requested and" in lines[0], size
        if place == "save":
            assert_whole_files(work / f"left_{size}")


@pytest.mark.skipif(not mounts(), reason="needs the right to mount a small file system")
def test_curves_that_find_no_room_stop_no_run(work):
    often = ("--print_frequency", 1, "--max_iters", 60, "--eval_frequency", 60)
    flags = tiny(*L2, *often, "--log_dir", "small", "--overwrite")
    for size, (code, printed, said) in on_small_disks(work, [4, 8, 12], *flags).items():
        assert code == 0, (size, said)
        assert printed.count("No space left on device") == 1, size  # VisualDL says it itself


@pytest.mark.parametrize("flag", ["--save", "--cache_dir"])
@pytest.mark.parametrize("path", ["file", "file/folder"])
def test_a_file_where_a_folder_is_needed(work, capsys, flag, path):
    (work / "file").write_text("mine")
    code, lines = outcome(finetune.main, tiny(*L2, flag, path), capsys)
    assert code == 5
    assert len(lines) == 1
    assert "cannot use file" in lines[0]
    assert (work / "file").read_text() == "mine"


# Images


def bomb(path):
    Image.new("1", (20_000, 20_000)).save(path)


def folder_of_that_name(path):
    path.unlink()
    path.mkdir()


SPOIL = {
    "removed": lambda path: path.unlink(),
    "a folder": folder_of_that_name,
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "a bomb": bomb,
}


@pytest.mark.parametrize("aspect", [[], ["--keep_aspect"]])
@pytest.mark.parametrize("cache", ["disk", "off"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("how", SPOIL)
def test_an_image_that_is_spoiled_after_the_scan(work, capsys, monkeypatch, how, split, cache, aspect):
    scan_folders = splits.scan_folders

    def spoiled(*arguments):
        found = scan_folders(*arguments)
        SPOIL[how](work / "dataset" / split / "emu" / "001.png")
        return found

    monkeypatch.setattr(splits, "scan_folders", spoiled)
    code, lines = outcome(finetune.main, tiny(*L2, "--cache", cache, *aspect), capsys)
    assert code == 3, lines
    assert len(lines) == 1
    assert "emu/001.png" in lines[0]
    assert_whole_files(work / "output")


@pytest.mark.parametrize("cache", ["disk", "off"])
@pytest.mark.parametrize("how", ["empty", "cut short", "a bomb"])
def test_an_image_that_is_spoiled_before_the_scan(work, capsys, how, cache):
    SPOIL[how](work / "dataset" / "train" / "emu" / "001.png")
    code, lines = outcome(finetune.main, tiny(*L2, "--cache", cache), capsys)
    assert (code, len(lines)) == (3, 1)
    assert "cannot read the image dataset/train/emu/001.png" in lines[0].replace("./", "")


# Damaged files


def damage(path, how):
    content = path.read_bytes()
    half = len(content) // 2
    damaged = {
        "empty": b"",
        "cut": content[:half],
        "longer": content + b"x",
        "flipped": content[:half] + bytes([content[half] ^ 255]) + content[half + 1 :],
        "noise": np.random.default_rng(0).bytes(len(content)),
    }
    path.write_bytes(damaged[how])


@pytest.mark.parametrize("how", ["empty", "cut", "longer", "flipped", "noise"])
def test_a_damaged_cache_mends_itself(work, how):
    flags = tiny("--regularizer", "delta", "--pretrained", "source.pdparams", "--keep_aspect")
    finetune.main(flags)
    first = weights("output/dataset_delta_Last.pdparams")
    kept = {path: path.read_bytes() for path in (work / "cache").rglob("*") if path.is_file()}
    assert {path.suffix for path in kept} - {".json"} == {".images", ".crc32", ".npy"}  # digests come when they are old
    for path in kept:
        if path.suffix != ".npy" or how != "flipped":  # a number that is another one is not seen
            damage(path, how)
    finetune.main([*flags, "--overwrite"])
    second = weights("output/dataset_delta_Last.pdparams")
    assert [key for key in first if not np.array_equal(first[key], second[key])] == []


def test_a_checkpoint_that_was_cut_is_refused_and_kept(work, capsys):
    flags = tiny(*L2, "--resume", "auto")
    interrupt(flags, 4)
    last = work / "output" / "dataset_l2_Last.pdparams"
    content = last.read_bytes()
    for end in np.linspace(0, len(content) - 1, 20).astype(int):
        last.write_bytes(content[:end])
        code, lines = outcome(finetune.main, flags, capsys)
        assert (code, len(lines)) == (4, 1), (end, lines)
        assert str(last.name) in lines[0]
        assert last.read_bytes() == content[:end]
    last.write_bytes(content)
    assert outcome(finetune.main, flags, capsys) == (0, [])


def test_resume_refuses_what_it_cannot_go_on_from(work, capsys):
    paddle.save(build("resnet8", 5).state_dict(), "source.pdparams")
    flags = tiny("--regularizer", "l2sp", "--pretrained", "source.pdparams", "--resume", "auto")
    interrupt(flags, 4)
    Path("source.pdparams").rename("first.pdparams")
    paddle.save(build("resnet8", 5).state_dict(), "source.pdparams")
    code, lines = outcome(finetune.main, flags, capsys)
    assert (code, len(lines)) == (2, 1)
    assert "the weights of --pretrained source.pdparams have changed" in lines[0]
    Path("first.pdparams").replace("source.pdparams")
    last = work / "output" / "dataset_l2sp_Last.pdparams"
    content = pdparams.load(last)
    for entry in ("options", "optimizer", "metrics", "regularizer", "iter"):  # as in one of the reference
        for spoilt in ({k: v for k, v in content.items() if k != entry}, {**content, entry: "x"}):
            checkpoint.save(last, spoilt)
            code, lines = outcome(finetune.main, flags, capsys)
            assert (code, len(lines)) == (4, 1), (entry, lines)


def test_weights_that_are_no_numbers_are_not_saved(work, capsys):
    flags = tiny(*L2, "--max_iters", 2, "--save_frequency", 1, "--eval_frequency", 2)
    real = Optimizer.step

    def step(self):
        real(self)
        if self.schedule.last_epoch == 2:
            weight = next(iter(self.parameters.values()))
            weight.set_value(weight.detach() * float("nan"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimizer, "step", step)
        code, lines = outcome(finetune.main, flags, capsys)
    assert (code, len(lines)) == (6, 1), lines
    assert pdparams.load(work / "output" / "dataset_l2_Last.pdparams")["iter"] == 0
    assert not (work / "output" / "dataset_l2.json").exists()


def test_weights_with_a_wrong_sum_are_not_used(work):
    kept = work / ".cache" / "paddle" / "hapi" / "weights" / "resnet18.pdparams"
    kept.parent.mkdir(parents=True)
    paddle.save({"w": paddle.ones([2])}, str(kept))
    flags = tiny("--regularizer", "l2", "--model_arch", "resnet18")
    done = run("finetune.py", *flags, cwd=work, timeout=60, HOME=str(work), https_proxy="http://127.0.0.1:9")
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "resnet18.pdparams" in done.stderr


# Hostile files

WAYS = {
    "--ckpts": lambda file: (scoring.main, ["--ckpts", file, "--gpu", -1]),
    "--pretrained": lambda file: (finetune.main, tiny("--regularizer", "l2", "--pretrained", file)),
    "--resume": lambda file: (finetune.main, tiny(*L2, "--resume")),
}


@pytest.mark.parametrize("way", WAYS)
def test_hostile_files_are_refused(work, capsys, way):
    file = work / ("output/dataset_l2_Last.pdparams" if way == "--resume" else "file.pdparams")
    file.parent.mkdir(exist_ok=True)
    for name, call in CALLS.items():
        file.write_bytes(pickle.dumps({"model": call}, 4))
        code, lines = outcome(*WAYS[way](file), capsys)
        assert (code, len(lines)) == (4, 1), (name, lines)
        assert "refused: " in lines[0], name
        assert not list(work.rglob("executed")), name


@pytest.mark.parametrize("way, name", list(zip(WAYS, ("os.system", "eval", "nested pickle"))))
def test_hostile_files_are_refused_by_the_scripts(work, way, name):
    file = work / ("output/dataset_l2_Last.pdparams" if way == "--resume" else "file.pdparams")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps({"model": CALLS[name]}, 4))
    main, flags = WAYS[way](file)
    done = run("test.py" if main is scoring.main else "finetune.py", *flags, cwd=work, timeout=60)
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(work.rglob("executed"))
