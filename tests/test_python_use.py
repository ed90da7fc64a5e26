"""From Python: what importing and a run leave as they were, and the notebook of docs/."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

import smile_finetuning
from tests.pictures import write_folder
from tests.scripts import ROOT, tiny
from training.options import Options
from utils import project

STATE = """
import json, logging, os, signal, sys, warnings
sys.path.insert(0, sys.argv[1])

def state():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": [*sys.path],
        "warnings": ([*map(str, warnings.filters)], warnings.showwarning),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "streams": [sys.stdin, sys.stdout, sys.stderr, sys.displayhook, sys.excepthook],
        "logging": [logging.root.level, [*logging.root.handlers]],
    }

def changed(before):
    return [name for name, value in state().items() if value != before[name]]
"""
LIGHT = """
before = state()
import smile_finetuning
assert smile_finetuning.__version__ and {*smile_finetuning.__all__} == {*dir(smile_finetuning)}
print(json.dumps([changed(before), "paddle" in sys.modules, "numpy" in sys.modules]))
"""
HEAVY = """
import importlib, pathlib, random
import matplotlib, numpy, paddle, sklearn, scipy, threadpoolctl
matplotlib.use("svg")
signal.signal(signal.SIGINT, handler := lambda *_: None)
signal.signal(signal.SIGTERM, handler)
warnings.filterwarnings("ignore", message="mine")
plain = state

def state():
    threads = {each["filepath"]: each["num_threads"] for each in threadpoolctl.threadpool_info()}
    drawn = [random.getstate(), numpy.random.get_state()[1].tolist()]
    return {**plain(), "matplotlib": dict(matplotlib.rcParams), "backend": matplotlib.get_backend(), "drawn": drawn,
            "threads": {name: count for name, count in threads.items() if name in known}}

known = {each["filepath"] for each in threadpoolctl.threadpool_info()}
before = state()
import smile_finetuning
for name in smile_finetuning.__all__:
    getattr(smile_finetuning, name)
root = pathlib.Path(sys.argv[1])
for room in json.loads(sys.argv[2]):
    for path in root.glob(room + "/**/*.py"):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
imported = changed(before)
from smile_finetuning import Classifier, finetune
finetune.main(sys.argv[3:])
model = Classifier.load("output/pets_mixup_Last.pdparams")
model.predict("pets/test")
print(json.dumps([imported, changed(before)]))
"""
ROOMS = ["utils", "models", "datasets", "regularizers", "checkpoints", "evaluation", "training", "reproduction"]


def printed(code, *arguments, cwd=ROOT):
    words = [sys.executable, "-c", STATE + code, str(ROOT), *arguments]
    done = subprocess.run(words, cwd=cwd, env={**os.environ, "MPLBACKEND": "pdf"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_package_loads_nothing_before_it_is_asked_for():
    assert printed(LIGHT) == [[], False, False]


def test_neither_imports_nor_a_run_change_the_process(tmp_path):
    write_folder(tmp_path / "pets" / "train")
    write_folder(tmp_path / "pets" / "test", count=2, seed=1)
    run = tiny("--train_dir", "pets/train", "--eval_dir", "pets/test", "--pretrained", "none", "--regularizer", "mixup")
    assert printed(HEAVY, json.dumps(ROOMS), *run, cwd=tmp_path) == [[], []]


def test_the_probe_sees_a_change():
    assert printed(LIGHT.replace("import smile", "os.environ['X'] = '1'; import smile")) == [
        ["environment"],
        False,
        False,
    ]


def test_what_is_public_is_what_the_scripts_are_made_of():
    from evaluation.classifier import Classifier

    assert (smile_finetuning.Classifier, smile_finetuning.Options) == (Classifier, Options)
    assert smile_finetuning.finetune.main.__module__ == "finetune"
    assert smile_finetuning.__version__ == project.VERSION
    with pytest.raises(AttributeError, match="no attribute 'finetun'; it has Classifier, "):
        smile_finetuning.finetun  # noqa: B018


@pytest.mark.usefixtures("no_curves")
def test_options_make_the_run_of_the_flags_in_any_thread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pets" / "train")
    write_folder(tmp_path / "pets" / "test", count=2, seed=1)
    run = tiny("--train_dir", "pets/train", "--eval_dir", "pets/test", "--pretrained", "none", "--regularizer", "l2")
    wanted = smile_finetuning.finetune.main([*run, "--name", "flags"])
    chosen = {flag.removeprefix("--"): value for flag, value in zip(run[::2], run[1::2])}
    found = []

    def work():
        found.append(smile_finetuning.finetune.run(Options.from_flags({**chosen, "name": "options"})))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].run == "options_l2"
    assert found[0].last == wanted.last


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), names)
    assert names["summary"].last["step"] == names["summary"].options["max_iters"]
    assert names["table"].probabilities.shape == (len(names["table"]), 3)
    assert names["again"].probabilities.tobytes() == names["table"].probabilities.tobytes()
    assert "path,predicted,probability" in capsys.readouterr().out
