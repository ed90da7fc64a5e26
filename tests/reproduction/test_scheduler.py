"""Many commands on a few devices, with commands of a moment instead of training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reproduction.scheduler import Job, Pool, in_use
from tests.scripts import ROOT
from utils.errors import Interrupted
from utils.system import lock

WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
FAIL = "import sys; print('first', file=sys.stderr); sys.exit('the last line')"
SLEEP = (
    "import pathlib, signal, sys, time\n"
    "def stop(number, _):\n"
    "    pathlib.Path(sys.argv[1] + '.saved').write_text(str(number))\n"
    "    sys.exit(128 + number)\n"
    "signal.signal(signal.SIGTERM, stop), signal.signal(signal.SIGINT, stop)\n"
    "pathlib.Path(sys.argv[1] + '.began').write_text('')\n"
    "time.sleep(60)\n"
)


def job(folder, name, *scripts):
    """Return a job of one command for each of `scripts`; each is given the file it is to write."""
    products = [folder / f"{name}{number}" for number in range(len(scripts))]
    commands = [([sys.executable, "-c", script, str(product)], product) for script, product in zip(scripts, products)]
    return Job(name, commands, stderr=folder / f"{name}.stderr", locked=[folder / f"{name}.lock"])


def run(jobs, devices=(-1,)):
    """Run `jobs`; return the reasons by name, in the order they ended."""
    ended = {}
    Pool(list(devices), lambda job, seconds, reason: ended.__setitem__(job.name, reason)).run(jobs)
    return ended


def in_another_process(folder):
    """Start three long jobs on two devices, in a process that leaves with the exit code of an interruption."""
    code = "import sys; from tests.reproduction import test_scheduler; test_scheduler.long_jobs(sys.argv[1])"
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)


def long_jobs(folder):
    try:
        run([job(Path(folder), name, SLEEP) for name in "abc"], (-1, -1))
    except Interrupted as failure:
        sys.exit(failure.exit_code)


def until(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited for half a minute")


def test_every_job_gets_a_device(tmp_path):
    ended = run([job(tmp_path, name, WRITE, WRITE) for name in "abc"], devices=(2, 5))
    assert ended == dict.fromkeys("abc")
    used = {(tmp_path / f"{name}{number}").read_text() for name in "abc" for number in (0, 1)}
    assert used == {"--gpu 2", "--gpu 5"}


def test_a_failure_ends_one_job_and_not_the_others(tmp_path):
    silent = "import sys; sys.exit(7)"
    lazy = "pass"
    killed = "import os; os.kill(os.getpid(), 9)"
    jobs = [job(tmp_path, "bad", FAIL, WRITE), job(tmp_path, "silent", silent), job(tmp_path, "lazy", lazy)]
    jobs += [job(tmp_path, "killed", killed), job(tmp_path, "good", WRITE)]
    ended = run(jobs)
    assert ended["bad"] == "the last line (exit code 1)"
    assert ended["silent"] == "exit code 7"
    assert ended["lazy"] == f"it has not written {tmp_path / 'lazy0'}"
    assert ended["killed"] == "signal 9"
    assert ended["good"] is None
    assert not (tmp_path / "bad1").exists()


def test_what_is_done_is_not_done_again(tmp_path):
    (tmp_path / "a0").write_text("kept")
    assert run([job(tmp_path, "a", FAIL, WRITE)]) == {"a": None}
    assert (tmp_path / "a0").read_text() == "kept"
    assert (tmp_path / "a1").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_once_and_nothing_more_is_started(number, tmp_path):
    process = in_another_process(tmp_path)
    until(lambda: all((tmp_path / f"{name}0.began").exists() for name in "ab"))
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    assert [(tmp_path / f"{name}0.saved").read_text() for name in "ab"] == [str(int(number))] * 2
    assert not (tmp_path / "c0.began").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent has died")
def test_sigkill_leaves_no_process_behind(tmp_path):
    process = in_another_process(tmp_path)
    until((tmp_path / "a0.began").exists)
    process.kill()
    process.wait()
    until((tmp_path / "a0.saved").exists)
    assert (tmp_path / "a0.saved").read_text() == str(int(signal.SIGTERM))


def test_an_error_here_leaves_no_process_behind(tmp_path):
    def broken(*_):
        raise RuntimeError("broken")

    pool = Pool([-1, -1], broken)
    with pytest.raises(RuntimeError):
        pool.run([job(tmp_path, "a", SLEEP), job(tmp_path, "b", WRITE)])
    assert [work.process.returncode for work in pool.working.values()] == [-signal.SIGKILL]


def test_a_run_that_another_process_writes_waits_for_it(tmp_path):
    pytest.importorskip("fcntl")  # as earlier versions, and other programs, lock a file
    waiting = job(tmp_path, "a", WRITE)
    holder = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(2)"
    )
    other = subprocess.Popen([sys.executable, "-c", holder, str(waiting.locked[0])], stdout=subprocess.PIPE)
    assert other.stdout.readline()
    assert in_use(waiting.locked[0])
    said = []
    ended = {}
    jobs = [waiting, job(tmp_path, "b", WRITE)]
    Pool([-1], lambda job, seconds, reason: ended.__setitem__(job.name, reason), said.append).run(jobs)
    assert list(ended) == ["b", "a"]
    assert ended["a"] is None
    assert len(said) == 1
    assert "a.lock" in said[0]
    other.communicate()


def test_a_lock_that_nobody_holds_is_free(tmp_path):
    assert not in_use(tmp_path / "absent")
    (tmp_path / "left").write_text("")
    assert not in_use(tmp_path / "left")
    with open(tmp_path / "left") as file:
        assert lock(file)
        assert in_use(tmp_path / "left")
    assert os.path.getsize(tmp_path / "left") == 0
