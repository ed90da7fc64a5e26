"""What Windows needs, on any system: its branches with stand-ins for what it refuses."""

import errno
import io
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from datasets.folder import scan
from datasets.official.base import Listing
from datasets.official.building import RECORD, building
from evaluation import error_analysis
from reproduction import scheduler
from tests.pictures import write_folder
from training.options import Options
from utils import errors, files, signals, streams, system
from utils.errors import DataError, UsageError

BEYOND = 2**40  # Linux refuses the place that Windows accepts


@pytest.fixture
def windows(monkeypatch):
    """Take the branches of Windows, with locks that hold a byte of a file; yield the places of those."""
    held = {}

    def locking(number, mode, count):
        assert (mode, count) == (2, 1)
        place = os.fstat(number).st_ino, os.lseek(number, 0, os.SEEK_CUR)
        if held.setdefault(place, number) != number:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(system, "WINDOWS", True)
    monkeypatch.setattr(system, "_BEYOND", BEYOND)
    return held


def is_open(path) -> bool:
    """Return whether this process has a file open, which Windows would neither rename nor remove."""
    return any(os.path.realpath(f"/proc/self/fd/{number}") == str(path) for number in os.listdir("/proc/self/fd"))


def test_a_lock_of_windows_is_beyond_the_content_and_leaves_the_position(windows, tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open(tmp_path / "file", "r+b") as first, open(tmp_path / "file", "r+b") as second:
        first.read(3)
        assert system.lock(first)
        assert first.read() == b"tent"
        assert not system.lock(second)
        assert [place for _, place in windows] == [BEYOND]
        windows.clear()
        assert system.lock(second.fileno())


def test_a_lock_is_waited_for(windows, tmp_path, monkeypatch):
    with open(tmp_path / "file", "wb") as first, open(tmp_path / "file", "wb") as second:
        assert system.lock(first)
        monkeypatch.setattr(system.time, "sleep", lambda _: windows.clear())
        assert system.lock(second, wait=True)


def test_another_failure_of_a_lock_keeps_nobody_out(windows, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(sys.modules["msvcrt"], "locking", broken)
    with open(tmp_path / "file", "wb") as file:
        assert system.lock(file)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="reads from Linux which files are open")
def test_no_file_is_open_when_it_is_renamed_or_removed(windows, tmp_path, monkeypatch):
    (tmp_path / ".file.7-abc.tmp").write_text("left behind")
    moved, removed, replace, unlink = [], [], os.replace, Path.unlink

    def renaming(source, target):
        moved.append((is_open(source), is_open(target)))
        replace(source, target)

    def removing(path, **options):
        removed.append(is_open(path))
        unlink(path, **options)

    monkeypatch.setattr(os, "replace", renaming)
    monkeypatch.setattr(Path, "unlink", removing)
    files.write_text(tmp_path / "file", "a\nb\n")
    assert moved == [(False, False)]
    assert removed
    assert not any(removed)
    assert (tmp_path / "file").read_bytes() == b"a\nb\n"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("on_windows", [False, True])
def test_a_file_in_use_is_tried_again_on_windows_only(on_windows, tmp_path, monkeypatch):
    attempts, replace = [], os.replace

    def busy(source, target):
        attempts.append(source)
        if len(attempts) < 3:
            raise PermissionError(errno.EACCES, "in use")
        replace(source, target)

    monkeypatch.setattr(system, "WINDOWS", on_windows)
    monkeypatch.setattr(system, "_POLL", 0)
    monkeypatch.setattr(os, "replace", busy)
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    if on_windows:
        system.rename(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").read_text() == "new"
        monkeypatch.setattr(system, "PATIENCE", 0)
        attempts.clear()
    with pytest.raises(PermissionError):
        system.rename(tmp_path / "b", tmp_path / "c")


def test_a_folder_takes_the_place_of_an_empty_one(windows, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    system.rename(tmp_path / "a", tmp_path / "empty")
    assert (tmp_path / "empty" / "b").is_dir()
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="not empty"):
        system.rename(tmp_path / "a", tmp_path / "empty")


def test_a_folder_is_built_by_one_process_at_a_time(windows, tmp_path):
    with building(tmp_path / "out") as partial:
        (partial / "image").write_bytes(b"first")
        with pytest.raises(UsageError, match="another process is at work there"), building(tmp_path / "out"):
            pass
    assert (tmp_path / "out" / "image").read_bytes() == b"first"
    assert sorted(os.listdir(tmp_path / "out")) == ["image", RECORD]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("drives", [1, 2])
def test_without_symbolic_links_a_subset_is_of_hard_links_or_copies(drives, windows, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    if drives == 2:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("image")
    system.link(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").is_symlink()
    assert (tmp_path / "b").read_text() == "image"
    monkeypatch.setattr(system, "WINDOWS", False)
    with pytest.raises(OSError, match="privilege"):
        system.link(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize(
    "name", ["CON", "con.x_l2", "nul", "LPT1.txt", "COM¹", "a:b", "a?", "a\\b", "a.", "a ", "a\tb"]
)
def test_names_that_windows_refuses(name, monkeypatch):
    assert not system.refused(name)
    monkeypatch.setattr(system, "WINDOWS", True)
    assert system.refused(name)


@pytest.mark.parametrize("name", ["console", "com10", "pets_l2", "a.b", "ünï", ".hidden", "a+b", "x.con"])
def test_names_that_windows_accepts(name, windows):
    assert not system.refused(name)


def test_a_run_is_not_named_after_a_device_on_windows(windows, tmp_path):
    given = {"regularizer": "l2", "pretrained": "none", "train_dir": str(tmp_path), "name": "aux.1"}
    with pytest.raises(UsageError, match="--name aux.1: Windows accepts no file of this name"):
        Options.of(given)


def test_paths_in_files_have_slashes(windows, tmp_path, monkeypatch):
    write_folder(tmp_path / "a", count=1)
    relpath = os.path.relpath
    monkeypatch.setattr(os.path, "relpath", lambda *paths: relpath(*paths).replace("/", "\\"))
    assert scan(tmp_path / "a").paths == ["cat/000.png", "dog/000.png", "emu/000.png"]


def test_a_folder_on_another_drive_keeps_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert system.relative(tmp_path / "a") == "a"
    assert system.relative(tmp_path.parent) == str(tmp_path.parent)

    def apart(_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", apart)
    assert system.relative("a") == str(tmp_path / "a")


def test_checkpoints_on_two_drives_have_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(os.path, "abspath", lambda path: path)
    monkeypatch.setattr(os.path, "dirname", lambda path: path.rpartition("\\")[0])
    monkeypatch.setattr(os.path, "splitdrive", lambda path: (path[:2], path[2:]))
    monkeypatch.setattr(error_analysis, "Path", lambda path: SimpleNamespace(stem="last"))
    paths = ["C:\\a\\last.pdparams", "D:\\a\\last.pdparams"]
    assert error_analysis.folders(Path("out"), paths) == {
        path: Path("out", name) for path, name in zip(paths, ("C\\a\\last.pdparams", "D\\a\\last.pdparams"))
    }


def test_the_console_of_windows_stays(monkeypatch):
    class _WindowsConsoleIO(io.BytesIO):
        pass

    console = io.TextIOWrapper(io.BufferedWriter(_WindowsConsoleIO()), encoding="utf-8")
    for name in ("stdout", "__stdout__"):
        monkeypatch.setattr(sys, name, console)
    streams.protect()
    assert sys.stdout is console
    assert console.errors == "backslashreplace"
    assert streams.failure() is None


def test_a_file_that_stays_in_use_is_one_line_that_names_it(windows, tmp_path, monkeypatch, capsys):
    def busy(source, target):
        raise PermissionError(errno.EACCES, "Access is denied", str(source), 5, str(target))

    monkeypatch.setattr(system, "PATIENCE", 0)
    monkeypatch.setattr(os, "replace", busy)
    (tmp_path / "pets.csv").write_text("old")
    with pytest.raises(SystemExit) as ended:
        errors.run(lambda: files.write_text(tmp_path / "pets.csv", "new"))
    assert ended.value.code == 5
    said = f"error: cannot use {tmp_path / 'pets.csv'}: another program has it open, or it may not be written\n"
    assert capsys.readouterr().err == said
    assert os.listdir(tmp_path) == ["pets.csv"]
    assert (tmp_path / "pets.csv").read_text() == "old"


@pytest.mark.parametrize("name, image", [("Model 3: new", "1.jpg"), ("Inc.", "1.jpg"), ("cat", "con.jpg")])
def test_what_windows_refuses_is_no_class_folder_and_no_image(name, image, windows):
    listing = Listing([name])
    listing.add(f"a/{image}", "train", 1, "list")
    with pytest.raises(DataError, match="is not a valid name of a file or folder"):
        listing.targets()


def anew(module) -> dict:
    """Return the names of a module that is imported once more, on a system with other constants."""
    return runpy.run_path(module.__file__)


def test_ctrl_break_reaches_the_processes_of_a_recipe_and_they_heed_it(windows, monkeypatch):
    for owner, name, value in (
        (subprocess, "CREATE_NEW_PROCESS_GROUP", 512),
        (signal, "CTRL_BREAK_EVENT", 1),
        (signal, "SIGBREAK", 21),
    ):
        monkeypatch.setattr(owner, name, value, raising=False)
    assert anew(signals)["ENDING"][-1] == 21
    copy, sent = anew(scheduler), []
    assert copy["_APART"] == {"creationflags": 512}
    pool = copy["Pool"]([-1], print)
    pool.working[0] = SimpleNamespace(process=SimpleNamespace(send_signal=sent.append))
    pool.cancel(signal.SIGINT)
    assert sent == [1]


def test_a_reader_that_has_gone_away_is_no_failure_on_windows(windows, monkeypatch):
    assert errno.EINVAL in anew(streams)["_GONE"]
    monkeypatch.setattr(system, "WINDOWS", False)
    assert anew(streams)["_GONE"] == {errno.EPIPE}
