"""Groups of images: never on both sides, no class held out as a whole, and one line where that cannot be."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

import finetune
from datasets import splits
from datasets.groups import parts
from datasets.subsets import folds
from evaluation.intervals import interval
from tests.pictures import write_folder
from tests.scripts import tiny
from training import probe
from training.parsing import parse
from utils.errors import DataError, UsageError

NAMES = ["cat", "dog", "emu", "fox"]


def drawn(seed, images=60, groups=25, classes=4):
    """Return labels and groups, both at random; some groups have images of several classes."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, images), [f"g{number}" for number in rng.integers(0, groups, images)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shares", [(1 / 3, 1 / 3, 1 / 3), (0.2,) * 5, (0.8, 0.2), (0.5, 0.5)])
def test_no_group_is_in_two_parts_and_no_class_is_whole_in_one(seed, shares):
    labels, groups = drawn(seed)
    found = parts(labels, groups, shares, seed, "--folds", NAMES)
    assert sorted({*found}) == list(range(len(shares)))
    for group in {*groups}:
        assert len({part for part, other in zip(found, groups) if other == group}) == 1
    for label in range(4):
        assert len({*found[labels == label]}) > 1
    assert np.array_equal(found, parts(labels, groups, shares, seed, "--folds", NAMES))


def test_groups_of_one_image_are_spread_as_evenly_as_images():
    labels = np.repeat([0, 1, 2, 3], [5, 10, 13, 2])
    names = [str(number) for number in range(len(labels))]
    found = parts(labels, names, [1 / 5] * 5, 0, "--folds 5", NAMES)
    for label in range(4):
        assert np.ptp(np.bincount(found[labels == label], minlength=5)) <= 1
    assert not np.array_equal(found, parts(labels, names, [1 / 5] * 5, 1, "--folds 5", NAMES))
    held = parts(labels, names, (0.7, 0.3), 0, "--val_split 0.3", NAMES) == 1
    for label, count in enumerate((5, 10, 13, 2)):
        assert max(1, 0.3 * count - 1) <= held[labels == label].sum() <= 0.3 * count + 1


@pytest.mark.parametrize("seed", range(10))
def test_a_group_more_where_it_fits_best(seed):
    """The sum that is to be small, of the split, against random splits of the same groups."""
    labels, groups = drawn(seed, images=80, groups=16)
    known, group = np.unique(groups, return_inverse=True)

    def objective(part):
        counts = np.array([[np.sum((part == f) & (labels == k)) for k in range(4)] for f in range(4)])
        return np.sum((counts / counts.sum(axis=0)) ** 2)

    rng = np.random.default_rng(seed)
    chance = [objective(rng.integers(0, 4, len(known))[group]) for _ in range(200)]
    assert objective(parts(labels, groups, [1 / 4] * 4, seed, "--folds 4", NAMES)) < np.percentile(chance, 5)


def test_what_no_split_can_do_is_one_line():
    with pytest.raises(UsageError, match=r"^--folds 2: accepted are classes .* in two or more groups; .* of dog, emu$"):
        parts(np.array([0, 0, 1, 1, 2]), list("abccd"), (0.5, 0.5), 0, "--folds 2", NAMES)
    labels, groups = np.array([0, 0, 1, 1, 2, 2]), list("abbcac")  # three groups, each pair of them to be parted
    assert len({*parts(labels, groups, [1 / 3] * 3, 0, "--folds 3", NAMES)}) == 3
    with pytest.raises(UsageError, match="^--val_split 0.5: no split found that parts no group"):
        parts(labels, groups, (0.5, 0.5), 0, "--val_split 0.5", NAMES)


def things(seed, count=40, pictures=4, dimensions=100):
    """Return features, labels and groups of pictures of things that look like nothing else, labelled by chance."""
    rng = np.random.default_rng(seed)
    thing = np.repeat(np.arange(count), pictures)
    features = rng.normal(size=(count, dimensions))[thing] + 0.1 * rng.normal(size=(len(thing), dimensions))
    return features, rng.permutation(np.arange(count) % 2)[thing], [f"t{each}" for each in thing]


