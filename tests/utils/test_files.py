import hashlib
import os

import pytest

from utils.files import digest, replacing, write_text


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


def test_names_that_are_not_utf8_survive(tmp_path):
    name = os.fsdecode(b"b\xe4r.jpg")
    write_text(tmp_path / "list", name)
    assert (tmp_path / "list").read_bytes() == b"b\xe4r.jpg"


def test_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 1000000)
    assert digest(tmp_path / "x") == hashlib.sha256(b"abc" * 1000000).hexdigest()
    assert digest(tmp_path / "x", "md5") == hashlib.md5(b"abc" * 1000000).hexdigest()
