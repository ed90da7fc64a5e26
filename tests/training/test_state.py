"""What a resumed run says about the processor that it goes on with."""

from __future__ import annotations

import pytest

from training import state

NOW = {"processor": "AMD EPYC", "mkl_debug_cpu_type": "5"}


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        (NOW, ()),
        ({**NOW, "mkl_debug_cpu_type": None}, ("mkl_debug_cpu_type was not set or not recorded, is 5",)),
        ({**NOW, "mkl_debug_cpu_type": "4"}, ("mkl_debug_cpu_type was 4, is 5",)),
        ({**NOW, "processor": "Xeon"}, ("processor was Xeon, is AMD EPYC",)),
        ({"processor": "Xeon", "mkl_debug_cpu_type": None}, ("processor was Xeon", "mkl_debug_cpu_type was not set")),
        (None, ("mkl_debug_cpu_type was not set or not recorded, is 5",)),
        ({}, ("mkl_debug_cpu_type was not set or not recorded, is 5",)),
    ],
)
def test_a_change_of_the_processor_or_its_path_is_one_line(monkeypatch, capsys, recorded, words):
    monkeypatch.setattr(state, "machine", lambda: dict(NOW))
    state._warn_of_other_bits({"machine": recorded}, "x_Last.pdparams")
    printed = capsys.readouterr().err
    assert printed.count("\n") == bool(words)
    assert all(word in printed for word in words)
    assert "processor was" not in printed or "Xeon" in str(recorded)


def test_an_old_file_goes_on_silently_where_nothing_is_set(monkeypatch, capsys):
    monkeypatch.setattr(state, "machine", lambda: {"processor": "Xeon", "mkl_debug_cpu_type": None})
    state._warn_of_other_bits({}, "x_Last.pdparams")
    assert capsys.readouterr().err == ""


def test_a_gpu_computes_without_it(monkeypatch, capsys):
    monkeypatch.setattr(state, "machine", lambda: dict(NOW))
    monkeypatch.setattr(state.paddle, "get_device", lambda: "gpu:0")
    state._warn_of_other_bits({}, "x_Last.pdparams")
    assert capsys.readouterr().err == ""


def test_another_version_of_a_library_is_said_once_and_pythons_is_not(monkeypatch, capsys):
    monkeypatch.setattr(state, "machine", lambda: dict(NOW))
    written = {**state.versions(), "paddle": "2.6.2", "python": "3.9.1"}
    state._warn_of_other_bits({"machine": NOW, "versions": written}, "x_Last.pdparams")
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "paddle was 2.6.2, is" in printed
    assert "python" not in printed