def test_what_knows_things_by_heart_is_chance_where_they_stay_together():
    features, labels, groups = things(0)

    def nearest(fold):
        hits = 0
        for each in range(fold.max() + 1):
            held = fold == each
            distances = ((features[held, None] - features[None, ~held]) ** 2).sum(axis=2)
            hits += (labels[~held][distances.argmin(axis=1)] == labels[held]).sum()
        return hits / len(labels)

    assert nearest(folds(labels, 5, 0)) > 0.95
    assert 0.3 < nearest(parts(labels, groups, [1 / 5] * 5, 0, "--folds 5", NAMES)) < 0.7
    assert probe.fit(features, labels, 0).acc > 95
    assert 30 < probe.fit(features, labels, 0, groups).acc < 70
    assert probe.fit(features, labels, 0, ["a" if label else "b" for label in labels]) is None
    single = [group if label else "all of it" for group, label in zip(groups, labels)]
    assert probe.fit(features, labels, 0, single).count == (labels != 0).sum()  # class 0 is in every fit
    shared = ["all of it" if place == labels.argmax() else group for place, group in enumerate(single)]
    assert probe.fit(features, labels, 0, shared) is None  # its group would be on both sides


def coverage(together):
    """Return how often the interval has the accuracy on new images, of nearest class means by 5 folds of 60 images.

    Every `together` of them are copies of one thing.
    """
    covered = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        thing = np.arange(60) // together
        labels, x = thing % 2, rng.normal(size=(60, 2))[thing]
        x[:, 0] += labels
        if together == 1:
            fold = folds(labels, 5, seed)
        else:
            fold = parts(labels, [str(each) for each in thing], [1 / 5] * 5, seed, "--folds 5", NAMES)
        hits, truth = 0, []
        for each in range(5):
            low, high = (x[(fold != each) & (labels == label)].mean(axis=0) for label in (0, 1))
            normal, middle = (high - low) / np.linalg.norm(high - low), (high + low) / 2
            hits += (((x[fold == each] - middle) @ normal > 0) == labels[fold == each]).sum()
            of_class = [sign * ((mean, 0) - middle) @ normal for mean, sign in ((0, -1), (1, 1))]
            truth.append(np.mean([0.5 + math.erf(distance / math.sqrt(2)) / 2 for distance in of_class]))
        bounds = interval(int(hits), 60)
        covered.append(bounds[0] <= 100 * np.mean(truth) <= bounds[1])
    return np.mean(covered)


