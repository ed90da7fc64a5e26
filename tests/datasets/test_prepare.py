"""The official archives, in miniature, to train/ and test/: what is made of them, and which are the official ones."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.folder import same_classes, scan
from datasets.official import DATA_SETS
from datasets.official import tree as tree_module
from datasets.official.base import Counts
from datasets.official.building import RECORD
from datasets.prepare import main
from tests.datasets import official
from tests.datasets.official import content, prepare, refused
from utils.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[2]
OFFICIAL_COUNTS = {  # classes, train, test, least and most of a class in train and in test
    "cub": (200, 5994, 5794, (29, 30), (11, 30)),
    "cars": (196, 8144, 8041, (24, 68), (24, 68)),
    "aircraft": (100, 6667, 3333, (66, 67), (33, 34)),
    "indoor": (67, 5360, 1340, (77, 83), (17, 23)),
    "food": (101, 75750, 25250, (750, 750), (250, 250)),
    "stamps": (22, 169, 131, (4, 13), (4, 10)),
}


@pytest.mark.parametrize("form", ["tar", "tgz", "folder"])
@pytest.mark.parametrize("name", official.ALL)
def test_official_format_becomes_train_and_test(name, form, tmp_path):
    miniature = official.ALL[name]()
    out = tmp_path / "out"
    assert prepare(miniature, miniature.write(tmp_path / "in", form), out) == 0
    assert content(out) == miniature.expected
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]
    assert sorted(os.listdir(out)) == [RECORD, "test", "train"]
    train, test = scan(out / "train"), scan(out / "test")
    same_classes(test, train.class_names, "test", "train")
    assert [int(each[:3]) for each in train.class_names] == list(range(1, len(train.class_names) + 1))


@pytest.mark.parametrize("name", official.ALL)
def test_order_of_members_does_not_matter(name, tmp_path):
    miniature = official.ALL[name]()
    for order in (sorted, lambda members: sorted(members, reverse=True)):
        mixed = {
            archive: {key: members[key] for key in order(members)} for archive, members in miniature.archives.items()
        }
        out = tmp_path / f"out{order is sorted}"
        prepare(miniature, replace(miniature, archives=mixed).write(tmp_path / "in", "tgz"), out)
        assert content(out) == miniature.expected


def test_names_are_found_below_any_folder(tmp_path):
    def moved(archives, change):
        return {name: {change(key): data for key, data in members.items()} for name, members in archives.items()}

    changes = {
        "cars": lambda key: f"data/{key.split('/')[0]}/{key}",  # as on Kaggle, nested twice
        "indoor": lambda key: key.replace("Images/", "./"),
        "cub": lambda key: f"./{key}",
    }
    for name, change in changes.items():
        miniature = official.ALL[name]()
        miniature = replace(miniature, archives=moved(miniature.archives, change))
        for form in ("tgz", "folder"):
            out = tmp_path / f"{name}_{form}"
            prepare(miniature, miniature.write(tmp_path / f"in_{name}_{form}", form), out)
            assert content(out) == miniature.expected


def test_inner_folder_and_archives_may_be_mixed_with_folders(tmp_path):
    cub = official.cub()
    (folder,) = cub.write(tmp_path / "cub", "folder")
    prepare(cub, [folder / "CUB_200_2011"], tmp_path / "out_cub")
    assert content(tmp_path / "out_cub") == cub.expected
    cars = official.cars()
    paths = cars.write(tmp_path / "cars", "tgz")
    folder = official.write_folder(tmp_path / "unpacked", cars.archives["cars_train"])
    prepare(cars, [folder, *(path for path in paths if path.name != "cars_train.tgz")], tmp_path / "out_cars")
    assert content(tmp_path / "out_cars") == cars.expected


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    miniature = official.food()
    (folder,) = miniature.write(tmp_path / "in", "folder")
    (folder / "food-101" / "images").rename(tmp_path / "elsewhere")
    (folder / "food-101" / "images").symlink_to(tmp_path / "elsewhere")
    (folder / "food-101" / "loop").symlink_to(folder)
    prepare(miniature, [folder], tmp_path / "out")
    assert content(tmp_path / "out") == miniature.expected


def test_what_is_no_file_in_a_folder_is_passed_over(tmp_path):
    miniature = official.cub()
    (folder,) = miniature.write(tmp_path / "in", "folder")
    images = folder / "CUB_200_2011" / "images" / "002.Laysan_Albatross"
    os.mkfifo(images / "pipe.jpg")
    (images / "gone.jpg").symlink_to("nowhere")
    prepare(miniature, [folder], tmp_path / "out", "--link", "copy")
    assert content(tmp_path / "out") == miniature.expected
    (images / "Laysan_Albatross_0000_0.jpg").unlink()
    (images / "Laysan_Albatross_0000_0.jpg").symlink_to("nowhere")
    with pytest.raises(DataError, match="1 listed images are missing"):
        prepare(miniature, [folder], tmp_path / "out2", "--link", "copy")


@pytest.mark.parametrize("link", [None, "hard", "copy", "symlink"])
def test_link_modes(link, tmp_path, monkeypatch):
    miniature = official.cub()
    (folder,) = miniature.write(tmp_path / "in", "folder")
    before = content(folder)
    monkeypatch.chdir(tmp_path)
    prepare(miniature, [Path("in")], Path("out"), *(["--link", link] if link else []))
    assert content(tmp_path / "out") == miniature.expected
    for name in miniature.expected:
        made = tmp_path / "out" / name
        source = folder / "CUB_200_2011" / "images" / name.split("/", 1)[1]
        assert made.samefile(source) == (link != "copy")
        assert made.is_symlink() == (link == "symlink")
    assert content(folder) == before


def test_hard_link_that_the_disk_refuses(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    miniature = official.cub()
    paths = miniature.write(tmp_path / "in", "folder")
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError, match="--link hard: .* accepted are --link copy and symlink"):
        prepare(miniature, paths, tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


def test_only_what_is_listed_is_written(tmp_path, monkeypatch):
    written = []

    def spy(stream, path, save=tree_module.save):
        written.append(path.name)
        save(stream, path)

    monkeypatch.setattr("datasets.prepare.save", spy)
    monkeypatch.setattr(tree_module, "save", spy)
    miniature = official.indoor()
    prepare(miniature, miniature.write(tmp_path / "in", "tar"), tmp_path / "out")
    assert sorted(written) == sorted(name.split("/")[-1] for name in miniature.expected)


def test_small_archives_come_first(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("datasets.prepare.save", lambda stream, path: written.append(path.name))
    monkeypatch.setattr(tree_module, "save", lambda stream, path: written.append(path.name))
    miniature = official.cars()
    for name in ("cars_train", "cars_test"):
        members = miniature.archives[name]
        miniature.archives[name] = {key: data + bytes(10_000) for key, data in members.items()}
    prepare(miniature, miniature.write(tmp_path / "in", "tar"), tmp_path / "out")
    assert written
    assert all(name.endswith(".jpg") for name in written)  # none waited for its list


def test_windows_line_ends(tmp_path):
    for name in ("cub", "aircraft", "indoor", "food_txt"):
        miniature = official.ALL[name]()
        for files in (miniature.loose, *miniature.archives.values()):
            files.update({key: data.replace(b"\n", b" \r\n") for key, data in files.items() if key.endswith(".txt")})
        prepare(miniature, miniature.write(tmp_path / name, "tar"), tmp_path / f"out_{name}")
        assert content(tmp_path / f"out_{name}") == miniature.expected


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_names_that_are_not_utf8_are_kept(form, tmp_path):
    miniature = official.indoor()
    miniature.loose["TestImages.txt"] += b"\nmall/caf\xe9.jpg"
    miniature.archives["indoorCVPR_09"]["Images/mall/caf\udce9.jpg"] = b"image"
    prepare(miniature, miniature.write(tmp_path / "in", form), tmp_path / "out")
    assert content(tmp_path / "out") == {**miniature.expected, "test/002.mall/caf\udce9.jpg": b"image"}


def test_notes_on_what_is_a_trap(tmp_path, capsys):
    wanted = {
        "cars": "TLLib",
        "cars_second": "numbered otherwise",
        "aircraft": "--crop_banner",
        "indoor": "1 images are in no list",
    }
    for name, text in wanted.items():
        miniature = official.ALL[name]()
        prepare(miniature, miniature.write(tmp_path / name, "tar"), tmp_path / f"out_{name}")
        assert text in capsys.readouterr().out


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_crop_banner(form, tmp_path):
    miniature = official.aircraft()
    prepare(miniature, miniature.write(tmp_path / "in", form), tmp_path / "out", "--crop_banner")
    made = content(tmp_path / "out")
    assert set(made) == set(miniature.expected)
    for name, data in miniature.expected.items():
        with Image.open(io.BytesIO(made[name])) as cropped, Image.open(io.BytesIO(data)) as whole:
            assert cropped.format == "JPEG"
            assert cropped.size == (48, 16)
            kept = np.asarray(whole.convert("RGB"), dtype="float64")[:16]
            change = np.abs(np.asarray(cropped.convert("RGB"), dtype="float64") - kept)
            assert change.mean() < 5
            assert kept.mean() > 64 > np.asarray(whole.convert("RGB"))[17:].mean()


@pytest.mark.parametrize("mode, form", [("RGB", "JPEG"), ("L", "JPEG")])
def test_crop_keeps_tables_and_mode_of_a_jpeg(mode, form, tmp_path):
    miniature = official.aircraft()
    member = "fgvc-aircraft-2013b/data/images/1025794.jpg"
    with Image.open(io.BytesIO(official.picture(5, mode, form))) as image:
        data = io.BytesIO()
        image.save(data, form, quality=60)
    miniature.archives["fgvc-aircraft-2013b"][member] = data.getvalue()
    prepare(miniature, miniature.write(tmp_path / "in", "tar"), tmp_path / "out", "--crop_banner")
    with Image.open(data) as whole, Image.open(tmp_path / "out/train/001.707-320/1025794.jpg") as cropped:
        assert (cropped.mode, cropped.quantization, cropped.layer) == (whole.mode, whole.quantization, whole.layer)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"no image", "cannot read the image 0000006.jpg: not an image"),
        (official.picture(0, height=20), "cannot crop 0000006.jpg: it is 20 pixels high"),
    ],
)
def test_image_that_cannot_be_cropped(data, reason, tmp_path):
    miniature = official.aircraft()
    miniature.archives["fgvc-aircraft-2013b"]["fgvc-aircraft-2013b/data/images/0000006.jpg"] = data
    message = refused(miniature, tmp_path, "tar", "--crop_banner")
    assert reason in message


def test_the_checks_use_the_official_counts():
    assert {name: data_set.counts for name, data_set in DATA_SETS.items()} == {
        name: Counts(*numbers) for name, numbers in OFFICIAL_COUNTS.items()
    }


def full_indoor(spread: tuple[int, int, int] = (77, 83, 80)) -> official.Miniature:
    """Return as many empty images as MIT-Indoor-67 has, 100 in each of 67 classes."""
    names = {"Train": [], "Test": []}
    for c in range(67):
        train = spread[min(c, 2)]
        names["Train"] += [f"room_{c:02}/{i}.jpg" for i in range(train)]
        names["Test"] += [f"room_{c:02}/{i}.jpg" for i in range(train, 100)]
    loose = {f"{split}Images.txt": "\n".join(listed).encode() for split, listed in names.items()}
    members = {f"Images/{name}": b"" for name in names["Train"] + names["Test"]}
    return official.Miniature("indoor", {"indoorCVPR_09": members}, loose)


def test_official_counts_pass_without_a_flag(tmp_path, capsys):
    full_indoor().write(tmp_path / "in", "folder")
    assert main(["indoor", "--archive", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("67 classes, 5,360 training images (77-83 a class), 1,340 test images (17-23 a class)\n")
    assert said.err == ""
    assert len(scan(tmp_path / "out" / "train")) == 5360
    assert len(scan(tmp_path / "out" / "test")) == 1340


def test_right_totals_with_a_wrong_spread_are_refused(tmp_path):
    paths = replace(full_indoor((78, 82, 80)), archives={}).write(tmp_path / "in", "folder")  # the lists decide
    with pytest.raises(DataError) as failure:
        main(["indoor", "--archive", str(paths[0]), "--out", str(tmp_path / "out")])
    assert str(failure.value) == (
        "not the counts of MIT-Indoor-67: train_per_class (78, 82) instead of (77, 83); "
        "test_per_class (18, 22) instead of (17, 23); --unverified accepts them"
    )
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("name", official.ALL)
def test_other_counts_are_refused_and_with_the_flag_warned_of(name, tmp_path, capsys):
    miniature = official.ALL[name]()
    (folder,) = miniature.write(tmp_path / "in", "folder")
    arguments = [miniature.name, "--archive", str(folder), "--out", str(tmp_path / "out")]
    classes, train, test, *_ = OFFICIAL_COUNTS[miniature.name]
    with pytest.raises(DataError) as failure:
        main(arguments)
    assert f"instead of {classes}; train " in str(failure.value)
    assert f"instead of {train}; test " in str(failure.value)
    assert f"instead of {test}; train_per_class " in str(failure.value)
    assert os.listdir(tmp_path) == ["in"]
    main([*arguments, "--unverified"])
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("WARNING: ") for line in warnings)
    assert f"instead of {train}" in warnings[1]


@pytest.fixture
def known_cub(tmp_path, monkeypatch):
    """A miniature whose size, sum and counts are taken for the official ones; returns its archive."""
    miniature = official.cub()
    (path,) = miniature.write(tmp_path / "in", "tgz")
    data = path.read_bytes()
    file = replace(
        DATA_SETS["cub"].files()["CUB_200_2011.tgz"], size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    counts = Counts(2, 4, 2, (2, 2), (1, 1))
    monkeypatch.setitem(DATA_SETS, "cub", replace(DATA_SETS["cub"], releases=((file,),), counts=counts))
    return path


def test_right_sum_is_accepted_and_recorded(known_cub, tmp_path, capsys):
    assert main(["cub", "--archive", str(known_cub), "--out", str(tmp_path / "out")]) == 0
    assert content(tmp_path / "out") == official.cub().expected
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    digest = hashlib.sha256(known_cub.read_bytes()).hexdigest()
    assert record["archives"] == {"CUB_200_2011.tgz": f"sha256 {digest}"}
    assert "checking its sha256" in capsys.readouterr().out


def test_other_size_sum_or_name_is_refused_before_anything_is_read(known_cub, tmp_path):
    data = known_cub.read_bytes()
    cases = {
        "CUB_200_2011.tgz": (data + b"\0", f"it has {len(data) + 1:,} bytes instead of {len(data):,}"),
        "CUB_200_2011.tgz ": (data[:-9] + b"\0" + data[-8:], "its sha256 is "),
        "birds.tgz": (data, "is not an official file of CUB-200-2011; accepted are CUB_200_2011.tgz"),
        "food-101.tar.gz": (data, "is of Food-101, not of CUB-200-2011"),
    }
    for number, (name, (changed, text)) in enumerate(cases.items()):
        path = tmp_path / str(number) / name.strip()
        path.parent.mkdir()
        path.write_bytes(changed)
        with pytest.raises(DataError) as failure:
            main(["cub", "--archive", str(path), "--out", str(tmp_path / "out")])
        assert text in str(failure.value)
        assert "--unverified" in str(failure.value)
        assert not list(tmp_path.glob("out*"))


def test_md5_is_used_where_there_is_no_sha256(known_cub, tmp_path, monkeypatch, capsys):
    md5 = hashlib.md5(known_cub.read_bytes()).hexdigest()
    file = DATA_SETS["cub"].files()["CUB_200_2011.tgz"]
    for sums, text in (({"md5": "0" * 32}, f"its md5 is {md5} instead of 000"), ({"md5": ""}, None)):
        releases = ((replace(file, size=None, sha256="", **sums),),)
        monkeypatch.setitem(DATA_SETS, "cub", replace(DATA_SETS["cub"], releases=releases))
        arguments = ["cub", "--archive", str(known_cub), "--out", str(tmp_path / "out")]
        if text:
            with pytest.raises(DataError, match=text):
                main(arguments)
        else:
            main(arguments)
            assert "no checksum is on record" in capsys.readouterr().out


def test_release_must_be_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.prepare.verify", lambda data_set, path: "")
    miniature = official.cars()
    paths = [path for path in miniature.write(tmp_path / "in", "tgz") if "test" not in path.name]
    with pytest.raises(UsageError, match="Stanford Cars needs cars_test.tgz, cars_test_annos_withlabels.mat too"):
        main(["cars", "--archive", *map(str, paths), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("name", DATA_SETS)
def test_without_archive_it_says_what_to_fetch(name, capsys):
    with pytest.raises(UsageError, match="--archive is missing"):
        main([name])
    said = capsys.readouterr().out
    for file in DATA_SETS[name].files().values():
        assert "\n      ".join([file.name, file.address + ("  (dead)" if file.dead else "")]).rstrip() in said
        for text in (f"{file.size:,} bytes" if file.size else "", file.md5, file.sha256):
            assert text in said
    assert said.count("(dead)") == {"cars": 3, "indoor": 1}.get(name, 0)


def test_wrong_options(tmp_path):
    archive, new = str(official.cub().write(tmp_path / "in", "tgz")[0]), str(tmp_path / "new")
    cases = [
        (UsageError, ["cub", "--out"], "expected one argument"),
        (UsageError, ["birds"], "invalid choice"),
        (UsageError, [], "required: data_set"),
        (UsageError, ["cub", "--arch", "x"], "unrecognized arguments: --arch"),
        (UsageError, ["cub", "--link", "move"], "invalid choice"),
        (UsageError, ["cub", "--archive", archive, "--crop_banner"], "--crop_banner: .* accepted with aircraft"),
        (UsageError, ["cub", "--archive", archive, "--link", "hard", "--out", new], "--link: accepted with a folder"),
        (UsageError, ["aircraft", "--archive", new, "--crop-banner", "--link", "copy"], "give one of them"),
        (DataError, ["cub", "--archive", str(tmp_path / "no.tgz"), "--out", new], "no.tgz: no such file or folder"),
        (DataError, ["cub", "--archive", archive, "--out", new], "instead of 1,150,585,339"),
    ]
    for failure, arguments, text in cases:
        with pytest.raises(failure, match=text):
            main(arguments)
    assert os.listdir(tmp_path) == ["in"]


def test_exit_codes_and_one_line_for_a_failure(tmp_path):
    archive = str(official.cub().write(tmp_path / "in", "tgz")[0])
    for code, arguments in (
        (2, ["cub"]),
        (3, ["cub", "--archive", archive]),
        (0, ["cub", "--archive", archive, "--unverified"]),
    ):
        words = [sys.executable, "-m", "datasets.prepare", *arguments, "--out", str(tmp_path / "out")]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        said = [line.split(":")[0] for line in done.stderr.splitlines()]
        assert said == (["error"] if code else ["WARNING", "WARNING"])
    assert content(tmp_path / "out") == official.cub().expected


def test_documentation_has_the_same_numbers():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for data_set in DATA_SETS.values():
        assert data_set.title in text
        for number in (data_set.counts.classes, data_set.counts.train, data_set.counts.test):
            assert f"{number:,}" in text
        for file in data_set.files().values():
            for part in (file.name, file.address, f"{file.size:,}" if file.size else "", file.md5, file.sha256):
                assert part in text
