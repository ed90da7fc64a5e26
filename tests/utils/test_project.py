"""How the scripts are named and started, from a clone and where they are installed; versions and recipes by name."""

import sys

import pytest

import export
import predict
import reproduce
import test as scoring
from datasets import prepare
from tests.scripts import ROOT
from training import parsing
from utils import project, provenance


def test_in_a_clone_a_script_is_a_file():
    assert (project.PREFIX, project.ROOT, project.SEARCHED) == ("", ROOT, ROOT)
    assert project.typed("finetune.py") == "python finetune.py"
    assert project.typed("-m datasets.prepare") == "python -m datasets.prepare"
    assert project.command("test.py") == [sys.executable, str(ROOT / "test.py")]


def test_installed_a_script_is_a_module(monkeypatch):
    monkeypatch.setattr(project, "PREFIX", "smile_finetuning.")
    assert project.typed("finetune.py") == project.prog("finetune.py") == "smile-finetune"
    assert project.typed("-m datasets.prepare") == project.prog("python -m datasets.prepare") == "smile-prepare"
    python, flag, code = project.command("test.py")
    assert (python, flag) == (sys.executable, "-c")
    assert "'smile_finetuning.test'" in code


@pytest.mark.parametrize(
    ("main", "name"),
    [
        (parsing.parse, "finetune.py"),
        (scoring.main, "test.py"),
        (predict.main, "predict.py"),
        (export.main, "export.py"),
        (reproduce.main, "reproduce.py"),
        (prepare.main, "python -m datasets.prepare"),
    ],
)
def test_every_command_has_a_version(main, name, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"{name} {project.VERSION}\n"


def test_a_repository_around_the_code_is_not_its_own(monkeypatch):
    assert provenance.provenance("cpu")["version"] == project.VERSION
    monkeypatch.setattr(provenance, "ROOT", ROOT / "utils")
    assert provenance.provenance("cpu")["git"] is None


def test_a_recipe_of_the_project_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reproduce.located("table2") == ROOT / "recipes" / "table2.yaml"
    for text in ("nowhere", "recipes/table2.yaml", "../table2", str(tmp_path)):
        assert reproduce.located(text) == text
    (tmp_path / "table2").touch()
    assert reproduce.located("table2") == "table2"
