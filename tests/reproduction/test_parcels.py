"""What travels between machines without a shared folder, and what a task does with it; no Ray is needed here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from reproduction import jobs, worker
from reproduction.parcels import pack, unpack
from reproduction.recipes import Cell, load
from reproduction.runs import Run
from reproduction.worker import Board, Terms
from tests.reproduction.test_scheduler import FAIL, SLEEP, WRITE, job
from tests.scripts import ROOT


def fill(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_what_was_packed_is_unpacked_under_its_name(tmp_path):
    here = fill(tmp_path / "here", runs__a__x="1", runs__a__deep__y="2", runs__ab__z="3")
    content = pack([("there/a", here / "runs" / "a"), ("ab", here / "runs" / "ab"), ("c", here / "absent")])
    unpack(content, tmp_path / "other")
    kept = {name: text for name, text in tree(tmp_path / "other").items() if not name.startswith(".")}
    assert kept == {"there/a/x": "1", "there/a/deep/y": "2", "ab/z": "3"}


def test_what_was_there_is_replaced_whole_or_kept(tmp_path):
    here = fill(tmp_path / "here", a__new="new")
    content = pack([("a", here / "a")])
    other = fill(tmp_path / "other", a__old="old")
    unpack(content, other, keep=True)
    assert sorted(path.name for path in (other / "a").iterdir()) == ["old"]
    unpack(content, other)
    assert sorted(path.name for path in (other / "a").iterdir()) == ["new"]
    assert not list(other.glob(".incoming-*"))


def test_an_archive_that_is_cut_off_leaves_what_was_there(tmp_path):
    here = fill(tmp_path / "here", a__x="x" * 5000)
    other = fill(tmp_path / "other", a__old="old")
    with pytest.raises(Exception):  # noqa: B017  tarfile's own
        unpack(pack([("a", here / "a")])[:3000], other)
    assert tree(other / "a") == {"old": "old"}


def test_links_stay_or_become_files_and_weights_stay_behind(tmp_path):
    here = fill(tmp_path / "here", image="pixels", a__w_pdparams="weights")
    os.symlink(here / "image", here / "a" / "link")
    os.rename(here / "a" / "w_pdparams", here / "a" / "w.pdparams")
    unpack(pack([("a", here / "a")], without=(".pdparams",)), tmp_path / "kept")
    unpack(pack([("a", here / "a")], links=False), tmp_path / "files")
    assert os.readlink(tmp_path / "kept" / "a" / "link") == str(here / "image")
    assert not (tmp_path / "kept" / "a" / "w.pdparams").exists()
    assert not (tmp_path / "files" / "a" / "link").is_symlink()
    assert tree(tmp_path / "files" / "a") == {"link": "pixels", "w.pdparams": "weights"}


class FakeBoard(Board):
    """The board as Ray's handle of it looks to a task."""

    def __init__(self):
        super().__init__()
        self.said = []
        self.tell = SimpleNamespace(remote=lambda name, text: self.said.append((name, text)))


@pytest.fixture
def back(monkeypatch, tmp_path):
    """Go back to where the test began, for a task changes the working directory and the number of threads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def terms(folder, **more):
    return Terms(**{"cwd": str(folder), "device": -1, "threads": 3, "token": None, "scratch": None, **more})


def test_a_task_runs_the_commands_and_says_where(tmp_path, back):
    board = FakeBoard()
    (tmp_path / ".token").touch()
    result = worker.work(job(tmp_path, "a", WRITE, WRITE), terms(tmp_path, token=".token"), board, None, ())
    assert (result.reason, result.files) == (None, None)
    assert (tmp_path / "a1").read_text() == "--gpu -1"
    assert [name for name, _ in board.said] == ["a"]
    assert board.said[0][1].startswith("running on ")
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_task_says_why_it_failed(tmp_path, back):
    result = worker.work(job(tmp_path, "a", FAIL), terms(tmp_path), FakeBoard(), None, ())
    assert result.reason == "the last line (exit code 1)"


def test_a_machine_that_lacks_the_folder_is_named(tmp_path, back):
    result = worker.work(job(tmp_path, "a", WRITE), terms(tmp_path / "absent"), FakeBoard(), None, ())
    assert f"has no folder {tmp_path / 'absent'}" in result.reason
    result = worker.work(job(tmp_path, "a", WRITE), terms(tmp_path, token="out/.token"), FakeBoard(), None, ())
    assert f"does not see what is in {tmp_path / 'out'}: share that folder, or give --scratch DIR" in result.reason
    assert not (tmp_path / "a0").exists()


def test_without_a_shared_folder_inputs_come_and_results_go_as_bytes(tmp_path, back):
    inputs = pack([("cache/in", fill(tmp_path / "in", x="input"))])
    scratch = tmp_path / "scratch"
    made = job(scratch / "runs", "a", WRITE)
    result = worker.work(made, terms(tmp_path, scratch=scratch), FakeBoard(), inputs, ("runs", "absent"))
    assert (scratch / "cache" / "in" / "x").read_text() == "input"
    unpack(result.files, tmp_path / "out")
    assert (tmp_path / "out" / "runs" / "a0").read_text() == "--gpu -1"


def test_a_cancelled_task_ends_its_process_which_saves(tmp_path, back):
    def interrupt():
        for _ in range(300):
            if (tmp_path / "a0.began").exists():
                return os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        return None

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        worker.work(job(tmp_path, "a", SLEEP), terms(tmp_path), FakeBoard(), None, ())
    assert (tmp_path / "a0.saved").read_text() == str(int(signal.SIGINT))


def test_the_board_gives_each_message_once():
    board = Board()
    board.tell("a", "running")
    board.tell("b", "waiting")
    assert board.take() == [("a", "running"), ("b", "waiting")]
    assert board.take() == []


RECIPE = """
options: {regularizer: l2, pretrained: "{data_root}/w.pdparams", max_iters: 4}
datasets: {pets: {folder: pets}, greek: {embedded: true}}
protocols: {half: {options: {sample_rate: 50}}}
methods: {l2: }
scores: {train: {images: train}}
measures: {acc: {from: train.acc}}
"""


def test_a_run_elsewhere_has_the_name_and_options_it_has_here(tmp_path, back):
    (tmp_path / "grid.yaml").write_text(RECIPE)
    recipe = load("grid.yaml")
    made = {name: Run(recipe, Cell(name, "half", "l2"), 1, "data", tmp_path / "out") for name in recipe.datasets}
    scratch = jobs.scratch_folder("scratch", tmp_path / "out")
    assert scratch.parent == tmp_path / "scratch"
    assert scratch != jobs.scratch_folder("scratch", tmp_path / "else" / "out")
    for name, run in made.items():
        there, parcel = jobs.parcel(run, scratch)
        here = jobs.job(run)
        assert there.name == here.name
        moved = [[word.replace(str(tmp_path / "out"), str(scratch)) for word in words] for words, _ in here.commands]
        if name == "pets":  # the embedded task's subset is named after the folder, which is another one there
            assert [words for words, _ in there.commands] == moved
        assert parcel.outputs == (f"runs/{run.name}", f"visual_log/{run.name}_l2")
        assert parcel.links == (name == "pets")
    assert [name for name, _ in jobs.parcel(made["greek"], scratch)[1].inputs][:2] == [
        "cache/latin_to_greek/letters",
        "cache/latin_to_greek/source",
    ]
    assert [path for _, path in jobs.parcel(made["pets"], scratch)[1].inputs] == [made["pets"].subset()]


def test_a_task_loads_no_framework():
    code = "import sys; import reproduction.worker; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
