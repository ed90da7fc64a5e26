"""Recipes: what they say, what they mean to finetune.py, and which mistakes in them are told."""

from __future__ import annotations

import csv
import re

import pytest

from reproduction import needs
from reproduction.recipes import Cell, load
from reproduction.runs import Run
from tests.scripts import ROOT
from training.presets import PRESETS
from utils.errors import UsageError

CELLS = {
    "table2": 108,
    "table3": 36,
    "table4": 16,
    "figure1": 8,
    "readme": 6,
    "ablation": 18,
    "demo": 24,
    "demo_il": 24,
    "bakeoff": 11,
    "demo_bakeoff": 11,
    "photos": 40,
    "photos_choice": 30,
    "photos_frozen_choice": 20,
    "photos_few": 40,
    "few_letters_choice": 189,
    "few_choice": 60,
    "few": 15,
    "demo_folds": 4,
}
TEXT = """
title: A grid
seeds: [3, 1]
options: {max_iters: 9, lr: 0.1, wd: 0}
datasets:
  birds: {title: Birds, folder: birds, options: {lr: 0.2, keep_aspect: }}
  cars: {folder: cars}
protocols:
  few: {options: {sample_rate: 15, lr: 0.3}}
  all:
methods:
  l2: {options: {regularizer: l2}}
  l2sp:
    options: {regularizer: l2sp, sp_lambda: 1e-3, wd: 1}
    per_dataset:
      cars: {sp_lambda: 1e-4}
measures:
  acc: {from: last.acc}
"""


def recipe(name):
    return load(ROOT / "recipes" / f"{name}.yaml")


def runs(found, folder):
    return [Run(found, cell, seed, "data", folder) for cell in found.cells() for seed in found.seeds]


