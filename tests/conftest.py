"""One thread for every test: results on the CPU are bit-equal for one thread count only. The slow tests go first."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOG_minloglevel", "2")  # the build for GPUs warns on machines that have no cuDNN

from utils import startup

startup.configure()

import pytest

from evaluation import curves


def pytest_collection_modifyitems(config, items):
    """Give each worker, which takes an equal piece of the list, its share of the slow tests and these first."""
    count = getattr(config, "workerinput", {}).get("workercount", 1)
    fast = [item for item in items if not item.get_closest_marker("slow")]
    slow = [item for item in items if item.get_closest_marker("slow")]
    dealt, total = [], len(items)
    for worker in range(count):
        dealt += slow[worker::count]
        wanted = total * (worker + 1) // count - len(dealt)
        dealt += fast[:wanted]
        del fast[:wanted]
    items[:] = dealt


def pytest_collection_finish():
    """Spare what is imported by now the garbage collector's visits, several for each figure that a run draws."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_curves(monkeypatch):
    """Leave out the picture of a run's curves, most of the time of a short run, where nobody looks at it."""
    monkeypatch.setattr(curves, "draw", lambda *_: None)
