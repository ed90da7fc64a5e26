"""The `choose` of a recipe: as many trials for each method, each with its own small grid of options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from reproduction.values import FOLDS, HELD_OUT, mapping, numbers, options, shown, text
from utils.errors import UsageError


@dataclass(frozen=True)
class Choose:
    """How the options of each method are chosen.

    Attributes:
        options: of every trial, beside its own; they say what is held out, and the test is without them.
        seeds: of the trials.
        protocol: that all trials are made in; "" where each protocol has trials of its own.
        grid: the options of each trial, flag to text, by method.
    """

    options: dict[str, str]
    seeds: list[int]
    protocol: str
    grid: dict[str, list[dict[str, str]]]

    @property
    def measure(self) -> str:
        """The number that a trial is judged by: the accuracy on the images held out."""
        return "folds.acc" if "folds" in self.options else "last.acc"


def label(trial: dict[str, str]) -> str:
    """Return the options of a trial in words."""
    return ", ".join(f"{flag} {value}".strip() for flag, value in trial.items())


def read(content: Mapping, methods: dict[str, dict], protocols: Collection[str], path: Path) -> Choose | None:
    """Return the `choose` of a recipe, None without.

    Args:
        content: of the recipe.
        methods, protocols: of the recipe, validated but for the trials of the methods.
        path: of the recipe, for messages.

    Raises:
        UsageError: an invalid value, or methods with more trials than others.
    """
    own = [name for name, entry in methods.items() if "trials" in entry]
    if "choose" not in content:
        if own:
            raise UsageError(f"{path}: methods: {own[0]}: trials: accepted with choose")
        return None
    where = f"{path}: choose"
    value = mapping(content["choose"], where, ("options", "seeds", "protocol", "trials"))
    protocol = text(value.get("protocol", ""), f"{where}: protocol")
    if protocol and protocol not in protocols:
        raise UsageError(f"{where}: protocol: {shown(protocol)}: accepted are {', '.join(protocols)}")
    held_out = options(value.get("options"), f"{where}: options")
    if len(HELD_OUT & held_out.keys()) != 1:
        raise UsageError(f"{where}: options: what is a trial scored on? accepted is either val_split or folds")
    numbers([held_out.get("folds", "2")], f"{where}: options: folds", *FOLDS)
    grid = {
        name: _trials(entry["trials"], f"{path}: methods: {name}: trials")
        if "trials" in entry
        else _trials(value.get("trials"), f"{where}: trials")
        for name, entry in methods.items()
    }
    first, *others = grid
    for name in others:
        if len(grid[name]) != len(grid[first]):
            raise UsageError(
                f"{path}: methods: {name}: {len(grid[name])} trials; accepted are as many as of {first}, "
                f"{len(grid[first])}"
            )
    return Choose(held_out, numbers(value.get("seeds", content.get("seeds", ["0"])), f"{where}: seeds"), protocol, grid)


def _trials(value: object, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or len(value) < 2:
        raise UsageError(f"{where}: {shown(value)}: accepted are two or more, as in [{{lr: 0.01}}, {{lr: 0.1}}]")
    trials = []
    for entry in value:
        trial = options(entry, where)
        chosen = [flag for flag in trial if flag in {*HELD_OUT, "fold"} or flag.startswith(("sampl", "group"))]
        if chosen:
            raise UsageError(f"{where}: {chosen[0]} chooses images: all trials have the same, of choose: options")
        if not trial or trial in trials:
            raise UsageError(f"{where}: {shown(entry)}: accepted are sets of options that differ")
        trials.append(trial)
    return trials
