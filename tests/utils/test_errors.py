import errno
import io
import subprocess
import sys
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from tests.scripts import ROOT
from utils import errors


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.DataError("x"), 3),
        (errors.WeightsError("x"), 4),
        (errors.DeviceError("x"), 5),
        (errors.Diverged("x"), 6),
        (errors.Interrupted(2, "x"), 130),
        (errors.Interrupted(15, "x"), 143),
        (KeyboardInterrupt(), 130),
        (MemoryError("x"), 5),
        (OSError(errno.ENOSPC, "No space left on device", "file"), 5),
        (PermissionError(errno.EACCES, "Permission denied", "file"), 5),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "file/file"), 5),
        (OSError(errno.EIO, "Input/output error"), 5),
    ],
)
def test_each_failure_has_one_line_and_its_exit_code(raised, code, capsys):
    def main():
        raise raised

    with pytest.raises(SystemExit) as left:
        errors.run(main)
    assert left.value.code == code
    assert capsys.readouterr().err.count("\n") == 1


def test_a_message_of_two_lines_becomes_one(capsys):
    def main():
        raise errors.DataError("one\n  two")

    with pytest.raises(SystemExit):
        errors.run(main)
    assert capsys.readouterr().err == "error: one two\n"


def test_a_defect_keeps_its_trace():
    with pytest.raises(ZeroDivisionError):
        errors.run(lambda: 1 // 0)
    with pytest.raises(OSError, match="no number"):
        errors.run(lambda: (_ for _ in ()).throw(OSError("no number")))


@pytest.mark.parametrize(
    ("result", "code"),
    [(None, 0), (0, 0), (3, 3), (SimpleNamespace(exit_code=143), 143), (SimpleNamespace(exit_code=0), 0), ({}, 0)],
)
def test_the_result_of_main_gives_the_exit_code(result, code):
    with pytest.raises(SystemExit) as left:
        errors.run(lambda: result)
    assert left.value.code == code


def test_a_warning_is_one_line_on_stderr(capsys):
    errors.warn("one\n  two")
    assert capsys.readouterr() == ("", "WARNING: one two\n")


def test_a_warning_stands_above_a_progress_bar(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with tqdm(total=2, desc="bar", file=stream) as bar:
        bar.update()
        errors.warn("careful")
    assert "\rWARNING" in stream.getvalue().replace(" ", "")
    assert "WARNING: careful\n" in stream.getvalue()


def test_a_closed_stream_does_not_end_a_run(monkeypatch, capsys):
    stream = io.StringIO()
    stream.close()
    for closed in (stream, None):
        monkeypatch.setattr(sys, "stderr", closed)
        errors.warn("nobody reads this")
    assert capsys.readouterr().out == ""
    code = "from utils.errors import warn; warn('a'); print('went on')"
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=reader.stdin, text=True
    )
    reader.stdin.close()
    assert done.stdout == "went on\n"


def test_long_lists_are_cut():
    assert errors.names("abc") == "a, b, c"
    assert errors.names("abcdefg", 5) == "a, b, c, d, e and 2 more"