def write(tmp_path, text=TEXT):
    (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "grid.yaml"


def options(name, tmp_path, *cell):
    return Run(recipe(name), Cell(*cell), 0, "data", tmp_path).parsed()


def test_every_recipe_is_known_here():
    assert sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")) == sorted(CELLS)


@pytest.mark.parametrize(("name", "count"), CELLS.items())
def test_cells_are_those_of_the_table(name, count):
    found = recipe(name)
    assert len(found.cells()) * len(found.measures) == count
    assert len(set(found.cells())) == len(found.cells())


@pytest.mark.parametrize("name", CELLS)
def test_finetune_understands_every_cell(name, tmp_path):
    found = recipe(name)
    needs.check(found, runs(found, tmp_path))
    names = [run.name for run in runs(found, tmp_path)]
    assert len(set(names)) == len(names)


def test_photographs_under_the_preset_have_its_values():
    options, preset = recipe("photos_few").options, PRESETS["few"]
    apart = {"regularizer", "max_iters", "probe"}  # the methods' own, a third of its length, and what changes no result
    for name in set(preset) - apart - {"freeze_bn"}:
        assert type(preset[name])(options[name]) == preset[name], name
    assert "freeze_bn" in options


AXES = {"table2": ("dataset", "method", "protocol"), "table3": ("dataset", "method", "sampling_rate_pct")}
AXES.update({"table4": ("method",), "readme": ("dataset", "method")})


@pytest.mark.parametrize("name", AXES)
def test_every_published_number_has_its_cell(name):
    found = recipe(name)
    with open(ROOT / "recipes" / "published" / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [column for column in rows[0] if column not in (*AXES[name], "std")]
    expected = {
        tuple(row[axis] for axis in AXES[name]) + (column if name == "table4" else "",): (
            row[column],
            row.get("std", ""),
        )
        for row in rows
        for column in numbers
    }
    carried = {}
    for (cell, measure), value in found.published.items():
        entries = (found.datasets[cell.dataset], found.methods[cell.method], found.protocols[cell.protocol])
        titles = dict(
            zip(("dataset", "method", "protocol"), (entry.get("published", entry["title"]) for entry in entries))
        )
        titles["sampling_rate_pct"] = titles["protocol"]
        key = tuple(titles[axis] for axis in AXES[name]) + (measure if name == "table4" else "",)
        assert key not in carried
        carried[key] = value
    assert carried == expected
    assert len(carried) == CELLS[name]


def test_tables_follow_the_authors_recipe(tmp_path):
    for dataset, keep_aspect in (("cub", True), ("cars", False), ("aircraft", False)):
        found = options("table2", tmp_path, dataset, "CAll_N15pct", "smile")
        assert (found.lr, found.lr_drop, found.max_iters, found.batch_size, found.wd) == (0.01, 6000, 9000, 48, 1e-4)
        assert (found.cls_lambda, found.head_init, found.head_lr_mult) == (0, "torch", 1)
        assert (found.keep_aspect, found.sample_rate, found.pretrained) == (keep_aspect, 15, "imagenet")
        assert found.method == {
            "alpha": 0.2, "reg_lambda": 0.01, "aux_lambda": 0.1, "ema_decay": 0.999, "ema_every": 10,
            "ema_bn_stats": False, "clean_tail": 0,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "flag", "values"),
    [
        ("l2sp", "sp_lambda", (1e-3, 1e-4, 1e-3)),
        ("delta", "delta_lambda", (1e-2, 1e-3, 1e-3)),
        ("bss", "bss_lambda", (1e-3, 1e-3, 1e-3)),
        ("rifle", "reinits", (2, 4, 4)),
        ("mixup", "alpha", (0.2, 0.2, 0.2)),
        ("cotuning", "cot_lambda", (2.3, 2.3, 2.3)),
        ("regsl", "distance", (0.2044, 1.3340, 1.1833)),
        ("regsl", "head_distance", (23.785, 8.2694, 5.2771)),
        ("regsl", "distance_growth", (4.738, 3.4768, 1.2768)),
    ],
)
def test_strengths_for_each_data_set(method, flag, values, tmp_path):
    for dataset, value in zip(("cub", "cars", "aircraft"), values):
        assert options("table2", tmp_path, dataset, "C25_N400", method).method[flag] == value


def test_the_readme_follows_the_reference(tmp_path):
    found = options("readme", tmp_path, "cub", "CAll_N100pct", "smile")
    assert (found.lr_drop, found.cls_lambda, found.head_init, found.keep_aspect) == (6666, 1e-4, "paddle", False)
    assert (found.method["clean_tail"], found.method["ema_every"], found.method["ema_decay"]) == (1000, 10, 0.999)
    assert found.method["ema_bn_stats"]
    assert recipe("readme").seeds == [2022]
    assert recipe("readme").measures["acc"]["from"] == "best.acc"


def test_later_options_win(tmp_path):
    found = load(write(tmp_path))
    assert found.settings(Cell("birds", "few", "l2")) == {
        "max_iters": "9", "lr": "0.3", "wd": "0", "keep_aspect": "", "sample_rate": "15", "regularizer": "l2",
    }  # fmt: skip
    assert found.settings(Cell("birds", "all", "l2sp"))["sp_lambda"] == "1e-3"
    assert found.settings(Cell("cars", "all", "l2sp"))["sp_lambda"] == "1e-4"
    assert found.settings(Cell("cars", "all", "l2sp"))["wd"] == "1"
    assert found.sampling(Cell("birds", "few", "l2")) == {"sample_rate": "15"}
    assert found.seeds == [3, 1]


def test_only_leaves_cells_in_order(tmp_path):
    found = load(write(tmp_path))
    assert [cell.method for cell in found.cells({"dataset": ["cars"], "method": ["l2sp", "l2"]})] == ["l2", "l2sp"] * 2
    assert found.cells({"dataset": ["cars"], "protocol": ["few"], "method": ["l2"]}) == [Cell("cars", "few", "l2")]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("max_iters: 9", "max_iters: 10", True),
        ("sp_lambda: 1e-3", "sp_lambda: 1e-2", True),
        ("folder: birds", "folder: birds2", True),
        ("seeds:", "threads: 1\nseeds:", True),
        ("sp_lambda: 1e-4", "sp_lambda: 1e-5", False),
        ("{regularizer: l2}", "{regularizer: mixup}", False),
        ("A grid", "Another", False),
        ("wd: 0}", "wd: 0, orientation: ignore}", False),  # what runs without it did
        ("wd: 0}", "wd: 0, orientation: exif}", True),
        ("[3, 1]", "[3, 1, 7]", False),
        ("sp_lambda: 1e-3, wd: 1", "wd: 1, sp_lambda: 1e-3", False),
    ],
)
def test_the_sum_is_over_all_that_a_result_depends_on(old, new, changed, tmp_path):
    cell = Cell("birds", "all", "l2sp")
    before = load(write(tmp_path)).digest(cell)
    assert old in TEXT
    assert (load(write(tmp_path, TEXT.replace(old, new))).digest(cell) != before) == changed


