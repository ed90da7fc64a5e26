"""The commands in a Python without what only Unix has, on a console of Windows' code page 1252.

A sitecustomize.py takes it all away before anything of this project is imported, in every process that is started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.datasets import official
from tests.pictures import write_folder
from tests.scripts import ROOT, command, tiny

AWAY = """
import os, signal, sys, warnings
sys.modules.update(dict.fromkeys("fcntl resource pwd grp termios tty pty syslog readline".split()))
import multiprocessing, numpy, PIL.Image, shutil  # the last three ask sys.platform, not what there is
shutil.disk_usage = lambda _, found=shutil.disk_usage(HERE): found  # Windows has it otherwise
NAMES = '''
os: fork forkpty pread preadv pwrite posix_spawn posix_spawnp sched_getaffinity sched_setaffinity getloadavg uname
os: getuid geteuid getgid getpgid setsid setpgid killpg mkfifo mknod nice sysconf statvfs fchmod fchown chown lchown
os: pipe2 sync openpty ttyname wait3 wait4 O_NONBLOCK O_DIRECTORY O_NOFOLLOW O_CLOEXEC
signal: SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGQUIT SIGCHLD SIGPIPE alarm setitimer pause pthread_sigmask
'''
for line in NAMES.strip().splitlines():
    module, _, each = line.partition(": ")
    for name in filter(vars(sys.modules[module]).get, each.split()):
        delattr(sys.modules[module], name)
multiprocessing.set_start_method("spawn")
warnings.filterwarnings("ignore", message="only soft file lock")
ours = "|".join(path.removesuffix(".py") for path in os.listdir(ROOT))
warnings.filterwarnings("error", category=EncodingWarning, module=rf"({ours})(\\.|$)")
with open(os.path.join(HERE, "started"), "a", encoding="utf-8") as file:
    print(sys.argv[0], file=file)
"""
PROBE = """
import json, signal, sys
sys.path.insert(0, sys.argv[2])
from utils import startup
startup.configure()
import export, finetune, predict, reproduce, test
from datasets import prepare
from training.step import train_step
from utils import errors

def interrupting(model, regularizer, optimizer, meter, batch, step, *more):
    if step == 1:
        signal.raise_signal(signal.SIGINT)
    return train_step(model, regularizer, optimizer, meter, batch, step, *more)

scripts = {**globals(), "interrupted": finetune, "finetune": finetune}
for name, words in json.loads(sys.argv[1]):
    finetune.train_step = interrupting if name == "interrupted" else train_step
    results = []
    try:
        errors.run(lambda: results.append(scripts[name].main(words)))
    except SystemExit as end:
        print("ended:", name, end.code, getattr(results[0], "last", {}).get("step") if results else None)
"""
CLASSES = "猫", "žába", "émeu"


def windows_like(folder, words: list[str]) -> subprocess.CompletedProcess:
    """Run Python with `words`, and what that starts, in a folder without what only Unix has; its output is bytes."""
    (folder / "away").mkdir(exist_ok=True)
    values = f"ROOT = {str(ROOT)!r}\nHERE = {str(folder / 'away')!r}\n"
    (folder / "away" / "sitecustomize.py").write_text(values + AWAY, encoding="utf-8")
    settings = {"PYTHONPATH": str(folder / "away"), "PYTHONIOENCODING": "cp1252", "PYTHONWARNDEFAULTENCODING": "1"}
    return subprocess.run(words, cwd=folder, env={**os.environ, **settings}, capture_output=True, timeout=300)


def test_every_command_without_what_only_unix_has(tmp_path):
    write_folder(tmp_path / "pets" / "train", CLASSES)
    write_folder(tmp_path / "pets" / "test", CLASSES, count=2, seed=1)
    archives = official.cub().write(tmp_path / "in", "tar")
    run = tiny("--regularizer", "mixup", "--pretrained", "none", "--train_dir", "pets/train", "--eval_dir", "pets/test")
    run += ["--max_iters", "3", "--eval_frequency", "1"]
    last = "output/pets_mixup_Last.pdparams"
    commands = [
        ("interrupted", [*run, "--check_data"]),
        ("finetune", [*run, "--resume"]),
        ("test", ["--ckpts", last, "--test_dir", "pets/test", "--gpu", "-1", "--json", "scores.json"]),
        ("predict", ["--ckpts", last, "pets/test", "--gpu", "-1"]),
        ("export", ["--ckpts", last, "--out", "exported", "--count", "2"]),
        ("reproduce", [str(ROOT / "recipes" / "demo.yaml"), "--dry_run", "--gpus", "-1"]),
        ("prepare", ["cub", "--archive", *map(str, archives), "--out", "cub", "--unverified"]),
    ]
    done = windows_like(tmp_path, [sys.executable, "-c", PROBE, json.dumps(commands), str(ROOT)])
    said = done.stdout.decode("cp1252"), done.stderr.decode("cp1252")
    assert done.returncode == 0, said
    ended = [line.split()[1:] for line in said[0].splitlines() if line.startswith("ended: ")]
    codes = {name: code for name, code, _ in ended}
    assert codes == {**dict.fromkeys((name for name, _ in commands), "0"), "interrupted": "130"}, said
    assert dict(zip(codes, (step for *_, step in ended)))["finetune"] == "3"
    assert "interrupted: stopped after step 2; --resume goes on from" in said[1]
    assert "check: class \\u732b: 4 training and 2 evaluation images" in said[0]
    assert "check: class žába: 4 training and 2 evaluation images" in said[0]  # which the code page has
    assert "pets/test/\\u732b/000.png" in said[0]
    assert len(json.loads((tmp_path / "scores.json").read_text())) == 1
    assert official.content(tmp_path / "cub") == official.cub().expected


@pytest.mark.slow
def test_a_recipe_and_the_processes_that_it_starts(tmp_path):
    write_folder(tmp_path / "dataset" / "pets" / "train", CLASSES)
    write_folder(tmp_path / "dataset" / "pets" / "test", CLASSES, count=2, seed=1)
    (tmp_path / "pets.yaml").write_text(
        "title: Pets\nseeds: [0]\nthreads: 1\n"
        "options: {model_arch: resnet8, image_size: 32, pretrained: none, max_iters: 2, batch_size: 8}\n"
        "datasets: {pets: {title: Pets, folder: pets}}\nprotocols: {all: {title: all, options: {}}}\n"
        "methods: {l2: {title: L2, options: {regularizer: l2}}}\nscores: {test: {images: test}}\n"
        "measures: {acc: {title: top-1, from: test.acc}}\n"
    )
    done = windows_like(tmp_path, command("reproduce.py", "pets.yaml", "--data_root", "dataset", "--gpus", "-1"))
    assert done.returncode == 0, done.stderr
    assert b"| L2 |" in done.stdout
    started = (tmp_path / "away" / "started").read_text().split()
    for script in ("reproduce.py", "finetune.py", "test.py"):
        assert str(ROOT / script) in started
