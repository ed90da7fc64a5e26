"""The commands in a Python without what only Unix has, in one process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.datasets import official
from tests.pictures import write_folder
from tests.scripts import ROOT, tiny

MODULES = "fcntl resource pwd grp termios tty pty syslog readline"
NAMES = """
os: fork forkpty pread preadv pwrite posix_spawn posix_spawnp sched_getaffinity sched_setaffinity getloadavg uname
os: getuid geteuid getgid getpgid setsid setpgid killpg mkfifo mknod nice sysconf statvfs fchmod fchown chown lchown
os: pipe2 sync openpty ttyname wait3 wait4 O_NONBLOCK O_DIRECTORY O_NOFOLLOW O_CLOEXEC
signal: SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGQUIT SIGCHLD SIGPIPE alarm setitimer pause pthread_sigmask
"""
PROBE = """
import json, os, signal, sys
modules, names, commands, root = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(modules.split()))
import numpy, PIL.Image  # which ask sys.platform, not what there is
for line in names.strip().splitlines():
    module, _, each = line.partition(": ")
    for name in filter(vars(sys.modules[module]).get, each.split()):
        delattr(sys.modules[module], name)
sys.path.insert(0, root)
import multiprocessing, warnings
multiprocessing.set_start_method("spawn")
warnings.filterwarnings("ignore", message="only soft file lock")
from utils import startup
startup.configure()
import export, finetune, predict, reproduce, test
from datasets import prepare
scripts = {**globals(), "finetune": finetune}
for name, words in commands:
    result = scripts[name].main(words)
    if getattr(result, "exit_code", 0):
        sys.exit(f"{name}: {result.exit_code}")
    if name == "finetune":
        os.remove("output/pets_mixup.json")  # as a run has left it that was stopped before its summary
        print("updates made:", result.last["step"])
"""


def test_every_command_without_what_only_unix_has(tmp_path):
    write_folder(tmp_path / "pets" / "train")
    write_folder(tmp_path / "pets" / "test", count=2, seed=1)
    archives = official.cub().write(tmp_path / "in", "tar")
    run = tiny("--regularizer", "mixup", "--pretrained", "none", "--train_dir", "pets/train", "--eval_dir", "pets/test")
    run += ["--max_iters", "2", "--eval_frequency", "1"]
    last = "output/pets_mixup_Last.pdparams"
    commands = [
        ("finetune", run),
        ("finetune", [*run, "--resume"]),
        ("test", ["--ckpts", last, "--test_dir", "pets/test", "--gpu", "-1", "--json", "scores.json"]),
        ("predict", ["--ckpts", last, "pets/test", "--gpu", "-1", "--out", "labels.csv"]),
        ("reproduce", [str(ROOT / "recipes" / "demo.yaml"), "--dry_run", "--gpus", "-1"]),
        ("prepare", ["cub", "--archive", *map(str, archives), "--out", "cub", "--unverified"]),
    ]
    arguments = json.dumps([MODULES, NAMES, commands, str(ROOT)])
    done = subprocess.run([sys.executable, "-c", PROBE, arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("updates made: 2") == 2
    assert len(json.loads((tmp_path / "scores.json").read_text())) == 1
    assert (tmp_path / "labels.csv").read_text().count("\n") == 7
    assert official.content(tmp_path / "cub") == official.cub().expected