MISTAKES = [
    ("title: A grid", "title: [", ("grid.yaml is not YAML", "line")),
    ("seeds: [3, 1]", "seed: [3, 1]", ("unknown seed", "accepted are title")),
    ("seeds: [3, 1]", "seeds: [x]", ("seeds", "whole numbers")),
    ("seeds: [3, 1]", "threads: many", ("threads", "whole numbers")),
    ("folder: birds,", "", ("datasets: birds", "folder")),
    ("lr: 0.2", "lrr: 0.2", ("birds few l2", "unknown argument --lrr")),
    ("lr: 0.2", "lr: [1, 2]", ("birds", "lr", "one value")),
    ("lr: 0.3", "lr: -1", ("birds few l2", "--lr", "above 0")),
    ("lr: 0.2", "seed: 4", ("birds", "seed", "reproduce.py sets it")),
    ("regularizer: l2}", "regularizer: l3}", ("no method 'l3'", "smile")),
    (
        "regularizer: l2}",
        "regularizer: l2, sp_lambda: 1}",
        ("--sp_lambda is not an option of --regularizer l2", "l2sp"),
    ),
    ("cars: {sp_lambda", "bikes: {sp_lambda", ("l2sp", "no data set bikes")),
    ("last.acc", "final.acc", ("measures: acc: from: final.acc", "last.acc, last.acc5")),
    ("last.acc", "best.loss", ("measures: acc: from: best.loss", "best.acc")),
    ("last.acc}", "t.il.features.norm}\nscores: {t: {images: test}}", ("from: t.il.features.norm", "t.acc, t.acc5")),
    ("A grid", "[A, grid]", ("title: ['A', 'grid']", "one value")),
    ("title: Birds", "title: [Birds]", ("birds: title", "one value")),
    ("last.acc", "last.acc, digits: two", ("measures: acc: digits", "whole numbers")),
    ("measures:", "scores: {x: {images: test, il: maybe}}\nmeasures:", ("scores: x: il", "true and false")),
    ("measures:", "published: {file: empty.csv, method: m}\nmeasures:", ("empty.csv", "no column m")),
    ("protocols:\n", "protocols: few\nmore:\n", ("unknown more",)),
    ("  all:\n", "  a/b:\n", ("'a/b'", "letters")),
    ("max_iters: 9", "time: 10m", ("a recipe states max_iters, in place of time or epochs",)),
    ("measures:", "scores: {x: {images: val}}\nmeasures:", ("scores: x", "train and test")),
    ("measures:", "published: {file: none.csv, method: m}\nmeasures:", ("none.csv", "No such file")),
    ("measures:", "published: {file: some.csv, method: m}\nmeasures:", ("some.csv", "no column m", "there are a, b")),
]


