"""The folder that is made: recognised when whole, refused when something else, whole after an interruption."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.official.building import RECORD, building
from datasets.prepare import main
from tests.datasets import official
from tests.datasets.official import content, prepare
from utils.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[2]


def everything(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by path, its record too; none when there is no folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_complete_folder_is_recognised_without_the_archives(tmp_path, capsys):
    miniature = official.food()
    paths = miniature.write(tmp_path / "in", "tar")
    prepare(miniature, paths, tmp_path / "out")
    first = capsys.readouterr().out.splitlines()
    paths[0].unlink()
    (tmp_path / "out" / "train" / ".DS_Store").write_bytes(b"as file managers do")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert prepare(miniature, paths, tmp_path / "out") == 0
    second = capsys.readouterr().out.splitlines()
    assert second == [f"{tmp_path / 'out'}: complete already, nothing was done", first[-1]]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == times


def test_folder_that_is_something_else_is_refused(tmp_path):
    miniature, other = official.aircraft(), official.cub()
    paths, others = miniature.write(tmp_path / "in", "tar"), other.write(tmp_path / "other", "tar")
    out = tmp_path / "out"
    official.write_folder(out, {"train/a/1.jpg": b"mine"})
    with pytest.raises(UsageError, match="is there and was not made by this command"):
        prepare(miniature, paths, out)
    assert content(out) == {"train/a/1.jpg": b"mine"}
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "file/out", "link"):
        with pytest.raises(UsageError):
            prepare(miniature, paths, tmp_path / name)
    made = tmp_path / "made"
    prepare(miniature, paths, made)
    with pytest.raises(UsageError, match="was made with data_set aircraft, asked for is cub"):
        prepare(other, others, made)
    with pytest.raises(UsageError, match="was made with crop_banner False, asked for is True"):
        prepare(miniature, paths, made, "--crop_banner")
    with pytest.raises(UsageError, match="was made with --unverified"):
        main(["aircraft", "--archive", str(paths[0]), "--out", str(made)])
    assert content(made) == miniature.expected


@pytest.mark.parametrize("change", ["remove", "add", "shorten", "rename"])
def test_folder_that_has_changed_is_refused(change, tmp_path):
    miniature = official.cub()
    paths = miniature.write(tmp_path / "in", "tar")
    prepare(miniature, paths, tmp_path / "out")
    image = tmp_path / "out" / next(iter(miniature.expected))
    if change == "remove":
        image.unlink()
    elif change == "add":
        image.with_name("new.jpg").write_bytes(b"")
    elif change == "shorten":
        image.write_bytes(image.read_bytes()[:-1])
    else:
        image.rename(image.with_name("renamed.jpg"))
    with pytest.raises(DataError, match="has changed since it was made"):
        prepare(miniature, paths, tmp_path / "out")


def test_links_whose_images_are_gone_are_noticed(tmp_path):
    miniature = official.cub()
    (folder,) = miniature.write(tmp_path / "in", "folder")
    prepare(miniature, [folder], tmp_path / "out", "--link", "symlink")
    folder.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="has changed since it was made"):
        prepare(miniature, [tmp_path / "moved"], tmp_path / "out")


def test_empty_folder_is_filled_and_folders_above_are_made(tmp_path):
    miniature = official.cub()
    paths = miniature.write(tmp_path / "in", "tar")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "not" / "there" / "yet"):
        prepare(miniature, paths, out)
        assert content(out) == miniature.expected


def test_partial_folder_of_others_is_left_alone(tmp_path):
    miniature = official.cub()
    paths = miniature.write(tmp_path / "in", "tar")
    official.write_folder(tmp_path / "out.partial", {"thesis.txt": b"mine"})
    with pytest.raises(UsageError, match="out.partial is in the way and was not made by this command"):
        prepare(miniature, paths, tmp_path / "out")
    assert content(tmp_path / "out.partial") == {"thesis.txt": b"mine"}


def test_two_processes_do_not_meet(tmp_path):
    miniature = official.cub()
    paths = miniature.write(tmp_path / "in", "tar")
    with building(tmp_path / "out") as partial:
        (partial / "image").write_bytes(b"of the first")
        with pytest.raises(UsageError, match="another process is at work there"):
            prepare(miniature, paths, tmp_path / "out")
        assert (partial / "image").read_bytes() == b"of the first"
    assert content(tmp_path / "out") == {"image": b"of the first"}


@pytest.mark.parametrize("another_begins", [False, True])
def test_process_that_ends_between_opening_and_locking(another_begins, tmp_path, monkeypatch):
    def take_lock(_):
        os.rename(tmp_path / "out.partial", tmp_path / "out")
        if another_begins:
            official.write_folder(tmp_path / "out.partial", {RECORD: b"{}"})
        return True

    monkeypatch.setattr("utils.system.take_lock", take_lock)
    with pytest.raises(UsageError, match="another process has just finished there"), building(tmp_path / "out"):
        pass
    assert (tmp_path / "out").is_dir()


def _run(arguments: list[str], before) -> int:
    """Run `main` in a forked process after `before`; return its wait status."""
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        code = 1
        try:
            before()
            code = main(arguments)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def _kill_at(moment: int):
    """Return what makes a process kill itself right before its `moment`-th change of the file system."""
    changes = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink")
    left = [moment]

    def hook(event, values):
        if event in changes or (event == "open" and isinstance(values[2], int) and values[2] & os.O_CREAT):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.addaudithook(hook)


def _kill_after(seconds: float):
    """Return what makes the system end a process after so many seconds."""
    return lambda: signal.setitimer(signal.ITIMER_REAL, seconds)


def interrupt_everywhere(folder: str, form: str) -> None:
    """Kill a run and the next one before each change they make, then at random times; the third ends. Print counts.

    With the form "damaged" the first two are of an archive that lacks an image.
    """
    root, out = Path(folder), Path(folder, "out")
    miniature, more = (official.aircraft(), ["--crop_banner"]) if form == "folder" else (official.cub(), [])
    paths = miniature.write(root / "in", "folder" if form == "folder" else "tar")
    arguments = [miniature.name, "--archive", *map(str, paths), "--out", str(out), "--unverified", *more]
    assert _run(arguments, lambda: None) == 0
    whole, made = everything(out), set()
    stopped = arguments
    if form == "damaged":
        del miniature.archives["CUB_200_2011"]["CUB_200_2011/images/002.Laysan_Albatross/Laysan_Albatross_0002_2.jpg"]
        damaged = miniature.write(root / "damaged", "tar")
        stopped = [str(damaged[0]) if word == str(paths[0]) else word for word in arguments]

    def interrupt(stop) -> bool:
        shutil.rmtree(out)
        killed = False
        for _ in range(2):
            killed |= os.WIFSIGNALED(_run(stopped, stop))
            made.add(len(everything(root / "out.partial")))
            assert everything(out) in ({}, whole)
        assert _run(arguments, lambda: None) == 0
        assert everything(out) == whole
        assert not (root / "out.partial").exists()
        return killed

    moment, rng = 0, random.Random(0)
    while interrupt(_kill_at(moment)):
        moment += 1
    for _ in range(10):
        interrupt(_kill_after(rng.uniform(0.0001, 0.02)))
    print(moment, len(made))


@pytest.mark.parametrize("form", ["tar", "folder", "damaged"])
def test_interrupted_anywhere_and_started_again(form, tmp_path):
    code = f"from tests.datasets import test_building as t; t.interrupt_everywhere({str(tmp_path)!r}, {form!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    moments, amounts = map(int, done.stdout.split())
    assert moments > 10  # changes before which it was killed
    assert amounts > 6  # numbers of files that it had made by then
