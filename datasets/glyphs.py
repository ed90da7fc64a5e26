"""The embedded task, Latin to Greek: letters drawn from the fonts that matplotlib ships, so nothing is downloaded.

The source is the 52 Latin letters, the target the 24 small Greek ones with few images each. Small, because most Greek
capitals look like Latin ones: 14 of the 24 classes would be known already.
"""

from __future__ import annotations

import colorsys
import math
import os
import secrets
import shutil
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.bars import progress_bar
from utils.errors import DataError
from utils.optional import need

SIZE = 37  # side of an image in pixels: what a network for 32 pixels resizes to, round(32 * 256 / 224)

SPLITS = {"latin/train": 60, "latin/test": 10, "greek/train": 20, "greek/val": 15, "greek/test": 30}  # images per class

_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu "
    "nu xi omicron pi rho sigma tau upsilon phi chi psi omega"
)

# the letter of each class; the prefix tells A from a where names of files ignore case
ALPHABETS = {
    "latin": {
        **{f"upper_{letter}": letter for letter in string.ascii_uppercase},
        **{f"lower_{letter}": letter for letter in string.ascii_lowercase},
    },
    "greek": {
        f"{i:02}_{name}": letter
        for i, (name, letter) in enumerate(zip(_GREEK_NAMES.split(), "αβγδεζηθικλμνξοπρστυφχψω"), 1)
    },
}

# fonts with every letter, listed one by one: an image must not depend on other fonts in the folder
_STYLES = {
    "Sans": ("", "-Bold", "-Oblique", "-BoldOblique"),
    "SansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
    "Serif": ("", "-Bold", "-Italic", "-BoldItalic"),
}
FACES = [f"DejaVu{family}{style}.ttf" for family, styles in _STYLES.items() for style in styles]

_EM = 64  # font size in pixels before a letter is placed, for sharp edges about twice that of the image
_FINE = 2  # subpixels to a pixel, in each direction


def write_task(root: str | os.PathLike) -> None:
    """Write the images as `root`/SPLIT/CLASS/NUMBER.png; do nothing when they exist.

    The folder is renamed to `root` when it is complete, so it is never there in part.

    Raises:
        DataError: `root` has other files or lacks some, or a font cannot be read.
        UsageError: matplotlib, whose fonts are drawn, is not installed.
    """
    root = Path(root)
    if root.exists() and (root.is_file() or any(root.iterdir())):
        _check(root)
        return
    need("matplotlib", "the embedded task, which is for runs without --train_dir,")
    temporary = root.with_name(f".{root.name}.{secrets.token_hex(4)}.tmp")
    try:
        for path, letter, seed in progress_bar(list(_plan()), desc="drawing letters", unit="image"):
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            draw(letter, np.random.default_rng(seed)).save(temporary / path)
        try:
            os.rename(temporary, root)
        except OSError:
            if not root.exists():
                raise
            _check(root)  # another process was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(root: Path) -> None:
    missing = next((path for path, _, _ in _plan() if not (root / path).is_file()), None)
    if missing:
        raise DataError(f"{root}: not the embedded task, {missing} is missing; remove it, or choose another folder")


def _plan() -> Iterator[tuple[str, str, list[int]]]:
    """Yield path, letter and seed of every image; its seed is the numbers of split, class and image."""
    for s, (split, count) in enumerate(SPLITS.items()):
        for c, (name, letter) in enumerate(ALPHABETS[split.split("/")[0]].items()):
            for number in range(count):
                yield f"{split}/{name}/{number:03}.png", letter, [s, c, number]


def draw(letter: str, rng: np.random.Generator) -> Image.Image:
    """Return `letter` in RGB, `SIZE` pixels wide and high: dark on a light gradient or light on a dark one."""
    ink = _placed(_glyph(_font(FACES[rng.integers(len(FACES))]), letter), rng)
    dark_paper = rng.random() < 0.5
    paper = _gradient(_colour(rng, dark_paper), _colour(rng, dark_paper), rng.uniform(0, 2 * math.pi))
    pixels = paper + ink[:, :, None] * (_colour(rng, not dark_paper) - paper)
    pixels += rng.uniform(0, 0.05) * rng.standard_normal(pixels.shape)
    return Image.fromarray(np.round(255 * pixels.clip(0, 1)).astype("uint8"))


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    import matplotlib  # slow to import, and needed for its fonts alone

    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", face)
    try:
        return ImageFont.truetype(path, _EM, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"cannot read the font {path}: {error}; matplotlib ships it, install that again") from None


def _glyph(font: ImageFont.FreeTypeFont, letter: str) -> Image.Image:
    """Return the ink of `letter`, its box in the middle: 8 bits, twice `_EM` wide and high."""
    left, top, right, bottom = font.getbbox(letter)
    image = Image.new("L", (2 * _EM, 2 * _EM))
    ImageDraw.Draw(image).text((_EM - (left + right) / 2, _EM - (top + bottom) / 2), letter, fill=255, font=font)
    return image


def _placed(glyph: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Scale, shear, turn and shift the ink at random: [SIZE, SIZE] in [0, 1].

    Nearly all of it stays in the middle 27 pixels, which every crop of 32 contains.
    """
    turn, slant = math.radians(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    ems = rng.uniform(24, 30, 2)  # width and height of the em square in the image, pixels
    middle = SIZE / 2 + rng.uniform(-2, 2, 2)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    forward = rotation @ np.array([[1, slant], [0, 1]]) @ np.diag(ems) * _FINE / _EM
    back = np.linalg.inv(forward)  # Pillow asks where a pixel of the result comes from
    origin = _EM - back @ (_FINE * middle)
    placed = glyph.transform(
        (_FINE * SIZE, _FINE * SIZE),
        Image.Transform.AFFINE,
        (*back[0], origin[0], *back[1], origin[1]),
        Image.Resampling.BICUBIC,
    )
    return np.asarray(placed.reduce(_FINE), dtype="float64") / 255


def _gradient(start: np.ndarray, end: np.ndarray, angle: float) -> np.ndarray:
    """Return [SIZE, SIZE, 3] that goes from one colour to the other along `angle`, in radians."""
    place = np.linspace(-0.5, 0.5, SIZE)
    share = 0.5 + (place * math.cos(angle) + place[:, None] * math.sin(angle)) / math.sqrt(2)
    return start + share[:, :, None] * (end - start)


def _colour(rng: np.random.Generator, dark: bool) -> np.ndarray:
    """Return RGB in [0, 1], dark or light enough to contrast with any of the other kind."""
    hue, saturation, value = rng.random(3)
    if dark:
        return np.array(colorsys.hsv_to_rgb(hue, 0.3 + 0.6 * saturation, 0.1 + 0.35 * value))
    return np.array(colorsys.hsv_to_rgb(hue, 0.5 * saturation, 0.7 + 0.3 * value))