@pytest.mark.parametrize(("together", "least", "most"), [(1, 0.93, 1), (3, 0.6, 0.9)])
def test_the_interval_covers_where_images_are_independent_and_not_otherwise(together, least, most):
    assert least <= coverage(together) <= most


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A folder with two pictures of each of three things of each class, and a list of them with their things."""
    for label, name in enumerate(("cat", "dog")):
        write_folder(tmp_path / "pets", (name,), 6, seed=label)
        for number in range(6):
            path = tmp_path / "pets" / name / f"{number:03d}.png"
            path.rename(path.with_name(f"{'abc'[number // 2]}_{number}.png"))
    monkeypatch.chdir(tmp_path)
    rows = [(path.relative_to("pets").as_posix(), path.parent.name) for path in sorted(Path("pets").rglob("*.png"))]
    lines = [f"{path},{name},{name}-{Path(path).name[0]}" for path, name in rows]
    Path("pets.csv").write_text("\n".join(["path,label,animal", *lines]) + "\n")
    return tmp_path


FOLDER = "--train_dir pets --group_pattern (.*)_[0-9]+[.]"
ALL = sorted(f"{name}/{'abc'[number // 2]}_{number}.png" for name in ("cat", "dog") for number in range(6))
LIST = "--train_list pets.csv --data_root pets --group_column animal"


def scanned(words):
    return splits.scan_folders(parse(tiny("--pretrained", "none", "--regularizer", "l2", *words.split())))


@pytest.mark.parametrize("rule", [FOLDER, LIST])
@pytest.mark.parametrize("how", ["--val_split 0.3", "--fold 1/3", "--fold 3/3"])
def test_a_folder_and_a_list_keep_things_together(rule, how, pets):
    train, held = scanned(f"{rule} {how}")
    sides = [{path.split("_")[0] for path in images.paths} for images in (train, held)]
    assert not sides[0] & sides[1]
    assert [len(side) for side in sides] == [4, 2]
    assert sorted(train.paths + held.paths) == ALL
    assert {*held.groups} == {f"{path[:3]}{'-' if 'list' in rule else '/'}{path[4]}" for path in held.paths}


def test_the_folds_of_a_run_keep_things_together(pets):
    own = ("--pretrained", "none", "--max_iters", "1", "--name", "p", "--regularizer", "l2", "--folds", "3")
    finetune.main(tiny(*own, *FOLDER.split()))
    rows = list(csv.DictReader(Path("output/p_l2_folds.csv").read_text().splitlines()))
    assert len({row["path"] for row in rows}) == len(rows) == 12
    of_thing = {}
    for row in rows:
        of_thing.setdefault(row["path"].split("_")[0], set()).add(row["fold"])
    assert sorted(map(len, of_thing.values())) == [1] * 6


def test_groups_that_hold_nothing_together_are_told(pets):
    train, held = scanned("--train_dir pets --group_pattern (.*) --val_split 0.3")
    assert [line for line in splits.unusual(train, held) if "group" in line] == [
        "pets: every image is a group of its own: nothing is kept together"
    ]
    assert not [line for line in splits.unusual(*scanned(f"{FOLDER} --val_split 0.3")) if "group" in line]


@pytest.mark.parametrize(
    ("words", "failure", "message"),
    [
        ("--group_pattern (x.*) --fold 1/2", DataError, "(x.*): it finds no name in 12 of 12 paths of pets: cat/a_0"),
        ("--group_pattern cat/(.) --fold 1/2", DataError, "it finds no name in 6 of 12 paths of pets: dog/a_0.png,"),
        ("--group_pattern ()cat|dog --fold 1/2", DataError, "it finds no name in 12 of 12 paths"),
        ("--group_pattern ([^/]+)/ --fold 1/2", UsageError, "--folds 2: accepted are classes with images in"),
        (
            "--group_pattern ([^/]+)/ --val_split 0.5",
            UsageError,
            "--val_split 0.5: accepted are classes with images in",
        ),
        ("--group_pattern (.*)_ --fold 1/7", UsageError, "--folds 7: accepted with 6 groups is up to 6"),
        ("--group_pattern .*_ --fold 1/2", UsageError, "'.*_': accepted is a regular expression with parentheses"),
        ("--group_pattern ( --fold 1/2", UsageError, "'(': not a regular expression"),
        ("--group_pattern (.*)_", UsageError, "--group_pattern is of images that are held out: accepted with"),
        ("--group_column animal --fold 1/2", UsageError, "--group_column is of lists; accepted with --train_list"),
        (f"{LIST} --group_pattern (.) --fold 1/2", UsageError, "--group_column and --group_pattern: give one of them"),
        (f"{LIST}s --fold 1/2", DataError, "line 1: no column animals; there are path, label, animal"),
    ],
)
def test_a_rule_that_does_not_hold_is_one_line(words, failure, message, pets):
    rule = words if "list" in words else f"--train_dir pets {words}"
    with pytest.raises(failure, match="^[^\n]*$") as caught:
        scanned(rule)
    assert message in str(caught.value)


def test_a_line_without_a_group_is_named(pets):
    lines = Path("pets.csv").read_text().splitlines()
    Path("pets.csv").write_text("\n".join([*lines[:4], lines[4].rpartition(",")[0] + ", ", *lines[5:]]))
    with pytest.raises(DataError, match="pets.csv, line 5: the column animal is empty"):
        scanned(f"{LIST} --fold 1/2")
