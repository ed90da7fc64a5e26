"""What is said about the device before a run starts."""

import paddle
import pytest

from utils import device


@pytest.fixture
def cpu_build(monkeypatch, tmp_path):
    """A build for the CPU on a machine without a driver, with an empty PATH."""
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: False)
    monkeypatch.setattr(device, "DRIVER", str(tmp_path / "nvidia"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    return tmp_path


HINT = "requirements-gpu.txt, in a new environment, has the build for GPUs"


def test_without_a_gpu_one_line_says_where_it_runs(cpu_build, capsys):
    assert device.select(0) == "cpu"
    assert capsys.readouterr().err == (
        "WARNING: --gpu 0: this PaddlePaddle is built for the CPU; "
        "running on the CPU with 3 threads, many times slower\n"
    )


def test_a_driver_brings_a_hint_in_the_same_line(cpu_build, capsys):
    (cpu_build / "nvidia").mkdir()
    assert device.select(0) == "cpu"
    said = capsys.readouterr().err
    assert HINT in said
    assert said.count("\n") == 1


def test_nvidia_smi_brings_it_too(cpu_build, capsys):
    (cpu_build / "nvidia-smi").write_text("#!/bin/sh\n")
    (cpu_build / "nvidia-smi").chmod(0o755)
    device.select(0)
    assert HINT in capsys.readouterr().err


def test_who_asks_for_the_cpu_is_told_nothing(cpu_build, capsys):
    (cpu_build / "nvidia").mkdir()
    assert device.select(-1) == "cpu"
    assert capsys.readouterr().err == ""


def test_a_gpu_build_that_sees_none_needs_no_other_build(cpu_build, capsys, monkeypatch):
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    (cpu_build / "nvidia").mkdir()
    device.select(0)
    said = capsys.readouterr().err
    assert "no GPU is visible" in said
    assert HINT not in said
