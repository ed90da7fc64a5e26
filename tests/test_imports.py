"""Which libraries the quick commands load: beside PaddlePaddle's, only those that every command needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.pictures import write_folder
from tests.scripts import ROOT
from tests.toy_checkpoints import write_checkpoint

SCRIPTS = ("finetune", "test", "predict", "export", "reproduce")
NEEDED = {"PIL", "filelock", "numpy", "paddle", "tqdm"}  # beside this project's own rooms
# Runs each command of the list in one process, and prints the libraries that each one loaded first, and its exit code.
PROBE = """
import contextlib, io, json, os, runpy, sys
commands, root = json.loads(sys.argv[1]), os.getcwd()
sys.path.insert(0, root)
os.chdir(sys.argv[2])
import PIL.Image, numpy, tqdm
from utils import startup
startup.configure()
report = []
for script, *words in commands:
    known, sys.argv = {*sys.modules}, [script + ".py", *words]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        sys.stdout.reconfigure = lambda **_: None
        try:
            runpy.run_path(os.path.join(root, script + ".py"), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    loaded = {name.split(".")[0] for name in {*sys.modules} - known}
    report.append([code, sorted(loaded - sys.stdlib_module_names - set(os.listdir(root))), text.getvalue()])
print(json.dumps(report))
"""


def loaded_by(commands: list[list[str]], folder) -> list[list]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(commands), str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "dataset" / "train", count=2)
    write_folder(tmp_path / "dataset" / "test", count=1, seed=1)
    write_checkpoint(tmp_path / "toy.pdparams", ["cat", "dog", "emu"])
    return tmp_path


def test_help_usage_errors_a_dry_run_and_a_prediction_load_what_they_use(folder):
    image = str(next((folder / "dataset" / "test").rglob("*.png")))
    commands = {
        **{(script, "--help"): 0 for script in SCRIPTS},
        **{(script, "--no_such_flag"): 2 for script in SCRIPTS},
        ("finetune", "--regularizer", "cotuning", "--help"): 0,
        ("finetune", "--regularizer", "mixup+delta", "--pretrained", "none"): 2,
        ("finetune", "--regularizer", "l2", "--pretrained", "none", "--dry_run", "--gpu", "-1"): 0,
        ("predict", image, "--gpu", "-1", "--ckpts", "toy.pdparams"): 0,
    }
    report = loaded_by([list(command) for command in commands], folder)
    for (command, expected), (code, libraries, text) in zip(commands.items(), report):
        assert code == expected, (command, text)
        assert {*libraries} - NEEDED == set(), command


def test_the_probe_sees_what_a_command_loads(folder):
    drawing = ["predict", "dataset/test", "--gpu", "-1", "--sheet", "sheet.png", "--ckpts", "toy.pdparams"]
    ((code, libraries, text),) = loaded_by([drawing], folder)
    assert code == 0, text
    assert "matplotlib" in libraries
