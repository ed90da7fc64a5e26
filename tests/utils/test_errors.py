import errno

import pytest

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


def test_long_lists_are_cut():
    assert errors.names("abc") == "a, b, c"
    assert errors.names("abcdefg", 5) == "a, b, c, d, e and 2 more"
