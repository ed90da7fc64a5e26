import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.folder import ImageFolder
from datasets.subsets import author, by_class, by_rate, by_total, class_count, hold_out, ordered, pick_classes, subset
from utils.errors import DataError, UsageError

CUB = [29] * 6 + [30] * 194  # images per class, in some order: 5,994


def groups_of(sizes):
    ends = np.cumsum([0, *sizes])
    return {c: list(range(ends[c], ends[c + 1])) for c in range(len(sizes))}


def images_of(sizes, root="x"):
    paths = [f"c{c:03d}/{i:04d}.jpg" for c, size in enumerate(sizes) for i in range(size)]
    return ImageFolder(root, [f"c{c:03d}" for c in range(len(sizes))], paths, np.repeat(np.arange(len(sizes)), sizes))


def test_the_sizes_of_cub_and_indoor():
    groups = groups_of(CUB)
    assert [len(by_rate(groups, pct, 0)) for pct in (15, 30, 50, 100)] == [1000, 1800, 3000, 5994]
    assert [len(author(5994, pct, 0)) for pct in (15, 30, 50)] == [900, 1799, 2998]
    aircraft = groups_of([66] * 33 + [67] * 67)
    assert [len(by_rate(aircraft, pct, 0)) for pct in (15, 30, 50)] == [1067, 2067, 3367]
    assert [len(author(6667, pct, 0)) for pct in (15, 30, 50)] == [1001, 2001, 3334]
    food = groups_of([750] * 101)
    assert [len(by_rate(food, pct, 0)) for pct in (15, 30, 50)] == [11413, 22725, 37875]
    assert [len(author(75750, pct, 0)) for pct in (15, 30, 50)] == [11363, 22726, 37876]


def test_subsets_are_nested():
    groups = groups_of(CUB)
    for small, large in ((15, 30), (30, 50), (50, 100)):
        assert set(by_rate(groups, small, 1)) < set(by_rate(groups, large, 1))
        assert set(author(5994, small, 1)) < set(author(5994, large, 1))
    classes = pick_classes(200, 50, 1)
    assert set(by_total(groups, classes, 400, 1)) < set(by_total(groups, classes, 800, 1))


def test_a_class_keeps_its_images_whatever_else_is_chosen():
    groups = groups_of([10, 12, 9])
    alone = set(by_rate({1: groups[1]}, 50, 4))
    assert alone == set(by_rate(groups, 50, 4)) & set(groups[1])


def test_totals_are_spread_evenly_and_the_first_drawn_get_one_more():
    groups = groups_of([30] * 49)
    classes = pick_classes(49, 49, 0)
    chosen = by_total(groups, classes, 400, 0)
    counts = {c: len(set(groups[c]) & set(chosen)) for c in classes}
    assert [counts[c] for c in classes] == [9] * 8 + [8] * 41
    assert len(chosen) == 400


def test_the_order_is_frozen():
    """Recorded once: a subset must be the same on every machine and with every NumPy."""
    assert pick_classes(8, 4, 0) == [6, 2, 1, 7]
    assert ordered(list("abcdef"), 3, 0) == ["e", "a", "f", "b", "c", "d"]
    shuffled = list(range(20))
    random.Random(5).shuffle(shuffled)
    assert author(20, 30, 5) == shuffled[:7]


@pytest.mark.parametrize(("text", "kept"), [("50", 50), ("25%", 50), ("100%", 200), ("1", 1)])
def test_class_counts(text, kept):
    assert class_count(text, 200) == kept


def test_a_quarter_of_196_classes_is_49():
    assert class_count("25%", 196) == 49


@pytest.mark.parametrize("text", ["0", "201", "x", "-3", "101%", "2.5", "%", ""])
def test_impossible_class_counts(text):
    with pytest.raises(UsageError, match="accepted are 1 to 200"):
        class_count(text, 200)


def test_subset_restricts_and_sorts():
    images = images_of([5, 5, 5, 5])
    positions, classes = subset(images, seed=0, class_spec="2", total=4)
    ids = sorted(pick_classes(4, 2, 0))
    assert classes == [images.class_names[c] for c in ids]
    assert np.bincount(images.labels[positions], minlength=4)[ids].tolist() == [2, 2]
    assert positions.tolist() == sorted(positions)
    everything, all_classes = subset(images, seed=0)
    assert everything.tolist() == list(range(20))
    assert all_classes == images.class_names


