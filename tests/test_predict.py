"""Labels of folders and files: the numbers against the network by hand, and what a person may give it."""

import csv
import hashlib
import json
import os

import numpy as np
import paddle
import pytest
from PIL import Image

import predict
from checkpoints import checkpoint, published
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


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Return a function that puts weights of `resnet8` where the official ones are kept, and returns a checkpoint."""

    def place(classes=1000):
        path = write_checkpoint(tmp_path / "weights.pdparams", [str(number) for number in range(classes)])
        file = tmp_path / ".cache" / "paddle" / "hapi" / "weights" / "resnet8.pdparams"
        file.parent.mkdir(parents=True)
        paddle.save(checkpoint.read(path)["model"], str(file))
        sums = hashlib.md5(file.read_bytes()).hexdigest()
        monkeypatch.setitem(published.OFFICIAL, "resnet8", (file.name, sums))
        return path

    monkeypatch.setenv("HOME", str(tmp_path))
    return place


PUBLISHED = ["--pretrained", "imagenet", "--model_arch", "resnet8", "--gpu", "-1"]


def test_published_weights_label_with_their_own_head(here, weights, capsys):
    path = weights()
    labels = published.class_names("imagenet")
    assert predict.main([*PUBLISHED, "photos", "--top_k", "3"]).exit_code == 0
    captured = capsys.readouterr()
    _, *rows = read(captured.out)  # a table alone
    assert [row[0] for row in rows] == [f"photos/{name}/{i:03d}.png" for name in ("cat", "dog", "emu") for i in (0, 1)]
    for image, *cells in rows:
        wanted = probabilities(path, image, (37, 37), 32)  # 32 pixels is the size of its architecture
        order = wanted.argsort()[::-1][:3]
        assert cells[::2] == [labels[i] for i in order]
        np.testing.assert_allclose([float(cell) for cell in cells[1::2]], wanted[order], atol=2e-6)


def test_published_weights_at_another_size(here, weights, capsys):
    path = weights()
    predict.main([*PUBLISHED, "photos/cat/000.png", "--image_size", "28", "--top_k", "1"])
    (row,) = read(capsys.readouterr().out)[1:]
    assert float(row[2]) == pytest.approx(probabilities(path, row[0], (32, 32), 28).max(), abs=2e-6)


def test_where_published_weights_come_from_is_not_in_the_table(here, monkeypatch, capsys):
    def load(*given):
        print("of the package")
        return Classifier.load("a.pdparams")

    monkeypatch.setattr(Classifier, "load_published", load)
    predict.main([*PUBLISHED, "photos/cat/000.png"])
    captured = capsys.readouterr()
    assert len(read(captured.out)) == 2
    assert captured.err == "of the package\n1 of 1 images labelled\n"


def test_published_weights_of_other_classes_are_refused(here, weights):
    weights(7)
    with pytest.raises(WeightsError, match="--pretrained imagenet: 1000 class names for 7 outputs"):
        predict.main([*PUBLISHED, "photos"])


def test_a_sheet_names_as_many_classes_as_asked_for(here, monkeypatch):
    sheets = []
    monkeypatch.setattr("datasets.sheet.contact_sheet", lambda path, title, tiles: sheets.append(tiles))
    flags = ["--ckpts", "a.pdparams", "photos", "--out", "t.json", "--sheet", "sheet.png", "--gpu", "-1"]
    predict.main([*flags, "--top_k", "2", "--sheet_top_k", "3"])
    predict.main(flags)
    table = [entry["top"] for entry in json.loads((here / "t.json").read_text())]
    for tile, ranking in zip(sheets[0], table, strict=True):
        names = [(tile.name, tile.share), *tile.more]
        assert [name for name, _ in names] == [entry["class"] for entry in ranking[:3]]
        np.testing.assert_allclose([share for _, share in names], [e["probability"] for e in ranking[:3]], atol=1e-6)
    assert all(not tile.more for tile in sheets[1])


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
        ("photos", UsageError, "one of the arguments --ckpts --pretrained is required"),
        ("photos --pretrained imagenet --ckpts a.pdparams", UsageError, "--ckpts: not allowed with .* --pretrained"),
        ("photos --pretrained a.pdparams", UsageError, "--pretrained: .*'a.pdparams'"),
        ("--pretrained imagenet", UsageError, "no image or folder to label$"),
        ("photos --pretrained imagenet --model_arch resnet20", UsageError, "no file for --model_arch resnet20"),
        ("photos --pretrained imagenet --model_arch vit_small_patch16_224 --image_size 8", UsageError, "is 16 or more"),
        ("photos --ckpts a.pdparams --sheet_top_k 2", UsageError, "--sheet_top_k 2 needs --sheet"),
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


def test_features_are_what_the_head_reads_in_the_order_of_the_table(here, capsys):
    flags = ["--ckpts", "a.pdparams", "--gpu", "-1", "--top_k", "1"]
    predict.main([*flags, "holed", "photos/dog/001.png", "--features", "new/f.npz", "--batch_size_eval", "2"])
    _, *rows = read(capsys.readouterr().out)
    with np.load("new/f.npz") as file:
        found = {name: file[name] for name in file}
    assert found["paths"].tolist() == [row[0] for row in rows]
    assert len(rows) == 4  # of six, two of them unreadable
    assert found["classes"].tolist() == CLASSES
    model = Classifier.load("a.pdparams")
    assert found["features"].dtype == "float32"
    assert found["features"].shape == (4, model.network.head.weight.shape[0])
    logits = model.network.head(paddle.to_tensor(found["features"])).numpy().astype("float64")
    for path, scores in zip(found["paths"], logits, strict=True):
        shares = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(shares, probabilities("a.pdparams", path, (37, 37), 32), atol=2e-6)


def test_the_nearest_images_are_columns(here, capsys):
    flags = ["--ckpts", "a.pdparams", "--gpu", "-1", "--top_k", "1"]
    predict.main([*flags, "photos", "--features", "known.npz"])
    capsys.readouterr()
    queries = ["photos/emu/001.png", "photos/cat/000.png"]
    found = predict.main([*flags, *queries, "--nearest", "2", "--nearest_to", "known.npz", "--all_classes"])
    header, *rows = read(capsys.readouterr().out)
    assert header[:3] == ["path", "predicted", "probability"]
    assert header[3:8] == ["nearest", "cosine", "nearest_2", "cosine_2", "p_cat"]
    with np.load("known.npz") as file:
        paths, features = file["paths"].tolist(), file["features"].astype("float64")
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for row, neighbours in zip(rows, found.nearest, strict=True):
        cosines = features @ features[paths.index(row[0])]
        order = (-cosines).argsort()[:2]
        assert row[3:7:2] == [paths[i] for i in order]
        np.testing.assert_allclose([float(cell) for cell in row[4:7:2]], cosines[order], atol=2e-6)
        assert row[3:5] == [row[0], "1.000000"]  # itself
        assert neighbours == [(row[3], float(row[4])), (row[5], float(row[6]))]
    predict.main([*flags, *queries, "--nearest", "9", "--nearest_to", "known.npz", "--format", "json"])
    for entry, row in zip(json.loads(capsys.readouterr().out), rows, strict=True):
        assert list(entry) == ["path", "top", "nearest"]
        assert len(entry["nearest"]) == 6  # all
        assert [each["path"] for each in entry["nearest"][:2]] == row[3:7:2]


def test_published_weights_have_features_too(here, weights, capsys):
    weights()
    predict.main([*PUBLISHED, "photos", "--features", "imagenet.npz"])
    predict.main([*PUBLISHED, "photos", "--nearest", "1", "--nearest_to", "imagenet.npz", "--top_k", "1"])
    rows = read(capsys.readouterr().out)[-6:]
    assert all(row[0] == row[3] for row in rows)


@pytest.mark.parametrize(
    ("flags", "error", "words"),
    [
        ("--ckpts a.pdparams --nearest 1", UsageError, "--nearest needs --nearest_to FILE"),
        ("--ckpts a.pdparams --nearest_to f.npz", UsageError, "--nearest_to needs --nearest K"),
        ("--ckpts a.pdparams --nearest 0 --nearest_to f.npz", UsageError, "--nearest: '0'"),
        ("--ckpts a.pdparams b.pdparams --features f.npz", UsageError, "--features: features are of one network"),
        ("--ckpts a.pdparams b.pdparams --nearest 1 --nearest_to f.npz", UsageError, "--nearest: features are of one"),
        ("--ckpts a.pdparams --features photos", UsageError, "--features photos is a folder"),
        ("--ckpts a.pdparams --features a.pdparams", UsageError, "--features a.pdparams would replace a.pdparams"),
        ("--ckpts a.pdparams --features b.npz --nearest 1 --nearest_to b.npz", UsageError, "would replace b.npz"),
        ("--ckpts a.pdparams --features x --out x", UsageError, "--features x would replace --out"),
        ("--ckpts a.pdparams --nearest 1 --nearest_to b.npz", WeightsError, "not of the backbone .* of a.pdparams"),
        ("--ckpts a.pdparams --nearest 1 --nearest_to a.pdparams", WeightsError, "a.pdparams: not a file of"),
        ("--ckpts a.pdparams --nearest 1 --nearest_to none.npz", WeightsError, "none.npz: no such file"),
    ],
)
def test_what_features_and_neighbours_need_is_one_line(here, flags, error, words):
    if not (here / "b.npz").exists():
        predict.main(["--ckpts", "b.pdparams", "photos", "--gpu", "-1", "--out", "t.csv", "--features", "b.npz"])
    with pytest.raises(error, match=f"^[^\n]*{words}[^\n]*$"):
        predict.main([*flags.split(), "photos", "--gpu", "-1"])


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
