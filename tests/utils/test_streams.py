"""Standard output and error that are closed, full, of another encoding, or read by nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.scripts import ROOT

PRINTS = """
import sys
from utils import errors, streams
def main():
    streams.protect()
    for number in range(3000):
        print("line", number, {text!r})
    print("on", file=sys.stderr)
    open({out!r}, "w").write("work")
    return {code}
errors.run(main)
"""


def started(tmp_path, text="x", code=0, redirect="", **environment):
    program = PRINTS.format(text=text, code=code, out=str(tmp_path / "file"))
    words = ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" {redirect}', sys.executable, program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, env={**os.environ, **environment}, timeout=60)
    assert (tmp_path / "file").read_text() == "work"
    assert b"Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    "redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| head -1", "2>/dev/full", "2>&1 | true"]
)
@pytest.mark.parametrize("code", [0, 3])
def test_the_work_is_done_whatever_becomes_of_the_streams(redirect, code, tmp_path):
    assert started(tmp_path, code=code, redirect=redirect).returncode == code


def test_a_full_disk_is_an_error_at_the_end(tmp_path):
    done = started(tmp_path, redirect=">/dev/full")
    assert done.returncode == 5
    assert done.stderr.decode() == "on\nerror: standard output is incomplete: No space left on device\n"
    assert started(tmp_path, redirect=">/dev/full", code=3).returncode == 3


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("latin-1", "caf\u00e9 \u732b", b"caf\xe9 \\u732b"),
        ("ascii", "caf\u00e9 \U0001f431", b"caf\\xe9 \\U0001f431"),
        ("utf-8", "\u732b b\udce4r", b"\xe7\x8c\xab b\xe4r"),
        ("ascii", "b\udce4r\u00e9", b"b\xe4r\\xe9"),
    ],
)
def test_every_name_can_be_printed(encoding, text, expected, tmp_path):
    done = started(tmp_path, text=text, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout.splitlines()[7]) == (0, b"line 7 " + expected)


SLEEPS = """
import os, time
from utils import errors
def main():
    try:
        try:
            os.write(1, b"ready\\n")  # unbuffered: a signal within print() may write its line twice
            time.sleep(30)
        except Exception:
            pass
    finally:
        time.sleep(0.3)
        print("cleaned", flush=True)
errors.run(main)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_outside_of_a_run_ends_it_in_one_line(name):
    number = getattr(signal, name)
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # a test run may be under nohup
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(number)
    if name != "SIGINT":
        process.send_signal(signal.SIGTERM)  # a second one does not disturb the cleaning up
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.count("\n")) in [(128 + number, "cleaned\n", 1), (143, "cleaned\n", 1)]
    assert err.startswith("interrupted: at once")


def test_nohup_is_respected():
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS.replace("30", "1")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30)[0] == b"cleaned\n"
    assert process.returncode == 0
