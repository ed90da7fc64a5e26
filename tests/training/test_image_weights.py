"""A weight for each image of a list: its loss counts so many times, whatever the batch is cut into."""

from pathlib import Path

import numpy as np
import paddle
import pytest

import finetune
from datasets.batch import Batch, Mix
from datasets.cache import StreamedImages
from datasets.lists import read_list
from datasets.loader import Dataset, training_batches
from datasets.preprocess import Preprocess
from regularizers.losses import cross_entropies
from tests.interrupted import Crash, crashing
from tests.pictures import write_folder
from tests.scripts import tiny
from training.criterion import Criterion
from training.parsing import parse
from training.step import train_step
from utils.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def pets(tmp_path, monkeypatch):
    """Images, a list of them with weights, and one with equal weights."""
    write_folder(tmp_path / "pets", count=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evaluation.curves.draw", lambda *_: None)
    write("pets.csv", lambda number: number / 4)
    write("equal.csv", lambda number: 1)
    return tmp_path


def write(name, weight):
    rows = [(path.relative_to("pets").as_posix(), path.parent.name) for path in sorted(Path("pets").rglob("*.png"))]
    lines = [f"{path},{label},{weight(number)}" for number, (path, label) in enumerate(rows)]
    Path(name).write_text("\n".join(["path,label,weight", *lines[::-1]]) + "\n")


def test_weights_follow_their_images():
    images = read_list("pets.csv", root="pets", weight_column="weight")
    assert images.weights.tolist() == [number / 4 for number in range(12)]
    assert images.weights.dtype == np.float32
    assert images.select([3, 1]).weights.tolist() == [0.75, 0.25]
    assert images.key(3) != read_list("equal.csv", root="pets", weight_column="weight").key(3)
    assert images.key(4) == read_list("equal.csv", root="pets", weight_column="weight").key(4)
    assert images.key(3).split("\0")[1:] == [images.class_names[0], "0.75"]  # not as this version of NumPy writes it
    assert read_list("pets.csv", root="pets").weights is None


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("ratio", [None, 0.3])
def test_the_loss_is_the_weighted_mean_of_the_images(count, ratio):
    rng = np.random.default_rng(0)
    logits, targets, weights = rng.normal(size=(8, 5)), np.eye(5)[rng.integers(0, 5, 8)], rng.random(8)
    partner = rng.permutation(8)
    mixed = (lambda x: x) if ratio is None else (lambda x: ratio * x + (1 - ratio) * x[partner])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.mean(mixed(weights) * -(mixed(targets) * np.log(p)).sum(axis=1))

    tensor = lambda x: paddle.to_tensor(x, dtype="float32")  # noqa: E731
    mix = None if ratio is None else Mix(tensor(logits), paddle.to_tensor(partner), ratio)
    batch = Batch(tensor(logits), tensor(mixed(targets)), paddle.arange(8), mix, tensor(weights))
    losses = [Criterion()(part.images, part.targets, part.weights).item() for part in batch.micro_batches(count)]
    assert np.mean(losses) == pytest.approx(expected, rel=1e-5)


def test_class_weights_and_smoothing_go_with_it():
    logits, targets = paddle.randn([6, 3]), paddle.eye(3)[paddle.to_tensor([0, 1, 2, 0, 1, 2])]
    weights, of_class = paddle.to_tensor([0.0, 1, 2, 3, 4, 5]), np.array([0.5, 1.0, 2.0])
    found = Criterion(0.3, of_class)(logits, targets, weights).item()
    smoothed = cross_entropies(logits, 0.7 * targets + 0.1).numpy()
    assert found == pytest.approx(np.mean(weights.numpy() * of_class[[0, 1, 2, 0, 1, 2]] * smoothed), rel=1e-5)


def trained(name, *words, file="pets.csv", column="weight"):
    own = ["--weight_column", column] if column else []
    finetune.main(tiny("--pretrained", "none", "--regularizer", "l2", "--train_list", file, "--data_root", "pets",
                       "--eval_dir", "pets", "--name", name, *own, *words))  # fmt: skip
    return paddle.load(f"output/{name}_l2_Last.pdparams")["model"]


def furthest(one, two):
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def test_weights_of_one_change_nothing_and_others_do():
    plain = trained("plain", column=None)
    assert furthest(plain, trained("equal", file="equal.csv")) < 1e-6
    assert furthest(plain, trained("weighted")) > 1e-4


def test_batches_and_their_shards_have_the_weights_of_their_images():
    folder = read_list("pets.csv", root="pets", weight_column="weight")
    images = Dataset.of(StreamedImages(folder, Preprocess(image_size=32)), folder.class_names)
    for shard in (slice(None), slice(2, 4)):
        batch = next(training_batches(images, 4, seed=0, shard=shard))
        assert batch.weights.tolist() == [index / 4 for index in batch.index.tolist()]


def test_a_crashed_run_ends_with_the_same_bits_and_other_weights_are_named(monkeypatch):
    whole = trained("whole")
    monkeypatch.setattr(finetune, "train_step", crashing(4, Crash()))
    with pytest.raises(Crash):
        trained("half", "--save_frequency", "1")
    monkeypatch.setattr(finetune, "train_step", train_step)
    with pytest.raises(UsageError, match="the train images in equal.csv are not those it was started with"):
        trained("half", "--resume", file="equal.csv")
    assert furthest(whole, trained("half", "--resume", "--save_frequency", "1")) == 0


def test_micro_batches_of_a_run_are_the_whole_batch():
    norm = ("--freeze_bn",)  # batch statistics are those of a micro-batch
    write_source()
    source = ("--pretrained", "source.pdparams", *norm)
    assert furthest(trained("one", *source), trained("four", *source, "--accum", "4")) < 1e-5


def write_source():
    from models import build

    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), "source.pdparams")


@pytest.mark.parametrize("cell", ["-1", "nan", "inf", "x", "1e7"])
def test_a_weight_that_is_none_is_named_with_its_line(cell):
    write("bad.csv", lambda number: cell if number == 9 else 1)
    with pytest.raises(DataError, match=f"bad.csv, line 4: weight is '{cell}'; accepted is a number from 0 to 1e"):
        read_list("bad.csv", root="pets", weight_column="weight")
    write("bad.csv", lambda number: "" if number == 9 else 1)
    with pytest.raises(DataError, match="bad.csv, line 4: the column weight is empty"):
        read_list("bad.csv", root="pets", weight_column="weight")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--train_dir pets --eval_dir pets", "--weight_column is of lists; accepted with --train_list"),
        ("--train_list pets.csv --eval_dir pets --regularizer regsl --self_label true", "which it does not weigh"),
    ],
)
def test_where_there_are_no_weights_they_are_refused(words, message):
    method = [] if "regularizer" in words else ["--regularizer", "l2", "--pretrained", "none"]
    with pytest.raises(UsageError, match=message):
        parse(tiny(*words.split(), *method, "--weight_column", "weight"))
