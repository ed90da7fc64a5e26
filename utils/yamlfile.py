"""YAML files of people, read without trust: bounded, and every value stays text."""

from __future__ import annotations

import os
from collections import Counter

from utils.commandline import shortened
from utils.errors import UsageError

LARGEST = 2**18  # characters; files of this project have a few thousand


def read(path: str | os.PathLike, kind: str, example: str) -> object:
    """Return the content of a YAML file: text, lists and mappings of those; `1e-4` stays `1e-4`.

    Args:
        path: the file.
        kind: what it is, for messages: accepted are `kind`s of up to so many characters.
        example: a file that is one.

    Raises:
        UsageError: naming the file; it is missing, too large or not YAML.
    """
    import yaml  # not for a usage error or the help

    try:
        with open(path, encoding="utf-8-sig") as file:  # Windows' editors begin it with a byte-order mark
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UsageError(f"{path}: accepted are {kind}s of up to {LARGEST} characters")
        return yaml.load(content, yaml.BaseLoader)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; a {kind} is a file like {example}") from None
    except RecursionError:
        raise UsageError(f"{path}: its values are nested too deeply for a {kind}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from None


def refuse_repeated(path: str | os.PathLike) -> None:
    """Refuse a file, read before, whose mapping has a key twice: YAML takes the last one without a word.

    Raises:
        UsageError: naming the file and the key.
    """
    import yaml

    with open(path, encoding="utf-8-sig") as file:
        keys = [key.value for key, _ in yaml.compose(file, yaml.BaseLoader).value]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise UsageError(f"{path}: {shortened(twice[0])} is there twice")
