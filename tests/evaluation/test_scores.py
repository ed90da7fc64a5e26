import numpy as np
import paddle
import pytest

from datasets.cache import StreamedImages
from datasets.folder import scan
from datasets.loader import Dataset
from datasets.preprocess import Preprocess
from evaluation.scores import eval_mode, evaluate, predict, score
from models import build
from tests.pictures import write_folder


def test_scores_against_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 9)).astype("float32"), rng.integers(0, 9, 50)
    scores = score(logits, labels)
    order = (-logits).argsort(axis=1)
    assert scores.correct == (order[:, 0] == labels).sum()
    assert scores.values["acc5"] == 2 * (order[:, :5] == labels[:, None]).any(axis=1).sum()
    shifted = logits.astype("float64") - np.log(np.exp(logits.astype("float64")).sum(axis=1, keepdims=True))
    assert scores.values["loss"] == pytest.approx(-shifted[np.arange(50), labels].mean(), rel=1e-6)
    assert (scores.count, scores.acc1) == (50, 100 * scores.correct / 50)


def test_the_mean_per_class_counts_every_class_alike():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2, 4], [40, 7, 2, 1])  # unbalanced, and no image of class 3
    logits = rng.normal(size=(50, 5)).astype("float32")
    logits[:30, 0] += 3  # most of the large class is right
    scores = score(logits, labels)
    right = logits.argmax(axis=1) == labels
    wanted = 100 * np.mean([right[labels == label].mean() for label in (0, 1, 2, 4)])
    assert scores.values["class_acc"] == pytest.approx(wanted)
    assert abs(scores.values["class_acc"] - scores.acc1) > 5
    assert f"mean per class {wanted:.2f} %" in str(scores)


def test_fewer_than_five_classes_and_ties():
    scores = score(np.zeros((4, 3), dtype="float32"), np.array([0, 0, 1, 2]))
    assert (scores.correct, scores.values["acc5"]) == (2, 100)


def test_every_image_counts_alike_whatever_the_batch_size(tmp_path):
    found = scan(write_folder(tmp_path, count=7))
    images = Dataset.of(StreamedImages(found, Preprocess(32, 37)), found.class_names)
    paddle.seed(0)
    network = build("resnet8", 3)
    results = [evaluate(network, images, size) for size in (1, 4, 8, 64)]
    assert len({scores.correct for scores in results}) == 1
    assert all(scores.count == 21 for scores in results)
    assert np.ptp([scores.values["loss"] for scores in results]) < 1e-6
    assert list(predict(network, images, 5).shape) == [21, 3]


def test_modes_come_back_layer_by_layer():
    network = build("resnet8", 3)
    network.train()
    network.bn1.eval()
    with eval_mode(network):
        assert not any(layer.training for layer in network.sublayers(include_self=True))
    assert network.training
    assert network.conv1.training
    assert not network.bn1.training