def test_a_written_list_brings_the_subset_back(tmp_path):
    images = images_of([5, 6, 7])
    positions, _ = subset(images, seed=3, rate=40)
    (tmp_path / "list.txt").write_text("\n".join(images.paths[i] for i in positions))  # no final newline
    again, classes = subset(images, seed=99, listed=str(tmp_path / "list.txt"))
    assert again.tolist() == positions.tolist()
    assert classes == images.class_names


def test_a_list_made_on_windows_has_backslashes(tmp_path):
    images = images_of([3, 2])
    (tmp_path / "list.txt").write_text("c001\\0001.jpg\n c000\\0002.jpg\n")
    assert subset(images, seed=0, listed=str(tmp_path / "list.txt"))[0].tolist() == [2, 4]
    (tmp_path / "list.txt").write_text("c000\\9999.jpg\n")
    with pytest.raises(DataError, match=r"not in .* c000\\9999\.jpg"):
        subset(images, seed=0, listed=str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [("c000/0000.jpg\nc000/9999.jpg\n", "c000/9999.jpg"), ("", "empty"), ("c000/0000.jpg\n" * 2, "twice")],
)
def test_wrong_lists_are_named(tmp_path, content, message):
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        subset(images_of([3]), seed=0, listed=str(tmp_path / "list.txt"))
    with pytest.raises(DataError, match="No such file"):
        subset(images_of([3]), seed=0, listed=str(tmp_path / "absent.txt"))


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 15, "total": 4},
        {"total": 1},
        {"total": 9},
        {"sampling": "author"},
        {"sampling": "author", "total": 4},
        {"rate": 15, "listed": "x"},
    ],
)
def test_contradictions_are_refused(options):
    with pytest.raises(UsageError, match="--samp"):
        subset(images_of([4, 4]), seed=0, **options)


def test_hold_out_is_stratified_and_leaves_no_class_empty():
    labels = np.repeat([0, 1, 2], [10, 2, 5])
    stays, held = hold_out(labels, 0.3, seed=0)
    assert sorted([*stays, *held]) == list(range(17))
    assert np.bincount(labels[held]).tolist() == [3, 1, 2]
    assert np.bincount(labels[stays]).tolist() == [7, 1, 3]
    with pytest.raises(UsageError, match="two or more images; one has 1"):
        hold_out(np.array([0, 0, 1]), 0.3, seed=0)


@given(st.lists(st.integers(0, 6), max_size=60))
def test_the_positions_of_each_class_are_found_in_order(labels):
    labels = np.array(labels, dtype="int64")
    found = by_class(labels)
    assert list(found) == sorted({*labels.tolist()})
    for label, rows in found.items():
        assert np.array_equal(rows, np.flatnonzero(labels == label))


def test_every_class_with_one_image_is_named():
    labels = np.array([0, 1, 1, 2, 3])
    with pytest.raises(UsageError, match=r"one has cat, emu, fox$"):
        hold_out(labels, 0.3, 0, ["cat", "dog", "emu", "fox"])
    with pytest.raises(UsageError, match=r"one has 0, 2, 3$"):
        hold_out(labels, 0.3, 0)


@pytest.mark.parametrize("text", ["\u00b2", "\u00b2%", "9" * 5000, "9" * 400 + "%", "", "%", "-1", "1.5"])
def test_a_class_count_that_is_none_is_a_short_line(text):
    with pytest.raises(UsageError, match="accepted are 1 to 8") as raised:
        class_count(text, 8)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n"])
def test_a_list_of_any_editor_is_read(mark, end, tmp_path):
    images = ImageFolder(tmp_path, ["a"], ["a/1.png", "a/2\u2028x.png", "a/3 .png"], np.zeros(3, dtype="int64"))
    (tmp_path / "list").write_bytes((mark + end.join(images.paths) + end + end).encode())
    chosen, _ = subset(images, 0, listed=str(tmp_path / "list"))
    assert chosen.tolist() == [0, 1, 2]
