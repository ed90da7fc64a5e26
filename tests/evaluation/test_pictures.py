"""What the pictures show, read from their pixels and from what was drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from evaluation import pictures
from utils.errors import DataError

CLASSES = ["cat", "dog", "emu"]
MATRIX = np.array([[2, 3, 0], [0, 4, 1], [5, 0, 0]])  # rows true, columns predicted


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_the_confusion_matrix_has_rows_for_true_classes(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: drawn.append(figure) or save(figure, *a, **k))
    pictures.confusion_matrix(tmp_path / "m.png", MATRIX, CLASSES)
    axes = drawn[0].axes[0]
    assert axes.get_xlabel() == "predicted class (columns)"
    assert axes.get_ylabel() == "true class (rows)"
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES
    numbers = {text.get_position(): int(text.get_text()) for text in axes.texts}
    assert numbers == {(column, row): MATRIX[row, column] for row, column in zip(*MATRIX.nonzero())}
    shades = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(255 * shades[2, 0], rgb(pictures.RED))  # every emu is taken for a cat
    assert shades[1, 1, 2] > shades[1, 1, 0]  # dogs: right is blue
    np.testing.assert_array_equal(shades[0, 2], [1, 1, 1])


def test_many_classes_odd_names_and_a_class_without_images_are_drawn(tmp_path):
    matrix = np.random.default_rng(0).integers(0, 9, (200, 200))
    matrix[7] = 0
    names = ["$a$ $", "鳥", "a\nb", "\udce9", *map(str, range(196))]
    pictures.confusion_matrix(tmp_path / "m.png", matrix, names)
    with Image.open(tmp_path / "m.png") as picture:
        assert min(picture.size) > 200 * 12  # pixels enough for a name in each row


def test_long_names_beside_a_matrix_are_cut_and_stay_inside(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: drawn.append(figure) or save(figure, *a, **k))
    pictures.confusion_matrix(tmp_path / "m.png", 20_000 * MATRIX, ["W" * 150, "dog", "w " * 50])
    axes = drawn[0].axes[0]
    assert [len(label.get_text()) for label in axes.get_yticklabels()] == [40, 3, 40]
    with Image.open(tmp_path / "m.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()  # nothing is cut off
    cell = axes.transData.transform([(0, 0), (1, 0)])[:, 0]
    for text in axes.texts:
        assert text.get_window_extent().width < cell[1] - cell[0]


def test_a_bar_is_as_long_as_its_share(tmp_path):
    Image.new("RGB", (10, 30), "#00ff00").save(tmp_path / "a.png")
    tiles = [
        pictures.Tile(tmp_path / "a.png", "name", share, "note", colour)
        for share, colour in ((0.25, pictures.BLUE), (1.0, pictures.RED), (0.0, pictures.GREEN))
    ]
    pictures.contact_sheet(tmp_path / "sheet.png", "title", tiles)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    for column, (length, tile) in enumerate(zip((40, 160, 0), tiles)):
        left = 18 + column * 178
        bar = pixels[58 + 160 + 4, left : left + 160]
        assert (bar == rgb(tile.colour)).all(axis=1).sum() == length
        across = pixels[58 + 80, left : left + 160]  # the whole image, upright, in the middle of its square
        green = (across == [0, 255, 0]).all(axis=1)
        assert green.sum() in (53, 54)
        assert green[80]


def test_long_names_are_cut_to_the_tile(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    tile = pictures.Tile(tmp_path / "a.png", "W" * 60, 1.0, "w" * 90)
    pictures.contact_sheet(tmp_path / "sheet.png", "T" * 200, [tile])
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert (pixels[:, 18 + 160 : 18 + 178][58:] == 255).all()  # the gap to the next tile
    assert (pixels[:58, -18:] == 255).all()


@pytest.mark.parametrize("size", [(900, 1), (1, 900), (320, 2)])
def test_a_tile_of_a_thin_image(size, tmp_path):
    Image.new("RGB", size, "#00ff00").save(tmp_path / "a.png")
    pictures.contact_sheet(tmp_path / "sheet.png", "title", [pictures.Tile(tmp_path / "a.png", "name", 1.0, "note")])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (np.asarray(sheet)[58 : 58 + 160, 18 : 18 + 160] == [0, 255, 0]).all(axis=2).sum() == 160


def test_tiles_are_read_as_the_network_reads_images(tmp_path):
    Image.fromarray(np.full((16, 16), 30000, "uint16")).save(tmp_path / "deep.png")
    Image.new("RGBA", (16, 16), (0, 200, 0, 0)).save(tmp_path / "clear.png")
    tiles = [pictures.Tile(tmp_path / f"{name}.png", "name", 1.0, "note") for name in ("deep", "clear")]
    pictures.contact_sheet(tmp_path / "sheet.png", "title", tiles)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels[100, 100].tolist() == [117] * 3
    assert pixels[100, 278].tolist() == [255] * 3
    (tmp_path / "deep.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match="deep.png: not an image"):
        pictures.contact_sheet(tmp_path / "sheet.png", "title", tiles)


def test_further_classes_stand_below_the_first_and_move_the_next_row_down(tmp_path, monkeypatch):
    written = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda page, at, text, *a, **k: written.append((at, text)) or draw(page, at, text, *a, **k),
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    more = [("second", 0.2), ("third", 0.1)]
    tiles = [pictures.Tile(tmp_path / "a.png", "first", 0.6, "note", more=more if n else []) for n in range(5)]
    pictures.contact_sheet(tmp_path / "sheet.png", "title", tiles)
    places = {}
    for (left, top), text in written:
        places.setdefault(text, []).append((left, top))
    rows = 58 + 160, 58 + 160 + 224 + 2 * 14
    assert [places[name][-1] for name in ("first", "second", "third", "note")] == [
        (18, rows[1] + down) for down in (11, 28, 42, 56)
    ]
    assert places["note"][0] == (18, rows[0] + 28)
    assert len(places["20 %"]) == len(places["10 %"]) == 4
