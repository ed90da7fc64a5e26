import errno
import hashlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.scripts import ROOT
from utils import system
from utils.errors import UsageError
from utils.files import cached_array, digest, refuse_inputs, replacing, write_text
from utils.system import lock


def test_the_old_file_stays_when_the_block_fails(tmp_path):
    target = tmp_path / "new" / "file"
    write_text(target, "old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == ["file"]


def test_a_file_that_was_never_written_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == []


HOLD = """
import sys, utils.files
with utils.files.replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    target = tmp_path / "[a] file"
    for living in (True, False):
        writer = subprocess.Popen(
            [sys.executable, "-c", HOLD, target], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        left = writer.stdout.readline().rstrip("\n")
        if not living:
            writer.kill()
            writer.wait()
        write_text(target, "whole")
        assert os.path.exists(left) == living
        writer.communicate()
        assert target.read_text() == ("half" if living else "whole")
    assert os.listdir(tmp_path) == [target.name]


def test_temporary_names_differ_between_containers_whose_processes_have_one_number(tmp_path):
    with replacing(tmp_path / "file") as first, replacing(tmp_path / "file") as second:
        assert first != second
        assert first.exists()  # it is locked, so the second call left it there
        for temporary in (first, second):
            temporary.write_text("x")


def test_a_lock_keeps_others_out_until_its_file_is_closed(tmp_path):
    with open(tmp_path / "file", "a") as first, open(tmp_path / "file", "a") as second:
        assert lock(first)
        assert not lock(second)
        first.close()
        assert lock(second)


def test_a_file_system_without_locks_is_written_to_and_nothing_is_removed_there(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(system, "take_lock", no_locks)
    left = tmp_path / ".file.7-abc.tmp"
    left.write_text("maybe of a living process")
    write_text(tmp_path / "file", "whole")
    assert (tmp_path / "file").read_text() == "whole"
    assert left.exists()
    with open(tmp_path / "file") as file:
        assert lock(file)


def test_a_failure_without_a_number_or_a_name_gets_both(tmp_path):
    """NumPy says of a full disk no more than how many items it wrote."""
    for failure in (OSError("125 requested and 45 written"), OSError(errno.ENOSPC, "No space left on device")):
        with pytest.raises(OSError) as caught, replacing(tmp_path / "file"):
            raise failure
        assert caught.value.errno in (errno.EIO, errno.ENOSPC)
        assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_an_empty_file_can_be_written(tmp_path):
    write_text(tmp_path / "file", "")
    assert (tmp_path / "file").read_bytes() == b""


def test_names_that_are_not_utf8_survive(tmp_path):
    name = os.fsdecode(b"b\xe4r.jpg")
    write_text(tmp_path / "list", name)
    assert (tmp_path / "list").read_bytes() == b"b\xe4r.jpg"


def test_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 1000000)
    assert digest(tmp_path / "x") == hashlib.sha256(b"abc" * 1000000).hexdigest()
    assert digest(tmp_path / "x", "md5") == hashlib.md5(b"abc" * 1000000).hexdigest()


def test_a_kept_array_is_computed_once(tmp_path):
    path = tmp_path / "new folder" / "array.npy"
    first = cached_array(path, (2, 3), lambda: np.arange(6.0).reshape(2, 3))
    again = cached_array(path, (2, 3), lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(first, again)
    assert [file.name for file in path.parent.iterdir()] == ["array.npy"]


def damaged_file(path, kind):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "garbage":
        path.write_bytes(b"\x93NUMPY garbage")
    elif kind == "truncated":
        np.save(path, np.ones(500))
        path.write_bytes(path.read_bytes()[:-9])
    elif kind == "archive":
        with open(path, "wb") as file:
            np.savez(file, array=np.ones(500))
    elif kind == "pickle":
        np.save(path, np.array([{}] * 500), allow_pickle=True)
    else:
        np.save(path, {"shape": np.ones(499), "nan": np.full(500, np.nan), "text": np.full(500, "a")}[kind])


@pytest.mark.parametrize("kind", ["empty", "garbage", "truncated", "archive", "pickle", "shape", "nan", "text"])
def test_a_damaged_array_is_made_again(tmp_path, kind):
    path = tmp_path / "array.npy"
    damaged_file(path, kind)
    np.testing.assert_array_equal(cached_array(path, (500,), lambda: np.arange(500.0)), np.arange(500.0))
    np.testing.assert_array_equal(np.load(path), np.arange(500.0))


@pytest.mark.parametrize("chain", [("file",), ("link", "file"), ("link", "folder/link", "folder/file")])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path, chain, there):
    (tmp_path / "folder").mkdir()
    *links, file = (tmp_path / name for name in chain)
    for link, target in zip(links, [*links[1:], file]):
        link.symlink_to(os.path.relpath(target, link.parent))
    if there:
        file.write_text("old")
        before = file.stat().st_ino
    write_text(tmp_path / chain[0], "new")
    assert all(link.is_symlink() for link in links)
    assert file.read_text() == "new"
    assert not there or file.stat().st_ino != before  # renamed over, not written into
    assert not list(tmp_path.rglob(".*"))


def test_a_failing_block_leaves_the_target_of_a_link(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(RuntimeError), replacing(tmp_path / "link") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "link").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_links_in_a_circle_are_an_error_with_a_name(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "a", "x")
    assert caught.value.errno == errno.ELOOP
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("by_link", [False, True])
def test_a_fifo_is_written_into(tmp_path, by_link):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    write_text(tmp_path / ("link" if by_link else "fifo"), "text " * 100_000)
    reader.join(10)
    assert received == [b"text " * 100_000]
    assert (tmp_path / "fifo").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["fifo", "link"]


def test_nothing_comes_through_a_fifo_when_the_block_fails(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(RuntimeError), replacing(tmp_path / "fifo") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert os.read(reader, 10) == b""
    os.close(reader)


def test_a_device_stays_a_device(tmp_path):
    try:
        os.mknod(tmp_path / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        open(tmp_path / "null", "wb").close()
    except PermissionError:
        pytest.skip("needs the right to make a device")
    write_text(tmp_path / "null", "x")
    assert (tmp_path / "null").is_char_device()
    write_text("/dev/null", "x")
    assert Path("/dev/null").is_char_device()


PRINT = """
import utils.files, sys
print("before")
utils.files.write_text(sys.argv[1], "text\\n")
print("after")
"""


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to", ["file", "pipe"])
def test_an_open_file_gets_the_text_in_order(tmp_path, path, to):
    with open(tmp_path / "out", "wb") as out:
        stdout = out if to == "file" else subprocess.PIPE
        done = subprocess.run([sys.executable, "-c", PRINT, path], cwd=ROOT, stdout=stdout, check=True)
    assert (done.stdout or (tmp_path / "out").read_bytes()) == b"before\ntext\nafter\n"


def test_a_closed_pipe_is_an_error_with_a_name():
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError) as caught:
        write_text(f"/dev/fd/{writer}", "x")
    os.close(writer)
    assert caught.value.filename == f"/dev/fd/{writer}"


def test_an_output_is_no_input_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("a")
    Path("folder").mkdir()
    Path("link").symlink_to("a")
    os.link("a", "hard")
    for output in ("a", "./folder/../a", str(tmp_path / "a"), "link", "hard"):
        with pytest.raises(UsageError, match="^--out .* would replace a, which is read; give another name$"):
            refuse_inputs({"out": output}, ["gone", "folder", "a"])
    for output in ("new", "folder", "/dev/null"):
        refuse_inputs({"out": output}, ["gone", "folder", "a", "/dev/null"])
    with pytest.raises(UsageError, match="^--sheet ./new would replace --out; give another name$"):
        refuse_inputs({"out": "new", "sheet": "./new"}, [])
    refuse_inputs({"out": "/dev/null", "sheet": "/dev/null"}, [])
