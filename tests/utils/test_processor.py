"""On which processors the fast path is asked for, by imitated descriptions, and what a run records about it."""

from __future__ import annotations

import os
import platform

import pytest

from utils import processor
from utils.provenance import provenance

AMD = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model name\t: AMD EPYC 7B13
flags\t\t: fpu sse2 avx {} bmi2

processor\t: 1
vendor_id\t: AuthenticAMD
flags\t\t: fpu avx2
"""
INTEL = "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu avx avx2 avx512f\n"
HYGON = "vendor_id\t: HygonGenuine\nmodel name\t: Hygon C86\nflags\t\t: fpu avx avx2\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n"
ZEN_3 = "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD"


@pytest.fixture
def imitate(tmp_path, monkeypatch):
    """Return a function that makes this machine one with a /proc/cpuinfo, an identifier and a value of its owner."""

    def imitation(cpuinfo=None, identifier=None, value=None):
        file = tmp_path / "cpuinfo"
        if cpuinfo is not None:
            file.write_bytes(cpuinfo.encode() if isinstance(cpuinfo, str) else cpuinfo)
        monkeypatch.setattr(processor, "_CPUINFO", str(file))
        for name, text in ((processor.SETTING, value), ("PROCESSOR_IDENTIFIER", identifier)):
            if text is None:
                monkeypatch.setenv(name, "")  # so that the end of the test restores what is here
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, text)
        processor.use_fast_path()
        return os.environ.get("MKL_DEBUG_CPU_TYPE")

    return imitation


@pytest.mark.parametrize(
    ("description", "setting"),
    [
        (AMD.format("avx2"), "5"),
        (AMD.format("avx2").replace("\n", "\r\n").replace("\r\n\r\n", "\n\n"), "5"),
        (AMD.format("sse4a"), None),  # the second core's do not count
        (AMD.format("avx2_of_another_kind"), None),
        (INTEL, None),
        (HYGON, None),
        (ARM, None),
        ("", None),
        ("flags: avx2\n", None),
        ("vendor_id: AuthenticAMD\n", None),
        (b"\xff\xfe no text \x00", None),
        (None, None),
    ],
)
def test_linux_asks_for_it_on_amd_with_avx2_only(imitate, description, setting):
    assert imitate(description) == setting


@pytest.mark.parametrize(
    ("identifier", "setting"),
    [
        (ZEN_3, "5"),
        ("AMD64 Family 23 Model 1 Stepping 1, AuthenticAMD", "5"),
        ("AMD64 Family 21 Model 2 Stepping 0, AuthenticAMD", None),
        ("AMD64 AuthenticAMD", None),
        ("Intel64 Family 6 Model 158 Stepping 10, GenuineIntel", None),
        ("ARMv8 (64-bit) Family 8 Model D4B Revision 0, Qualcomm Technologies Inc", None),
        ("", None),
    ],
)
def test_windows_asks_for_it_from_zen_on(imitate, identifier, setting):
    assert imitate(identifier=identifier) == setting


@pytest.mark.parametrize("value", ["4", "0", "", "5"])
@pytest.mark.parametrize("machine", [{"cpuinfo": AMD.format("avx2")}, {"identifier": ZEN_3}, {"cpuinfo": INTEL}])
def test_the_value_of_a_person_stays(imitate, machine, value):
    assert imitate(**machine, value=value) == value


def test_a_description_that_cannot_be_read_changes_nothing(imitate, tmp_path):
    (tmp_path / "cpuinfo").mkdir()
    assert imitate() is None


def test_provenance_names_processor_and_setting(imitate, monkeypatch):
    imitate(AMD.format("avx2"))
    assert provenance("cpu")["machine"] == {"processor": "AMD EPYC 7B13", "mkl_debug_cpu_type": "5"}
    imitate(ARM)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert provenance("cpu")["machine"] == {"processor": "aarch64", "mkl_debug_cpu_type": None}
