"""A run with --calibrate and --select, and what the scripts make of its checkpoints."""

import csv
import json
from pathlib import Path

import numpy as np
import paddle
import pytest

import export
import finetune
import predict
import test as scoring
from checkpoints import checkpoint, pdparams
from checkpoints.classifier import Classifier
from evaluation.calibration import choose_threshold, fit_temperature
from evaluation.deployed import runner
from evaluation.export import WithSoftmax, comparison_images
from evaluation.metrics import METRICS, confidences, softmax
from tests.interrupted import Crash, crashing
from tests.pictures import write_folder
from tests.scripts import tiny
from tests.toy_checkpoints import write_checkpoint
from utils.errors import DataError, UsageError, WeightsError

CLASSES = ["cat", "dog", "emu"]
RUN = ("--regularizer", "l2", "--pretrained", "none", "--train_dir", "data", "--val_split", 0.25, "--cache", "off")
CHOICE = ("--select", "loss", "--calibrate", "--save_frequency", 1, "--max_iters", 5)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run of five updates, evaluated after three and five, and the same one crashed and resumed."""
    folder = tmp_path_factory.mktemp("work")
    write_folder(folder / "data", CLASSES, count=12)
    write_folder(folder / "photos", CLASSES, count=2, seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("evaluation.curves.draw", lambda *_: None)
        summary = finetune.main(tiny(*RUN, *CHOICE, "--name", "whole"))
        step = finetune.train_step
        patch.setattr(finetune, "train_step", crashing(4, Crash()))
        with pytest.raises(Crash):
            finetune.main(tiny(*RUN, *CHOICE, "--name", "half"))
        between = pdparams.load("output/half_l2_Last.pdparams")
        patch.setattr(finetune, "train_step", step)
        resumed = finetune.main(tiny(*RUN, *CHOICE, "--name", "half", "--resume"))
    return folder, summary, between, resumed


@pytest.fixture
def here(work, monkeypatch):
    monkeypatch.chdir(work[0])
    return work


def test_the_best_is_that_of_the_metric(here):
    _, summary, _, _ = here
    with open("output/whole_l2.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-7:] == [f"val_{name}" for name, metric in METRICS.items() if not metric.shown]
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert summary.best == {"step": int(best["step"]), "acc": float(best["val_acc"]), "loss": float(best["val_loss"])}
    assert pdparams.load("output/whole_l2_Best.pdparams")["iter"] + 1 == summary.best["step"]
    assert summary.options["select"] == "loss"
    assert f"(by loss, {summary.best['loss']:.4f})" in str(summary)


def test_a_resumed_run_keeps_the_value_of_the_best(here):
    _, summary, between, resumed = here
    assert between["metrics"]["best"].keys() == {"step", "acc", "loss"}
    assert resumed.best == summary.best
    for ending in ("_Best.pdparams", "_Last.pdparams"):
        whole, half = (pdparams.load(f"output/{name}_l2{ending}")["calibration"] for name in ("whole", "half"))
        assert whole["temperature"] == half["temperature"]
        assert np.array_equal(whole["confidence"], half["confidence"])
    with pytest.raises(UsageError, match="--select loss is now acc"):
        finetune.main(tiny(*RUN, "--name", "half", "--resume", "--max_iters", 5))


def test_a_best_without_the_metrics_value_is_refused():
    content = {"metrics": {"best": {"step": 2, "acc": 50.0}}}
    with pytest.raises(WeightsError, match="the entry metrics.best.loss is missing; accepted: a finite number"):
        checkpoint.validate_best(content, "a.pdparams", "loss")
    content["metrics"]["best"] = {"step": 0, "acc": -1.0}  # before the first evaluation
    checkpoint.validate_best(content, "a.pdparams", "loss")


def test_checkpoints_of_an_evaluation_have_its_temperature_and_no_others(here):
    _, summary, between, _ = here
    assert between["iter"] == 3  # after the evaluation of step 3, before that of step 5
    assert "calibration" not in between
    trained = set(Path("output/whole_l2_samples.txt").read_text().split())
    held = [f"{name}/{number:03d}.png" for name in CLASSES for number in range(12)]
    held = [path for path in held if path not in trained]
    labels = np.array([CLASSES.index(path[:3]) for path in held])
    for ending in ("_Best.pdparams", "_Last.pdparams"):
        model = Classifier.load(f"output/whole_l2{ending}")
        plain = checkpoint.read(f"output/whole_l2{ending}")
        kept = plain.pop("calibration")
        checkpoint.save("plain.pdparams", plain)
        found = predict.main(["--ckpts", "plain.pdparams", *(f"data/{path}" for path in held), *QUIET])
        temperature = fit_temperature(np.log(found.probabilities), labels)
        assert model.temperature == kept["temperature"] == pytest.approx(temperature, rel=1e-4)
        assert len(kept["correct"]) == len(held) == 9
        assert kept["correct"].sum() == (found.probabilities.argmax(axis=1) == labels).sum()


def test_the_network_of_all_images_has_the_temperature_of_the_folds(here):
    flags = (*RUN[:6], "--cache", "off", "--calibrate", "--folds", 2, "--name", "folded", "--max_iters", 2)
    pooled = finetune.main(tiny(*flags))
    kept = Classifier.load("output/folded_l2_Last.pdparams").calibration
    rows = list(csv.DictReader(Path("output/folded_l2_folds.csv").read_text().splitlines()))
    assert kept["temperature"] == pooled.temperature != 1
    assert len(kept["correct"]) == len(rows) == 36
    assert kept["correct"].sum() == sum(row["correct"] == "1" for row in rows)
    assert not any(np.isin(kept["confidence"], [float(row["probability"]) for row in rows]))  # those are without it
    assert "calibration" not in pdparams.load("output/folded_fold1_l2_Last.pdparams")
    assert f"at a temperature of {pooled.temperature:.4f}" in str(pooled)
    assert finetune.main(tiny(*flags, "--resume")) == pooled


QUIET = ("--gpu", "-1", "--out", "table.csv")


@pytest.fixture
def pair(here):
    """The same network as plain.pdparams, and at a temperature of 2.5 with held-out images as warm.pdparams."""
    write_checkpoint("plain.pdparams", CLASSES)
    confidence = np.linspace(0.3, 0.99, 100).astype("float32")
    kept = {"temperature": 2.5, "confidence": confidence, "correct": confidence > 0.5}
    checkpoint.save("warm.pdparams", {**checkpoint.read("plain.pdparams"), "calibration": kept})


def test_a_temperature_divides_the_logits_of_predictions_and_exports(pair):
    plain, warm = (predict.main(["--ckpts", f"{name}.pdparams", "photos", *QUIET]) for name in ("plain", "warm"))
    logits = np.log(plain.probabilities)
    np.testing.assert_allclose(warm.probabilities, softmax(logits / 2.5), atol=1e-12)
    model = Classifier.load("warm.pdparams")
    images = paddle.rand([2, 3, 32, 32])
    logits = model.network(images).logits.numpy().astype("float64")
    exported = WithSoftmax(model.network, model.temperature)(images).numpy()
    np.testing.assert_allclose(exported, softmax(logits / 2.5), atol=1e-6)


def test_the_temperature_is_the_students(pair, monkeypatch):
    monkeypatch.setattr("checkpoints.classifier._averaged", lambda *_: {})  # a teacher with the same weights
    assert Classifier.load("warm.pdparams").temperature == 2.5
    assert Classifier.load("warm.pdparams", weights="teacher").temperature == 1
    with pytest.raises(UsageError, match="--reject: warm.pdparams knows nothing of held-out images"):
        predict.main(["--ckpts", "warm.pdparams", "photos", "--weights", "teacher", "--reject", "0.9", *QUIET])


def test_an_exported_network_has_the_temperature(pair, tmp_path):
    files = export.main(["--ckpts", "warm.pdparams", "--out", str(tmp_path / "deploy"), "--count", "2"])
    program = next(path for path in files if path.suffix in (".json", ".pdmodel"))
    plain = Classifier.load("plain.pdparams")
    images = comparison_images(plain.preprocess, "photos", 2)
    logits = plain.network(paddle.to_tensor(images)).logits.numpy().astype("float64")
    np.testing.assert_allclose(runner(program)(images), softmax(logits / 2.5), atol=1e-5)


def test_the_scores_are_said_before_and_after(pair, capsys):
    files = ["--ckpts", "plain.pdparams", "warm.pdparams"]
    plain, warm = scoring.main([*files, "--test_dir", "photos", "--gpu", "-1", "--cache", "off", "--json", "a.json"])
    assert "calibration" not in plain
    assert json.loads(Path("a.json").read_text())[1] == warm
    assert [warm[name] for name in ("acc", "acc5", "class_acc")] == [
        plain[name] for name in ("acc", "acc5", "class_acc")
    ]
    found = warm["calibration"]
    assert (found["temperature"], found["fitted_on"], found["acc"]) == (2.5, 100, plain["acc"])
    assert (found["before"]["loss"], found["before"]["ece"]) == (plain["loss"], plain["ece"])
    assert (found["after"]["loss"], found["after"]["ece"]) == (warm["loss"], warm["ece"])
    assert plain["loss"] != warm["loss"]
    logits = np.log(predict.main(["--ckpts", "plain.pdparams", "photos", *QUIET]).probabilities)
    assert found["before"]["confidence"] == pytest.approx(100 * confidences(logits).mean())
    assert found["after"]["confidence"] == pytest.approx(100 * confidences(logits / 2.5).mean())
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("warm.pdparams: temperature 2.5000, fitted on 100 held-out images: right ")


def test_uncertain_images_have_no_class(pair, capsys):
    sure = predict.main(["--ckpts", "warm.pdparams", "photos", *QUIET]).probabilities.max(axis=1)
    middle = np.float32(np.sort(sure)[2:4].mean())  # three images below it, three above
    content = checkpoint.read("warm.pdparams")
    confidence = np.repeat(np.array([middle / 2, middle], "float32"), 70)
    content["calibration"].update(confidence=confidence, correct=np.arange(140) >= 70)
    checkpoint.save("half.pdparams", content)
    flags = ["--ckpts", "half.pdparams", "photos", "--gpu", "-1", "--reject", "0.95", "--top_k", "2"]
    found = predict.main([*flags, "--all_classes", "--sheet", "sheet.png"])
    captured = capsys.readouterr()
    header, *rows = csv.reader(captured.out.splitlines())
    assert header == [
        *("path", "predicted", "probability", "predicted_2", "probability_2"),
        *("rejected", "p_cat", "p_dog", "p_emu"),
    ]
    assert found.rejected.tolist() == (sure < middle).tolist()
    assert found.rejected.sum() == 3
    for row, rejected, shares in zip(rows, found.rejected, found.probabilities):
        order = np.argsort(-shares)[:2]
        assert row[1:5:2] == (["", ""] if rejected else [CLASSES[i] for i in order])
        assert row[2:5:2] == [f"{p:.6f}" for p in shares[order]]
        assert row[5:] == [str(int(rejected)), *(f"{p:.6f}" for p in shares)]
    said, last = captured.err.splitlines()[-2:]
    assert f"confidence of {middle:.4f}: on 140 held-out images it rejects 70 (50.0 %) and is right on 70" in said
    assert last == "6 of 6 images labelled, 3 of them rejected"
    predict.main([*flags, "--all_classes", "--format", "json"])
    for entry, rejected, shares in zip(json.loads(capsys.readouterr().out), found.rejected, found.probabilities):
        assert list(entry) == ["path", "top", "rejected", "probabilities"]
        assert entry["rejected"] is bool(rejected)
        assert all((each["class"] == "") == rejected for each in entry["top"])
        assert list(entry["probabilities"]) == CLASSES
        np.testing.assert_allclose([*entry["probabilities"].values()], shares, atol=1e-6)


@pytest.fixture
def sharp(pair):
    """The network of plain.pdparams as sharp.pdparams, with thresholds for 0.9 and 0.5; returns them.

    The surest 60 held-out images are right, the other 40 wrong: the threshold for 0.9 is the median of the photos.
    """
    sure = predict.main(["--ckpts", "warm.pdparams", "photos", *QUIET]).probabilities.max(axis=1)
    middle = np.float32(np.sort(sure)[2:4].mean())
    content = checkpoint.read("warm.pdparams")
    confidence = np.concatenate([np.full(40, middle / 2), np.linspace(middle, 1, 60)])
    content["calibration"].update(confidence=confidence.astype("float32"), correct=np.arange(100) >= 40)
    checkpoint.save("sharp.pdparams", content)
    kept = content["calibration"]
    return [choose_threshold(kept["confidence"], kept["correct"], target) for target in (0.9, 0.5)]


def test_what_thresholds_accept_and_how_unknown_images_are_told(sharp, capsys):
    write_folder(Path("others"), ("owl", "yak"), count=4, seed=9)
    flags = ["--ckpts", "sharp.pdparams", "--test_dir", "photos", "--gpu", "-1", "--cache", "off"]
    (found,) = scoring.main([*flags, "--reject", "0.9", "0.5", "--unknown_dir", "others", "--json", "a.json"])
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(Path("a.json").read_text()) == [found]
    known, others = (predict.main(["--ckpts", "sharp.pdparams", name, *QUIET]) for name in ("photos", "others"))
    labels = np.repeat(np.arange(3), 2)
    sure, correct = known.probabilities.max(axis=1), known.probabilities.argmax(axis=1) == labels
    unsure = others.probabilities.max(axis=1)
    for threshold, each in zip(sharp, found["reject"], strict=True):
        taken = sure >= threshold.confidence
        assert (each["images"], each["accepted"], each["right"]) == (6, taken.sum(), correct[taken].sum())
        assert (each["unknown"], each["unknown_rejected"]) == (8, (unsure < threshold.confidence).sum())
    assert [each["accepted"] for each in found["reject"]][0] == 3
    pairs = (sure[:, None] > unsure) + (sure[:, None] == unsure) / 2
    assert found["unknown"]["auroc"] == pytest.approx(pairs.mean(), abs=0.02)  # batches of another size round otherwise
    assert found["unknown"]["unknown_dir"] == "others"
    assert [line.split(": ")[1].split(" ")[0] for line in lines[1:]] == ["temperature", "8", "--reject", "--reject"]
    (plain,) = scoring.main(flags)
    assert plain.keys() == found.keys() - {"reject", "unknown"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--ckpts plain.pdparams --reject 0.9", "--reject: plain.pdparams knows nothing of held-out images"),
        ("--ckpts sharp.pdparams --reject 0.9 0.99", "--reject 0.99: no threshold reaches it on 100 held-out"),
        ("--ckpts sharp.pdparams --reject 1", "--reject: '1': accepted is a number above 0 to below 1"),
        ("--ckpts sharp.pdparams --reject", "--reject: expected at least one argument"),
        ("--ckpts sharp.pdparams --unknown_dir photos", "--unknown_dir photos: 6 of its 6 images are among those of"),
        ("--ckpts sharp.pdparams --unknown_dir torn", "cannot read the image torn/a.png"),
        ("--ckpts sharp.pdparams --unknown_dir torn --json torn/a.png", "--json torn/a.png would replace torn/a.png"),
    ],
)
def test_what_unknown_images_and_thresholds_need_is_one_line(sharp, flags, words):
    Path("torn").mkdir(exist_ok=True)
    Path("torn", "a.png").write_bytes(b"torn")
    with pytest.raises((UsageError, DataError), match="^[^\n]*$") as caught:
        scoring.main([*flags.split(), "--test_dir", "photos", "--gpu", "-1", "--cache", "off"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--ckpts plain.pdparams photos --reject 0.9", "--reject: plain.pdparams knows nothing of held-out images"),
        ("--ckpts warm.pdparams photos --reject 0.995", "--reject 0.995: no threshold reaches it on 100 held-out"),
        ("--ckpts warm.pdparams plain.pdparams photos --reject 0.9", "--reject: a threshold is of one checkpoint"),
        ("--ckpts warm.pdparams photos --reject 1", "--reject 1: accepted is a share below 1"),
        ("--ckpts warm.pdparams photos --reject 0", "--reject: '0': accepted is a number above 0 to 1"),
    ],
)
def test_what_a_threshold_needs_is_one_line(pair, flags, words):
    with pytest.raises(UsageError, match="^[^\n]*$") as caught:
        predict.main([*flags.split(), "--gpu", "-1"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--train_dir", "data", "--eval_dir", "data", "--calibrate"),
            "--calibrate needs --val_split, --fold or --folds: ",
        ),
        (("--train_dir", "data", "--eval_dir", "one", "--select", "auc"), "--select auc: the evaluation images in one"),
        (("--train_dir", "data", "--eval_dir", "data", "--select", "x"), "invalid choice: 'x'"),
    ],
)
def test_what_a_choice_needs_is_one_line(here, flags, words):
    folder = here[0] / "one"
    write_folder(folder, ("cat",), count=1)
    for name in ("dog", "emu"):
        (folder / name).mkdir(exist_ok=True)
    with pytest.raises(UsageError, match="^[^\n]*$") as caught:
        finetune.main(tiny("--regularizer", "l2", "--pretrained", "none", "--dry_run", *flags))
    assert words in str(caught.value)
