"""Miniatures of the five official data sets: the same formats and oddities, a dozen images."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datasets.official.building import RECORD
from datasets.prepare import main
from utils.errors import DataError


@dataclass
class Miniature:
    """A data set in its official form.

    Attributes:
        name: as `datasets.prepare` calls it.
        archives: archive name, without .tar or .tgz, to its members by name, in their order.
        loose: files beside the archives.
        expected: what is to be made of them, by path.
    """

    name: str
    archives: dict[str, dict[str, bytes]]
    loose: dict[str, bytes] = field(default_factory=dict)
    expected: dict[str, bytes] = field(default_factory=dict)

    def write(self, folder: Path, form: str) -> list[Path]:
        """Write it in the form "tar", "tgz" or "folder"; return what belongs after --archive."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.loose.items():
            (folder / name).write_bytes(content)
        if form == "folder":
            for members in self.archives.values():
                write_folder(folder, members)
            return [folder]
        paths = [write_tar(folder / f"{name}.{form}", members) for name, members in self.archives.items()]
        return paths + [folder / name for name in self.loose]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Write a tar archive of plain files and the folders they are in, zipped when its name ends in .tgz."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in sorted({str(Path(name).parent) for name in members} - {"."}):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    data = content.getvalue()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".tgz" else data)
    return path


def write_folder(folder: Path, members: dict[str, bytes]) -> Path:
    """Write what unpacking an archive leaves."""
    for name, data in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def picture(seed: int, mode: str = "RGB", form: str = "JPEG", height: int = 36) -> bytes:
    """Return an image file, 48 pixels wide, whose lowest 20 rows are black, as a banner is."""
    pixels = np.random.default_rng(seed).integers(64, 192, (6, 6, 3)).astype("uint8")
    image = Image.fromarray(pixels).resize((48, height), Image.Resampling.BICUBIC)
    image.paste((0, 0, 0), (0, max(height - 20, 0), 48, height))
    content = io.BytesIO()
    image.convert(mode).save(content, form)
    return content.getvalue()


def pictures(count: int) -> list[bytes]:
    """Return images as they come: one grey, one CMYK, one that is a GIF; the rest colour JPEG."""
    odd = {1: picture(1, "L"), 2: picture(2, "CMYK"), 3: picture(3, "P", "GIF")}
    return [odd.get(seed) or picture(seed) for seed in range(count)]


def cub() -> Miniature:
    """Return two classes of three images; the lists stand behind the images and have no final newline."""
    names = [f"001.Black_footed_Albatross/Black_Footed_Albatross_000{i}_{i}.jpg" for i in range(3)]
    names += [f"002.Laysan_Albatross/Laysan_Albatross_000{i}_{i}.jpg" for i in range(3)]
    splits = [1, 0, 1, 0, 1, 1]
    images = pictures(6)
    root = "CUB_200_2011"
    members = {"attributes.txt": b"1 has_bill_shape::curved_(up_or_down)\n"}
    members.update({f"{root}/images/{name}": data for name, data in zip(names, images)})
    members[f"{root}/images/._junk.jpg"] = b"junk"
    members[f"{root}/parts/parts.txt"] = b"1 back\n"
    members[f"{root}/classes.txt"] = b"1 001.Black_footed_Albatross\n2 002.Laysan_Albatross"
    members[f"{root}/images.txt"] = _numbered(names)
    members[f"{root}/image_class_labels.txt"] = _numbered(int(name[:3]) for name in names)
    members[f"{root}/train_test_split.txt"] = _numbered(splits)
    expected = {f"{('test', 'train')[s]}/{name}": data for name, s, data in zip(names, splits, images)}
    return Miniature("cub", {root: members}, expected=expected)


def _numbered(values) -> bytes:
    return "\n".join(f"{i} {value}" for i, value in enumerate(values, 1)).encode()


CARS = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012", "Acura RL Sedan 2012"]
CAR_FOLDERS = ["001.AM General Hummer SUV 2000", "002.Ram C-V Cargo Van Minivan 2012", "003.Acura RL Sedan 2012"]


def cars() -> Miniature:
    """Return the first release: three classes, both folders numbered from 00001."""
    labels = {"train": [2, 1, 3, 2], "test": [3, 2, 1]}
    images = iter(pictures(7))
    archives, expected, annotations = {}, {}, {}
    for split, numbers in labels.items():
        names = [f"{i:05}.jpg" for i in range(1, len(numbers) + 1)]
        content = {name: next(images) for name in names}
        archives[f"cars_{split}"] = {f"cars_{split}/{name}": data for name, data in content.items()}
        expected.update({f"{split}/{CAR_FOLDERS[c - 1]}/{name}": content[name] for name, c in zip(names, numbers)})
        annotations[split] = [_box(**{"class": float(c), "fname": name}) for name, c in zip(names, numbers)]
    unlabelled = [{key: value for key, value in row.items() if key != "class"} for row in annotations["test"]]
    archives["car_devkit"] = {
        "devkit/README.txt": b"bbox_x1 bbox_x2 bbox_y1 bbox_y2",
        "devkit/cars_meta.mat": mat(class_names=cells(CARS)),
        "devkit/cars_train_annos.mat": mat(annotations=records(annotations["train"])),
        "devkit/cars_test_annos.mat": mat(annotations=records(unlabelled)),
    }
    loose = {"cars_test_annos_withlabels.mat": mat(annotations=records(annotations["test"]))}
    return Miniature("cars", archives, loose, expected)


