"""The project as pip installs it: one package, whose modules and commands do what the clone's do, beside any other."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from setuptools import Distribution

from checkpoints import checkpoint
from setup import EXTRAS, OWN, ROOMS, SCRIPTS, Editable, SetupError, requirements, rewritten
from tests import test_rooms
from tests.datasets import official
from tests.pictures import write_folder
from tests.scripts import ROOT, call, tiny
from tests.toy_checkpoints import write_checkpoint
from utils import project

COMMANDS = [f"smile-{name}" for name in (*SCRIPTS, "prepare")]
# In an isolated Python, where other libraries have the names of the rooms and scripts: imports every module of the
# package, then runs the commands of the list. Writes exit codes and the files of the modules that were loaded.
PROBE = """
import contextlib, importlib, io, json, os, pkgutil, sys, types
from importlib.metadata import distribution
site, foreign, commands, report = json.loads(sys.argv[1])
others = {name: types.ModuleType(name) for name in foreign}
sys.modules.update(others)
sys.path.insert(0, site)
entries = {each.name: each for each in distribution("smile-finetuning").entry_points}
codes = []
for name, words in commands:
    sys.argv = [name, *words]
    try:
        entries[name].load()()
    except SystemExit as end:
        codes.append(end.code or 0)
import smile_finetuning
names = [each.name for each in pkgutil.walk_packages(smile_finetuning.__path__, "smile_finetuning.")]
for name in names:
    importlib.import_module(name)
