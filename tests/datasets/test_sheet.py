"""What a contact sheet shows, read from its pixels and from what was drawn."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from datasets import sheet
from utils.errors import DataError


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_a_bar_is_as_long_as_its_share(tmp_path):
    Image.new("RGB", (10, 30), "#00ff00").save(tmp_path / "a.png")
    tiles = [
        sheet.Tile(tmp_path / "a.png", "name", share, "note", colour)
        for share, colour in ((0.25, sheet.BLUE), (1.0, sheet.RED), (0.0, sheet.GREEN))
    ]
    sheet.contact_sheet(tmp_path / "sheet.png", "title", tiles)
    with Image.open(tmp_path / "sheet.png") as drawn:
        pixels = np.asarray(drawn)
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
    tile = sheet.Tile(tmp_path / "a.png", "W" * 60, 1.0, "w" * 90)
    sheet.contact_sheet(tmp_path / "sheet.png", "T" * 200, [tile])
    with Image.open(tmp_path / "sheet.png") as drawn:
        pixels = np.asarray(drawn)
    assert (pixels[:, 18 + 160 : 18 + 178][58:] == 255).all()  # the gap to the next tile
    assert (pixels[:58, -18:] == 255).all()


@pytest.mark.parametrize("size", [(900, 1), (1, 900), (320, 2)])
def test_a_tile_of_a_thin_image(size, tmp_path):
    Image.new("RGB", size, "#00ff00").save(tmp_path / "a.png")
    sheet.contact_sheet(tmp_path / "sheet.png", "title", [sheet.Tile(tmp_path / "a.png", "name", 1.0, "note")])
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert (np.asarray(drawn)[58 : 58 + 160, 18 : 18 + 160] == [0, 255, 0]).all(axis=2).sum() == 160


def test_tiles_are_read_as_the_network_reads_images(tmp_path):
    Image.fromarray(np.full((16, 16), 30000, "uint16")).save(tmp_path / "deep.png")
    Image.new("RGBA", (16, 16), (0, 200, 0, 0)).save(tmp_path / "clear.png")
    tiles = [sheet.Tile(tmp_path / f"{name}.png", "name", 1.0, "note") for name in ("deep", "clear")]
    sheet.contact_sheet(tmp_path / "sheet.png", "title", tiles)
    with Image.open(tmp_path / "sheet.png") as drawn:
        pixels = np.asarray(drawn)
    assert pixels[100, 100].tolist() == [117] * 3
    assert pixels[100, 278].tolist() == [255] * 3
    (tmp_path / "deep.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match="deep.png: not an image"):
        sheet.contact_sheet(tmp_path / "sheet.png", "title", tiles)


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
    tiles = [sheet.Tile(tmp_path / "a.png", "first", 0.6, "note", more=more if n else []) for n in range(5)]
    sheet.contact_sheet(tmp_path / "sheet.png", "title", tiles)
    places = {}
    for (left, top), text in written:
        places.setdefault(text, []).append((left, top))
    rows = 58 + 160, 58 + 160 + 224 + 2 * 14
    assert [places[name][-1] for name in ("first", "second", "third", "note")] == [
        (18, rows[1] + down) for down in (11, 28, 42, 56)
    ]
    assert places["note"][0] == (18, rows[0] + 28)
    assert len(places["20 %"]) == len(places["10 %"]) == 4


def test_a_tile_without_a_share_has_no_bar_and_none_leaves_its_place_empty(tmp_path):
    Image.new("RGB", (8, 8), "#00ff00").save(tmp_path / "a.png")
    tile = sheet.Tile(tmp_path / "a.png", "name", None, "note")
    sheet.contact_sheet(tmp_path / "sheet.png", "title", [None, tile, None, tile], columns=2)
    with Image.open(tmp_path / "sheet.png") as drawn:
        pixels = np.asarray(drawn)
    assert pixels.shape[:2] == (58 + 2 * 224, 18 + 2 * 178)
    assert (pixels[58:, : 18 + 160] == 255).all()
    for top in (58, 58 + 224):
        assert (pixels[top + 80, 18 + 178 + 80] == [0, 255, 0]).all()
        assert (pixels[top + 163 : top + 167, 18 + 178 : 18 + 178 + 160] == 255).all()
