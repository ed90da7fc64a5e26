"""Damaged states of a run: each is restored or ends in a documented error, in bounded memory, and runs nothing."""

import copy
import sys

import numpy as np
import paddle
import pytest

from checkpoints import checkpoint, pdparams
from datasets import splits
from models import build as build_network
from tests.fuzzing import FULL, peak_memory
from tests.pictures import write_folder
from training.build import build
from training.options import Options
from training.state import restore, save
from utils.errors import Failure, UsageError, WeightsError

COUNT = 300 if FULL else 40
MEGABYTES = 300  # a damaged file of one megabyte must not ask for more
FORBIDDEN = {"os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "os.remove"}

ran: list[str] = []
watched = [False]
sys.addaudithook(lambda event, _: ran.append(event) if watched[0] and event in FORBIDDEN else None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a method with a state, and the folder of its checkpoint."""
    folder = tmp_path_factory.mktemp("fuzz")
    write_folder(folder / "train", count=2)
    paddle.seed(0)
    paddle.save(build_network("resnet8", 5).state_dict(), str(folder / "source.pdparams"))
    options = Options.of(
        {
            **{"train_dir": str(folder / "train"), "eval_dir": str(folder / "train"), "cache": "off"},
            **{"model_arch": "resnet8", "image_size": 32, "batch_size": 4, "max_iters": 9, "gpu": -1},
            **{"pretrained": str(folder / "source.pdparams"), "regularizer": "smile", "clean_tail": 2},
        }
    )
    train, _ = splits.scan_folders(options)
    run = build(options, train, [], {"train": "a", "evaluation": "b"})
    save(run, folder / "state", 3, lambda _: None)
    return run, folder


def flipped(rng, content):
    content = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        # half of them in the structure at the front, where arrays are rare
        content[rng.integers(len(content) if rng.random() < 0.5 else 2000)] ^= 1 << rng.integers(8)
    return bytes(content)


def cut(rng, content):
    return content[: rng.integers(len(content))]


def spliced(rng, content):
    start, end = sorted(rng.integers(len(content), size=2))
    return content[:start] + rng.bytes(rng.integers(64)) + content[min(end, start + 64) :]


VALUES = [None, "x", "", -1, 0, 10**30, 2**62, 1.5, float("nan"), float("inf"), True, [], {}, (), [[]], {"x": {}}]
VALUES += [
    [1, "x"],
    {1: 2},
    "x" * 10**5,
    np.float64(3),
    np.array("x"),
    np.zeros(3, "float32"),
    np.zeros((2, 2), "int64"),
]


def entries(content, path=()):
    for name, value in content.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from entries(value, (*path, name))


def other_entry(rng, folder, whole):
    """Return the file with up to three entries of another type, removed or added."""
    content = copy.deepcopy(whole)
    for _ in range(rng.integers(1, 4)):
        known = list(entries(content))
        depth = rng.integers(1, 4)  # entries near the top are few beside the weights
        known = [path for path in known if len(path) <= depth and path[0] not in ("model", "optimizer")] or known
        *parents, name = known[rng.integers(len(known))]
        place = content
        for parent in parents:
            place = place[parent]
        how = rng.integers(10)
        if how == 0:
            del place[name]
        else:
            place["new" if how == 1 else name] = VALUES[rng.integers(len(VALUES))]
    checkpoint.save(folder / "typed", content)
    return (folder / "typed").read_bytes()


def attempt(run, path):
    """Restore from `path`; return how it ended."""
    watched[0] = True
    try:
        step = restore(run, path)
        assert type(step) is int
        assert 0 < step <= run.options.max_iters
        return "restored"
    except (WeightsError, UsageError) as failure:
        return f"{type(failure).__name__}{' in many words' if len(str(failure)) > 3000 else ''}"
    finally:
        watched[0] = False


def fuzz(run, folder, seed, count):
    whole, content = (folder / "state").read_bytes(), pdparams.load(folder / "state")
    before = peak_memory()
    path, ends = folder / "damaged", []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        ways = (flipped, cut, spliced)
        data = ways[number % 6 // 2](rng, whole) if number % 2 else other_entry(rng, folder, content)
        path.write_bytes(data)
        try:
            ends.append(attempt(run, path))
        except Failure:
            raise
        except Exception as fault:
            raise AssertionError(f"damage number {number} ends in {type(fault).__name__}: {fault}") from fault
        assert path.read_bytes() == data
    assert ran == []
    assert (peak_memory() - before) / 1024 < MEGABYTES
    return ends


def test_a_damaged_state_ends_in_a_documented_error(run):
    ends = fuzz(*run, seed=0, count=COUNT)
    assert ends.count("WeightsError") > COUNT / 3
    assert restore(run[0], run[1] / "state") == 3
