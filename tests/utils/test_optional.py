"""The commands where packages of the full installation are absent, as a minimal one leaves them out."""

import json
import os
import re
import subprocess
import sys

import pytest

from datasets import glyphs
from tests.pictures import write_folder
from tests.scripts import ROOT, call, tiny
from tests.toy_checkpoints import write_checkpoint
from utils import optional
from utils.errors import UsageError

BLOCK = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
from utils import startup
startup.configure()
import json
import os
import finetune
for words in json.loads(sys.argv[2]):
    finetune.main(words)
"""


@pytest.fixture
def lacking(monkeypatch):
    """Return a function that makes packages impossible to import."""

    def block(*packages):
        for name in [name for name in sys.modules if name.split(".")[0] in packages] + [*packages]:
            monkeypatch.setitem(sys.modules, name, None)

    return block


@pytest.fixture
def pets(tmp_path):
    write_folder(tmp_path / "dataset" / "train")
    write_folder(tmp_path / "dataset" / "test", count=2, seed=1)
    write_checkpoint(tmp_path / "toy.pdparams", ["cat", "dog", "emu"])
    return tmp_path


def test_what_is_installed_is_found_without_an_import(lacking):
    assert optional.installed("numpy")
    assert not optional.installed("no_such_package_1")
    assert optional.absent("numpy", "json") == ""
    lacking("visualdl")
    assert optional.absent("numpy", "visualdl") == "visualdl is not installed: pip install visualdl"
    optional.need("numpy", "--sheet")
    with pytest.raises(UsageError, match="^--sheet needs visualdl, which is not installed: pip install visualdl$"):
        optional.need("visualdl", "--sheet")


def test_a_run_goes_on_without_either_and_says_so_once(tmp_path):
    write_folder(tmp_path / "dataset" / "train")
    write_folder(tmp_path / "dataset" / "test", count=2, seed=1)
    run = tiny("--regularizer", "mixup", "--pretrained", "none", "--name", "pets")
    words = json.dumps([[*run, "--check_data"], [*run, "--overwrite"]])
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, "visualdl,matplotlib", words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    install = "visualdl and matplotlib are not installed: pip install visualdl matplotlib"
    line = f"WARNING: no curves for VisualDL and no pictures of this run: {install}"
    assert done.stdout.count(line) == (tmp_path / "output" / "pets_mixup.txt").read_text().count(line) + 1 == 2
    assert "check: no picture of the images: matplotlib is not installed: pip install matplotlib" in done.stdout
    assert len(re.findall("matplotlib|visualdl", done.stdout + done.stderr)) == 2 * 4 + 2
    endings = ("_Best.pdparams", "_Last.pdparams", "_samples.txt", ".csv", ".json", ".txt", ".yaml")
    assert {path.name for path in (tmp_path / "output").iterdir()} == {f"pets_mixup{ending}" for ending in endings}
    assert not (tmp_path / "visual_log").exists()


@pytest.mark.parametrize(("package", "what"), [("visualdl", "no curves for VisualDL"), ("matplotlib", "no pictures")])
def test_a_run_without_one_of_them_has_what_is_of_the_other(package, what, pets, lacking):
    lacking(package)
    flags = tiny("--regularizer", "mixup", "--pretrained", "none", "--name", "pets", "--max_iters", "3")
    done = call("finetune.py", *flags, cwd=pets)
    assert done.returncode == 0, done.stderr
    assert f"WARNING: {what} of this run: {package} is not installed: pip install {package}\n" in done.stdout
    assert (pets / "output" / "pets_mixup.png").exists() == (package != "matplotlib")
    assert (pets / "visual_log").exists() == (package != "visualdl")
    assert "from here on" not in done.stdout


@pytest.mark.parametrize(
    ("script", "flags", "package"),
    [
        ("predict.py", "--ckpts toy.pdparams dataset/test --sheet a.png", "matplotlib"),
        ("test.py", "--ckpts toy.pdparams --test_dir dataset/test --il --il_picture a.png", "matplotlib"),
        ("test.py", "--ckpts toy.pdparams --test_dir dataset/test --il --log_dir curves", "visualdl"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(script, flags, package, pets, lacking):
    lacking(package)
    done = call(script, *flags.split(), "--gpu", "-1", cwd=pets)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        f"error: --(sheet|il_picture|log_dir) needs {package}, which is not installed: pip install {package}\n",
        done.stderr,
    )


def test_a_report_has_its_page_and_tables_and_a_line_in_place_of_its_pictures(pets, lacking):
    lacking("matplotlib")
    done = call(
        "test.py", "--ckpts", "toy.pdparams", "--test_dir", "dataset/test", "--gpu", -1, "--report", "out", cwd=pets
    )
    assert done.returncode == 0, done.stderr
    said = "WARNING: out: without confusion.png and worst.png: matplotlib is not installed: pip install matplotlib\n"
    assert said in done.stderr
    tables = {"per_class.csv", "confusion.csv", "confused_pairs.csv", "predictions.csv"}
    assert {path.name for path in (pets / "out").iterdir()} == {*tables, "index.html"}


def test_the_embedded_task_names_what_its_letters_need(tmp_path, lacking):
    lacking("matplotlib")
    with pytest.raises(UsageError, match="the embedded task, .* needs matplotlib, .*: pip install matplotlib$"):
        glyphs.write_task(tmp_path / "letters")
    assert list(tmp_path.iterdir()) == []
