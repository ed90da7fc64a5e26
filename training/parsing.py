"""The command line of `finetune.py`, and the file of `--config`."""

from __future__ import annotations

import argparse
import difflib
from typing import Any

import regularizers
from training import presets, settings
from training.flags import SWITCH, add_argument, add_field
from training.options import ALTERNATIVES, FLAGS, Options, refuse, values
from utils.commandline import Parser, shortened
from utils.errors import UsageError


def parse(argv: list[str]) -> Options:
    """Read the command line of `finetune.py`; a method's own flags follow `--regularizer`.

    Raises:
        UsageError: an unknown flag or method, a value out of range, or options that contradict one another.
    """
    first = Parser(add_help=False)
    first.add_argument("--regularizer")
    first.add_argument("--preset")
    first.add_argument("--config")
    chosen = first.parse_known_args(argv)[0]
    texts = _settings(chosen.config) if chosen.config else {}
    name = presets.regularizer({**texts, **{key: text for key, text in vars(chosen).items() if text is not None}})
    written = _of_file(chosen.config, texts, name) if chosen.config else {}
    given, unknown = _parser(name).parse_known_args(argv)
    for word in unknown:
        if not word.startswith("--"):
            raise UsageError(f"unexpected {shortened(word)!r}: every value follows its --flag; --help lists the flags")
        refuse(word.split("=")[0].removeprefix("--"), name)
    given = {option: value for option, value in vars(given).items() if option != "config"}
    for alternatives in ALTERNATIVES:
        if not given.keys().isdisjoint(alternatives):
            written = {option: value for option, value in written.items() if option not in alternatives}
    if given.get("schedule") == "cosine":
        written.pop("lr_drop", None)
    return Options.of({**written, **given})


def _settings(path: str) -> dict[str, str | None]:
    bare = {name: True for name, option in FLAGS.items() if option.metadata["bare"]}
    switches = {name: False for name, option in FLAGS.items() if option.metadata["accepts"] is SWITCH}
    return settings.read(path, {**bare, **switches})


def _of_file(path: str, texts: dict[str, str | None], name: str) -> dict[str, Any]:
    """Return the options in the file of `--config`, of a run of method `name`.

    Raises:
        UsageError: an unknown option, for which the nearest known one is named, or a value that is not accepted.
    """
    try:
        known = [*FLAGS, *regularizers.arguments(name)]
        for option in texts:
            if option not in known:
                near = difflib.get_close_matches(option, known, 1)
                refuse(option, name, f"the nearest option is {near[0]}" if near else "--help lists the accepted ones")
        off = {option: False for option, text in texts.items() if text is None}  # which a preset may have on
        return {**values({option: text for option, text in texts.items() if option not in off}, name), **off}
    except UsageError as error:
        raise UsageError(f"--config {path}: {error}") from None


def _parser(name: str) -> Parser:
    """Return the parser of a run of method `name`; what is not given is absent from its result."""
    parser = Parser(
        prog="finetune.py",
        description="Fine-tune a pretrained network on a folder of images.",
        argument_default=argparse.SUPPRESS,
    )
    groups = {title: parser.add_argument_group(title) for title in ("data", "run", "training")}
    for option in FLAGS.values():
        add_field(groups[option.metadata["group"]], option, name if option.name == "regularizer" else option.default)
    groups["run"].add_argument("--config", metavar="FILE", help="a file of options, as a run leaves one; flags win")
    described, method = regularizers.descriptions(name), parser.add_argument_group(f"hyper-parameters of {name}")
    for parameter, hint in regularizers.arguments(name).values():
        add_argument(method, parameter, hint, described.get(parameter.name, "").rstrip("."))
    return parser
