"""Defaults that are a share of the run: each is written as its value for a run of a known length."""

from __future__ import annotations

from typing import Any

REFERENCE = 9000  # updates of the reference's runs


class Share(int):
    """A number of updates, of the `of` that a run has; in any run at least one update is outside it."""

    def __new__(cls, value: int, of: int = REFERENCE) -> Share:
        share = super().__new__(cls, value)
        share.of = of
        return share

    def at(self, steps: int) -> int:
        """Return the value for a run of `steps` updates, round(self * steps / of)."""
        return min(round(self * steps / self.of), steps - 1)


class Period(Share):
    """A distance in updates, in a run of `of` of them; at least one."""

    def at(self, steps: int) -> int:
        return max(1, super().at(steps))


class HalfLife(float):
    """The decay of a moving average in a run of `of` updates, whose half-life is a share of the run."""

    def __new__(cls, value: float, of: int = REFERENCE) -> HalfLife:
        decay = super().__new__(cls, value)
        decay.of = of
        return decay

    def at(self, steps: int) -> float:
        """Return the decay d for a run of `steps` updates, with d ** steps == self ** of; exactly `self` for `of`."""
        return float(self ** (self.of / steps))


def is_share(value: Any) -> bool:
    """Return whether `value` depends on the length of a run."""
    return isinstance(value, (Share, HalfLife))


def at(value: Any, steps: int) -> Any:
    """Return `value` for a run of `steps` updates where it depends on that; any other value as it is."""
    return value.at(steps) if is_share(value) else value
