"""Confidence intervals of shares."""

from __future__ import annotations

import math

Z = 1.959963984540054  # of a two-sided 95 % interval


def interval(correct: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, in percent (Wilson, 1927); `correct` may be a mean over seeds."""
    share, spread = correct / count, Z * Z / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)
