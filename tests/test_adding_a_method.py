"""docs/adding_a_method.md: its files are put in place and must be a method like every other."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import re
import sys

import paddle
import pytest

import finetune
import regularizers
from checkpoints import pdparams
from models import build
from tests.pictures import write_folder
from tests.regularizers import test_contract as contract
from tests.scripts import ROOT, tiny
from utils.errors import UsageError

PAGE = (ROOT / "docs" / "adding_a_method.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`(\S+\.py)`:\n\n```python\n(.*?)```\n", PAGE, re.DOTALL))
REGISTRY = re.search(r'^    "(\w+)": (\w+),$', PAGE, re.MULTILINE).groups()
CHANGES = {name: float(value) for name, value in re.findall(r'^    "(\w+)": ([\d.]+),$', PAGE, re.MULTILINE)}
NAME = REGISTRY[0]


def load(path, tmp_path, monkeypatch):
    """Import the page's file `path` under the name it would have."""
    file = tmp_path / path.replace("/", "_")
    file.write_text(FILES[path], encoding="utf-8")
    name = path[: -len(".py")].replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def method(tmp_path, monkeypatch):
    """The page's method, registered as the page says."""
    module = load(f"regularizers/{NAME}.py", tmp_path, monkeypatch)
    assert f"    from {module.__name__} import {REGISTRY[1]}\n" in PAGE
    monkeypatch.setitem(regularizers.REGULARIZERS, NAME, getattr(module, REGISTRY[1]))
    for argument, value in CHANGES.items():
        monkeypatch.setitem(contract.CHANGES, argument, value)
    return NAME


def test_its_own_tests_pass(method, tmp_path, monkeypatch):
    module = load(f"tests/regularizers/test_{method}.py", tmp_path, monkeypatch)
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    assert len(tests) == 3
    for test in tests.values():
        marks = [mark.args for mark in getattr(test, "pytestmark", [])]
        for values in marks[0][1] if marks else [None]:
            test(*([] if values is None else [values]))


def test_it_keeps_what_every_method_promises(method, tmp_path):
    arguments = regularizers.arguments(method)
    assert set(arguments) == set(CHANGES)
    called = 0
    for name, test in vars(contract).items():
        wanted = list(inspect.signature(test).parameters) if name.startswith("test_") else []
        if wanted[:1] != ["name"] or "values" in wanted:
            continue
        for argument in arguments if "argument" in wanted else [None]:
            values = {"name": method, "argument": argument, "tmp_path": tmp_path}
            test(**{key: values[key] for key in wanted})
            called += 1
    assert called >= 8
    contract.test_every_pair_is_allowed_or_refused_with_a_reason()
    others = [name for name in regularizers.REGULARIZERS if name != method]
    pairs = {name for pair in itertools.product([method], others) for name in ("+".join(pair), "+".join(pair[::-1]))}
    assert pairs - set(contract.allowed()) == {"l2+lwf", "lwf+l2", "fe+lwf", "lwf+fe"}


def test_no_method_has_its_flags(method):
    for other in regularizers.REGULARIZERS:
        assert other == method or not set(CHANGES) & set(regularizers.arguments(other))


@pytest.fixture
def work(tmp_path, monkeypatch, no_curves):
    """A folder with data and a source network of five classes."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "dataset" / "train", count=5)
    write_folder(tmp_path / "dataset" / "test", count=3, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), "source.pdparams")
    return tmp_path


def test_it_trains(method, work, capsys):
    flags = tiny("--regularizer", method, "--pretrained", "source.pdparams", "--name", "pets", "--lwf_lambda", 0.5)
    finetune.main(flags)
    assert re.search(r"loss \d+\.\d+  ce \d+\.\d+  old \d+\.\d+", capsys.readouterr().out)
    content = pdparams.load(work / "output" / f"pets_{method}_Last.pdparams")["regularizer"]
    assert content["arguments"] == {"lwf_lambda": 0.5, "lwf_temperature": 2.0}
    assert set(content["state"]) == {"old_head.weight", "old_head.bias"}  # trained, kept; the source is not


def test_it_is_refused_without_pretrained_weights(method, work):
    with pytest.raises(UsageError, match="--regularizer lwf needs a pretrained network"):
        finetune.main(tiny("--regularizer", method, "--pretrained", "none"))


def test_its_row_is_known_to_the_table_of_flags(method, capsys):
    with pytest.raises(SystemExit):
        finetune.main(["--regularizer", method, "--help"])
    said = capsys.readouterr().out
    assert "hyper-parameters of lwf" in said
    assert all(f"--{argument}" in said for argument in CHANGES)
