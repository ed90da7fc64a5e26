import argparse

import pytest

from utils.words import duration, printable, seconds


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0123, "0.012 s"),
        (0.999, "1 s"),
        (3.14159, "3.1 s"),
        (45.4, "45 s"),
        (119.6, "2 min"),
        (3600, "60 min"),
        (7199, "2 h"),
        (7800, "2 h 10 min"),
        (2 * 86400 + 4 * 3600, "2 days 4 h"),
    ],
)
def test_a_duration_as_people_say_it(value, text):
    assert duration(value) == text


@pytest.mark.parametrize("text, value", [("45s", 45), ("10m", 600), ("1h30m", 5400), (" 1H ", 3600), ("2h0m5s", 7205)])
def test_a_time_as_people_write_it(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "0h0m", "1.5h", "-3m", "30m1h", "1h 30m", "٣m", "9" * 100 + "h"])
def test_anything_else_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="accepted is a time such as 10m, 1h30m or 45s"):
        seconds(text)


def test_names_are_one_line_of_text():
    assert printable("a\nb  \udce9 $x$ 鳥") == "a b ? $x$ 鳥"
