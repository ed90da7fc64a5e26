"""Every option of every script, given texts that nobody means: one line of refusal, or acceptance."""

from __future__ import annotations

import argparse
import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import export
import predict
import regularizers
import reproduce
import test as scoring
from datasets import prepare
from tests.pictures import write_folder
from training import options, parsing
from utils.commandline import LARGEST_SEED, SEED, Parser, number
from utils.errors import Failure, UsageError

NASTY = [
    *("²", "٣", "1_000", "0x10", " 5 ", "1e400", "-1e400", "nan", "inf", "-inf", "1e308", "1e-400", "5e-324", "-0"),
    *("9" * 400, "-" + "9" * 400, "9" * 5000, "4294967296", "18446744073709551616", "0", "-1", "1.5", "true"),
    *("-x", "--x", "-", "--", "", " ", "=", "a=b", "%s%", "$a$", "a\nb", "caf\u0065\u0301", "\udce4", "\u2028", "."),
]


class Kept(Exception):
    """Carries the parser of a script out of the function that uses it."""


def parser_of_prepare() -> Parser:
    with pytest.MonkeyPatch.context() as patch:

        def keep(self, *_):
            raise Kept(self)

        patch.setattr(Parser, "parse_args", keep)
        with pytest.raises(Kept) as kept:
            prepare._options([])
    return kept.value.args[0]


SCRIPTS = {
    "test": (scoring.parser, scoring.parse, ["--ckpts", "a"]),
    "predict": (predict.parser, predict.parse, ["--ckpts", "a.pdparams", "a.png"]),
    "export": (export.parser, lambda words: export.parser().parse_args(words), ["--ckpts", "a", "--out", "b"]),
    "reproduce": (reproduce.parser, lambda words: reproduce.parser().parse_args(words), ["a.yaml"]),
    "prepare": (parser_of_prepare, prepare._options, ["cub"]),
}
METHODS = {name: (lambda name=name: parsing._parser(name), parsing.parse) for name in regularizers.REGULARIZERS}
CASES = [(script, action) for script, (made, _, _) in SCRIPTS.items() for action in made()._actions]
FINETUNE = [
    (name, action)
    for name, (made, _) in METHODS.items()
    for action in made()._actions
    if name == regularizers.DEFAULT or action.container.title == f"hyper-parameters of {name}"
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "dataset" / "train")
    monkeypatch.chdir(tmp_path)


def refused_or_accepted(parse, words, text):
    code = 0
    try:
        parse(words)
    except Failure as failure:
        code = failure.exit_code
    except OSError as failure:  # a name that is too long; utils.errors makes one line of it
        code = 5 if failure.errno == errno.ENAMETOOLONG else None
    assert code in (0, 2, 4, 5), words  # 4: no such weight file
    assert text or code == 2, f"{words}: an empty value was accepted"


def spellings(flag, text):
    return [[f"{flag}={text}"], [flag, text]]


@pytest.mark.parametrize(("script", "action"), CASES, ids=lambda value: getattr(value, "dest", value))
def test_an_option_refuses_in_one_line_or_accepts(script, action):
    if isinstance(action, (argparse._HelpAction, argparse._VersionAction)) or not action.option_strings:
        return
    _, parse, needed = SCRIPTS[script]
    for text in NASTY:
        for words in spellings(action.option_strings[0], text):
            refused_or_accepted(parse, [*needed, *words], text)


@pytest.mark.parametrize(("name", "action"), FINETUNE, ids=lambda value: getattr(value, "dest", value))
def test_an_option_of_a_run_refuses_in_one_line_or_accepts(name, action):
    if isinstance(action, (argparse._HelpAction, argparse._VersionAction)):
        return
    needed = ["--regularizer", name] if action.dest != "regularizer" else []
    for text in NASTY:
        for words in spellings(action.option_strings[0], text):
            refused_or_accepted(parsing.parse, [*needed, "--pretrained", "none", *words], text)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=8).filter(lambda text: "\0" not in text), name=st.sampled_from(sorted(options.FLAGS)))
def test_a_recipe_gives_any_text_to_an_option(text, name):
    refused_or_accepted(options.Options.from_flags, {"regularizer": "l2", "pretrained": "none", name: text}, True)


@pytest.mark.parametrize("flag", ["--name", "--train_dir", "--save", "--seed", "--lr", "--sample-list"])
@pytest.mark.parametrize("end", [[], ["--gpu", "-1"]])
def test_an_empty_value_names_its_flag(flag, end):
    for words in ([flag, ""], [f"{flag}="]):
        with pytest.raises(UsageError, match=f"^{flag}: the value is empty$"):
            parsing.parse([*words, *end])


def test_a_value_may_begin_with_one_dash():
    assert parsing.parse(["--name", "-x", "--regularizer", "l2"]).name == "-x"
    assert scoring.parse(["--ckpts", "-run_Last.pdparams", "-1"]).ckpts == ["-run_Last.pdparams", "-1"]
    assert reproduce.parser().parse_args(["a.yaml", "--gpus", "-1,-1"]).gpus == "-1,-1"


def test_words_after_two_dashes_are_as_they_stand():
    parsed = predict.parse(["--ckpts", "a.pdparams", "--top-k", "3", "--", "--my-photo.png", "-x-y.png", "a--b.png"])
    assert parsed.paths == ["--my-photo.png", "-x-y.png", "a--b.png"]
    assert parsed.top_k == 3


def test_a_word_without_a_flag_is_named():
    with pytest.raises(UsageError, match="'-lr'"):
        parsing.parse(["-lr", "0.1"])


@given(st.integers())
def test_a_seed_is_one_of_numpys(value):
    if 0 <= value <= LARGEST_SEED:
        assert SEED(str(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 4294967295"):
            SEED(str(value))


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "-" + "9" * 400, "2147483648", "²", "nan", "0x10"])
def test_a_count_out_of_range_is_a_short_line(text):
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        number(int, 1)(text)
    assert len(str(raised.value)) < 150
    assert "accepted is a whole number from 1" in str(raised.value)
    assert number(int, 1)("2147483647") == 2147483647
