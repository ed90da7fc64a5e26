"""When a process is taken for gone."""

from __future__ import annotations

import pytest

from utils import heartbeat
from utils.errors import DeviceError


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    return now


def watched(clock, signs, until):
    """Check once a second, with one more sign of each rank in `signs` every time."""
    store = {}
    watch = heartbeat.Heartbeat(2, lambda name, number: store.get(name, 0))
    while clock[0] < until:
        clock[0] += 1
        for rank in signs:
            store[f"alive/{rank}"] = store.get(f"alive/{rank}", 0) + 1
        watch.check()


def test_processes_that_live_are_waited_for(clock):
    watched(clock, (0, 1), 1000)


def test_one_that_is_gone_is_named_after_a_minute(clock):
    with pytest.raises(DeviceError, match="process 1 of this run has given no sign of life for 60 seconds"):
        watched(clock, (0,), 1000)
    assert 60 < clock[0] < 70


def test_a_pause_of_the_one_who_looks_is_not_held_against_the_others(clock):
    watch = heartbeat.Heartbeat(1, lambda name, number: 7)
    for clock[0] in (3, 6, 500):  # asleep until 500
        watch.check()
    for clock[0] in range(503, 560, 3):
        watch.check()
    with pytest.raises(DeviceError):
        for clock[0] in range(560, 570, 3):
            watch.check()
