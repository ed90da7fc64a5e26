"""The tables of a recipe: CSV, Markdown and picture, from summaries that were written by hand."""

from __future__ import annotations

import csv
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from reproduction import report, tables
from reproduction.recipes import Cell, load
from reproduction.runs import Run, finished
from tests.scripts import ROOT

GRID = """
datasets: {birds: {title: Birds, folder: birds}, cars: {folder: cars}}
protocols: {few: , all: {title: all of them}}
methods: {l2: {title: L2, options: {regularizer: l2}}, smile: {title: SMILE, options: {regularizer: smile}}}
measures: {acc: {title: top-1 accuracy in %, from: last.acc, published: mean std}}
published: {file: numbers.csv, dataset: dataset, protocol: protocol, method: method}
"""
PUBLISHED = "dataset,protocol,method,mean,std\nBirds,few,L2,55.5,1.02\nBirds,few,SMILE,62.13,\n"


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "numbers.csv").write_text(PUBLISHED)
    (tmp_path / "grid.yaml").write_text(GRID)
    return load(tmp_path / "grid.yaml")


def pretend(recipe, out, cell, seed, last, best=None, **scores):
    """Write what a finished run leaves behind."""
    run = Run(recipe, Cell(*cell), seed, "data", out)
    run.save.mkdir(parents=True, exist_ok=True)
    best = {"step": 500, "acc": last if best is None else best}
    summary = {"last": {"step": 900, "acc": last}, "best": best, "samples_sha256": f"sum{seed}", "seconds": 60.5 + seed}
    run.file(".json").write_text(json.dumps(summary))
    for name, (_, product) in run.scoring().items():
        product.write_text(json.dumps([scores[name]]))
    return run


def rows(table, heading):
    """Return the cells of the table below `heading`, by the first of each row."""
    part = table.split(f"## {heading}\n")[1].split("\n##")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("| ")]
    return {line[0]: dict(zip(lines[0][1:], line[1:])) for line in lines[1:]}


def test_a_cell_is_the_mean_and_the_sample_deviation(grid, tmp_path):
    values = [60.0, 61.5, 64.25]
    for seed, value in enumerate(values):
        pretend(grid, tmp_path, ("birds", "few", "smile"), seed, value)
    pretend(grid, tmp_path, ("birds", "few", "l2"), 7, 50.123)
    table = rows(report.write(grid, tmp_path), "Birds, few")
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert table["SMILE"] == {
        "measured": f"{mean:.2f} ± {deviation:.2f}",
        "seeds": "3",
        "published": "62.13",
        "difference": f"{mean - 62.13:+.2f}",
    }
    assert table["L2"] == {"measured": "50.12", "seeds": "1", "published": "55.5 ± 1.02", "difference": "-5.38"}


def test_what_was_not_run_is_empty(grid, tmp_path):
    table = report.write(grid, tmp_path)
    assert rows(table, "Birds, few")["SMILE"] == {"measured": "", "seeds": "", "published": "62.13", "difference": ""}
    assert rows(table, "cars, all of them") == {
        "L2": {"measured": "", "seeds": ""},
        "SMILE": {"measured": "", "seeds": ""},
    }
    assert "0 finished runs; 0 of 8 cells" in table


def test_results_have_one_row_for_each_run_in_order(grid, tmp_path):
    for cell, seed in ((("cars", "all", "l2"), 1), (("birds", "few", "smile"), 10), (("birds", "few", "smile"), 9)):
        pretend(grid, tmp_path, cell, seed, 40 + seed / 3, best=50)
    report.write(grid, tmp_path)
    with open(tmp_path / "results.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["dataset"], row["method"], row["seed"]) for row in found] == [
        ("birds", "smile", "9"),
        ("birds", "smile", "10"),
        ("cars", "l2", "1"),
    ]
    assert (found[0]["acc"], found[0]["last_acc"], found[0]["best_acc"], found[0]["best_step"]) == (
        "43",
        "43",
        "50",
        "500",
    )
    assert found[1]["acc"] == "43.3333"
    assert found[1]["run"] == Run(grid, Cell("birds", "few", "smile"), 10, "", tmp_path).name
    assert not any("60.5" in str(row) or "second" in str(row) for row in found)