def cars_second() -> Miniature:
    """Return the second release: one folder numbered from 000001, the split a column of the .mat file."""
    labels, tests = [1, 1, 2, 2, 3, 3], [0, 1, 0, 1, 0, 1]
    names = [f"{i:06}.jpg" for i in range(1, 7)]
    images = pictures(6)
    rows = [
        {"relative_im_path": f"car_ims/{name}", **_box(**{"class": np.uint8(c), "test": np.uint8(t)})}
        for name, c, t in zip(names, labels, tests)
    ]
    expected = {
        f"{('train', 'test')[t]}/{CAR_FOLDERS[c - 1]}/{name}": data
        for name, c, t, data in zip(names, labels, tests, images)
    }
    loose = {"cars_annos.mat": mat(annotations=records(rows), class_names=cells(CARS))}
    archives = {"car_ims": {f"car_ims/{name}": data for name, data in zip(names, images)}}
    return Miniature("cars", archives, loose, expected)


def _box(**more) -> dict:
    return {"bbox_x1": 1.0, "bbox_y1": 2.0, "bbox_x2": 30.0, "bbox_y2": 40.0, **more}


def mat(**variables) -> bytes:
    """Return a compressed MATLAB 5 file."""
    content = io.BytesIO()
    savemat(content, variables, do_compression=True)
    return content.getvalue()


def cells(texts: list[str]) -> np.ndarray:
    """Return a cell array of texts, 1 x N."""
    return np.array([texts], dtype=object)


def records(rows: list[dict]) -> np.ndarray:
    """Return a struct array, 1 x N."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def aircraft() -> Miniature:
    """Return three variants, one with a slash and one with spaces in its name."""
    variants = ["707-320", "BAE 146-200", "F-16A/B"]
    folders = ["001.707-320", "002.BAE 146-200", "003.F-16A-B"]
    numbers = {"train": ["1025794", "0056978", "1340192", "0000004"], "test": ["1514522", "0000006", "0000007"]}
    classes = {"train": [0, 2, 1, 2], "test": [1, 0, 2]}
    root = "fgvc-aircraft-2013b"
    images = iter(pictures(8))
    members = {f"{root}/README.md": b"10,200 images", f"{root}/data/variants.txt": "\n".join(variants).encode()}
    expected = {}
    for split, listed in numbers.items():
        text = "\n".join(f"{number} {variants[c]}" for number, c in zip(listed, classes[split]))
        members[f"{root}/data/images_variant_{'trainval' if split == 'train' else split}.txt"] = text.encode()
        for number, c in zip(listed, classes[split]):
            data = next(images)
            members[f"{root}/data/images/{number}.jpg"] = data
            expected[f"{split}/{folders[c]}/{number}.jpg"] = data
    members[f"{root}/data/images/9999999.jpg"] = next(images)
    return Miniature("aircraft", {root: members}, expected=expected)


def indoor() -> Miniature:
    """Return two classes with a space in a name and an image that no list names; the lists are no members."""
    train = ["mall/shopping mall.jpg", "airport_inside/a.jpg", "mall/pool_gif.jpg", "airport_inside/b.jpg"]
    test = ["airport_inside/B.jpg", "mall/b.jpg"]
    folders = {"airport_inside": "001.airport_inside", "mall": "002.mall"}
    content = dict(zip([*train, *test, "mall/unlisted.jpg"], pictures(7)))
    expected = {}
    for split, listed in (("train", train), ("test", test)):
        for name in listed:
            expected[f"{split}/{folders[name.split('/')[0]]}/{name.split('/')[1]}"] = content[name]
    members = {f"Images/{name}": data for name, data in content.items()}
    loose = {"TrainImages.txt": "\n".join(train).encode(), "TestImages.txt": "\n".join(test).encode()}
    return Miniature("indoor", {"indoorCVPR_09": members}, loose, expected)


def food(lists: str = "txt") -> Miniature:
    """Return two dishes with lists of the form "txt" or "json", whose keys are not in order."""
    names = {
        "train": ["churros/1004234", "apple_pie/1005649", "apple_pie/1014775"],
        "test": ["churros/7", "apple_pie/8"],
    }
    folders = {"apple_pie": "001.apple_pie", "churros": "002.churros"}
    content = dict(zip(names["train"] + names["test"], pictures(5)))
    members = {f"food-101/images/{name}.jpg": data for name, data in content.items()}
    members["food-101/meta/classes.txt"] = b"apple_pie\nchurros\n"
    for split, listed in names.items():
        by_class = {c: [name for name in listed if name.startswith(c)] for c in ("churros", "apple_pie")}
        text = "\n".join(listed) if lists == "txt" else json.dumps(by_class)
        members[f"food-101/meta/{split}.{lists}"] = text.encode()
    expected = {
        f"{split}/{folders[name.split('/')[0]]}/{name.split('/')[1]}.jpg": content[name]
        for split, listed in names.items()
        for name in listed
    }
    return Miniature("food", {"food-101": members}, expected=expected)


ALL = {
    "cub": cub,
    "cars": cars,
    "cars_second": cars_second,
    "aircraft": aircraft,
    "indoor": indoor,
    "food_txt": food,
    "food_json": lambda: food("json"),
}


def content(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, all but its record, by path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def prepare(miniature: Miniature, paths: list[Path], out: Path, *more: str) -> int:
    """Run the command on a miniature."""
    return main([miniature.name, "--archive", *map(str, paths), "--out", str(out), "--unverified", *more])


def refused(miniature: Miniature, tmp_path: Path, form: str = "tar", *more: str) -> str:
    """Prepare what must fail, check that it left nothing behind, return the message."""
    paths = miniature.write(tmp_path / "in", form)
    before = content(tmp_path)
    with pytest.raises(DataError) as failure:
        prepare(miniature, paths, tmp_path / "out", *more)
    assert failure.value.exit_code == 3
    assert content(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    return str(failure.value)
