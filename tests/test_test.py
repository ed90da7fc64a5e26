"""The scoring script as a person uses it, on generated folders."""

import csv
import json
import os
import pickle

import numpy as np
import paddle
import paddle.vision.models as vision
import pytest
from paddle.vision import transforms
from PIL import Image

import test as scoring
from checkpoints.classifier import Classifier
from evaluation import comparison
from evaluation.interpolation import TITLES
from evaluation.metrics import METRICS
from tests.pictures import write_folder
from tests.scripts import call, run, tiny
from tests.toy_checkpoints import write_checkpoint
from utils.errors import UsageError

CLASSES = ["cat", "dog", "emu", "fox"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, the two checkpoints of one run, one of the reference, and what else a person may give."""
    folder = tmp_path_factory.mktemp("work")
    write_folder(folder / "dataset" / "train", count=5)
    write_folder(folder / "dataset" / "test", count=7, seed=1)
    done = call("finetune.py", *tiny("--regularizer", "l2", "--pretrained", "none", "--name", "pets"), cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "log.txt").write_text(done.stdout)
    write_reference(folder / "reference.pdparams")
    write_folder(folder / "foxes", ("cat", "dog", "fox"), count=1)
    write_folder(folder / "two", ("cat", "dog"), count=1)
    (folder / "torn.pdparams").write_bytes((folder / "output" / "pets_l2_Last.pdparams").read_bytes()[:-999])
    (folder / "hostile.pdparams").write_bytes(pickle.dumps({"model": Touch(folder / "ran")}))
    return folder


class Touch:
    """Pickled as a command that leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def write_reference(path):
    """Write what the reference's training script writes: its network has a second head, `aux_fc`."""
    paddle.seed(3)
    network = vision.resnet18(num_classes=3)
    network.aux_fc = paddle.nn.Linear(512, 10)
    schedule = paddle.optimizer.lr.MultiStepDecay(1e-5, [2])
    optimizer = paddle.optimizer.Momentum(schedule, parameters=network.parameters(), use_nesterov=True)
    batch = paddle.randn([4, 3, 32, 32])
    (network(batch).sum() + network.aux_fc(paddle.randn([4, 512])).sum()).backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "iter": 1, "lr_scheduler": schedule.state_dict()}
    paddle.save({"model": network.state_dict(), **state}, str(path))


