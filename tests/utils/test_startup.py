"""What importing leaves alone and what `configure` sets."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.scripts import ROOT

ENTRIES = [f"{name}.py" for name in ("export", "finetune", "predict", "reproduce", "test")]
ENTRIES += sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("benchmarks/[a-z]*.py"))


def printed(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.split()


def test_importing_changes_nothing():
    code = "import os, warnings; before = dict(os.environ), list(warnings.filters); from utils import startup; "
    assert printed(code + "print(before == (dict(os.environ), list(warnings.filters)))") == ["True"]
    assert printed("import sys; from utils import startup; print('paddle' in sys.modules)") == ["False"]


@pytest.mark.parametrize(
    ("environment", "threads"),
    [({}, "cores"), ({"OMP_NUM_THREADS": "7"}, "7"), ({"PADDLE_TRAINERS_NUM": "1000"}, "1")],
)
def test_configure_gives_the_cpu_all_cores_unless_it_is_told_otherwise(environment, threads):
    code = (
        "import os; cores = len(os.sched_getaffinity(0)); from utils import startup; startup.configure(); import paddle"
    )
    found, cores = printed(f"{code}; print(os.environ['OMP_NUM_THREADS'], cores)", **environment)
    assert found == (cores if threads == "cores" else threads)


@pytest.mark.parametrize(("environment", "setting"), [({}, "5"), ({"MKL_DEBUG_CPU_TYPE": "4"}, "4")])
def test_configure_asks_for_the_fast_path_before_paddle_is_imported(tmp_path, environment, setting):
    (tmp_path / "cpuinfo").write_text("vendor_id : AuthenticAMD\nflags : avx2\n")
    code = f"import os, sys; from utils import processor, startup; processor._CPUINFO = {str(tmp_path)!r} + '/cpuinfo'"
    seen = "ask = processor.use_fast_path; processor.use_fast_path = lambda: print('paddle' in sys.modules) or ask()"
    assert printed(f"{code}; {seen}; startup.configure(); print(os.environ['MKL_DEBUG_CPU_TYPE'])", **environment) == [
        "False",
        setting,
    ]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_script_configures_before_it_imports_paddle_and_only_as_a_script(name):
    body = ast.parse((ROOT / name).read_text(encoding="utf-8")).body
    place = [ast.unparse(node) for node in body].index("if __name__ == '__main__':\n    startup.configure()")
    standard = {"__future__", "utils", "contextlib", *sys.stdlib_module_names}
    for node in body[:place]:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert {module.split(".")[0] for module in modules} <= standard
            assert "utils" not in modules or ast.unparse(node) == "from utils import startup"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "TkAgg", ""])
def test_a_matplotlib_backend_of_the_environment_is_not_used(backend):
    code = "import sys; sys.modules['paddle'] = sys; from utils import startup; startup.configure()"  # paddle sets none
    code += "; import matplotlib; print(matplotlib.get_backend().lower())"
    assert printed(code, MPLBACKEND=backend, HOME="/nonexistent", MPLCONFIGDIR="/tmp") == ["agg"]
