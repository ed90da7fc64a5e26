"""What pip builds: the rooms and the scripts as one package, whose modules import each other by its name.

In a clone `finetune.py` imports `utils` and `datasets`; installed so, these would stand in the way of other libraries
of these names. The package has them as `smile_finetuning.utils` and `smile_finetuning.datasets`, and `rewritten`
changes the import statements to match. Nothing is written into the clone.
"""

from __future__ import annotations

import ast
import atexit
import runpy
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent
PROJECT = runpy.run_path(str(ROOT / "utils" / "project.py"))
PACKAGE = PROJECT["PACKAGE"]
SCRIPTS = PROJECT["SCRIPTS"]
ROOMS = ("utils", "models", "datasets", "regularizers", "checkpoints", "evaluation", "training", "reproduction")
OWN = {*ROOMS, *SCRIPTS}
EXTRAS = {extra: f"requirements-{extra}.txt" for extra in ("cluster", "export", "lite")}


def rewritten(source: str, name: str) -> str:
    """Return the text of a module with `from utils import x` as `from smile_finetuning.utils import x`, and likewise.

    Args:
        source: the text.
        name: of the file, for messages.

    Raises:
        SetupError: an import that this cannot rewrite.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source, name)):
        line = getattr(node, "lineno", 1) - 1
        if isinstance(node, ast.ImportFrom) and not node.level and node.module.partition(".")[0] in OWN:
            lines[line] = lines[line].replace(f"from {node.module} import", f"from {PACKAGE}.{node.module} import", 1)
        elif isinstance(node, ast.Import) and OWN & {alias.name.partition(".")[0] for alias in node.names}:
            first = node.names[0]
            if len(node.names) > 1 or "." in first.name:
                raise SetupError(f"{name}:{line + 1}: accepted are `import a`, `import a as b`, `from a.b import c`")
            lines[line] = lines[line].replace("import", f"from {PACKAGE} import", 1)
    return "".join(lines)


def requirements(file: str) -> list[str]:
    """Return the lines of a file of requirements, and of those that it includes, that name a package."""
    found = []
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found += requirements(line.removeprefix("-r ").strip())
        elif line:
            found.append(line)
    return found


class Build(build_py):
    """Copies the packages as always, adds the scripts, and rewrites the imports of all."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        folder = Path(self.build_lib, PACKAGE)
        for script in SCRIPTS:
            shutil.copy(ROOT / f"{script}.py", folder)
        for path in folder.rglob("*.py"):
            path.write_text(rewritten(path.read_text(encoding="utf-8"), str(path)), encoding="utf-8")


class Editable(editable_wheel):
    """Refuses `pip install -e`, which would use the files of the clone as they are."""

    def run(self) -> None:
        """Raise SetupError."""
        raise SetupError("pip install -e is not possible: in a clone use the scripts as they are, without installing")


def main() -> None:
    """Build or describe the project, as the command line says."""
    scratch = tempfile.mkdtemp()  # what setuptools would leave in the clone
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    needed = requirements("requirements.txt")
    extras = {extra: [line for line in requirements(file) if line not in needed] for extra, file in EXTRAS.items()}
    code = find_packages(str(ROOT), include=[*ROOMS, *(f"{room}.*" for room in ROOMS)])
    setup(
        version=PROJECT["VERSION"],
        install_requires=needed,
        extras_require=extras,
        packages=[PACKAGE, *(f"{PACKAGE}.{name}" for name in (*code, "recipes", "recipes.published"))],
        package_dir={f"{PACKAGE}.{name}": name for name in (*ROOMS, "recipes")},
        package_data={"": ["*.txt", "*.csv", "*.yaml", "*.css", "*.html", "*.js"]},
        cmdclass={"build_py": Build, "editable_wheel": Editable},
        options={"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}},
    )


if __name__ == "__main__":
    main()
