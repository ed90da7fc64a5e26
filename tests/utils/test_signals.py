"""What is recorded between two steps, and what is raised outside of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from tests.scripts import ROOT
from utils.signals import ENDING, Stop, Terminated, terminating


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_a_run_records_a_signal_and_goes_on(number):
    with Stop() as stop:
        signal.raise_signal(number)
        assert stop.signal == number


@pytest.mark.parametrize("number", ENDING)
def test_elsewhere_it_is_raised_past_every_except_exception_and_once(number):
    with pytest.raises(Terminated) as raised, terminating():
        try:
            signal.raise_signal(number)
        except Exception:
            pytest.fail("swallowed")
        finally:
            for again in ENDING:
                signal.raise_signal(again)
    assert raised.value.number == number
    assert all(signal.getsignal(each) == signal.SIG_DFL for each in ENDING)


def test_a_run_within_hands_the_signals_back():
    with pytest.raises(Terminated), terminating():
        with Stop() as stop:
            signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_an_ignored_hangup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with terminating(), Stop() as stop:
        signal.raise_signal(signal.SIGHUP)
    assert stop.signal is None


def test_another_thread_changes_nothing():
    seen = []

    def work():
        with terminating():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


@pytest.mark.parametrize("undisturbed", [False, True])
def test_a_call_of_a_library_goes_on_where_processes_exchange(undisturbed):
    """A read in C, as gloo's, gives up with EINTR when a signal meets it, unless that is asked for."""
    code = f"""
import ctypes, os, signal, threading, time
from utils.signals import Stop
read, write = os.pipe()
def later():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
    os.write(write, b"x")
threading.Thread(target=later, daemon=True).start()
with Stop(undisturbed={undisturbed}) as stop:
    count = ctypes.CDLL(None).read(read, ctypes.create_string_buffer(1), 1)
print(count, stop.signal == signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1" if undisturbed else "-1", "True"], done.stderr


def test_a_run_outside_of_the_main_thread_leaves_signals_alone():
    before, found = signal.getsignal(signal.SIGINT), []

    def work():
        with Stop() as stop:
            found.append((stop.signal, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]