def test_a_changed_recipe_does_not_see_old_runs(grid, tmp_path):
    pretend(grid, tmp_path, ("birds", "few", "l2"), 0, 50.0)
    pretend(grid, tmp_path, ("birds", "few", "smile"), 0, 60.0)
    assert len(finished(grid, tmp_path)) == 2
    (tmp_path / "grid.yaml").write_text(GRID.replace("regularizer: l2", "regularizer: l2, lr: 0.1"))
    changed = load(tmp_path / "grid.yaml")
    assert [run.cell.method for run in finished(changed, tmp_path)] == ["smile"]
    assert rows(report.write(changed, tmp_path), "Birds, few")["L2"]["measured"] == ""
    assert len(finished(grid, tmp_path)) == 2


def test_the_best_is_said_to_be_chosen(grid, tmp_path):
    caution = "chosen on the very images it is reported on"
    assert caution not in report.write(grid, tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID.replace("last.acc", "best.acc"))
    best = load(tmp_path / "grid.yaml")
    pretend(best, tmp_path, ("birds", "few", "l2"), 0, 50.0, best=51.0)
    table = report.write(best, tmp_path)
    assert caution in table
    assert rows(table, "Birds, few")["L2"]["measured"] == "51.00"


def test_measures_come_from_the_scores(tmp_path):
    recipe = load(ROOT / "recipes" / "table4.yaml")
    losses = {part: {"il": {"softmax": {"squared": 0.1 + k}, "features": {"squared": 2.0 + k}}} for k, part in
              enumerate(("train", "test"))}  # fmt: skip
    pretend(recipe, tmp_path, ("cub", "CAll_N30pct", "smile"), 0, 70.0, **losses)
    table = report.write(recipe, tmp_path)
    heading = "CUB-200-2011, C:All / N:30%, "
    assert rows(table, heading + "Label-IL, train")["SMILE"]["measured"] == "0.1000"
    assert rows(table, heading + "Feature-IL, test")["SMILE"]["measured"] == "3.0000"
    assert rows(table, heading + "Feature-IL, test")["SMILE"]["difference"] == "+1.4700"


@pytest.mark.parametrize(("name", "columns"), [("table2", ["mean"]), ("table3", ["mean"]), ("readme", ["top1"])])
def test_published_numbers_in_a_table_are_those_of_the_file(name, columns, tmp_path):
    compare(name, columns, tmp_path, 1)


def test_published_numbers_of_table_4_are_those_of_the_file(tmp_path):
    compare("table4", ["label_il_train", "label_il_test", "feature_il_train", "feature_il_test"], tmp_path, 4)


def compare(name, columns, tmp_path, measures):
    with open(ROOT / "recipes" / "published" / f"{name}.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    expected = sorted(
        (line["method"], f"{line[column]} ± {line['std']}" if "std" in line else line[column])
        for line in lines
        for column in columns
    )
    table = report.write(load(ROOT / "recipes" / f"{name}.yaml"), tmp_path)
    shown = []
    for heading in re.findall(r"^## (.*)$", table, re.MULTILINE):
        shown += [(method, row["published"]) for method, row in rows(table, heading).items()]
    assert sorted(shown) == expected
    assert len(shown) == len(lines) * measures


def test_the_picture_has_a_dot_for_every_number(grid, tmp_path):
    report.write(grid, tmp_path)
    with Image.open(tmp_path / "table.png") as image:
        empty = np.asarray(image.convert("RGB")).astype(int)
    for seed in range(3):
        pretend(grid, tmp_path, ("cars", "all", "smile"), seed, 60.0 + seed)
    report.write(grid, tmp_path)
    with Image.open(tmp_path / "table.png") as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    blue = [int((np.abs(pixels - (0x1F, 0x5A, 0x94)).sum(axis=2) < 30).sum()) for pixels in (empty, drawn)]
    assert blue[1] > blue[0] > 0  # the legend's alone, then one more


def test_collect_knows_every_cell(grid, tmp_path):
    cells = tables.collect(grid, [])
    assert len(cells) == 8
    assert all(cell.mean is None and cell.deviation is None for cell in cells.values())


def test_without_matplotlib_the_rest_is_written_and_a_line_says_what_is_absent(grid, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "![" not in report.write(grid, tmp_path)
    written = {path.name for path in tmp_path.iterdir()} - {"grid.yaml", "numbers.csv"}
    assert written == {"results.csv", "table.md", "index.html"}
    said = f"WARNING: {tmp_path}: without table.png: matplotlib is not installed: pip install matplotlib\n"
    assert capsys.readouterr().err == said
