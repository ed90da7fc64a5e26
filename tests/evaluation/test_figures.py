import os
import subprocess
import sys

import pytest
from PIL import Image

from evaluation import figures
from tests.scripts import ROOT

DRAW = """
import sys
import numpy as np
from evaluation import confusion_matrix, curves, interpolation

rows = [{"step": 1, "train_loss": 3, "val_loss": 4, "train_acc": 1, "val_acc": 2}]
curves.draw(sys.argv[1] + "/curves.png", r"$\\frac", rows)
confusion_matrix.draw(sys.argv[1] + "/matrix.png", np.eye(2, dtype=int), [r"$\\frac", "b"])
losses = dict.fromkeys(interpolation.TITLES, interpolation.Loss(0, 0, 0, 0.5))
interpolation.draw(sys.argv[1] + "/il.png", {r"$\\frac": [losses] * 11})
panel = curves.panel(np.zeros((1, 3, 4, 4)), np.ones((1, 1)), [r"$\\frac"])
Image = __import__("PIL.Image", fromlist=["Image"])
Image.fromarray(panel).save(sys.argv[1] + "/panel.png")
"""


def drawn(folder, **settings):
    """Return the pixels of every kind of picture, drawn in a process with these environment variables."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-c", DRAW, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = {}
    for path in folder.iterdir():
        with Image.open(path) as image:
            found[path.name] = image.convert("RGB").tobytes()
    return found


def test_a_persons_settings_of_matplotlib_change_no_picture(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\nfont.size: 30\nfigure.dpi: 20\nsavefig.dpi: 30\n")
    wanted = drawn(tmp_path / "plain")
    assert sorted(wanted) == ["curves.png", "il.png", "matrix.png", "panel.png"]
    settings = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "module://nothing"}
    assert drawn(tmp_path / "other", **settings) == wanted


def test_settings_of_matplotlib_are_given_back(tmp_path):
    import matplotlib

    with matplotlib.rc_context({"font.size": 3.0}):
        with figures.figure(tmp_path / "a.png", (2, 1)):
            assert matplotlib.rcParams["font.size"] == 10
        assert matplotlib.rcParams["font.size"] == 3
        assert matplotlib.rcParams["text.parse_math"]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (240, 120)


def test_a_picture_that_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "a.png").write_text("old")
    with pytest.raises(ValueError, match="broken"), figures.figure(tmp_path / "a.png", (2, 1)):
        raise ValueError("broken")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.png": "old"}
