"""What must hold for any folder, any subset, any command line and any bytes: checked on generated ones."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
import regularizers
from checkpoints import formats, pdparams
from datasets.folder import EXTENSIONS, ImageFolder, scan
from datasets.loader import Dataset, order
from datasets.subsets import hold_out, subset
from training import parsing
from utils.errors import DataError, UsageError, WeightsError

few = settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],  # each example makes its own files
)

# Folders

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=6
).filter(lambda name: name not in (".", ".."))
FILES = st.tuples(NAMES, st.sampled_from((*EXTENSIONS, ".JPG", ".txt", ""))).map("".join)
TREES = st.dictionaries(
    NAMES, st.tuples(st.sets(FILES, max_size=4), st.dictionaries(NAMES, st.sets(FILES, max_size=2), max_size=2))
)


def write_tree(root, tree, backwards):
    """Make empty files; a name that is taken already is left out."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, (files, folders) in sorted(tree.items(), reverse=backwards):
        for folder, held in [(root / name, files), *((root / name / inner, held) for inner, held in folders.items())]:
            if not folder.exists():
                folder.mkdir()
            for file in sorted(held, reverse=backwards) if folder.is_dir() else ():
                if not (folder / file).exists():
                    (folder / file).touch()


def expected(root):
    """The images below each class folder of `root`, by a walk of our own."""
    found = {}
    for path in root.glob("*/"):
        if path.is_dir() and not path.name.startswith("."):
            inside = [file.relative_to(root) for file in path.rglob("*") if file.is_file()]
            seen = [file for file in inside if not any(part.startswith(".") for part in file.parts)]
            found[path.name] = {str(file) for file in seen if file.name.lower().endswith(EXTENSIONS)}
    return found


@settings(few, max_examples=25)
@given(tree=TREES)
def test_a_scan_finds_every_visible_image_and_nothing_else(tmp_path, tree):
    root = tmp_path / "root"
    scans = []
    for backwards in (False, True):
        write_tree(root, tree, backwards)
        classes = expected(root)
        if not classes or not all(classes.values()):
            with pytest.raises(DataError, match="no image|no class folders"):
                scan(root)
            return
        scans.append(scan(root))
    images = scans[0]
    assert images.class_names == sorted(classes)
    assert set(images.paths) == set().union(*classes.values())
    assert len(set(images.paths)) == len(images)
    assert [Path(path).parts[0] for path in images.paths] == [images.class_names[label] for label in images.labels]
    assert images.paths == [
        p for name in images.class_names for p in sorted(q for q in images.paths if q in classes[name])
    ]
    assert (images.paths, images.labels.tolist()) == (scans[1].paths, scans[1].labels.tolist())


# Subsets

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**31)


def images_of(sizes):
    paths = [f"{label:02d}/{i:02d}.jpg" for label, size in enumerate(sizes) for i in range(size)]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return ImageFolder(Path("x"), [f"{label:02d}" for label in range(len(sizes))], paths, labels)


def chosen(images, seed, **request):
    return set(subset(images, seed, **request)[0].tolist())


@few
@given(sizes=SIZES, seed=SEEDS, rates=st.tuples(st.integers(1, 100), st.integers(1, 100)).map(sorted))
def test_rates_are_nested_and_of_the_right_size(sizes, seed, rates):
    images = images_of(sizes)
    small, large = (chosen(images, seed, rate=rate) for rate in rates)
    assert small <= large
    for label, size in enumerate(sizes):
        assert sum(images.labels[i] == label for i in small) == int(np.ceil(round(size * rates[0] / 100, 9)))
    first, second = (chosen(images, seed, rate=rate, sampling="author") for rate in rates)
    assert first <= second
    assert len(first) == min(1 + int(rates[0] / 100 * len(images)), len(images))


@few
@given(sizes=SIZES, seed=SEEDS, rate=st.integers(1, 100), data=st.data())
def test_a_class_keeps_its_images_whatever_the_other_classes_hold(sizes, seed, rate, data):
    label = data.draw(st.integers(0, len(sizes) - 1))
    others = [size if i == label else data.draw(st.integers(1, 12)) for i, size in enumerate(sizes)]
    picked = []
    for images in (images_of(sizes), images_of(others)):
        picked.append({images.paths[i] for i in chosen(images, seed, rate=rate) if images.labels[i] == label})
    assert picked[0] == picked[1]


@few
@given(sizes=SIZES, seed=SEEDS, data=st.data())
def test_totals_are_exact_even_and_nested(sizes, seed, data):
    images, most = images_of(sizes), len(sizes) * min(sizes)
    for total in (len(sizes) - 1, len(images) + 1):
        with pytest.raises(UsageError, match=f"accepted are {len(sizes)} to {most}$"):
            chosen(images, seed, total=total)
    small, large = sorted(data.draw(st.tuples(*[st.integers(len(sizes), most)] * 2)))
    picked = chosen(images, seed, total=small)
    assert len(picked) == small
    assert picked <= chosen(images, seed, total=large)
    counts = np.bincount(images.labels[sorted(picked)], minlength=len(sizes))
    assert counts.max() - counts.min() <= 1


@few
@given(sizes=SIZES, seed=SEEDS, counts=st.tuples(st.integers(1, 6), st.integers(1, 6)).map(sorted))
def test_fewer_classes_are_among_more_and_labels_follow_the_names(sizes, seed, counts):
    images = images_of(sizes)
    counts = [min(count, len(sizes)) for count in counts]
    (few_, small), (many, large) = (subset(images, seed, class_spec=str(count)) for count in counts)
    assert len(small) == counts[0]
    assert set(small) <= set(large)
    assert set(few_) <= set(many)
    store = type("Store", (), {"images": images})
    part = Dataset.of(store, small, few_)
    assert [part.class_names[label] for label in part.labels] == [images.paths[i].split("/")[0] for i in few_]


