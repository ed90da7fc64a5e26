import numpy as np
import pytest
from PIL import Image, ImageOps

from evaluation import prediction
from tests.pictures import picture, sideways, write_odd_folder
from tests.toy_checkpoints import write_checkpoint


def test_files_and_folders_are_found_once_and_hidden_ones_not_at_all(tmp_path):
    root = write_odd_folder(tmp_path / "odd")
    (tmp_path / "photo").write_bytes((root / "plain" / "alpha.png").read_bytes())
    named = str(root / "plain" / "alpha.png")
    found = prediction.find([str(tmp_path / "photo"), named, str(root)])
    assert list(found)[:2] == [str(tmp_path / "photo"), named]
    assert len(found) == 9
    assert sum(found.values()) == 2
    assert not any("/." in path or path.endswith("notes.txt") for path in list(found)[2:])
    assert list(found)[2:] == sorted(list(found)[2:])


def test_a_large_sheet_shows_a_part(tmp_path):
    paths = []
    for number in range(prediction.SHEET + 30):
        paths.append(str(tmp_path / f"{number:03d}.png"))
        picture(number, size=(8, 8)).save(paths[-1])
    prediction.draw(tmp_path / "sheet.png", paths, [[("cat", 0.9)]] * len(paths))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (18 + 10 * 178, 58 + 12 * 224)


def test_files_of_a_folder_that_are_left_out_are_counted_in_one_line(tmp_path, capsys):
    root = write_odd_folder(tmp_path / "odd")
    (root / "plain" / "1.heic").write_bytes(b"x")
    assert len(prediction.find([str(root)])) == 8
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"WARNING: {root}: left out: 2 hidden folders")
    assert all(words in line for words in ("1 .heic", "1 .txt", "1 hidden images"))


@pytest.mark.parametrize("entries", [{}, {"orientation": "ignore"}, {"orientation": "exif"}])
def test_photographs_are_turned_as_the_checkpoint_says(entries, tmp_path):
    image = picture(0, 1, (50, 36))
    image.paste((255, 0, 0), (0, 0, 50, 12))
    photo = str(sideways(tmp_path / "photo.png", image))
    models = prediction.load([str(write_checkpoint(tmp_path / "a.pdparams", ["cat", "dog", "emu"], **entries))])
    with Image.open(photo) as read:
        seen = ImageOps.exif_transpose(read) if entries.get("orientation") == "exif" else image
    seen.save(tmp_path / "seen.bmp")
    found = prediction.label(models, {photo: True, str(tmp_path / "seen.bmp"): True}, 2).probabilities
    image.rotate(180).save(tmp_path / "other.bmp")
    other = prediction.label(models, {str(tmp_path / "other.bmp"): True}, 1).probabilities
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], other[0], atol=1e-4)
