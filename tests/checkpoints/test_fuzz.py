"""Damaged files of weights, the same ones in every run: each is read or refused, and nothing else happens."""

import random
import signal
import sys
import tracemalloc
from contextlib import contextmanager

import pytest

from checkpoints import formats, pretrained
from tests.checkpoints.mutations import CANARY, FORMATS, mutated
from tests.fuzzing import FULL
from utils.errors import WeightsError

SECONDS = 20  # of the processor, for one file of less than a kilobyte
MEMORY = 160 << 20  # torch's files may unfold to 64 MiB before that is refused
COUNT = 20_000 if FULL else 300  # of each format


class Hang(BaseException):
    """No `except Exception` catches it."""


@contextmanager
def limited():
    """Raise `Hang` in the block when it takes too long."""

    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.fixture
def traced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    yield tmp_path / "damaged"
    tracemalloc.stop()


def outcome(path, content):
    """Return why a file is refused as weights of a resnet8, or None."""
    path.write_bytes(content)
    with limited():
        try:
            state = pretrained.state_of(formats.read(path), "resnet8", path)
            pretrained.head_width(state, "resnet8", path)
        except WeightsError as failure:
            return str(failure)
    return None


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_read_or_refused(traced, kind):
    seeds, draw, refused = FORMATS[kind](), random.Random(f"{kind} 0"), 0
    modules = set(sys.modules)
    for _ in range(COUNT):
        content = mutated(kind, seeds, draw)
        tracemalloc.reset_peak()
        reason = outcome(traced, content)
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < MEMORY, content
        if reason is not None:
            refused += 1
            assert reason.startswith(f"{traced}: ") or reason.startswith(f"{traced} does not fit"), content
            assert len(reason) < len(str(traced)) + 600, content
            assert reason.isprintable(), content
    assert COUNT / 4 < refused < COUNT
    assert not (traced.parent / CANARY).exists()
    assert not {name for name in set(sys.modules) - modules if not name.startswith(("numpy", "encodings"))}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_undamaged_files_are_read_and_some_would_call(traced, kind):
    reasons = [outcome(traced, content) for content in FORMATS[kind]()]
    expected = ("refused: it asks for", "it holds no array")
    assert all(reason is None or any(words in reason for words in expected) for reason in reasons), reasons
    assert any(CANARY.encode() in content for content in FORMATS[kind]()) == (kind != "safetensors")


def test_a_call_would_leave_a_trace(traced):
    """The canary lives where pickle itself reads the file."""
    import pickle

    pickle.loads(FORMATS["pickle"]()[-1])
    assert (traced.parent / CANARY).is_dir()


def test_a_hang_would_be_noticed(monkeypatch):
    monkeypatch.setattr("tests.checkpoints.test_fuzz.SECONDS", 0.05)
    with pytest.raises(Hang), limited():
        while True:
            pass
