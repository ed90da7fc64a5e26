"""Metrics against NumPy, and a new one found wherever metrics are written."""

import json

import numpy as np
import pytest
import sklearn.metrics as judge
import yaml
from scipy.special import logsumexp, softmax
from sklearn.calibration import calibration_curve

import test as scoring_script
from evaluation import metrics
from evaluation.metrics import METRICS, Metric
from evaluation.scores import score
from reproduction import recipes
from tests.pictures import write_folder
from tests.toy_checkpoints import write_checkpoint
from utils.errors import UsageError

CLASSES = ["cat", "dog", "emu"]
SHOWN = ("acc", "acc5", "loss", "class_acc")
TODAY = (*SHOWN, "f1", "weighted_f1", "precision", "auc", "kappa", "brier", "ece")


def test_every_metric_of_given_logits():
    logits = np.log([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]).astype("float32")
    values = score(logits, np.array([0, 0, 0, 2])).values
    assert list(values) == list(METRICS) == list(TODAY)
    assert values["acc"] == 75
    assert values["acc5"] == 100
    assert values["loss"] == pytest.approx(-np.log([0.6, 0.2, 0.7, 0.8]).mean(), rel=1e-6)
    assert values["class_acc"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == ["loss", "brier", "ece"]
    assert [name for name, metric in METRICS.items() if metric.shown] == [*SHOWN]


def case(name):
    """Return logits and labels: of 60 images and 7 classes, or of an edge case."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 7, 60)
    logits = rng.normal(size=(60, 7)).astype("float32")
    logits[np.arange(60), labels] += 1
    if name == "class absent":
        keep = (labels != 2) & (labels != 6)
        return logits[keep], labels[keep]
    if name == "one class":
        return logits, np.full(60, 4)
    if name == "two classes":
        return logits[:, :2], labels % 2
    if name == "one image":
        return logits[:1], labels[:1]
    if name == "ties":
        return logits.round(), labels
    if name == "all equal":
        return np.zeros((60, 7), "float32"), labels
    if name == "all right":
        return 100 * np.eye(7, dtype="float32")[labels], labels
    return logits, labels


@pytest.mark.parametrize(
    "name",
    ["plain", "class absent", "one class", "two classes", "one image", "ties", "all equal", "all right"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_metrics_against_scikit_learn(name):
    logits, labels = case(name)
    values = score(logits, labels).values
    shares, predicted = softmax(logits.astype("float64"), axis=1), logits.argmax(axis=1)
    here, width = np.unique(labels), logits.shape[1]
    macro = {"labels": here, "average": "macro", "zero_division": 0}
    assert values["class_acc"] == pytest.approx(100 * judge.balanced_accuracy_score(labels, predicted))
    assert values["class_acc"] == pytest.approx(100 * judge.recall_score(labels, predicted, **macro))
    assert values["f1"] == pytest.approx(100 * judge.f1_score(labels, predicted, **macro))
    assert values["precision"] == pytest.approx(100 * judge.precision_score(labels, predicted, **macro))
    weighted = judge.f1_score(labels, predicted, average="weighted", zero_division=0)
    assert values["weighted_f1"] == pytest.approx(100 * weighted)
    assert values["loss"] == pytest.approx(judge.log_loss(labels, shares, labels=range(width)), abs=1e-12)
    one_hot = np.eye(width)[labels]
    assert values["brier"] == pytest.approx(np.mean(np.sum((shares - one_hot) ** 2, axis=1)))
    if len(here) > 1:
        areas = [judge.roc_auc_score(labels == label, shares[:, label]) for label in here]
        assert values["auc"] == pytest.approx(np.mean(areas))
        assert values["kappa"] == pytest.approx(judge.cohen_kappa_score(labels, predicted), abs=1e-12)
    else:
        assert values["auc"] is None
        assert values["kappa"] == (None if (predicted == labels).all() else 0)


@pytest.mark.parametrize("name", ["plain", "two classes", "one image", "ties", "all equal", "all right"])
def test_the_calibration_error_by_its_bins(name):
    logits, labels = case(name)
    sure, right = softmax(logits.astype("float64"), axis=1).max(axis=1), logits.argmax(axis=1) == labels
    wanted = 0
    for low in range(15):
        inside = (sure > low / 15) & (sure <= (low + 1) / 15)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert metrics.calibration_error(logits, labels) == pytest.approx(100 * wanted, abs=1e-9)
    shares, said = calibration_curve(right, sure, n_bins=metrics.BINS)
    counts = np.histogram(sure - 1e-9, np.linspace(0, 1, 16))[0]
    counts = counts[counts > 0] / len(labels)
    assert 100 * (counts * abs(shares - said)).sum() == pytest.approx(100 * wanted, abs=1e-9)


def test_of_which_kind_a_value_is_better():
    assert metrics.is_better("f1", 2.0, 1.0)
    assert not metrics.is_better("f1", 1.0, 1.0)
    assert metrics.is_better("ece", 1.0, 2.0)
    assert not metrics.is_better("loss", 2.0, 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0, 1, 1e2, 1e37])
def test_softmax_is_scipys_to_the_bit(dtype, scale):
    logits = (scale * np.random.default_rng(0).normal(size=(40, 201))).astype(dtype)
    found = metrics.softmax(logits)
    assert found.dtype == dtype
    assert np.array_equal(found, softmax(logits, axis=1))


def test_of_equal_logits_the_first_class_is_higher():
    hits = metrics.hits(np.array([[1.0, 1.0, 0.0]] * 3), np.array([0, 1, 2]), 1)
    assert hits.tolist() == [True, False, False]


def test_the_line_names_the_metrics_for_a_person():
    scores = score(np.zeros((12, 2), "float32"), np.repeat([0, 1], 6))
    assert str(scores) == "top-1 50.00 % (6/12)  top-5 100.00 %  loss 0.6931  mean per class 50.00 %"
    assert (scores.acc1, scores.correct, scores.count) == (50, 6, 12)


@pytest.mark.parametrize("count", [1, 3, 7, 5794, 49999])
def test_the_number_of_correct_images_is_exact(count):
    for correct in {0, 1, count // 3, count - 1, count}:
        labels = (np.arange(count) >= correct).astype("int64")
        scores = score(np.tile([[1.0, 0.0]], (count, 1)), labels)
        assert scores.correct == correct
        assert scores.acc1 == 100 * correct / count


@pytest.fixture
def toy(monkeypatch):
    """A metric of one line: the share of images whose highest logit is positive."""
    metric = Metric(lambda logits, labels: float((logits.max(axis=1) > 0).mean()), "positive", "{value:.3f} of {count}")
    monkeypatch.setitem(METRICS, "positive", metric)


def test_a_new_metric_is_in_the_line_and_the_file_of_test_py(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_checkpoint("a.pdparams", CLASSES)
    write_folder(tmp_path / "images", CLASSES, count=2)
    flags = "--ckpts a.pdparams --test_dir images --gpu -1 --cache off --json a.json"
    (result,) = scoring_script.main(flags.split())
    assert json.loads((tmp_path / "a.json").read_text()) == [result]
    assert list(result) == ["path", "test_dir", "count", *TODAY, "positive"]
    assert f"  positive {result['positive']:.3f} of 6  " in capsys.readouterr().out


def test_a_new_metric_is_a_measure_of_recipes(toy, tmp_path):
    content = {
        "datasets": {"pets": {"folder": "pets"}},
        "protocols": {"all": {}},
        "methods": {"l2": {"options": {"regularizer": "l2"}}},
        "scores": {"final": {"images": "test"}},
    }
    for name in (*TODAY, "positive"):
        for source in ("last", "final"):
            content["measures"] = {"m": {"from": f"{source}.{name}"}}
            (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
            recipe = recipes.load(tmp_path / "a.yaml")
            assert recipe.measures["m"]["from"] == f"{source}.{name}"
    METRICS.pop("positive")
    with pytest.raises(UsageError, match=r"accepted are last\.acc, last\.acc5, last\.loss"):
        recipes.load(tmp_path / "a.yaml")


def test_a_new_metric_has_a_column_and_a_curve(toy):
    assert metrics.columns() == ["val_loss", *(f"val_{name}" for name in TODAY if name != "loss"), "val_positive"]
    values = dict.fromkeys(METRICS, 1.0)
    assert sorted(metrics.table_cells(values)) == sorted(metrics.columns())
    assert [*metrics.curve_points(values)] == ["val_acc", "val/acc5", "val_loss", "val/class_acc", "val/positive"]


@pytest.mark.parametrize("block", [1, 63, 200, 360])
def test_blocks_of_images_change_no_bit(monkeypatch, block):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 9)).round(1).astype("float32"), rng.integers(0, 9, 40)
    whole = score(logits, labels).values
    losses = logsumexp(logits.astype("float64"), axis=1) - logits[np.arange(40), labels]
    assert whole["loss"] == losses.mean()
    monkeypatch.setattr(metrics, "BLOCK", block)
    assert score(logits, labels).values == whole