@few
@given(sizes=st.lists(st.integers(2, 12), min_size=1, max_size=6), seed=SEEDS, fraction=st.floats(0.01, 0.9))
def test_what_is_held_out_and_what_stays_are_all_without_overlap(sizes, seed, fraction):
    labels = images_of(sizes).labels
    stays, held = hold_out(labels, fraction, seed)
    assert sorted([*stays, *held]) == list(range(len(labels)))
    assert set(labels[stays]) == set(labels[held]) == set(range(len(sizes)))


# The order of training


@few
@given(count=st.integers(1, 40), batch_size=st.integers(1, 24), seed=SEEDS, steps=st.integers(1, 12))
def test_every_epoch_sees_every_image_once_and_any_step_can_be_had_alone(count, batch_size, seed, steps):
    batches = [order(count, batch_size, seed, step) for step in range(steps)]
    assert {len(batch) for batch in batches} == {batch_size}
    seen = np.concatenate(batches)
    for start in range(0, len(seen) - count + 1, count):
        assert sorted(seen[start : start + count]) == list(range(count))
    rest = seen[len(seen) // count * count :]
    assert len(set(rest.tolist())) == len(rest)
    assert order(count, batch_size, seed, steps - 1).tolist() == batches[-1].tolist()
    one_by_one = [order(count, 1, seed, step)[0] for step in range(len(seen))]
    assert one_by_one == seen.tolist()


# Options


def flags():
    text = parsing._parser("smile").format_help()
    known = sorted({word.strip(",[]") for word in text.split() if word.startswith("--")})
    return [*known, *(f"--{flag}" for name in regularizers.REGULARIZERS for flag in regularizers.arguments(name))]


VALUES = [
    "0",
    "1",
    "-1",
    "32",
    "0.5",
    "1e400",
    "nan",
    "none",
    "imagenet",
    "true",
    "off",
    "resnet8",
    "25%",
    "%",
    "",
    "x",
]
WORDS = st.sampled_from(
    [*flags(), *VALUES, *regularizers.REGULARIZERS, "mixup+delta", "l2+", "--", "-", "-h", "--=", "="]
)
METHODS = st.sampled_from([*regularizers.REGULARIZERS, "mixup+delta"])


@pytest.fixture
def data(tmp_path, monkeypatch):
    (tmp_path / "dataset").mkdir()
    monkeypatch.chdir(tmp_path)


@settings(few, max_examples=120)
@given(words=st.lists(st.one_of(WORDS, WORDS, st.text(max_size=5)), max_size=8))
def test_any_words_are_options_or_a_usage_error(data, words):
    code = 0
    try:
        parsing.parse(words)
    except (UsageError, WeightsError):
        pass
    except SystemExit as left:  # --help
        code = left.code
    assert code == 0


@settings(few, max_examples=100)
@given(name=METHODS, data_=st.data())
def test_any_value_of_any_flag_is_accepted_or_named(data, name, data_):
    flag = data_.draw(st.sampled_from([f"--{flag}" for flag in regularizers.arguments(name)] or ["--lr"]))
    value = data_.draw(st.one_of(st.sampled_from(VALUES), st.integers().map(str), st.floats().map(str), st.text()))
    try:
        said = str(vars(parsing.parse(["--regularizer", name, "--model_arch", "resnet18", f"{flag}={value}"])))
    except UsageError as failure:
        said = str(failure)
    assert flag[2:] in said


# Bytes of a checkpoint


@pytest.fixture(scope="module")
def checkpoint():
    state = {name: tensor.numpy() for name, tensor in list(models.build("resnet8", 3).state_dict().items())[:8]}
    return pickle.dumps({"model": state, "iter": 5, "arch": "resnet8", "best": {"acc": 0.5}, "classes": ["a", "b"]}, 4)


def assert_read_or_refused(path, content):
    path.write_bytes(content)
    for read in (pdparams.load, formats.read):
        said = str(path)
        try:
            read(path)
        except WeightsError as failure:
            said = str(failure)
        assert said.startswith(str(path))


@settings(few, max_examples=120)
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(tmp_path, checkpoint, data):
    content = bytearray(checkpoint)
    places = st.one_of(
        st.integers(0, 300), st.integers(0, len(content) - 1), st.integers(len(content) - 300, len(content))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place, kind = data.draw(places), data.draw(st.sampled_from(["set", "cut", "insert", "delete", "repeat"]))
        if kind == "set":
            content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(max_size=8))
        elif kind == "delete":
            del content[place : place + data.draw(st.integers(1, 9))]
        else:
            content[place:place] = content[place : place + data.draw(st.integers(1, 99))]
    assert_read_or_refused(tmp_path / "file", bytes(content))


@settings(few, max_examples=100)
@given(start=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04", b"\x10\0\0\0\0\0\0\0{"]), rest=st.binary())
def test_any_bytes_are_read_or_refused(tmp_path, start, rest):
    assert_read_or_refused(tmp_path / "file", start + rest)


def test_the_unchanged_bytes_are_read(tmp_path, checkpoint):
    (tmp_path / "file").write_bytes(checkpoint)
    assert pdparams.load(tmp_path / "file")["iter"] == 5
    assert os.path.getsize(tmp_path / "file") > 1000
