"""The photographs of a Debian package: a miniature of it to train/ and test/, and the list of the real one."""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import tarfile
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datasets.folder import same_classes, scan
from datasets.official import DATA_SETS, stamps
from datasets.official.base import Counts
from datasets.prepare import main
from tests.datasets.official import content, write_folder
from utils.errors import DataError, UsageError

FOLDER = "usr/share/tuxpaint/stamps"
PLACES = {  # path in the package to class and split
    "symbols/money/us/coins/001penny.png": ("coin", "train"),
    "symbols/money/canadian/coins/001penny.png": ("coin", "test"),
    "military/vehicles/tank.png": ("vehicle", "train"),
    "vehicles/auto/car.png": ("vehicle", "train"),
    "vehicles/bus.png": ("vehicle", "test"),
}
NAME = "tuxpaint-stamps-default_2022.06.04-1_all.deb"


def png(mode: str = "RGBA", seed: int = 0) -> bytes:
    """Return a picture whose left half is transparent, over colours of its own, where the mode has transparency."""
    pixels = np.random.default_rng(seed).integers(0, 200, (6, 8, 4)).astype("uint8")
    pixels[:, :4, 3], pixels[:, 4:, 3] = 0, 255
    image, data = Image.fromarray(pixels), io.BytesIO()
    if mode == "P":
        image.convert("RGB").quantize(16).save(data, "PNG", transparency=0)
    else:
        image.convert(mode).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The files of a miniature package by path, their places and sums in the list that the command reads."""
    files = {path: png(seed=seed) for seed, path in enumerate(PLACES)}
    with open(tmp_path / "list.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("class", "split", "group", "path", "sha256"))
        for path, (name, split) in PLACES.items():
            rows.writerow((name, split, "", path, hashlib.sha256(files[path]).hexdigest()))
    monkeypatch.setattr(stamps, "LIST", tmp_path / "list.csv")
    counts = Counts(2, 3, 2, (1, 2), (1, 1))
    monkeypatch.setitem(DATA_SETS, "stamps", replace(DATA_SETS["stamps"], counts=counts))
    others = {"vehicles/cartoon/bus.png": b"a drawing", "vehicles/bus.txt": b"A bus.", "people/vehicles.svg": b"<svg/>"}
    return {f"{FOLDER}/{path}": data for path, data in {**files, **others}.items()}


def write_package(path, files, data_name="data.tar.xz", members=None):
    """Write a Debian package: an ar archive with the files in a compressed tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, each in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(each)
            tar.addfile(entry, io.BytesIO(each))
    members = members or {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(b"odd"),
        data_name: lzma.compress(data.getvalue()),
    }
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, each in members.items():
            file.write(f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(each):<10}`\n".encode())
            file.write(each + b"\n" * (len(each) % 2))
    return path


def prepare(archive, out, *more):
    return main(["stamps", "--archive", str(archive), "--out", str(out), *more])


EXPECTED = {
    "train/001.coin/symbols-money-us-coins-001penny.png",
    "test/001.coin/symbols-money-canadian-coins-001penny.png",
    "train/002.vehicle/military-vehicles-tank.png",
    "train/002.vehicle/vehicles-auto-car.png",
    "test/002.vehicle/vehicles-bus.png",
}


@pytest.mark.parametrize("below", ["", "usr/share", FOLDER])
def test_unpacked_package_becomes_train_and_test(below, package, tmp_path, capsys):
    folder = write_folder(tmp_path / "in", package)
    assert prepare(folder / below, tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.endswith("2 classes, 3 training images (1-2 a class), 2 test images (1 a class)\n")
    assert "1 images are in no list and were left out" in printed.out
    assert set(content(tmp_path / "out")) == EXPECTED
    same_classes(scan(tmp_path / "out/test"), scan(tmp_path / "out/train").class_names, "test", "train")
    assert content(folder) == package


def test_package_file_gives_the_same_as_its_folder(package, tmp_path, monkeypatch):
    archive = write_package(tmp_path / NAME, package)
    data = archive.read_bytes()
    file = replace(DATA_SETS["stamps"].files()[NAME], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(DATA_SETS, "stamps", replace(DATA_SETS["stamps"], releases=((file,),)))
    prepare(archive, tmp_path / "out")
    prepare(write_folder(tmp_path / "in", package), tmp_path / "from_folder")
    assert content(tmp_path / "out") == content(tmp_path / "from_folder")
    assert set(content(tmp_path / "out")) == EXPECTED


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "L", "P"])
def test_transparent_background_becomes_white_and_the_rest_stays(mode, package, tmp_path):
    path = "vehicles/auto/car.png"
    package[f"{FOLDER}/{path}"] = data = png(mode)
    prepare(write_folder(tmp_path / "in", package), tmp_path / "out", "--unverified")
    with Image.open(io.BytesIO(data)) as image:
        before = np.asarray(image.convert("RGBA"))
    with Image.open(tmp_path / "out/train/002.vehicle/vehicles-auto-car.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        after = np.asarray(image)
    transparent = before[..., 3] == 0
    assert transparent.any() == (mode in ("RGBA", "LA", "P"))
    assert (after[transparent] == 255).all()
    np.testing.assert_array_equal(after[~transparent], before[~transparent][:, :3])


def test_half_transparent_pixels_are_blended_with_white(package, tmp_path):
    data = io.BytesIO()
    Image.new("RGBA", (2, 2), (0, 100, 200, 128)).save(data, "PNG")
    package[f"{FOLDER}/vehicles/bus.png"] = data.getvalue()
    prepare(write_folder(tmp_path / "in", package), tmp_path / "out", "--unverified")
    with Image.open(tmp_path / "out/test/002.vehicle/vehicles-bus.png") as image:
        np.testing.assert_allclose(image.getpixel((1, 1)), (127, 177, 227), atol=1)


@pytest.mark.parametrize("form", ["folder", "deb"])
def test_another_version_is_refused_and_with_the_flag_accepted(form, package, tmp_path, monkeypatch):
    package[f"{FOLDER}/vehicles/bus.png"] = png(seed=99)
    if form == "folder":
        archive = write_folder(tmp_path / "in", package)
    else:
        archive = write_package(tmp_path / NAME, package)
        monkeypatch.setattr("datasets.prepare.verify", lambda data_set, path: "")
    with pytest.raises(DataError, match=r"vehicles/bus.png is not the image of .*: its sha256 .*; --unverified"):
        prepare(archive, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    assert prepare(archive, tmp_path / "out", "--unverified") == 0
    assert set(content(tmp_path / "out")) == EXPECTED


def test_other_package_files_are_refused_by_name_and_sum(package, tmp_path):
    renamed = write_package(tmp_path / "tuxpaint-stamps-default_2023.07.20-1_all.deb", package)
    with pytest.raises(DataError, match=f"is not an official file of Tux Paint stamps; accepted are {NAME}"):
        prepare(renamed, tmp_path / "out")
    with pytest.raises(DataError, match="bytes instead of 160,880,444"):
        prepare(write_package(tmp_path / NAME, package), tmp_path / "out")


def test_missing_picture_is_named(package, tmp_path):
    del package[f"{FOLDER}/military/vehicles/tank.png"]
    with pytest.raises(DataError, match="1 listed images are missing: military/vehicles/tank.png"):
        prepare(write_folder(tmp_path / "in", package), tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_damaged_picture_is_named(package, tmp_path):
    package[f"{FOLDER}/vehicles/bus.png"] = b"no image"
    with pytest.raises(DataError, match=r"cannot read the image vehicles-bus.png"):
        prepare(write_folder(tmp_path / "in", package), tmp_path / "out", "--unverified")
    assert not list(tmp_path.glob("out*"))


def test_damaged_package_files(package, tmp_path):
    whole = write_package(tmp_path / "whole.deb", package).read_bytes()
    cases = {
        "cut": (whole[: len(whole) // 2], "damaged or truncated"),
        "cut_header": (whole[:100], "no data.tar.xz"),
        "only_magic": (b"!<arch>\n", "no data.tar.xz"),
        "no_number": (whole[:56] + b"number" + whole[62:], "no data.tar.xz"),
        "no_xz": (write_package(tmp_path / "x", {}, members={"data.tar.xz": b"no xz"}).read_bytes(), "damaged"),
        "zst": (write_package(tmp_path / "x", package, "data.tar.zst").read_bytes(), "no data.tar.xz.*dpkg -x"),
        "no_tar": (
            write_package(tmp_path / "x", {}, members={"data.tar.xz": lzma.compress(b"x" * 999)}).read_bytes(),
            "not a tar archive|damaged",
        ),
    }
    for name, (data, message) in cases.items():
        path = tmp_path / f"{name}.deb"
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            prepare(path, tmp_path / "out", "--unverified")
        assert not list(tmp_path.glob("out*"))


def test_link_is_refused(package, tmp_path):
    folder = write_folder(tmp_path / "in", package)
    with pytest.raises(UsageError, match="--link: not for stamps"):
        prepare(folder, tmp_path / "out", "--link", "hard")


@pytest.fixture(scope="module")
def rows():
    with open(stamps.LIST, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_list_has_the_counts_that_are_checked():
    assert stamps.read({}).counts() == stamps.STAMPS.counts


def test_listed_paths_are_found_below_any_folder(rows):
    (layout,) = stamps.STAMPS.layouts
    for row in rows:
        for folder in ("", "stamps/", f"{FOLDER}/", f"./in/{FOLDER}/"):
            assert layout.key(folder + row["path"]) == row["path"]


def test_no_picture_is_listed_twice(rows):
    for column in ("path", "sha256"):
        assert max(Counter(row[column] for row in rows).values()) == 1
    targets = stamps.read({}).targets().values()
    assert len({target.casefold() for target in targets}) == len(rows)


def test_drawings_are_not_listed(rows):
    assert not [row["path"] for row in rows if "cartoon" in row["path"]]


def test_groups_stay_on_the_test_side_in_one_class(rows):
    groups = defaultdict(list)
    for row in rows:
        if row["group"]:
            groups[row["group"]].append(row)
    assert len(groups) == 8
    for members in groups.values():
        assert len(members) > 1
        assert {(row["split"], row["class"]) for row in members} == {("test", members[0]["class"])}
    mirrored = [row for row in rows if row["path"].endswith("_mirror.png")]
    assert len(mirrored) == 3
    assert all(row["group"] for row in mirrored)


def test_split_follows_its_rule(rows):
    for name in {row["class"] for row in rows}:
        members = [row for row in rows if row["class"] == name]
        single = sorted((row for row in members if not row["group"]), key=lambda row: row["sha256"])
        wanted = {row["path"] for row in single[: len(members) * 6 // 10]}
        assert {row["path"] for row in members if row["split"] == "train"} == wanted
        assert len(wanted) >= 4