@pytest.mark.parametrize(("old", "new", "words"), MISTAKES, ids=[row[1][:40] for row in MISTAKES])
def test_a_mistake_is_one_line_with_what_is_accepted(old, new, words, tmp_path):
    (tmp_path / "some.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(UsageError) as raised:
        needs.check(load(path), runs(load(path), tmp_path))
    message = " ".join(str(raised.value).split())
    assert "grid.yaml" in message
    for word in words:
        assert word in message


def test_the_recipe_in_the_documentation_means_something(tmp_path):
    text = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    found = load(write(tmp_path, text))
    needs.check(found, runs(found, tmp_path))
    assert len(found.cells()) == 4
    assert Run(found, Cell("dogs", "few", "smile"), 0, "data", tmp_path).parsed().method["clean_tail"] == 300


def test_a_recipe_that_is_not_there():
    with pytest.raises(UsageError, match="nowhere.yaml: No such file"):
        load("nowhere.yaml")


def laughs(depth=12):
    """Return YAML of a few hundred characters that stands for 9 ** depth values."""
    text = "[&a0 [l,l,l,l,l,l,l,l,l]"
    return text + "".join(f", &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)) + "]"


@pytest.mark.parametrize("place", [
    *("title: {}", "note: {}", "seeds: {}", "threads: {}", "ranked: {}", "options: {}", "options: {{lr: {}}}"),
    *("options: {{? {} : 1}}", "datasets: {}", "datasets: {{birds: {}}}", "datasets: {{birds: {{folder: {}}}}}"),
    *("methods: {{l2: {{per_dataset: {}}}}}", "measures: {{acc: {{from: {}}}}}", "scores: {{a: {{images: {}}}}}"),
    *("published: {}", "published: {{file: {}}}", "published: {{file: x, method: {}}}", "{}", "nonsense: {}"),
])  # fmt: skip
def test_a_value_that_is_huge_by_aliases_is_refused_at_once(place, tmp_path):
    name = place.partition(":")[0]
    kept = re.sub(rf"(?ms)^{name}:.*?(?=^\w|\Z)", "", TEXT) if name in TEXT else TEXT
    text = place.format(laughs()) if place == "{}" else f"{kept}\n{place.format(laughs())}\n"
    with pytest.raises(UsageError) as raised:
        load(write(tmp_path, text))
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize(("text", "words"), [
    (f"title: {'[' * 100_000}", "nested too deeply"),
    ("title: " + "x" * 2**18, "up to 262144 characters"),
    (TEXT.replace("seeds: [3, 1]", f"seeds: [{','.join(map(str, range(30000)))}]"), "accepted are up to 100000"),
    (TEXT.replace("seeds: [3, 1]", "seeds: [\u00b2]"), "whole numbers"),
    (TEXT.replace("seeds: [3, 1]", "seeds: [4294967296]"), "from 0 to 4294967295"),
    (TEXT.replace("seeds: [3, 1]", f"seeds: [{'9' * 5000}]"), "whole numbers"),
    (TEXT.replace("seeds: [3, 1]", "seeds: [1]\nthreads: 0"), "from 1 to 1024"),
    (TEXT.replace("last.acc", "last.acc, digits: 400000000"), "from 0 to 12"),
    (TEXT.replace("last.acc", "best.acc\n").replace("lr: 0.1", "lr: &a [*a]"), "recursive"),
])  # fmt: skip
def test_a_hostile_size_is_one_line(text, words, tmp_path):
    with pytest.raises(UsageError, match=words) as raised:
        load(write(tmp_path, text))
    assert len(str(raised.value)) < 600


def test_an_endless_file_is_refused():
    with pytest.raises(UsageError):
        load("/dev/zero")


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_recipe_and_its_table_from_windows_are_read(ends, tmp_path):
    published = "\npublished: {file: t.csv, method: method}\n"
    text = TEXT.replace("{from: last.acc}", "{from: last.acc, published: mean}") + published
    (tmp_path / "grid.yaml").write_bytes(("\ufeff" + text.replace("\n", ends)).encode())
    (tmp_path / "t.csv").write_bytes(("\ufeff" + f"method,mean{ends}l2,91.5{ends}l2sp,90{ends}").encode())
    found = load(tmp_path / "grid.yaml")
    assert found.title == "A grid"
    assert found.published[Cell("birds", "few", "l2"), "acc"] == ("91.5", "")


@pytest.mark.parametrize("cell", ["nan", "1e400", "good", "9,9"])
def test_a_published_number_is_one(cell, tmp_path):
    published = "\npublished: {file: t.csv, method: method}\n"
    path = write(tmp_path, TEXT.replace("{from: last.acc}", "{from: last.acc, published: mean}") + published)
    (tmp_path / "t.csv").write_text(f'method,mean\nl2,"{cell}"\n')
    with pytest.raises(UsageError, match="accepted are finite numbers"):
        load(path)
    (tmp_path / "t.csv").write_bytes(b"method,mean\nl2,\xff\n")
    with pytest.raises(UsageError, match="not a CSV table"):
        load(path)


@pytest.mark.parametrize("name", ["table2", "table3", "table4", "figure1", "ablation", "bakeoff", "readme"])
def test_recipes_of_earlier_versions_take_images_as_the_reference_does(name, tmp_path):
    for run in runs(recipe(name), tmp_path):
        assert run.settings["orientation"] == "ignore"
