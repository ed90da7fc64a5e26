"""The main script as a person uses it, on generated folders."""

import json
import signal
import subprocess

import numpy as np
import paddle
import paddle.vision.models as vision
import pytest
from PIL import Image
from visualdl import LogReader

from checkpoints import pdparams
from datasets import glyphs
from datasets.preprocess import Preprocess
from models import build
from tests.pictures import picture, write_folder, write_odd_folder
from tests.scripts import ROOT, call, command, run, tiny
from training.table import read_rows

pytestmark = pytest.mark.usefixtures("no_curves")  # but for processes of their own
SMILE = ("--regularizer", "smile", "--clean_tail", 2)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data and a source network of five classes."""
    folder = tmp_path_factory.mktemp("work")
    write_folder(folder / "dataset" / "train", count=5)
    write_folder(folder / "dataset" / "test", count=4, seed=1)
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(folder / "source.pdparams"))
    return folder


@pytest.fixture(scope="module")
def finished(work):
    """The same folder after one SMILE run; a slower question than the others, asked once."""
    done = run("finetune.py", *tiny(*SMILE, "--pretrained", "source.pdparams", "--name", "pets"), cwd=work)
    assert done.returncode == 0, done.stderr
    return work, done


def test_a_run_leaves_the_promised_files(finished):
    work, done = finished
    base = work / "output" / "pets_smile"
    for ending in ("_Best.pdparams", "_Last.pdparams", ".txt", ".csv", ".json", "_samples.txt", ".png"):
        assert (work / f"output/pets_smile{ending}").stat().st_size > 0, ending
    assert not list((work / "output").glob(".*"))
    assert "evaluation: top-1" in done.stdout
    assert "\r" not in done.stderr  # no bar without a terminal
    summary = json.loads((base.parent / "pets_smile.json").read_text())
    rows = read_rows(base.parent / "pets_smile.csv")
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert summary["last"]["acc"] == float(rows[-1]["val_acc"])
    assert summary["best"]["acc"] == max(float(row["val_acc"]) for row in rows)
    assert summary["scored_on"] == {"folder": "dataset/test", "images": 12, "held_out": False}
    assert 0 < summary["step_share"] < 1
    assert len((base.parent / "pets_smile_samples.txt").read_text().split("\n")) == 16
    with Image.open(base.parent / "pets_smile.png") as picture_of_curves:
        assert picture_of_curves.size[0] > 500


def test_visualdl_has_the_references_tags(finished):
    work, _ = finished
    reader = LogReader(file_path=str(work / "visual_log" / "pets_smile" / "vdlrecords.run.log"))
    tags = set(reader.tags().get("scalar", reader.get_tags().get("scalar", [])))
    assert {"train_acc", "train_loss", "val_acc", "val_loss", "train/lr", "train/loss_fea", "val/acc5"} <= tags
    assert [record.id for record in reader.get_data("scalar", "val_acc")] == [3, 6]


def test_the_checkpoint_has_the_promised_entries(finished):
    work, _ = finished
    content = pdparams.load(work / "output" / "pets_smile_Last.pdparams")
    assert set(content["model"]) == set(build("resnet8", 3).state_dict())
    assert list(content)[:4] == ["model", "optimizer", "iter", "lr_scheduler"]
    assert content["iter"] == 5
    assert content["classes"] == ["cat", "dog", "emu"]
    assert content["regularizer"]["name"] == "smile"
    assert content["source"]["classes"] == 5
    assert content["preprocess"] == Preprocess(32, 37, False, orientation="exif").to_dict()
    assert all(name.endswith("/velocity_0") for name in content["optimizer"])
    assert "fc.weight/velocity_0" in content["optimizer"]


def test_a_finished_run_is_not_overwritten_silently(finished):
    work, _ = finished
    flags = tiny(*SMILE, "--pretrained", "source.pdparams", "--name", "pets")
    before = (work / "output" / "pets_smile_Last.pdparams").read_bytes()
    again = call("finetune.py", *flags, cwd=work)
    assert again.returncode == 2
    assert "is finished; --overwrite" in again.stderr
    resumed = call("finetune.py", *flags, "--resume", cwd=work)
    assert resumed.returncode == 0
    assert "is finished" in resumed.stdout
    assert (work / "output" / "pets_smile_Last.pdparams").read_bytes() == before


def test_test_repeats_what_training_reported(finished):
    work, done = finished
    best = [line for line in done.stdout.splitlines() if "(best so far)" in line][-1].split("top-1 ")[1].split(" %")[0]
    scored = call("test.py", "--ckpts", "output/pets_smile_Best.pdparams", "--test_dir", "dataset/test", cwd=work)
    assert scored.returncode == 0, scored.stderr
    assert f"top-1 {best} % (" in scored.stdout
    assert "/12)" in scored.stdout


def test_a_fine_tuned_checkpoint_is_a_source(finished):
    work, _ = finished
    flags = tiny("--regularizer", "smile", "--clean_tail", 0, "--name", "second")
    done = call("finetune.py", *flags, "--pretrained", "output/pets_smile_Last.pdparams", cwd=work)
    assert done.returncode == 0, done.stderr
    content = pdparams.load(work / "output" / "second_smile_Last.pdparams")
    assert content["source"]["classes"] == 3


def test_best_is_the_step_it_says(finished):
    work, _ = finished
    summary = json.loads((work / "output" / "pets_smile.json").read_text())
    content = pdparams.load(work / "output" / "pets_smile_Best.pdparams")
    assert content["iter"] + 1 == summary["best"]["step"]
    assert content["metrics"]["best"] == summary["best"]


def test_a_run_stopped_by_a_signal_resumes_exactly_in_a_fresh_process(work):
    flags = tiny(*SMILE, "--pretrained", "source.pdparams", "--max_iters", 9)
    whole = call("finetune.py", *flags, "--save", "whole", cwd=work)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        command("finetune.py", *flags, "--save", "half"),
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("step 4/9"):
            process.send_signal(signal.SIGTERM)
            break
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "--resume goes on" in stderr
    resumed = run("finetune.py", *flags, "--save", "half", "--resume", cwd=work)
    assert resumed.returncode == 0, resumed.stderr
    run_name = "dataset_smile"
    first, second = (pdparams.load(work / side / f"{run_name}_Last.pdparams") for side in ("whole", "half"))
    for part in ("model", "optimizer"):
        assert all(np.array_equal(first[part][key], second[part][key]) for key in first[part])
    state, other = first["regularizer"]["state"], second["regularizer"]["state"]
    assert all(np.array_equal(state[key], other[key]) for key in state)
    assert (work / "whole" / f"{run_name}.csv").read_text() == (work / "half" / f"{run_name}.csv").read_text()


def test_odd_folders_train_and_test(work):
    write_odd_folder(work / "odd" / "train")
    write_odd_folder(work / "odd" / "test")
    flags = tiny(*SMILE, "--pretrained", "source.pdparams", "--train_dir", "odd/train", "--eval_dir", "odd/test")
    done = call("finetune.py", *flags, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "8 images, 2 classes" in done.stdout
    scored = call(
        "test.py", "--ckpts", "output/odd_smile_Last.pdparams", "--test_dir", "odd/test", "--gpu", -1, cwd=work
    )
    assert scored.returncode == 0, scored.stderr
    assert "/8)" in scored.stdout


def test_options_of_the_data_path(work):
    flags = tiny("--regularizer", "l2", "--pretrained", "none", "--keep_aspect", "--val_split", 0.4, "--cache", "off")
    done = call("finetune.py", *flags, "--name", "held", "--save_frequency", 1, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "held_l2: 9 images, 3 classes" in done.stdout
    assert "/6)" in done.stdout


@pytest.fixture(scope="module")
def broken(work):
    """The same folder with what bad options point to."""
    write_folder(work / "other", ("cat", "dog", "fox"), count=1)
    (write_folder(work / "hole", count=1) / "dog" / "000.png").unlink()
    (work / "empty").mkdir()
    (write_folder(work / "unreadable", count=2) / "emu" / "001.png").write_bytes(b"\x89PNG broken")
    paddle.save(vision.resnet18(num_classes=7).state_dict(), str(work / "resnet18.pdparams"))
    (work / "torn.pdparams").write_bytes((work / "source.pdparams").read_bytes()[:999])
    return work


BAD = [
    ("--eval_dir other", 3, ("other", "without emu and with the unknown fox")),
    ("--train_dir hole", 3, ("--train_dir hole", "no image of dog")),
    ("--train_dir empty", 3, ("--train_dir empty", "no class folders")),
    ("--train_dir nowhere", 3, ("--train_dir nowhere", "no such folder")),
    ("--eval_dir nowhere", 3, ("--eval_dir nowhere", "no such folder")),
    ("--train_dir unreadable --name u", 3, ("unreadable/emu/001.png", "cannot read the image")),
    ("--eval_dir unreadable --cache off --name v", 3, ("unreadable/emu/001.png", "cannot read the image")),
    ("--regularizer smile --max_iters 1000 --clean_tail 1000", 2, ("--max_iters 1000", "--clean_tail 1000")),
    ("--model_arch resnet51", 2, ("resnet51", "resnet50")),
    ("--pretrained resnet18.pdparams", 4, ("resnet18.pdparams does not fit", "layer1.1.conv1.weight")),
    ("--pretrained torn.pdparams", 4, ("torn.pdparams",)),
    ("--pretrained nowhere.pdparams", 4, ("nowhere.pdparams", "no such file")),
    ("--sample_total 5000", 2, ("--sample_total 5000", "3 to 15")),
    ("--learning_rate 3", 2, ("--learning_rate",)),
    ("--regularizer regsl --model_arch mobilenet_v2", 2, ("regsl", "mobilenet_v2", "resnet18", "stages")),
    ("--regularizer delta --model_arch mobilenet_v2", 2, ("delta", "mobilenet_v2", "--attention uniform")),
]


@pytest.mark.parametrize(("flags", "code", "words"), BAD, ids=[row[0] for row in BAD])
def test_bad_input_is_one_line_with_the_culprit(broken, flags, code, words):
    base = ["--pretrained", "source.pdparams", "--regularizer", "l2", "--name", f"bad{abs(hash(flags))}"]
    done = call("finetune.py", *tiny(*base, *flags.split()), cwd=broken)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def test_weights_of_the_internet_without_a_network_say_what_to_do(work, tmp_path):
    done = run(
        "finetune.py", "--regularizer", "l2", "--gpu", -1, "--name", "net", cwd=work, timeout=60, HOME=str(tmp_path),
        https_proxy="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    for word in (
        "https://paddle-hapi.bj.bcebos.com/models/resnet50.pdparams",
        "ca6f485ee1ab0492d38f323885b0ad80",
        str(tmp_path),
    ):
        assert word in done.stderr


def test_a_diverged_run_ends_with_exit_code_6(work):
    flags = tiny("--regularizer", "l2", "--pretrained", "none", "--lr", "1e30", "--name", "boom", "--max_iters", 50)
    done = call("finetune.py", *flags, cwd=work)
    assert done.returncode == 6, done.stderr
    assert "the loss term ce is" in done.stderr


def test_two_runs_of_one_name_at_a_time_are_refused(work):
    flags = tiny("--regularizer", "l2", "--pretrained", "none", "--name", "twin", "--max_iters", 5000)
    first = subprocess.Popen(command("finetune.py", *flags), cwd=work, stdout=subprocess.PIPE, text=True)
    try:
        for line in first.stdout:
            if line.startswith("step"):
                break
        second = call("finetune.py", *flags, "--overwrite", cwd=work)
        assert second.returncode == 2
        assert "another process" in second.stderr
    finally:
        first.kill()
        first.communicate()
    third = call(
        "finetune.py", *tiny("--regularizer", "l2", "--pretrained", "none", "--name", "twin", "--overwrite"), cwd=work
    )
    assert third.returncode == 0, third.stderr


def test_unreadable_training_images_can_be_left_out_and_are_counted(work):
    root = write_folder(work / "partly", count=4)
    (root / "dog" / "002.png").write_bytes(b"broken")
    for cache in ("disk", "off"):
        flags = tiny(
            "--regularizer", "l2", "--pretrained", "none", "--train_dir", "partly", "--eval_dir", "dataset/test"
        )
        done = call("finetune.py", *flags, "--name", cache, "--cache", cache, "--on_bad_image", "skip", cwd=work)
        assert done.returncode == 0, done.stderr
        assert "skipped: cannot read the image partly/dog/002.png" in done.stdout
        assert f"{cache}_l2: 11 images" in done.stdout
        assert len(json.loads((work / "output" / f"{cache}_l2.json").read_text())["skipped_images"]) == 1
    flags = tiny("--regularizer", "l2", "--pretrained", "none", "--eval_dir", "partly", "--on_bad_image", "skip")
    done = call("finetune.py", *flags, "--name", "never", cwd=work)
    assert done.returncode == 3  # in evaluation nothing is left out


def test_check_data_lists_what_is_wrong(work):
    root = write_folder(work / "doubtful" / "train", count=3)
    other = write_folder(work / "doubtful" / "test", count=2, seed=5)
    (other / "cat" / "copy.png").write_bytes((root / "dog" / "001.png").read_bytes())
    (root / "emu" / "000.png").write_bytes((root / "emu" / "000.png").read_bytes()[:900])
    (root / ".hidden").mkdir()
    flags = tiny(
        "--regularizer", "l2", "--pretrained", "none", "--train_dir", root, "--eval_dir", other, "--check_data"
    )
    done = call("finetune.py", *flags, "--dry_run", cwd=work)
    assert done.returncode == 0, done.stderr
    for words in ("emu/000.png", "truncated", "the same file for training and for evaluation", ".hidden is hidden"):
        assert words in done.stdout
    assert "9 training and 7 evaluation images read, 1 unreadable, 1 in both" in done.stdout
    assert (work / "output" / "doubtful_data.png").exists()
    (other / "dog" / "001.png").write_bytes(b"")
    assert call("finetune.py", *flags, "--dry_run", cwd=work).returncode == 3


def test_half_precision_says_that_the_cpu_has_none(work):
    flags = tiny("--regularizer", "l2", "--pretrained", "none", "--amp", "fp16", "--name", "half_precision")
    done = call("finetune.py", *flags, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "--amp fp16: PaddlePaddle has none on the CPU" in done.stderr


def test_dry_run_checks_and_leaves_no_result(work):
    done = call(
        "finetune.py", *tiny("--regularizer", "l2", "--pretrained", "none", "--name", "dry", "--dry_run"), cwd=work
    )
    assert done.returncode == 0
    assert "15 training images, 3 classes" in done.stdout
    assert not (work / "output" / "dry_l2_Last.pdparams").exists()


def test_a_dry_run_of_the_embedded_task_trains_no_source(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "SPLITS", dict.fromkeys(glyphs.SPLITS, 2))  # images of a class
    done = call("finetune.py", "--dry_run", "--sample_rate", 50, "--gpu", -1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "24 classes; nothing was trained" in done.stdout
    assert not list(tmp_path.rglob("*.pdparams"))


def test_gpu_without_one_warns_once_and_runs(work):
    done = call(
        "finetune.py", *tiny("--regularizer", "l2", "--pretrained", "none", "--gpu", 0, "--name", "warned"), cwd=work
    )
    assert done.returncode == 0
    there = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    assert done.stderr.count("WARNING: --gpu 0") == (0 if there else 1)


def test_resume_of_nothing_starts_nothing_and_auto_starts_a_run(work):
    flags = tiny("--regularizer", "l2", "--pretrained", "none", "--name", "fresh")
    done = call("finetune.py", *flags, "--resume", cwd=work)
    assert done.returncode == 2
    assert "nothing to resume, there is no output/fresh_l2_Last.pdparams" in done.stderr
    assert not list((work / "output").glob("fresh*"))
    done = call("finetune.py", *flags, "--resume", "auto", cwd=work)
    assert done.returncode == 0, done.stderr


def test_the_loop_fits_one_screen_and_knows_no_method():
    source = (ROOT / "finetune.py").read_text()
    loop = source[source.index("for step, batch in") :]
    assert loop[: loop.index("summarize(")].count("\n") <= 30
    assert source.count("\n") <= 170
    body = source.split('"""', 2)[2]
    assert not any(word in body.lower() for word in ("smile", "mixup", "delta", "rifle", "regsl", "tuning(", "bss"))


@pytest.mark.slow
def test_without_data_the_embedded_task_runs_and_says_so(tmp_path):
    done = run("finetune.py", "--regularizer", "smile", "--gpu", 0, cwd=tmp_path, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert "no --train_dir and no ./dataset" in done.stdout
    assert (tmp_path / "output" / "greek_smile_Last.pdparams").exists()
    scored = run("test.py", "--ckpts", "output/greek_smile_Last.pdparams", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert "/720)" in scored.stdout
    assert float(scored.stdout.split("top-1 ")[1].split(" %")[0]) > 40


def test_picture_labels_differ():
    """The generated folders can be learned: the colour tells the class."""
    assert np.abs(np.asarray(picture(0, 0), "float64").mean((0, 1)) - np.asarray(picture(0, 1)).mean((0, 1))).max() > 20
