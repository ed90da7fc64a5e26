"""Each room imports only from the rooms below it and from itself, in functions too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.scripts import ROOT

ROOMS = ("utils", "models", "datasets", "regularizers", "checkpoints", "evaluation", "training", "reproduction")
SCRIPTS = ("finetune", "test", "predict", "export", "reproduce")
DOORS = ("smile_finetuning", "setup")  # to the package that is installed: they hand the others on
LEVELS = {
    **{room: level for level, room in enumerate(ROOMS)},
    **dict.fromkeys(SCRIPTS, len(ROOMS)),
    **dict.fromkeys(DOORS, len(ROOMS) + 1),
}
OUTSIDE = ("benchmarks", "tests")  # they import anything, nothing imports them


def violations(root: Path) -> list[str]:
    """Return a line for each import of a product file below `root` that breaks the rule: file, line and rule."""
    found = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        room = place.parts[0].removesuffix(".py") if len(place.parts) == 1 else place.parts[0]
        if room in OUTSIDE or any(part.startswith(".") for part in place.parts):
            continue
        if room not in LEVELS:
            found.append(f"{place}:1: {room} is not a room; the rooms are {', '.join(LEVELS)}")
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported(node):
                if name in OUTSIDE:
                    found.append(f"{place}:{node.lineno}: imports {name}; nothing imports {' or '.join(OUTSIDE)}")
                elif LEVELS.get(name, -1) > LEVELS[room]:
                    found.append(f"{place}:{node.lineno}: imports {name}; {room} is below {name}")
                elif not name:
                    found.append(f"{place}:{node.lineno}: imports by a relative name; accepted are absolute names")
    return found


def imported(node: ast.AST) -> set[str]:
    """Return the first parts of the modules that `node` imports, "" for a relative import."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {"" if node.level else node.module.split(".")[0]}
    return set()


def test_no_room_imports_from_above():
    assert [room for room in ROOMS if not (ROOT / room).is_dir()] == []
    assert [script for script in SCRIPTS if not (ROOT / f"{script}.py").is_file()] == []
    assert "\n".join(violations(ROOT)) == ""


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("utils/errors.py", "import os\nfrom models.heads import x\n", "2: imports models; utils is below models"),
        ("models/heads.py", "import datasets.folder as f\n", "1: imports datasets; models is below datasets"),
        ("models/heads.py", "import os, training\n", "1: imports training; models is below training"),
        ("training/a.py", "def f():\n    from reproduction import runs\n", "2: imports reproduction; training is"),
        (
            "datasets/official/a.py",
            "class A:\n    import finetune\n",
            "2: imports finetune; datasets is below finetune",
        ),
        (
            "evaluation/a.py",
            "if TYPE_CHECKING:\n    from training import build\n",
            "2: imports training; evaluation is",
        ),
        (
            "regularizers/a.py",
            "try:\n    import checkpoints\nexcept ImportError:\n    pass\n",
            "2: imports checkpoints;",
        ),
        ("test.py", "from tests.scripts import ROOT\n", "1: imports tests; nothing imports benchmarks or tests"),
        ("reproduction/a.py", "import benchmarks\n", "1: imports benchmarks; nothing imports benchmarks or tests"),
        ("models/a.py", "from . import heads\n", "1: imports by a relative name"),
        ("extras/a.py", "import os\n", "1: extras is not a room"),
        ("extra.py", "import os\n", "1: extra is not a room"),
    ],
)
def test_an_import_from_above_is_found(file, text, line, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:{line}")


def test_imports_from_below_and_of_libraries_are_fine(tmp_path):
    below = (
        "import os\nimport paddle\nfrom utils import files\nfrom training.step import f\ndef g():\n    import models\n"
    )
    for file in ("training/a.py", "finetune.py", "reproduction/a.py", "tests/a.py", "benchmarks/a.py", ".venv/a.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(below)
    (tmp_path / "tests" / "b.py").write_text("import benchmarks, finetune, tests.scripts\n")
    assert violations(tmp_path) == []
