"""Only lower bounds, the lowest of each in constraints-lowest.txt, and no syntax newer than Python 3.9."""

import ast
import re

import pytest

from tests.scripts import ROOT

LOWEST = ROOT / "constraints-lowest.txt"
GPU = "requirements-gpu.txt"
FILES = sorted(path.name for path in ROOT.glob("requirements*.txt"))
OLDEST_PYTHON = (3, 9)


def lines(name: str) -> list[str]:
    """Return the lines of the file `name` that name a package, without their comments."""
    texts = (line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [text for text in texts if text and not text.startswith("-r ")]


def bounds(name: str) -> dict[str, str]:
    """Return the lowest version of each package in the file `name`; a line that says anything more fails."""
    found = [re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)", line) for line in lines(name)]
    assert all(found), f"{name}: each line is PACKAGE>=VERSION: {lines(name)}"
    assert len({match[1] for match in found}) == len(found), f"{name}: a package stands there twice"
    return {match[1]: match[2] for match in found}


@pytest.mark.parametrize("name", FILES)
def test_requirements_are_lower_bounds_only(name):
    assert bounds(name)


def test_the_constraints_are_the_lower_bounds():
    wanted = {package: bound for name in FILES for package, bound in bounds(name).items()}
    assert lines(LOWEST.name) == [f"{package}=={wanted[package]}" for package in sorted(wanted)]


def test_a_package_has_one_bound_in_all_files():
    seen = {}
    for name in FILES:
        for package, bound in bounds(name).items():
            assert seen.setdefault(package, bound) == bound, f"{name}: {package}"


def test_a_gpu_needs_the_same_but_another_build():
    assert "-r requirements-minimal.txt" in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    cpu, gpu = {**bounds("requirements-minimal.txt"), **bounds("requirements.txt")}, bounds(GPU)
    assert gpu.pop("paddlepaddle-gpu") == cpu.pop("paddlepaddle")
    assert gpu == cpu


def test_the_sources_are_of_the_oldest_python():
    sources = [path for path in ROOT.rglob("*.py") if not any(part.startswith(".") for part in path.parts)]
    assert len(sources) > 100
    for path in sources:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=OLDEST_PYTHON)
