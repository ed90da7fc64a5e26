"""How runs end: with every option of the training at once, early, and with the teacher's weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

import finetune
import predict
import test as scoring
from checkpoints import checkpoint, pdparams
from checkpoints.classifier import Classifier
from evaluation.scores import Scores
from models import build
from models.parameters import backbone_parameters
from tests.interrupted import Crash, crashing
from tests.pictures import write_folder
from tests.scripts import ROOT, tiny
from tests.test_resume import flat
from training.build import Run
from training.options import Options
from training.step import train_step
from utils.errors import UsageError, WeightsError

METHOD = "--regularizer smile+rifle --clean_tail 2 --ema_decay 0.8 --reinits 3 --alpha 0.5"
ALL = f"{METHOD} --schedule cosine --warmup 3 --optimizer adamw --layer_decay 0.8 --clip_norm 0.5 --lr 0.01"
ALL += " --label_smoothing 0.1 --head_init zero --patience 9 --max_iters 9 --eval_frequency 2 --save_frequency 2"


def train(*more):
    return finetune.main(tiny("--name", "pets", "--pretrained", "source.pdparams", "--cache", "off", *more))


def interrupted(after, *more):
    finetune.train_step = crashing(after, Crash())
    try:
        with pytest.raises(Crash):
            train(*more)
    finally:
        finetune.train_step = train_step


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_folder(folder / "dataset" / "train", count=4)
    write_folder(folder / "dataset" / "test", count=4, seed=1)
    paddle.seed(0)
    source = build("resnet8", 5)
    for _ in range(3):  # statistics that are not 0 and 1
        source(paddle.randn([8, 3, 32, 32]) + 0.5)
    paddle.save(source.state_dict(), str(folder / "source.pdparams"))
    return folder


@pytest.fixture(autouse=True)
def inside(made, monkeypatch):
    monkeypatch.chdir(made)


@pytest.mark.parametrize("statistics", ["--freeze_bn", "--bn_momentum 0.5"])
def test_all_options_at_once_resume_to_the_same_bits(statistics):
    flags, base = [*ALL.split(), *statistics.split()], statistics.split()[0].strip("-")
    whole = train("--save", f"{base}/whole", *flags)
    for after, resume in ((3, ()), (8, ("--resume",))):  # in the warm-up and in the clean tail
        interrupted(after, "--save", f"{base}/half", *flags, *resume)
    half = train("--save", f"{base}/half", *flags, "--resume")
    assert (half.last, half.best, half.teacher) == (whole.last, whole.best, whole.teacher)
    ends = [dict(flat(pdparams.load(f"{base}/{side}/pets_smile+rifle_Last.pdparams"))) for side in ("whole", "half")]
    assert ends[0].keys() == ends[1].keys()
    parts = ("/model/", "/optimizer/", "/regularizer/state/", "/iter", "/lr_scheduler/", "/metrics/best/")
    compared = [name for name in ends[0] if name.startswith(parts)]
    assert sum(name.endswith("/moment2_0") for name in compared) > 20
    assert [name for name in compared if not np.array_equal(ends[0][name], ends[1][name])] == []
    tables = [Path(base, side, "pets_smile+rifle.csv").read_text() for side in ("whole", "half")]
    assert tables[0] == tables[1]
    rates = [float(line.split(",")[1]) for line in tables[0].splitlines()[1:]]
    shares = [2 / 4, 1.0, *((1 + np.cos(np.pi * t / 6)) / 2 for t in (2, 4, 5))]  # of updates 1, 3, 5, 7, 8
    np.testing.assert_allclose(rates, [0.01 * share for share in shares], rtol=1e-6)

    content = pdparams.load(f"{base}/whole/pets_smile+rifle_Last.pdparams")
    model, state = content["model"], content["regularizer"]["state"]
    source, kept = pdparams.load("source.pdparams"), statistics == "--freeze_bn"
    for name in model:
        if name.endswith(("_mean", "_variance")):
            teacher = state[f"parts.smile.teacher.network.{name}"]
            assert np.array_equal(model[name], source[name]) == np.array_equal(teacher, source[name]) == kept, name
    assert not np.array_equal(model["bn1.weight"], source["bn1.weight"])


@pytest.mark.parametrize(
    "option",
    [
        "--schedule cosine",
        "--warmup 1",
        "--optimizer adamw",
        "--layer_decay 0.5",
        "--clip_norm 0.01",
        "--label_smoothing 0.3",
        "--head_init zero",
        "--freeze_bn",
        "--bn_momentum 0.5",
    ],
)
def test_each_option_changes_the_run(option):
    def weights(name, *more):
        train("--regularizer", "l2", "--max_iters", 2, "--save", name, "--overwrite", *more)
        return pdparams.load(f"{name}/pets_l2_Last.pdparams")["model"]

    plain, other = weights("plain"), weights("other", *option.split())
    assert any(not np.array_equal(plain[name], other[name]) for name in plain)


# Early stopping


def scored(monkeypatch, accuracies):
    """Let the evaluations find these accuracies, by the number of updates."""
    now = {}
    keep = finetune.evaluate_and_keep_best

    def note(run, evaluation, log, done):
        now["step"] = done
        return keep(run, evaluation, log, done)

    def evaluate(network, images, *_, **__):
        values = {"acc": accuracies[now["step"]], "acc5": 100.0, "class_acc": 50.0, "loss": 1.0}
        return Scores(len(images), values)

    monkeypatch.setattr(finetune, "evaluate_and_keep_best", note)
    monkeypatch.setattr(finetune, "score", lambda logits, labels: evaluate(None, labels))
    monkeypatch.setattr(finetune, "evaluate", evaluate)
    return now


STEPS = range(2, 21, 2)
FLAGS = ("--regularizer", "l2", "--max_iters", 20, "--eval_frequency", 2, "--save_frequency", 1)


@pytest.mark.parametrize(
    ("accuracies", "patience", "end"),
    [
        ([5, 4, 3, 2, 1, 1, 1, 1, 1, 1], 1, 4),
        ([5, 4, 3, 2, 1, 1, 1, 1, 1, 1], 3, 8),
        ([5, 5, 5, 5, 5, 5, 5, 5, 5, 5], 2, 6),  # as good is not better
        ([5, 4, 6, 4, 7, 4, 4, 4, 4, 4], 2, 14),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 1, 20),
        ([5, 4, 6, 4, 7, 4, 8, 4, 9, 4], 2, 20),
        ([5, 4, 3, 2, 1, 1, 1, 1, 1, 1], 9, 20),  # with the last update
        ([5, 4, 3, 2, 1, 1, 1, 1, 1, 1], 100, 20),
    ],
)
def test_a_run_is_over_after_so_many_evaluations_without_a_better_one(accuracies, patience, end):
    run = SimpleNamespace(
        options=SimpleNamespace(patience=patience, eval_frequency=2, max_iters=20), best={"step": 0, "acc": -1.0}
    )
    for done in range(21):
        accuracy = dict(zip(STEPS, accuracies)).get(done, -1.0)
        if accuracy > run.best["acc"]:
            run.best = {"step": done, "acc": accuracy}
        assert Run.ends(run, done) == (done >= end)
        if done == end:
            return


@pytest.mark.parametrize(("patience", "end"), [(2, 8), (9, 20)])
def test_a_run_without_a_better_evaluation_is_finished_early(monkeypatch, tmp_path, patience, end):
    scored(monkeypatch, dict(zip(STEPS, [5, 7, 7, 6, 4, 4, 4, 4, 4, 4])))
    summary = train(*FLAGS, "--save", tmp_path, "--patience", patience)
    assert summary.last["step"] == end
    assert summary.best == {"step": 4, "acc": 7}
    assert pdparams.load(tmp_path / "pets_l2_Last.pdparams")["iter"] == end - 1
    assert json.loads((tmp_path / "pets_l2.json").read_text())["last"]["step"] == end
    words = f"stopped after {end} of 20 updates (--patience {patience})"
    assert (words in str(summary)) == (end < 20)
    assert (words in (tmp_path / "pets_l2.txt").read_text()) == (end < 20)


def test_without_patience_a_run_makes_all_its_updates(monkeypatch, tmp_path):
    scored(monkeypatch, dict.fromkeys(STEPS, 5.0))
    assert train(*FLAGS, "--save", tmp_path).last["step"] == 20


@pytest.mark.parametrize("after", [3, 8])
def test_a_crashed_run_stops_where_an_uninterrupted_one_does(monkeypatch, tmp_path, after):
    scored(monkeypatch, dict(zip(STEPS, [5, 6, 4, 4, 4, 9, 9, 9, 9, 9])))
    flags = (*FLAGS, "--save", tmp_path, "--patience", 3)
    interrupted(after, *flags)
    assert train(*flags, "--resume").last["step"] == 10


def test_a_run_that_had_stopped_only_writes_its_summary(monkeypatch, tmp_path):
    now = scored(monkeypatch, dict(zip(STEPS, [5, 4, 3, 9, 9, 9, 9, 9, 9, 9])))
    flags = (*FLAGS, "--save", tmp_path, "--patience", 2)
    first = train(*flags)
    weights = (tmp_path / "pets_l2_Last.pdparams").read_bytes()
    (tmp_path / "pets_l2.json").unlink()
    now["step"] = 6  # evaluated again for the summary
    again = train(*flags, "--resume")
    assert (again.last, again.best) == (first.last, first.best)
    assert (tmp_path / "pets_l2_Last.pdparams").read_bytes() == weights
    assert train(*flags, "--resume") is None  # it is finished


# The teacher's weights


@pytest.fixture(scope="module")
def smile(made):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        flags = ("--regularizer", "smile", "--clean_tail", 2, "--ema_decay", 0.5, "--lr", 0.05)
        return train(*flags, "--save", "taught"), made / "taught" / "pets_smile_Last.pdparams"


def logits_of_the_teacher(path):
    """Return the logits of a network put together by hand: the teacher's tensors below, the student's head above."""
    content = pdparams.load(path)
    state = content["regularizer"]["state"]
    tensors = {name: state[f"teacher.network.{name}"] for name in content["model"] if not name.startswith("fc.")}
    network = build("resnet8", 3)
    network.set_state_dict({**content["model"], **tensors})
    network.eval()
    images = paddle.randn([4, 3, 32, 32])
    return images, network(images).logits.numpy()


@pytest.mark.parametrize("ending", ["Last", "Best"])
def test_the_teachers_backbone_comes_under_the_networks_head(smile, ending):
    path = smile[1].with_name(f"pets_smile_{ending}.pdparams")
    images, expected = logits_of_the_teacher(path)
    teacher, student = Classifier.load(path, weights="teacher").network, Classifier.load(path).network
    np.testing.assert_array_equal(teacher(images).logits.numpy(), expected)
    assert not np.array_equal(student(images).logits.numpy(), expected)
    assert not any(tensor is other for tensor, other in zip(teacher.parameters(), student.parameters()))


def test_the_summary_reports_both(smile):
    summary, path = smile
    scores = {}
    for weights in ("student", "teacher"):
        (scores[weights],) = scoring.main(
            [*("--ckpts", str(path), "--test_dir", "dataset/test", "--gpu", "-1", "--weights", weights)]
        )
    written = json.loads(path.with_name("pets_smile.json").read_text())
    for weights, values in (("student", written["last"]), ("teacher", written["teacher"])):
        assert values.pop("step") == 6
        assert {name: scores[weights][name] for name in values} == pytest.approx(values, rel=1e-5)
    assert scores["teacher"]["loss"] != scores["student"]["loss"]
    assert scores["teacher"]["weights"] == "teacher"
    assert "weights" not in scores["student"]
    line = f"last {summary.teacher['acc']:.2f} % by the teacher's weights"
    assert line in path.with_name("pets_smile.txt").read_text()
    assert summary.teacher["step"] == 6


def test_scoring_the_teacher_leaves_the_run_as_it_was(smile, monkeypatch):
    monkeypatch.setattr(Run, "score_teacher", lambda *_: None)
    flags = ("--regularizer", "smile", "--clean_tail", 2, "--ema_decay", 0.5, "--lr", 0.05)
    without = train(*flags, "--save", "untaught")
    assert (without.last, without.best, without.teacher) == (smile[0].last, smile[0].best, None)


def test_images_are_labelled_by_the_teacher(smile):
    def probabilities(weights):
        return predict.main(
            ["--ckpts", str(smile[1]), "dataset/test", "--gpu", "-1", "--weights", weights]
        ).probabilities

    assert not np.array_equal(probabilities("teacher"), probabilities("student"))
    with pytest.raises(UsageError, match="^--weights teacher needs --ckpts: published weights are of one network$"):
        predict.parse(["--pretrained", "imagenet", "--weights", "teacher", "dataset/test"])


def test_a_run_without_teacher_has_none():
    summary = train("--regularizer", "l2", "--save", "plain", "--overwrite")
    assert summary.teacher is None
    assert summary.to_dict()["teacher"] is None
    with pytest.raises(UsageError, match="^--weights teacher: .*_Last.pdparams has no teacher, its method is l2; acc"):
        Classifier.load("plain/pets_l2_Last.pdparams", weights="teacher")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (None, "has no teacher, its method is none; accepted is student"),
        ({"name": "smile", "state": {}}, "has no teacher"),
        ({"name": "nonsense", "state": {"x": np.zeros(2)}}, "no method 'nonsense'"),
        ({"name": "smile", "state": "x"}, "regularizer.state is 'x'"),
        ({"name": ["smile"], "state": {}}, "regularizer.name"),
        ("x", "regularizer is 'x'"),
        ({"name": "smile", "state": {"aux_head.bias": np.zeros(2)}}, "the teacher does not fit the network: missing: "),
    ],
)
def test_a_file_without_a_usable_teacher_is_refused(smile, tmp_path, entries, message):
    content = pdparams.load(smile[1])
    if isinstance(entries, dict) and "aux_head.bias" in entries["state"]:
        entries["state"] = {
            name: value for name, value in content["regularizer"]["state"].items() if "layer2" not in name
        }
    checkpoint.save(tmp_path / "a.pdparams", {**content, "regularizer": entries})
    Classifier.load(tmp_path / "a.pdparams")
    with pytest.raises((UsageError, WeightsError), match=r"^[^\n]*$") as caught:
        Classifier.load(tmp_path / "a.pdparams", weights="teacher")
    assert message in str(caught.value)
    assert "a.pdparams" in str(caught.value)


def test_an_older_checkpoint_has_its_teacher():
    path = ROOT / "tests" / "data" / "format1" / "old_smile_Last.pdparams"
    teacher, student = (Classifier.load(path, weights=weights).network for weights in ("teacher", "student"))
    state = pdparams.load(path)["regularizer"]["state"]
    for name, tensor in backbone_parameters(teacher).items():
        np.testing.assert_array_equal(tensor.numpy(), state[f"teacher.network.{name}"])
    np.testing.assert_array_equal(teacher.head.weight.numpy(), student.head.weight.numpy())


# What is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"model_arch": "convnext_tiny", "freeze_bn": True},
            "--freeze_bn: --model_arch convnext_tiny has no batch norm",
        ),
        (
            {"model_arch": "vit_small_patch16_224", "bn_momentum": 0.5},
            "--bn_momentum: --model_arch vit_small_patch16_224",
        ),
        ({"freeze_bn": True, "bn_momentum": 0.0}, "--freeze_bn and --bn_momentum: give one of them"),
        ({"freeze_bn": True, "pretrained": "none"}, "--freeze_bn keeps the statistics of a pretrained network"),
    ],
)
def test_options_without_meaning_are_refused(given, message):
    common = {"train_dir": "x", "regularizer": "l2", "pretrained": "source.pdparams", "model_arch": "resnet8"}
    with pytest.raises(UsageError, match="^[^\n]*$") as caught:
        Options.of({**common, **given})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        {"bn_momentum": "1"},
        {"layer_decay": "0"},
        {"layer_decay": "1.1"},
        {"clip_norm": "0"},
        {"patience": "0"},
        {"warmup": "-1"},
        {"schedule": "linear"},
        {"optimizer": "lamb"},
        {"head_init": "ones"},
    ],
)
def test_values_out_of_range_are_named(flags):
    ((name, text),) = flags.items()
    with pytest.raises(UsageError, match=f"--{name}: .*{text}"):
        Options.from_flags(flags)