def score(work, *flags):
    """Call the script on the CPU."""
    return call("test.py", *flags, "--gpu", -1, cwd=work)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_scores_are_those_that_training_reported(work):
    reported = [line for line in (work / "log.txt").read_text().splitlines() if "evaluation: top-1" in line]
    best = [line for line in reported if "(best so far)" in line][-1]
    files = ["output/pets_l2_Best.pdparams", "output/pets_l2_Last.pdparams"]
    done = score(work, "--ckpts", *files, "--json", "results/scores.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    results = json.loads((work / "results" / "scores.json").read_text())
    for line, result, path, wanted in zip(lines, results, files, (best, reported[-1])):
        numbers = wanted.split("evaluation: ")[1].split("  (best")[0]
        assert line.startswith(f"{path}: {numbers}  ")
        assert f"mean per class {result['class_acc']:.2f} %" in numbers
        assert list(result) == ["path", "test_dir", "count", *METRICS]
        assert (result["path"], result["test_dir"], result["count"]) == (path, "./dataset/test", 21)
        assert f"top-1 {result['acc']:.2f} % (" in numbers
        assert f"top-5 {result['acc5']:.2f} %  loss {result['loss']:.4f}" in numbers
    low, high = sorted(result["acc"] for result in results)
    middle = (low + high) / 2
    assert lines[2] == f"top-1 of 2 checkpoints: min {low:.2f} %, median {middle:.2f} %, max {high:.2f} %"


@pytest.fixture(scope="module")
def uneven(work):
    """Three checkpoints with random weights, and a folder of uneven classes for them."""
    for count, name in enumerate(CLASSES, 3):
        write_folder(work / "uneven", (name,), count=4 * count, seed=count)
    for seed in range(3):
        write_checkpoint(work / f"{seed}.pdparams", CLASSES, seed=seed)
    return work


def logits_of(path, files):
    """Return what the network says of each image, computed with Pillow and NumPy but for the network itself."""
    rows = []
    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB").resize((37, 37), Image.BILINEAR))[2:34, 2:34] / 255.0
        rows.append(((pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1))
    return Classifier.load(path).network(paddle.to_tensor(np.stack(rows).astype("float32"))).logits.numpy()


def test_the_report_of_one_checkpoint(uneven):
    done = score(uneven, "--ckpts", "1.pdparams", "--test_dir", "uneven", "--report", "one", "--json", "one.json")
    assert done.returncode == 0, done.stderr
    files = sorted((uneven / "uneven").glob("*/*.png"))
    labels = np.array([CLASSES.index(file.parent.name) for file in files])
    predicted = logits_of(uneven / "1.pdparams", files).argmax(axis=1)
    counts = np.zeros((4, 4), dtype=int)
    for label, other in zip(labels, predicted):
        counts[label, other] += 1
    assert not np.array_equal(counts, counts.T)  # or the matrix could be on its side
    header, *rows = read(uneven / "one" / "confusion.csv")
    assert header == ["true class (rows), predicted class (columns)", *CLASSES]
    assert rows == [[name, *map(str, row)] for name, row in zip(CLASSES, counts)]
    table = read(uneven / "one" / "predictions.csv")[1:]
    assert [row[:3] for row in table] == [
        [str(file.relative_to(uneven / "uneven")), CLASSES[label], CLASSES[other]]
        for file, label, other in zip(files, labels, predicted)
    ]
    (result,) = json.loads((uneven / "one.json").read_text())
    assert result["acc"] == pytest.approx(100 * (labels == predicted).mean())
    assert result["class_acc"] == pytest.approx(100 * np.mean(counts.diagonal() / [12, 16, 20, 24]))
    assert result["class_acc"] != pytest.approx(result["acc"], abs=0.5)
    assert f"mean per class {result['class_acc']:.2f} %" in done.stdout
    for name in ("confusion.png", "worst.png"):
        with Image.open(uneven / "one" / name) as picture:
            assert min(picture.size) > 300


def test_a_comparison_and_the_reports_of_several(uneven):
    flags = ["--ckpts", "2.pdparams", "--compare", "0.pdparams", "1.pdparams", "--test_dir", "uneven"]
    done = score(uneven, *flags, "--report", "many", "--json", "many.json")
    assert done.returncode == 0, done.stderr
    *scores, spread, first, second = done.stdout.splitlines()
    assert [line.split(":")[0] for line in scores] == ["2.pdparams", "0.pdparams", "1.pdparams"]
    results = json.loads((uneven / "many.json").read_text())
    low, middle, high = sorted(result["acc"] for result in results)
    assert spread == f"top-1 of 3 checkpoints: min {low:.2f} %, median {middle:.2f} %, max {high:.2f} %"
    assert sorted(path.name for path in (uneven / "many").iterdir()) == ["0", "1", "2"]
    assert len({(uneven / "many" / name / "predictions.csv").read_text() for name in "012"}) == 3
    right = {}
    for name in "01":
        table = read(uneven / "many" / name / "predictions.csv")[1:]
        right[name] = np.array([row[1] == row[2] for row in table])
    assert 0 < (right["0"] & ~right["1"]).sum() != (right["1"] & ~right["0"]).sum()  # or A and B could be swapped
    wanted = comparison.compare(right["0"], right["1"], seed=2022)
    assert first + "\n" + second == f"B (1.pdparams) - A (0.pdparams): {wanted}"
    assert [result.get("compared") for result in results] == [None, None, {"with": "0.pdparams", **wanted.to_dict()}]
    assert wanted.difference == pytest.approx(results[2]["acc"] - results[1]["acc"])


def test_compare_needs_no_other_flag(uneven):
    done = score(uneven, "--compare", "2.pdparams", "0.pdparams", "--test_dir", "uneven")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "2.pdparams",
        "0.pdparams",
        "top-1 of 2 checkpoints",
        "B (0.pdparams) - A (2.pdparams)",
        "of 72 images A alone has " + done.stdout.split("A alone has ")[1].split(":")[0],
    ]


def test_interpolation_losses(work):
    flags = ["--ckpts", "output/pets_l2_Best.pdparams", "output/pets_l2_Last.pdparams", "--il"]
    done = score(work, *flags, "--json", "il.json", "--il_picture", "il.png", "--log_dir", "board")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("105 pairs, uniform ratio") == 2
    results = json.loads((work / "il.json").read_text())
    for result in results:
        assert [result["il"][name] for name in ("pairs", "repeats", "ratio", "seed")] == [105, 5, "uniform", 2022]
        for name, title in TITLES.items():
            values = [result["il"][name][form] for form in ("squared", "per_dimension", "norm", "relative")]
            assert min(values) > 0
            assert [title, *(f"{value:.4g}" for value in values)] in cells(done.stdout)
    with Image.open(work / "il.png") as picture:
        assert picture.size[0] > 800
    assert {path.parent.name for path in (work / "board").rglob("*.log")} == {"pets_l2_Best", "pets_l2_Last"}
    flags = [*flags, "--json", "other.json"]
    assert score(work, *flags, "--batch_size_eval", 5, "--cache", "off").returncode == 0
    other = json.loads((work / "other.json").read_text())
    assert other[1]["il"]["features"] == pytest.approx(results[1]["il"]["features"], rel=1e-4)
    assert score(work, *flags, "--il_repeats", 2, "--il-ratio", "beta", "--seed", 1).returncode == 0
    other = json.loads((work / "other.json").read_text())
    assert [other[1]["il"][name] for name in ("pairs", "repeats", "ratio", "seed")] == [42, 2, "beta", 1]
    assert other[1]["il"]["features"]["squared"] < results[1]["il"]["features"]["squared"]


def cells(output):
    """Return the cells of every line."""
    return [[cell.strip() for cell in line.strip().split("  ") if cell.strip()] for line in output.splitlines()]


def test_a_checkpoint_of_the_reference(work):
    flags = ["--ckpts", "reference.pdparams", "--model_arch", "resnet18", "--image_size", 64, "--json", "other.json"]
    done = score(work, *flags, "--test_dir", "dataset/test")
    assert done.returncode == 0, done.stderr
    network = vision.resnet18(num_classes=3)
    state = paddle.load(str(work / "reference.pdparams"))["model"]
    network.set_state_dict({name: value for name, value in state.items() if not name.startswith("aux_fc")})
    network.eval()
    steps = [transforms.Resize((256, 256)), transforms.CenterCrop(64), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    paths = sorted((work / "dataset" / "test").glob("*/*.png"))
    labels = np.array([("cat", "dog", "emu").index(path.parent.name) for path in paths])
    logits = network(paddle.stack([transform(Image.open(path)) for path in paths])).numpy().astype("float64")
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(21), labels]
    (result,) = json.loads((work / "other.json").read_text())
    assert result["acc"] == pytest.approx(100 * (logits.argmax(axis=1) == labels).mean())
    assert result["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert (result["acc5"], result["count"]) == (100, 21)


OURS = "--ckpts output/pets_l2_Last.pdparams"
REFERENCE = "--ckpts reference.pdparams --model_arch resnet18"
BAD = [
    (f"{OURS} --model_arch resnet14", 2, ("--model_arch resnet14", "pets_l2_Last", "resnet8")),
    (f"{OURS} --image_size 64", 2, ("--image_size 64", "pets_l2_Last", "32")),
    ("--test_dir two", 2, ("--ckpts FILE", "--compare A B")),
    ("--compare reference.pdparams", 2, ("--compare", "2 arguments")),
    (f"{OURS} --report log.txt", 2, ("--report", "'log.txt'", "folder")),
    (f"{OURS} --il_picture il.png", 2, ("--il_picture", "--il")),
    (f"{OURS} --log_dir board", 2, ("--log_dir", "--il")),
    (f"{OURS} --json dataset", 2, ("--json", "'dataset'", "folder")),
    (f"{OURS} --test_dir foxes", 3, ("foxes", "emu", "fox", "pets_l2_Last")),
    (f"{REFERENCE} --test_dir two", 3, ("two", "2 classes", "reference.pdparams has 3")),
    ("--ckpts reference.pdparams", 4, ("reference.pdparams does not fit", "layer1.0.conv3.weight")),
    ("--ckpts nowhere.pdparams", 4, ("nowhere.pdparams", "not there")),
    ("--ckpts hostile.pdparams", 4, ("hostile.pdparams", "system")),
]


@pytest.mark.parametrize(("flags", "code", "words"), BAD, ids=[row[0] for row in BAD])
def test_bad_input_is_one_line_with_the_culprit(work, flags, code, words):
    done = score(work, *flags.split())
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for word in words:
        assert word in done.stderr
    assert not (work / "ran").exists()


def test_a_torn_checkpoint_after_a_good_one_leaves_no_half_result(work):
    done = run("test.py", *OURS.split(), "torn.pdparams", "--json", "half.json", "--gpu", -1, cwd=work)
    assert done.returncode == 4
    assert done.stdout.startswith("output/pets_l2_Last.pdparams: top-1 ")
    assert done.stderr.startswith("error: torn.pdparams")
    assert done.stderr.count("\n") == 1
    assert not (work / "half.json").exists()


def test_the_reference_flags_are_accepted_and_a_missing_gpu_is_said_once(work):
    flags = "--model_arch resnet8 --image_size 32 --batch_size_eval 3 --gpu 0 --seed 1 --test-dir dataset/test"
    done = run("test.py", *OURS.split(), *flags.split(), cwd=work)
    assert done.returncode == 0, done.stderr
    assert "/21)" in done.stdout
    there = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    assert done.stderr.count("WARNING: --gpu 0") == (0 if there else 1)


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        ("--json a.pdparams", "a.pdparams"),
        ("--json photos/cat/000.png", "photos/cat/000.png"),
        ("--il --il_picture ./photos/dog/000.png", "photos/dog/000.png"),
        ("--report photos/emu", "photos/emu/worst.png"),
        ("--report photos/emu", "photos/emu/confusion.png"),
    ],
)
def test_no_image_and_no_checkpoint_is_replaced(tmp_path, monkeypatch, flags, path):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "photos", count=1)
    (tmp_path / "photos/emu/000.png").rename(tmp_path / (path if "emu" in path else "photos/emu/worst.png"))
    (tmp_path / "a.pdparams").write_text("weights")
    with pytest.raises(UsageError, match=f"would replace .*{path}, which is read"):
        scoring.main(["--ckpts", "a.pdparams", "--test_dir", "photos", *flags.split()])
