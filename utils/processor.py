"""The processor: its name, and whether PaddlePaddle's matrix library must be asked for its fast path there.

PaddlePaddle bundles an MKL that takes a slow path on processors that are not Intel's. `MKL_DEBUG_CPU_TYPE=5` in the
environment, before the library is loaded, makes it take the path for AVX2: three times as fast on an AMD EPYC. The two
paths round differently, so a run's provenance has the setting.
"""

from __future__ import annotations

import os
import platform
import re

SETTING, AVX2 = "MKL_DEBUG_CPU_TYPE", "5"
FIRST_ZEN = 23  # the family from which every processor of AMD has AVX2; Windows gives no other sign of it
_CPUINFO = "/proc/cpuinfo"  # of Linux


def use_fast_path() -> None:
    """Set `MKL_DEBUG_CPU_TYPE` on an AMD processor with AVX2, unless it is set; leave any other processor alone."""
    if SETTING not in os.environ and is_amd_with_avx2():
        os.environ[SETTING] = AVX2


def is_amd_with_avx2() -> bool:
    """Return whether this is known to be an AMD processor with AVX2."""
    known = _cpuinfo()
    if known:
        return known.get("vendor_id") == "AuthenticAMD" and "avx2" in known.get("flags", "").split()
    identifier = os.environ.get("PROCESSOR_IDENTIFIER", "")  # of Windows: "AMD64 Family 25 Model 33 ..., AuthenticAMD"
    family = re.search(r"\bFamily (\d+)\b", identifier)
    return "AuthenticAMD" in identifier and family is not None and int(family[1]) >= FIRST_ZEN


def machine() -> dict[str, str | None]:
    """Return what the bits of a result on the CPU depend on: the processor's name and the setting of the fast path."""
    name = _cpuinfo().get("model name") or platform.processor() or platform.machine()
    return {"processor": name, SETTING.lower(): os.environ.get(SETTING)}


def _cpuinfo() -> dict[str, str]:
    """Return what Linux knows about the first core; nothing elsewhere."""
    try:
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
            first = file.read().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
