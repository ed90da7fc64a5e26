"""What a person sees of many runs: the budget before they start, a line as each ends, the time that is left."""

from __future__ import annotations

import sys

from tqdm import tqdm

from reproduction.budget import clock


class Progress:
    """Counts runs and foretells the end.

    Args:
        total: how many runs there are to be made.
        seconds: what each may take, by name; runs it does not know are taken for average.
        processes: how many are made at a time.
    """

    def __init__(self, total: int, seconds: dict[str, float], processes: int):
        self.total, self.processes = total, processes
        self.average = sum(seconds.values()) / len(seconds) if seconds else 0.0
        self.seconds, self.remaining = seconds, sum(seconds.values()) + self.average * (total - len(seconds))
        self.spent, self.expected = 0.0, 0.0
        self.done, self.failures = 0, {}
        self.bar = tqdm(total=total, unit="run", disable=None, dynamic_ncols=True)

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def budget(self, basis: str) -> str:
        """Say how many runs are left and how long they may take."""
        if not self.remaining:
            return f"{count(self.total)} left; no estimate of their time, the network could not be timed"
        return (
            f"{count(self.total)} left: about {clock(self.remaining / self.total)} each, "
            f"{clock(self.left())} in all with {self.processes} at a time (from {basis})"
        )

    def left(self) -> float:
        """Return the seconds left: the estimate, corrected by how long the runs so far took."""
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
        if ended == self.total:
            left = ""
        elif self.remaining:
            left = f", {clock(self.left())} left"
        else:
            left = ", time left unknown"
        self.say(
            f"{'FAILED' if failed else 'done'} {title}: {result}  "
            f"[{ended}/{self.total} ended, {running} running, {len(self.failures)} failed{left}]"
        )
        self.bar.update()


def count(runs: int) -> str:
    """Return how many runs, in words."""
    return "1 run" if runs == 1 else f"{runs} runs"
