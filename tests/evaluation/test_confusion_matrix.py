"""What the picture of a confusion matrix shows, read from its pixels and from what was drawn."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from datasets.sheet import RED
from evaluation import confusion_matrix

CLASSES = ["cat", "dog", "emu"]
MATRIX = np.array([[2, 3, 0], [0, 4, 1], [5, 0, 0]])  # rows true, columns predicted


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_the_confusion_matrix_has_rows_for_true_classes(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: drawn.append(figure) or save(figure, *a, **k))
    confusion_matrix.draw(tmp_path / "m.png", MATRIX, CLASSES)
    axes = drawn[0].axes[0]
    assert axes.get_xlabel() == "predicted class (columns)"
    assert axes.get_ylabel() == "true class (rows)"
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES
    numbers = {text.get_position(): int(text.get_text()) for text in axes.texts}
    assert numbers == {(column, row): MATRIX[row, column] for row, column in zip(*MATRIX.nonzero())}
    shades = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(255 * shades[2, 0], rgb(RED))  # every emu is taken for a cat
    assert shades[1, 1, 2] > shades[1, 1, 0]  # dogs: right is blue
    np.testing.assert_array_equal(shades[0, 2], [1, 1, 1])


def test_many_classes_odd_names_and_a_class_without_images_are_drawn(tmp_path):
    matrix = np.random.default_rng(0).integers(0, 9, (200, 200))
    matrix[7] = 0
    names = ["$a$ $", "鳥", "a\nb", "\udce9", *map(str, range(196))]
    confusion_matrix.draw(tmp_path / "m.png", matrix, names)
    with Image.open(tmp_path / "m.png") as picture:
        assert min(picture.size) > 200 * 12  # pixels enough for a name in each row


def test_long_names_beside_a_matrix_are_cut_and_stay_inside(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: drawn.append(figure) or save(figure, *a, **k))
    confusion_matrix.draw(tmp_path / "m.png", 20_000 * MATRIX, ["W" * 150, "dog", "w " * 50])
    axes = drawn[0].axes[0]
    assert [len(label.get_text()) for label in axes.get_yticklabels()] == [40, 3, 40]
    with Image.open(tmp_path / "m.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()  # nothing is cut off
    cell = axes.transData.transform([(0, 0), (1, 0)])[:, 0]
    for text in axes.texts:
        assert text.get_window_extent().width < cell[1] - cell[0]