assert all(sys.modules[name] is other and len(vars(other)) == 5 for name, other in others.items())
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
with open(report, "w") as file:
    json.dump([codes, names, files], file)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with what pip installs, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    words = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target"]
    done = subprocess.run([sys.executable, "-m", "pip", *words, folder, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [path.name for path in ROOT.iterdir() if path.name in ("build", "dist") or path.suffix == ".egg-info"]
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder to work in, with images, and files that are never to be imported."""
    write_folder(tmp_path / "pets" / "train")
    write_folder(tmp_path / "pets" / "test", count=2, seed=1)
    (tmp_path / "empty").mkdir()
    for trap in ("datasets", "utils", "json", "numpy", "smile_finetuning"):
        (tmp_path / f"{trap}.py").write_text(f"raise SystemExit('imported {trap} from the working directory')")
    return tmp_path


def ran(words, cwd, **environment):
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


RUN = tiny("--regularizer", "mixup", "--pretrained", "none", "--train_dir", "pets/train", "--eval_dir", "pets/test")
LAST = "output/pets_mixup_Last.pdparams"


def test_commands_and_modules_work_beside_libraries_of_the_rooms_names(site, folder):
    archives = official.cub().write(folder / "in", "tar")
    write_checkpoint(folder / "clone.pdparams", ["cat", "dog", "emu"])
    labels = ["--ckpts", LAST, "pets/test", "--gpu", "-1", "--out"]
    commands = [
        *((command, ["--version"]) for command in COMMANDS),
        ("smile-finetune", RUN),
        ("smile-test", ["--ckpts", LAST, "--test_dir", "pets/test", "--gpu", "-1", "--json", "scores.json"]),
        ("smile-predict", [*labels, "installed.csv"]),
        ("smile-predict", ["--ckpts", "clone.pdparams", *labels[2:], "of_clone.csv"]),
        ("smile-export", ["--ckpts", LAST, "--out", "deploy", "--count", "4"]),
        ("smile-reproduce", ["demo", "--dry_run", "--gpus", "-1"]),
        ("smile-prepare", ["cub", "--archive", *map(str, archives), "--out", "cub", "--unverified"]),
        ("smile-finetune", ["--no_such_flag"]),
    ]
    arguments = json.dumps([str(site), sorted(OWN), commands, str(folder / "report.json")])
    out = ran([sys.executable, "-I", "-c", PROBE, arguments], folder)
    codes, names, files = json.loads((folder / "report.json").read_text())
    assert codes == [0] * (len(commands) - 1) + [2]
    assert [f"{command} {project.VERSION}" for command in COMMANDS] == out.splitlines()[: len(COMMANDS)]
    assert "\n    OMP_NUM_THREADS=1 smile-finetune --" in out
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for r in ROOMS for path in ROOT.glob(f"{r}/**/*.py")
    }
    modules = {name.removesuffix(".__init__") for name in modules} | {*SCRIPTS, "commands"}
    assert {*names} - {"smile_finetuning.recipes"} == {f"smile_finetuning.{name}" for name in modules}
    assert not [
        name for name, file in files.items() if file and os.path.dirname(file).startswith(f"{ROOT}{os.sep}utils")
    ]
    assert all(files[name].startswith(str(site)) for name in names if name != "smile_finetuning.recipes")
    # and in the clone: the same labels, and from the same seed the same network, with which it goes on
    assert call("predict.py", *labels, "clone.csv", cwd=folder).returncode == 0
    assert call("predict.py", "--ckpts", "clone.pdparams", *labels[2:], "by_clone.csv", cwd=folder).returncode == 0
    for installed, clone in (("installed.csv", "clone.csv"), ("of_clone.csv", "by_clone.csv")):
        assert (folder / installed).read_bytes() == (folder / clone).read_bytes()
    assert call("finetune.py", *RUN, "--name", "clone", cwd=folder).returncode == 0
    weights = [
        checkpoint.read(folder / "output" / f"{name}_mixup_Last.pdparams")["model"] for name in ("pets", "clone")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    (folder / "output" / "pets_mixup.json").unlink()
    again = call("finetune.py", *RUN, "--resume", cwd=folder)
    assert (again.returncode, "WARNING: --resume" in again.stderr) == (0, False)


def test_a_process_that_is_started_does_not_look_into_the_working_directory(site, folder):
    code = "import json; from smile_finetuning.utils import project; print(json.dumps(project.command('finetune.py')))"
    words = json.loads(ran([sys.executable, "-c", code], folder / "empty", PYTHONPATH=str(site)))
    assert ran([*words, "--version"], folder) == f"smile-finetune {project.VERSION}\n"
    typed = ran([site / "bin" / "smile-test", "--version"], folder, PYTHONPATH=str(site))
    assert typed == f"smile-test {project.VERSION}\n"


RECIPE = """
title: two processes
seeds: [0]
options: {model_arch: resnet8, image_size: 32, pretrained: none, max_iters: 2, batch_size: 8}
datasets: {pets: {title: pets, folder: pets}}
protocols: {all: {title: all}}
methods: {l2: {title: L2, options: {regularizer: l2}}}
measures: {acc: {title: top-1, from: last.acc}}
"""


@pytest.mark.slow
def test_the_processes_that_the_commands_start_are_of_the_package(site, folder):
    (folder / "toy.yaml").write_text(RECIPE)
    environment = {"PYTHONPATH": str(site), "PATH": f"{site / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    out = ran(["smile-reproduce", "toy.yaml", "--data_root", ".", "--gpus", "-1"], folder, **environment)
    assert "from a few timed updates" in out
    assert "[1/1 ended, 0 running, 0 failed]" in out
    summary = json.loads(next((folder / "reproduced" / "toy" / "runs").glob("*/*_l2.json")).read_text())
    assert (summary["version"], summary["git"], summary["command"][0]) == (project.VERSION, None, "finetune.py")
    (folder / "greek").mkdir()
    embedded = ["smile-finetune", "--dry_run", "--gpu", "-1"]
    assert "embedded task" in ran(embedded, folder / "greek", **environment)
    launcher = [sys.executable, "-P", "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "log"]
    ranks = [*launcher, str(site / "bin" / "smile-finetune"), *RUN, "--name", "ranks"]
    ran(ranks, folder, **environment)
    assert json.loads((folder / "output" / "ranks_mixup.json").read_text())["ranks"] == 2


def test_the_package_says_what_the_requirements_say(site):
    assert {path.name for path in site.iterdir()} - {"bin"} == {
        "smile_finetuning",
        f"smile_finetuning-{project.VERSION}.dist-info",
    }
    (about,) = importlib.metadata.distributions(name="smile-finetuning", path=[str(site)])
    assert about.version == project.VERSION
    assert {entry.name for entry in about.entry_points} == {*COMMANDS}
    needed = {*requirements("requirements.txt")}
    wanted = {(line, "") for line in needed}
    wanted |= {(line, extra) for extra, file in EXTRAS.items() for line in {*requirements(file)} - needed}
    found = {(line.partition(";")[0].strip(), line.partition("extra == ")[2].strip("'\"")) for line in about.requires}
    assert found == wanted
    assert ("paddlepaddle>=2.6.2", "") in found
    assert ("onnx>=1.15", "export") in found
    package = site / "smile_finetuning"
    data = {str(path.relative_to(package)) for path in package.rglob("*.*") if path.suffix != ".py"}
    kept = {path for room in (*ROOMS, "recipes") for path in ROOT.glob(f"{room}/**/*.*") if path.is_file()}
    kept = {str(path.relative_to(ROOT)) for path in kept if path.suffix not in (".py", ".pyc", ".md")}
    assert {"checkpoints/imagenet_labels.txt", "datasets/official/stamps.csv", "evaluation/page.css"} < kept <= data


def test_the_rooms_and_scripts_are_all_of_them():
    assert (ROOMS, SCRIPTS) == (test_rooms.ROOMS, test_rooms.SCRIPTS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("import regularizers\n", "from smile_finetuning import regularizers\n"),
        ("import models as m\n", "from smile_finetuning import models as m\n"),
        ("from utils import errors\n", "from smile_finetuning.utils import errors\n"),
        (
            "def f():\n    from a import b; from utils.x import y\n",
            "def f():\n    from a import b; from smile_finetuning.utils.x import y\n",
        ),
        ("from datasets.a.b import (\n    c,\n)\n", "from smile_finetuning.datasets.a.b import (\n    c,\n)\n"),
        ("import os, sys\nfrom utilsx import y\nfrom datasets2.a import b\n", None),
        ("import paddle  # import models\ntext = 'from utils import x'\n", None),
        ("if a:\n    import finetune\n", "if a:\n    from smile_finetuning import finetune\n"),
    ],
)
def test_imports_are_rewritten_and_nothing_else(text, wanted):
    assert rewritten(text, "a.py") == (text if wanted is None else wanted)


@pytest.mark.parametrize("text", ["import utils.errors\n", "import os, models\n", "import utils, models\n"])
def test_an_import_that_cannot_be_rewritten_stops_the_build(text):
    with pytest.raises(SetupError, match="a.py:2: accepted are"):
        rewritten(f"\n{text}", "a.py")


def test_an_editable_installation_is_refused():
    with pytest.raises(SetupError, match="in a clone use the scripts as they are"):
        Editable(Distribution()).run()
