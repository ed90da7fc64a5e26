"""The pages of test.py and reproduce.py in a real browser: no complaint, no request, sorted by keyboard, two widths."""

import json
import re

import pytest

import finetune
import test as scoring
from reproduction import report
from reproduction.recipes import load
from tests import browser
from tests.pictures import write_folder
from tests.reproduction.test_tables import GRID, PUBLISHED, pretend
from tests.scripts import tiny

NAMES = (
    "<script>alert(1)<|script>",
    "\"onload='alert(2)'",
    "emu",
    "a_class_with_a_name_that_is_far_too_long_for_a_column",
)

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages by name: of a small run with hostile class names, and of a recipe with runs written by hand."""
    work = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        write_folder(work / "dataset" / "train", NAMES)
        write_folder(work / "dataset" / "test", NAMES, count=8, seed=1)
        finetune.main(tiny("--regularizer", "l2", "--pretrained", "none", "--name", "pets"))
        scoring.main(["--ckpts", "output/pets_l2_Last.pdparams", "--gpu", "-1", "--report", "mistakes"])
    (work / "numbers.csv").write_text(PUBLISHED.replace(",L2,", ",L2 with a title that is too long for a telephone,"))
    long = GRID.replace("title: L2", "title: L2 with a title that is too long for a telephone")
    (work / "grid.yaml").write_text(f"title: <script>alert(3)</script>\n{long}")
    recipe = load(work / "grid.yaml")
    for seed in range(3):
        for method in ("l2", "smile"):
            run = pretend(recipe, work / "out", ("birds", "few", method), seed, 50.0 + 3 * seed)
            table = (work / "output" / "pets_l2.csv").read_text()
            run.file(".csv").write_text(table)
    report.write(recipe, work / "out")
    return {"test": work / "mistakes" / "index.html", "reproduce": work / "out" / "index.html"}


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", ["test", "reproduce"])
def test_nothing_is_asked_for_and_nothing_is_wider_than_the_window(name, width, dark, pages, chromium):
    chromium.open(pages[name], width, dark)
    assert chromium.value("document.querySelectorAll('section').length") >= 4
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.value("[...document.images].filter(i => !(i.complete && i.naturalWidth && i.alt)).length") == 0
    light = chromium.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c > 200)")
    assert light is not dark
    assert chromium.complaints() == []


@pytest.mark.parametrize("key", ["Enter", " "])
def test_a_table_is_sorted_by_keyboard(key, pages, chromium):
    chromium.open(pages["test"])
    table = "document.querySelector('#classes table')"
    numbers = f"[...{table}.tBodies[0].rows].map(row => +row.cells[2].dataset.v)"
    ordered = chromium.value(numbers)
    assert ordered == sorted(ordered)
    assert chromium.value(f"{table}.tHead.rows[0].cells[2].ariaSort") == "ascending"
    reach(chromium, f"{table}.tHead.rows[0].cells[2].firstElementChild")
    chromium.press(key)
    assert chromium.value(numbers) == sorted(ordered, reverse=True)
    assert chromium.value(f"{table}.tHead.rows[0].cells[2].ariaSort") == "descending"
    for _ in range(2):  # on to "precision" and "most taken for"
        chromium.press("Tab")
    assert chromium.value("document.activeElement.textContent") == "precision"
    reach(chromium, f"{table}.tHead.rows[0].cells[0].firstElementChild")
    chromium.press(key)
    names = chromium.value(f"[...{table}.tBodies[0].rows].map(row => row.cells[0].textContent)")
    assert sorted(names) == sorted(NAMES)
    assert names == chromium.value(f"{json.dumps(names)}.sort((a, b) => a.localeCompare(b, 'en'))")
    assert chromium.value(f"[...{table}.tHead.rows[0].cells].filter(head => head.ariaSort).length") == 1
    assert chromium.complaints() == []


def reach(chromium, element):
    """Press Tab until `element` has the focus."""
    for _ in range(80):
        if chromium.value(f"document.activeElement === {element}"):
            return
        chromium.press("Tab")
    raise AssertionError(f"Tab does not reach {element}")


def test_what_is_not_known_comes_last_either_way(pages, chromium):
    chromium.open(pages["reproduce"])
    head = "document.querySelector('#scores table').tHead.rows[0].cells[4].firstElementChild"
    values = "[...document.querySelector('#scores table').tBodies[0].rows].map(row => row.cells[4].textContent)"
    for sign in (1, -1):
        chromium.value(f"{head}.click()")
        first, last = chromium.value(values)
        assert float(first) * sign == sorted([float(first) * sign])[0]
        assert re.fullmatch(r"[+-][\d.]+|", last)


def test_the_browser_tells_what_a_page_does(tmp_path, chromium):
    """Otherwise nothing of the above could fail."""
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.log('hello'); undefined.x</script>")
    chromium.open(page)
    found = "\n".join(chromium.complaints())
    for word in ("127.0.0.1:9/x.png", "hello", "Runtime.exceptionThrown"):
        assert word in found
