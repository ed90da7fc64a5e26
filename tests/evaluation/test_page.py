"""The page of a report: what is on it, and that no name of a class or a file can do anything there."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from checkpoints.classifier import Classifier
from datasets.cache import StreamedImages
from datasets.folder import ImageFolder, scan
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from evaluation import charts, markup, matrix, page
from evaluation.calibration import Calibration
from evaluation.intervals import interval
from evaluation.metrics import BINS, bin_of, confidences
from evaluation.scores import score
from evaluation.scoring import Scored
from models import build
from models.parameters import freeze
from tests.pictures import picture, write_folder

HOSTILE = ["<script>alert(1)<|script>", "\"onload='alert(2)' x=\"", "&lt;b&gt;$title"]


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, the attributes of each, and the text outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = write_folder(tmp_path_factory.mktemp("images"), HOSTILE, count=4, size=(20, 16))
    for name in HOSTILE:
        picture(9).save(root / name / "<img src=x onerror=alert(3)>.png")
    return root


def scored(images, logits, calibration=None):
    network = freeze(build("resnet8", len(images.class_names)))
    model = Classifier(network, "resnet8", images.class_names, len(images.class_names), Preprocess(16, 16), False, 8)
    scores = score(logits, images.labels)
    return Scored("out/a_Last.pdparams", model, images, logits, scores, 8, 0.5, calibration, [])


def dataset(found: ImageFolder):
    return Dataset.of(StreamedImages(found, Preprocess(16, 16)), found.class_names)


def written(result, tmp_path, history=None):
    page.write(tmp_path, result, history or page.History([], None, {}, {}))
    return (tmp_path / page.NAME).read_text(encoding="utf-8")


def noisy(images, seed=0, strength=1.5):
    logits = np.random.default_rng(seed).normal(size=(len(images), len(images.class_names))).astype("float32")
    logits[np.arange(len(images)), images.labels] += strength
    return logits


HISTORY = page.History(
    [{"step": str(s), "val_loss": "1", "train_loss": "nan", "val_acc": str(s), "train_acc": ""} for s in (10, 20, 30)],
    20,
    {"method": "smile</dd><script>", "seed": 3},
    {"name": "<b>"},
)


def test_names_are_text_and_nothing_else(folder, tmp_path):
    images = dataset(scan(folder))
    text = written(scored(images, noisy(images)), tmp_path, HISTORY)
    reader = Reader(text)
    (script,) = reader.all("script")
    assert script == {}
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    assert all(attributes == {} for attributes in reader.all("b"))
    seen = "".join(reader.text)
    for name in (*HOSTILE, "<img src=x onerror=alert(3)>.png", "smile</dd><script>"):
        assert name in seen, name
    assert all(attributes["src"].startswith("data:image/") for attributes in reader.all("img"))
    assert all(attributes["alt"].strip() for attributes in reader.all("img"))
    assert all(attributes["aria-label"] for attributes in reader.all("svg") if "aria-hidden" not in attributes)
    assert not re.search(r"https?:|url\(|@import|srcset", text)


def test_every_part_is_there_and_linked(folder, tmp_path):
    images = dataset(scan(folder))
    reader = Reader(written(scored(images, noisy(images)), tmp_path, HISTORY))
    names = ["scores", "training", "classes", "confusion", "confidence", "mistakes", "how"]
    assert [attributes["id"] for attributes in reader.all("section")] == names
    assert [attributes["href"] for attributes in reader.all("a")] == [f"#{name}" for name in names]
    seen = "".join(reader.text)
    assert "3 evaluations of the run. This checkpoint was written after step 20" in seen


def test_the_numbers_are_those_of_the_scores(folder, tmp_path):
    images = dataset(scan(folder))
    result = scored(images, noisy(images, seed=2))
    text = written(result, tmp_path)
    low, high = interval(result.scores.correct, 15)
    assert f"{result.scores.acc1:.1f} % <small>right, 95 % interval {low:.1f} to {high:.1f} %</small>" in text
    assert f"Expected calibration error {result.scores.values['ece']:.2f} %: {BINS} bins" in text
    bins = text.split("<caption>Bins of confidence")[1].split("</table>")[0]
    rows = re.findall(r">(\d+)</td><td[^>]*>([\d.]+) %</td><td[^>]*>([\d.]+) %</td></tr>", bins)
    counts, means, shares = np.array(rows, dtype="float64").T
    assert counts.sum() == 15
    assert (counts * np.abs(means - shares)).sum() / 15 == pytest.approx(result.scores.values["ece"], abs=0.1)
    assert len(rows) == len(set(bin_of(confidences(result.logits)).tolist()))


def test_a_temperature_is_said(folder, tmp_path):
    images = dataset(scan(folder))
    logits = noisy(images)
    calibration = Calibration.of(logits, images.labels, 2.0, 77)
    text = written(scored(images, logits / 2, calibration), tmp_path)
    assert "temperature 2.0000, fitted on 77 held-out images" in text


def test_classes_come_worst_first_and_one_without_images_last(folder, tmp_path):
    found = scan(folder)
    images = Dataset.of(StreamedImages(found, Preprocess(16, 16)), [*found.class_names, "absent"])
    logits = np.zeros((15, 4), dtype="float32")
    logits[:, 1] = 1  # all of the second class
    part = written(scored(images, logits), tmp_path).split('id="classes"')[1].split("</section>")[0]
    assert 'class="number" aria-sort="ascending"><button type="button">accuracy' in part
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td class="number" data-v="([\d.]*)">', part)
    first, second, third = (markup.escaped(name) for name in found.class_names)
    assert [name for name, _ in rows] == [first, third, second, "absent"]
    ends = "{:.0f} to {:.0f} %".format(*interval(5, 5))
    assert f">{ends}</td>" in part


def test_without_a_mistake_it_says_so(folder, tmp_path):
    images = dataset(scan(folder))
    text = written(scored(images, noisy(images, strength=50.0)), tmp_path)
    assert "No mistake: every image is right." in text
    assert "No image was taken for one of another class." in text


def test_a_network_that_says_nan_has_a_page(folder, tmp_path):
    images = dataset(scan(folder))
    reader = Reader(written(scored(images, np.full((15, 3), np.nan, dtype="float32")), tmp_path))
    assert len(reader.all("section")) == 6


def test_a_network_without_maps_says_why(folder, tmp_path):
    images = dataset(scan(folder))
    result = scored(images, noisy(images))
    result.network.head_map = lambda outputs: None
    text = written(result, tmp_path)
    assert "No maps of what decided" in text
    assert text.count("as the network sees it") >= 1
    assert "What decided:" not in text


def test_two_hundred_classes_stay_one_small_page(tmp_path):
    names = [f"class {number:03d} with a name of some length" for number in range(200)]
    found = scan(write_folder(tmp_path / "images", names, count=2, size=(20, 16)))
    images = dataset(found)
    text = written(scored(images, noisy(images)), tmp_path)
    assert len(text) < 600_000
    part = Reader(text.split('id="confusion"')[1].split("</section>")[0])
    (heat,) = part.all("img")
    assert (heat["width"], heat["height"]) == ("200", "200")
    assert "Confusion matrix of 200 classes" in heat["alt"]
    assert len(part.all("tr")) <= 1 + matrix.PAIRS


def test_the_picture_of_the_matrix_is_coarser_for_very_many_classes():
    counts = np.diag(np.full(2001, 3))
    counts[2000, 0] = 5
    (heat,) = Reader(matrix.confusion(counts, [str(label) for label in range(2001)])).all("img")
    assert heat["width"] == "667"
    assert len(heat["src"]) < 50_000


def test_a_long_table_is_cut_and_says_so():
    rows = [[markup.Cell(str(i)), markup.number(i, "{}")] for i in range(markup.MOST_ROWS + 5)]
    text = markup.table("Many", ("name", "value"), rows)
    assert f"Many; {markup.MOST_ROWS} of {markup.MOST_ROWS + 5} rows" in text
    assert len(Reader(text).all("tr")) == 1 + markup.MOST_ROWS


@pytest.mark.parametrize("edges", [(0, 100), (0.31, 0.35), (-3, 7000), (1e-7, 2e-7), (99.5, 100.5)])
def test_ticks_are_round_and_inside(edges):
    found = charts.ticks(*edges)
    assert 3 <= len(found) <= 8
    assert edges[0] - 1e-9 <= found[0] < found[-1] <= edges[1] + 1e-9
    assert len({round((b - a) / (edges[1] - edges[0]), 6) for a, b in zip(found, found[1:])}) == 1


def test_a_line_keeps_its_ends_and_its_place():
    points = [(float(x), float(x % 7)) for x in range(1001)] + [(5.0, float("nan"))]
    drawn = charts.lines("a", [charts.Line("b", points)], ("x", "y"), (0, 1000), (0, 6))
    path = re.search(r'class="line c0" d="M([^"]+)"', drawn)[1].split("L")
    assert 200 <= len(path) <= 300
    assert (path[0], path[-1]) == ("52 256", "466 12")  # 1000 % 7 is 6
    assert "nan" not in drawn


def test_a_line_of_one_point_or_none_is_drawn_too():
    one = charts.lines("a", [charts.Line("b", [(3.0, 4.0)]), charts.Line("c", [])], ("x", "y"))
    assert one.count("<circle") == 1


def test_dots_stand_at_their_values():
    rows = [charts.Dot("a", 50.0, None, 60.0), charts.Dot("b", 70.0, 5.0, None), charts.Dot("<c>", None, None, None)]
    drawn = charts.dots("dots", rows)
    found = {(kind, float(x)) for kind, x in re.findall(r'<circle class="(\w+) c\d" cx="([\d.]+)"', drawn)}
    (hollow,) = (x for kind, x in found if kind == "hollow")
    low, high = sorted(x for kind, x in found if kind == "dot")
    assert hollow == pytest.approx((low + high) / 2, abs=0.2)
    assert "&lt;c&gt;" in drawn
