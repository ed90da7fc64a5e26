"""Where a progress bar is drawn: on a terminal and in a notebook, in no file."""

import io
import sys
from types import ModuleType, SimpleNamespace

import pytest

from utils import bars


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Return True."""
        return True


@pytest.fixture
def notebook(monkeypatch):
    """Pretend to be a notebook, without ipywidgets."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(bars.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(("stream", "drawn"), [(Terminal, True), (io.StringIO, False)])
def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch, stream, drawn):
    monkeypatch.setattr(sys, "stderr", stream())
    with bars.progress_bar(total=2, desc="labelling") as bar:
        bar.update(2)
    assert ("labelling" in sys.stderr.getvalue()) == drawn


def test_a_notebook_without_widgets_has_a_bar_of_text(monkeypatch, notebook):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert list(bars.progress_bar([3, 4], desc="labelling")) == [3, 4]
    assert "labelling" in sys.stdout.getvalue()


def test_a_notebook_with_widgets_has_tqdms_own(monkeypatch, notebook):
    monkeypatch.setattr(bars.importlib.util, "find_spec", lambda name: name == "ipywidgets" or None)
    widget = ModuleType("tqdm.notebook")
    widget.tqdm = lambda iterable, **settings: (iterable, settings)
    monkeypatch.setitem(sys.modules, "tqdm.notebook", widget)
    assert bars.progress_bar([1], total=1) == ([1], {"leave": False, "total": 1})


@pytest.mark.parametrize("shell", [None, SimpleNamespace(config={})])
def test_the_shell_of_ipython_in_a_terminal_is_no_notebook(monkeypatch, shell):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not bars.in_notebook()
