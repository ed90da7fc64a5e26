"""Labels of folders and files: the numbers against the network by hand, and what a person may give it."""

import csv
import json
import os

import numpy as np
import paddle
import pytest
from PIL import Image

import predict
from checkpoints import checkpoint
from checkpoints.classifier import Classifier
from tests.pictures import picture, write_folder
from tests.scripts import run
from tests.toy_checkpoints import write_checkpoint
from utils.errors import DataError, UsageError, WeightsError

CLASSES = ["cat", "dog", "emu", "fox"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two checkpoints of the same classes at two sizes, a folder of images and one with unreadable ones."""
    folder = tmp_path_factory.mktemp("work")
    write_checkpoint(folder / "a.pdparams", CLASSES)
    write_checkpoint(folder / "b.pdparams", CLASSES, size=24, resize=24, keep_aspect=True, seed=1)
    write_folder(folder / "photos", count=2)
    holed = write_folder(folder / "holed", ("cat",), count=5)
    for number in (1, 4):
        (holed / "cat" / f"{number:03d}.png").write_bytes(b"\x89PNG broken")
    return folder


@pytest.fixture
def here(work, monkeypatch):
    monkeypatch.chdir(work)
    return work


def probabilities(checkpoint_path, image_path, resize, size):
    """Return what the network says of an image, in float64 but for the network itself."""
    with Image.open(image_path) as image:
        pixels = np.asarray(image.convert("RGB").resize(resize, Image.BILINEAR), dtype="float64")
    top, left = ((length - size) // 2 for length in pixels.shape[:2])
    square = pixels[top : top + size, left : left + size] / 255
    square = (square - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    images = paddle.to_tensor(square.transpose(2, 0, 1)[None].astype("float32"))
    logits = Classifier.load(checkpoint_path).network(images).logits.numpy()[0].astype("float64")
    return np.exp(logits) / np.exp(logits).sum()


def read(text):
    return list(csv.reader(text.splitlines()))


def test_the_table_holds_the_networks_probabilities(here, capsys):
    assert predict.main(["--ckpts", "a.pdparams", "photos", "--top_k", "3", "--gpu", "-1"]).exit_code == 0
    captured = capsys.readouterr()
    header, *rows = read(captured.out)
    assert header == [
        "path",
        "predicted",
        "probability",
        "predicted_2",
        "probability_2",
        "predicted_3",
        "probability_3",
    ]
    assert [row[0] for row in rows] == [f"photos/{name}/{i:03d}.png" for name in ("cat", "dog", "emu") for i in (0, 1)]
    assert captured.err == "6 of 6 images labelled\n"
    assert len({row[1] for row in rows}) > 1  # a constant network would hide a mix-up
    for path, *cells in rows:
        wanted = probabilities("a.pdparams", path, (37, 37), 32)
        order = wanted.argsort()[::-1][:3]
        assert cells[::2] == [CLASSES[i] for i in order]
        np.testing.assert_allclose([float(cell) for cell in cells[1::2]], wanted[order], atol=2e-6)


def test_several_checkpoints_are_averaged_each_at_its_own_size(here, capsys):
    flags = ["--format", "json", "--top_k", "9", "--batch_size_eval", "4", "--gpu", "-1"]
    assert predict.main(["--ckpts", "a.pdparams", "b.pdparams", "photos", *flags]).exit_code == 0
    entries = json.loads(capsys.readouterr().out)
    assert len(entries) == 6
    for entry in entries:
        first = probabilities("a.pdparams", entry["path"], (37, 37), 32)
        second = probabilities("b.pdparams", entry["path"], (30, 24), 24)
        wanted = (first + second) / 2
        assert np.abs(first - second).max() > 0.01
        assert [each["class"] for each in entry["top"]] == [CLASSES[i] for i in wanted.argsort()[::-1]]
        np.testing.assert_allclose([each["probability"] for each in entry["top"]], np.sort(wanted)[::-1], atol=2e-6)


def test_batches_change_nothing(here, capsys):
    tables = []
    for size in (1, 4, 100):
        predict.main(["photos", "--ckpts", "a.pdparams", "--batch_size_eval", str(size), "--gpu", "-1"])
        tables.append(read(capsys.readouterr().out))
    numbers = np.array([[[float(cell) for cell in row[2::2]] for row in table[1:]] for table in tables])
    np.testing.assert_allclose(numbers[1:], numbers[:-1], atol=2e-6)


def test_unreadable_images_of_a_folder_are_left_out_and_counted(here):
    done = run("predict.py", "--ckpts", "a.pdparams", "holed", "--out", "new/table.csv", "--gpu", -1, cwd=here)
    assert done.returncode == 3
    assert done.stdout == ""
    *warnings, last = done.stderr.splitlines()
    assert [line.split(":")[:2] for line in warnings] == [
        ["WARNING", f" cannot read the image holed/cat/{number}.png"] for number in ("001", "004")
    ]
    assert last == "3 of 5 images labelled"
    rows = read((here / "new" / "table.csv").read_text())
    assert [row[0] for row in rows[1:]] == [f"holed/cat/{number}.png" for number in ("000", "002", "003")]


def test_a_batch_without_a_readable_image_is_passed_over(here, capsys):
    flags = ["--ckpts", "a.pdparams", "holed", "--batch_size_eval", "1", "--gpu", "-1"]
    assert predict.main(flags).exit_code == 3
    assert len(read(capsys.readouterr().out)) == 4


def test_an_unreadable_image_that_was_named_is_an_error_and_nothing_is_written(here):
    with pytest.raises(DataError, match=r"holed/cat/001\.png"):
        predict.main(["--ckpts", "a.pdparams", "photos", "holed/cat/001.png", "--out", "no.csv", "--gpu", "-1"])
    assert not (here / "no.csv").exists()


def test_the_sheet_has_a_tile_for_each_image(here):
    predict.main(["--ckpts", "a.pdparams", "photos", "--out", "t.json", "--sheet", "sheet.png", "--gpu", "-1"])
    assert len(json.loads((here / "t.json").read_text())) == 6  # the ending says what it is
    with Image.open(here / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    for number, path in enumerate(sorted((here / "photos").rglob("*.png"))):
        row, column = divmod(number, 4)
        square = pixels[58 + row * 224 :, 18 + column * 178 :][:160, :160]
        with Image.open(path) as image:
            wanted = np.asarray(image).mean(axis=(0, 1))
        np.testing.assert_allclose(square[40:120, 20:140].mean(axis=(0, 1)), wanted, atol=8)


def test_names_that_are_no_utf8_keep_their_bytes(here, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    picture(3).save(tmp_path / name)
    flags = ["--ckpts", "a.pdparams", str(tmp_path), "--sheet", str(tmp_path / "sheet.png"), "--gpu", "-1"]
    predict.main([*flags, "--out", str(tmp_path / "t.csv")])
    assert b"/caf\xe9.png," in (tmp_path / "t.csv").read_bytes()
    (tmp_path / "sheet.png").unlink()
    predict.main([*flags, "--out", str(tmp_path / "t.json")])
    assert json.loads((tmp_path / "t.json").read_text())[0]["path"].endswith(name)


def test_a_checkpoint_without_class_names_gives_numbers(here, tmp_path, capsys):
    content = checkpoint.read("a.pdparams")
    checkpoint.save(tmp_path / "bare.pdparams", {"model": content["model"], "iter": 3})
    shared = ["photos", "--gpu", "-1", "--top_k", "1"]
    reference = ["--model_arch", "resnet8", "--image_size", "32"]
    predict.main(["--ckpts", str(tmp_path / "bare.pdparams"), *reference, *shared])
    names = {row[1] for row in read(capsys.readouterr().out)[1:]}
    assert names <= {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        ("--ckpts a.pdparams", UsageError, "no image or folder to label"),
        ("--ckpts photos", UsageError, "no checkpoint among photos"),
        ("--ckpts a.pdparams photos --out photos", UsageError, "--out photos is a folder"),
        ("--ckpts a.pdparams photos --sheet photos", UsageError, "--sheet photos is a folder"),
        ("--ckpts a.pdparams photos --top_k 0", UsageError, "--top_k"),
        ("--ckpts a.pdparams photos nowhere.png", DataError, "nowhere.png: no such file"),
        ("empty --ckpts a.pdparams", DataError, "empty: no images in it"),
        ("holed/cat/001.png --ckpts a.pdparams", DataError, "cannot read the image holed/cat/001.png"),
        ("torn --ckpts a.pdparams", DataError, "none of the 1 images can be read"),
        ("photos --ckpts nowhere.pdparams", WeightsError, "nowhere.pdparams"),
        ("photos --ckpts a.pdparams other.pdparams", WeightsError, "other.pdparams: not the classes of .*emu, owl"),
        ("photos --ckpts a.pdparams turned.pdparams", WeightsError, "the same in another order"),
    ],
)
def test_bad_input_names_the_culprit(here, flags, error, words):
    (here / "empty").mkdir(exist_ok=True)
    (here / "torn").mkdir(exist_ok=True)
    (here / "torn" / "a.png").write_bytes(b"torn")
    write_checkpoint(here / "other.pdparams", ["cat", "dog", "fox", "owl"])
    write_checkpoint(here / "turned.pdparams", CLASSES[::-1])
    with pytest.raises(error, match=words):
        predict.main([*flags.split(), "--gpu", "-1"])


@pytest.mark.parametrize("flag", ["--out", "--sheet"])
@pytest.mark.parametrize("path", ["photos/cat/000.png", "./photos/../photos/dog/001.png", "link.png", "a.pdparams"])
def test_no_image_and_no_checkpoint_is_replaced(tmp_path, monkeypatch, flag, path):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", count=2)
    (tmp_path / "link.png").symlink_to("photos/emu/000.png")
    (tmp_path / "a.pdparams").write_text("weights")
    before = (tmp_path / path).read_bytes()
    with pytest.raises(UsageError, match=f"^{flag} .* would replace .*, which is read; give another name$"):
        predict.main(["--ckpts", "a.pdparams", "photos", flag, path])
    assert (tmp_path / path).read_bytes() == before


def test_one_file_is_not_written_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", count=1)
    with pytest.raises(UsageError, match="--sheet ./x would replace --out"):
        predict.main(["--ckpts", "a.pdparams", "photos", "--out", "x", "--sheet", "./x"])
