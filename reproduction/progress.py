"""Progress of many runs: the estimate before they start, a line as each ends, the time left."""

from __future__ import annotations

import sys

from tqdm import tqdm

from utils.bars import progress_bar
from utils.words import duration


class Progress:
    """Counts ended runs and estimates the time left.

    Args:
        total: number of runs to be made.
        seconds: estimated duration of each run by name; a run that is absent is taken for average.
        processes: number of runs at a time.
    """

    def __init__(self, total: int, seconds: dict[str, float], processes: int) -> None:
        self.total, self.seconds, self.processes = total, seconds, processes
        self.average = sum(seconds.values()) / len(seconds) if seconds else 0.0
        self.remaining = sum(seconds.values()) + self.average * (total - len(seconds))
        self.spent = self.expected = 0.0  # seconds of the runs done, measured and estimated
        self.done, self.failures = 0, {}
        self.bar = progress_bar(total=total, unit="run", leave=True, dynamic_ncols=True)

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def budget(self, basis: str) -> str:
        """Return a line with the number of runs left and the estimate of their time."""
        if not self.remaining:
            return f"{count(self.total)} left; no estimate of their time, the network was not timed"
        return (
            f"{count(self.total)} left: about {duration(self.remaining / self.total)} each, "
            f"{duration(self.left())} in all with {self.processes} at a time (from {basis})"
        )

    def left(self) -> float:
        """Return the estimated seconds left, corrected by the measured time of the runs done."""
        correction = self.spent / self.expected if self.expected else 1.0
        return self.remaining * correction / self.processes

    def ended(self, name: str, title: str, seconds: float, result: str, failed: bool, running: int) -> None:
        """Count a run that has ended and print a line."""
        expected = self.seconds.get(name, self.average)
        self.remaining = max(0.0, self.remaining - expected)
        if failed:
            self.failures[title] = result
        else:
            self.done += 1
            self.spent, self.expected = self.spent + seconds, self.expected + expected
        ended = self.done + len(self.failures)
        left = f", {duration(self.left())} left" if self.remaining else ", time left unknown"
        self.say(
            f"{'FAILED' if failed else 'done'} {title}: {result}  [{ended}/{self.total} ended, {running} running, "
            f"{len(self.failures)} failed{left if ended < self.total else ''}]"
        )
        self.bar.update()


def count(runs: int) -> str:
    """Return a number of runs as text."""
    return "1 run" if runs == 1 else f"{runs} runs"
