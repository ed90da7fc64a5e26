"""The page of a recipe, from summaries that were written by hand."""

import re

import pytest

from evaluation.intervals import interval
from evaluation.page import NAME
from reproduction import report
from reproduction.recipes import load
from tests.evaluation.test_page import Reader
from tests.reproduction.test_tables import GRID, PUBLISHED, pretend


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "numbers.csv").write_text(PUBLISHED)
    scored = GRID.replace("measures: {", "scores: {test: {images: test}}\nmeasures: {own: {from: test.acc}, ")
    (tmp_path / "grid.yaml").write_text(f"title: <b>Grid</b>\nnote: A & B\n{scored}")
    return load(tmp_path / "grid.yaml")


def page(recipe, out):
    report.write(recipe, out)
    return (out / NAME).read_text(encoding="utf-8")


def test_tables_intervals_and_curves(grid, tmp_path):
    for seed, value in enumerate((60.0, 62.0)):
        run = pretend(grid, tmp_path, ("birds", "few", "smile"), seed, value, test={"acc": value, "count": 50})
        header = "step,lr,train_loss,train_acc,val_loss,val_acc\n"
        run.file(".csv").write_text(header + "".join(f"{s},0.1,1,50,1,{value - 900 + s}\n" for s in (450, 900)))
    text = page(grid, tmp_path)
    reader = Reader(text)
    assert [attributes["id"] for attributes in reader.all("section")] == ["scores", "runs", "training", "how"]
    assert not reader.all("b")
    assert "A &amp; B" in text
    assert ">61.00 ± 1.41</td>" in text
    part = text.split('id="runs"')[1].split("</section>")[0]
    low, high = interval(31, 50)
    assert f'<td class="number" data-v="{low}">{low:.1f} to {high:.1f}</td>' in part
    assert part.count(" to ") == 2  # what was measured while training has no number of images
    curves = text.split('id="training"')[1].split("</section>")[0]
    assert len(re.findall(r'<path class="line c\d" d="M[\d.]+ [\d.]+L', curves)) == 2
    assert "seed 0 60 %, seed 1 62 %" in curves


def test_a_recipe_without_runs_has_a_page(grid, tmp_path):
    text = page(grid, tmp_path)
    assert "0 finished runs; 0 of 16 cells have a number." in text
    assert "No run is finished." in text
    assert "No run was evaluated more than once." in text
