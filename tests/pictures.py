"""Folders of small generated images for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


def picture(seed: int, label: int = 0, size=(40, 32)) -> Image.Image:
    """Return an RGB image whose colour depends on `label` and whose noise depends on `seed`."""
    rng = np.random.default_rng([seed, label])
    colour = np.array([(label * 97) % 256, (label * 57 + 60) % 256, (label * 131 + 20) % 256])
    noise = rng.integers(-40, 40, (size[1], size[0], 3))
    return Image.fromarray(np.clip(colour + noise, 0, 255).astype("uint8"))


def sideways(path: Path, image: Image.Image, orientation: int = 6) -> Path:
    """Write `image` with an EXIF orientation, as a phone does, and return its path."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif)
    return path


def write_folder(root: Path, classes=("cat", "dog", "emu"), count: int = 4, seed: int = 0, size=(40, 32)) -> Path:
    """Write `count` PNGs for each class below `root` and return it."""
    for label, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(seed * 1000 + number, label, size).save(folder / f"{number:03d}.png")
    return root


def write_odd_folder(root: Path) -> Path:
    """Write what people have: mixed sizes and modes, odd names and endings, hidden and nested folders."""
    first, second = root / "Ünïcode Öwl", root / "plain"
    (first / "nested").mkdir(parents=True)
    second.mkdir(parents=True)
    picture(0, 0, (50, 36)).save(first / "a b c.JPG", quality=90)
    picture(1, 0, (33, 64)).convert("L").save(first / "grey.jpeg")
    picture(2, 0).convert("CMYK").save(first / "nested" / "cmyk.jpg")
    picture(3, 0).save(first / "鳥.png")
    picture(4, 1, (90, 35)).convert("RGBA").save(second / "alpha.png")
    picture(5, 1).save(second / "really_a_gif.gif")
    (second / "really_a_gif.gif").rename(second / "gif.jpg")
    picture(6, 1).convert("P").save(second / "palette.PNG")
    picture(7, 1, (32, 32)).save(second / "bitmap.bmp")
    for hidden in (root / ".ipynb_checkpoints", first / ".thumbs"):
        hidden.mkdir()
        picture(8).save(hidden / "hidden.png")
    picture(9).save(second / "._junk.jpg", format="PNG")
    (second / "notes.txt").write_text("not an image")
    return root
