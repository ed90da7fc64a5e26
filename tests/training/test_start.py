"""What `--resume` and `--overwrite` do beside the files of an earlier run: which run they belong to, what stays."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

import finetune
from checkpoints import checkpoint, pdparams
from models import build
from tests.interrupted import Crash, crashing
from tests.pictures import write_folder
from tests.scripts import tiny
from training.step import train_step
from utils.errors import DataError, Diverged, UsageError, WeightsError

FLAGS = ("--regularizer", "l2", "--name", "pets", "--pretrained", "source.pdparams", "--cache", "off")


def train(*more):
    return finetune.main(tiny(*FLAGS, *more))


def interrupt(*more):
    finetune.train_step = crashing(4, Crash())
    try:
        with pytest.raises(Crash):
            train(*more)
    finally:
        finetune.train_step = train_step


def as_bmp(root):
    """Make bitmaps of all images below `root`: files of one size, whatever they show."""
    for path in root.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data and a source network, an interrupted run in `half` and the same one finished in `whole`."""
    folder = tmp_path_factory.mktemp("made")
    as_bmp(write_folder(folder / "dataset" / "train", count=4))
    as_bmp(write_folder(folder / "dataset" / "test", count=2, seed=1))
    paddle.seed(0)
    paddle.save(build("resnet8", 5).state_dict(), str(folder / "source.pdparams"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        interrupt("--save", "half")
        train("--save", "whole")
    return folder


@pytest.fixture
def work(made, tmp_path, monkeypatch):
    folder = shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(folder)
    return folder


def last(save):
    return pdparams.load(f"{save}/pets_l2_Last.pdparams")


def files(save):
    return {path.name: path.read_bytes() for path in Path(save).iterdir()}


def invert(path):
    """Replace an image by another one whose file has the same name, size and time."""
    status = os.stat(path)
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(path).st_size == status.st_size


# The same run, spelled otherwise


def linked(work):
    Path("link").symlink_to("dataset")
    return ["--train_dir", "link/train", "--eval_dir", "link/test"]


def moved(work):
    shutil.copytree("dataset", "elsewhere")  # with other times
    shutil.rmtree("dataset")
    return ["--train_dir", "elsewhere/train", "--eval_dir", work / "elsewhere" / "test"]


def other_file(work):
    Path("source.pdparams").rename("elsewhere.pdparams")
    return ["--pretrained", work / "elsewhere.pdparams"]


SPELLINGS = {
    "slash": lambda work: ["--train_dir", "dataset/train/", "--eval_dir", "dataset/../dataset/test"],
    "absolute": lambda work: ["--train_dir", work / "dataset" / "train"],
    "cached": lambda work: ["--cache", "disk"],
    "linked": linked,
    "moved": moved,
    "other file": other_file,
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_a_run_goes_on_when_only_spellings_differ(work, how):
    assert train("--save", "half", "--resume", *SPELLINGS[how](work)).last["step"] == 6
    model, whole = last("half")["model"], last("whole")["model"]
    assert all(np.array_equal(model[name], whole[name]) for name in whole)


# Another run


def renamed(work):
    Path("dataset/train/cat/000.bmp").rename("dataset/train/cat/100.bmp")
    return []


def other_weights(work):
    paddle.save(build("resnet8", 5).state_dict(), "source.pdparams")
    return []


CHANGES = {
    "a training image": (
        lambda work: invert("dataset/train/emu/002.bmp") or [],
        "the train images in ./dataset/train are not",
    ),
    "an evaluation image": (
        lambda work: invert("dataset/test/cat/001.bmp") or [],
        "the evaluation images in ./dataset/test are",
    ),
    "a name": (renamed, "the list of training files in ./dataset/train has changed"),
    "the weights": (other_weights, "the weights of --pretrained source.pdparams have changed"),
    "an option": (lambda work: ["--lr", 0.5], "--lr 0.01 is now 0.5"),
    "more updates": (lambda work: ["--max_iters", 12], "--max_iters 6 is now 12"),
}


@pytest.mark.parametrize("save", ["half", "whole"])
@pytest.mark.parametrize("how", CHANGES)
def test_a_run_of_other_images_weights_or_options_is_refused_and_kept(work, how, save):
    change, message = CHANGES[how]
    more, before = change(work), files(save)
    with pytest.raises(UsageError) as caught:
        train("--save", save, "--resume", *more)
    assert message in str(caught.value)
    assert ("scheduled over --max_iters" in str(caught.value)) == (how == "more updates")
    assert files(save) == before


def test_held_out_images_belong_to_the_run(work):
    flags = ["--val_split", 0.3, "--save", "held"]
    interrupt(*flags)
    for path in Path("dataset/train/dog").iterdir():
        invert(path)
    with pytest.raises(UsageError, match="images in"):
        train(*flags, "--resume")


def test_a_checkpoint_of_earlier_versions_has_paths_only(work):
    content = {name: entry for name, entry in last("half").items() if name != "images"}
    checkpoint.save("half/pets_l2_Last.pdparams", content)
    with pytest.raises(UsageError, match="--train_dir ./dataset/train is now elsewhere/train"):
        train("--save", "half", "--resume", *moved(work))
    shutil.move("elsewhere", "dataset")
    assert train("--save", "half", "--resume", "--train_dir", "dataset/train/").last["step"] == 6


def test_resume_of_nothing_names_the_runs_that_are_there(work):
    for save, there in (("half", "the runs there are pets_l2"), ("nowhere", "no run is in nowhere")):
        with pytest.raises(UsageError, match=f"nothing to resume.*petz_l2_Last.pdparams; {there}"):
            train("--name", "petz", "--save", save, "--resume")
    assert not Path("nowhere").exists()
    assert not list(Path("half").glob("petz*"))
    assert train("--save", "half", "--resume", "auto").last["step"] == 6


# --overwrite


def broken_image(work):
    Path("dataset/train/cat/broken.jpg").write_text("junk")
    return []


def damaged_weights(work):
    Path("bad.pdparams").write_bytes(Path("source.pdparams").read_bytes()[:1000])
    return ["--pretrained", "bad.pdparams"]


def weights_of_its_own(work):
    Path("link.pdparams").symlink_to("whole/pets_l2_Last.pdparams")
    return ["--pretrained", "link.pdparams"]


def list_of_its_own(work):
    return ["--sample_list", "whole/pets_l2_samples.txt"]


FAILURES = {
    broken_image: DataError,
    damaged_weights: WeightsError,
    weights_of_its_own: UsageError,
    list_of_its_own: UsageError,
    lambda work: ["--lr", 1e30]: Diverged,
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_run_is_kept_until_its_successor_has_saved(work, how):
    before = files("whole")
    with pytest.raises(FAILURES[how]):
        train("--save", "whole", "--overwrite", *how(work))
    after = files("whole")
    log = "pets_l2.txt"
    assert after.pop(log).startswith(before.pop(log))
    assert after == before
    if how is not broken_image:
        assert train("--save", "whole", "--resume") is None


def test_nothing_of_a_run_is_left_beside_its_successor(work):
    marker = "of the first run"
    with open("whole/pets_l2.txt", "a") as log:
        print(marker, file=log)
    interrupt("--save", "whole", "--overwrite", "--save_frequency", 1, "--eval_frequency", 6)  # before an evaluation
    assert sorted(files("whole")) == ["pets_l2.txt", "pets_l2.yaml", "pets_l2_Last.pdparams", "pets_l2_samples.txt"]
    text = Path("whole/pets_l2.txt").read_text()
    assert marker not in text
    assert "step 2/6" in text
    assert train("--save", "whole", "--resume", "--eval_frequency", 6).last["step"] == 6


def test_a_link_among_the_results_stays_one(work):
    Path("disk").mkdir()
    for name in ("pets_l2_Last.pdparams", "pets_l2.json"):
        Path("disk", name).symlink_to(Path("..", "whole", name))
    shutil.move("whole/pets_l2_Last.pdparams", "disk/real")
    Path("whole/pets_l2_Last.pdparams").symlink_to("../disk/real")
    Path("disk/real").write_bytes(Path("half/pets_l2_Last.pdparams").read_bytes())
    Path("whole/pets_l2.json").unlink()
    assert train("--save", "whole", "--resume").last["step"] == 6
    assert Path("whole/pets_l2_Last.pdparams").is_symlink()
    assert pdparams.load("disk/real")["iter"] == 5


# Damaged files beside the checkpoint


def spoil(path, how):
    path = Path(path)
    if how == "removed":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(np.random.default_rng(0).bytes(300))


@pytest.mark.parametrize("how", ["removed", "empty", "noise"])
def test_an_interrupted_run_goes_on_whatever_is_left_of_its_logs(work, how, capsys):
    for ending in (".csv", ".txt", "_samples.txt"):
        spoil(f"half/pets_l2{ending}", how)
    spoil("visual_log/pets_l2/vdlrecords.run.log", how)
    assert train("--save", "half", "--resume").last["step"] == 6
    assert "half/pets_l2.csv" in capsys.readouterr().err
    assert Path("half/pets_l2.csv").read_text().splitlines()[1].startswith("6,")
    assert files("half")["pets_l2_samples.txt"] == files("whole")["pets_l2_samples.txt"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"options": {"method": 3}}', '{"options": 3}', "\udcff"])
def test_a_damaged_summary_is_written_again_from_the_checkpoint(work, text, capsys):
    path = Path("whole/pets_l2.json")
    before = json.loads(path.read_text())
    path.write_text(text, errors="surrogateescape")
    Path("whole/pets_l2.csv").unlink()
    train("--save", "whole", "--resume")
    assert "not the summary of a run" in capsys.readouterr().err
    assert json.loads(path.read_text())["last"] == before["last"]
    path.write_text(text, errors="surrogateescape")
    Path("whole/pets_l2_Last.pdparams").unlink()
    with pytest.raises(UsageError, match="damaged"):
        train("--save", "whole", "--resume")


# The orientation of photographs, which earlier versions did not record


def without_orientation(save):
    """Make a checkpoint and a summary of an earlier version of those in `save`."""
    content = last(save)
    del content["preprocess"]["orientation"], content["options"]["orientation"]
    checkpoint.save(f"{save}/pets_l2_Last.pdparams", content)
    summary = Path(save, "pets_l2.json")
    if summary.exists():
        saved = json.loads(summary.read_text())
        del saved["options"]["orientation"]
        summary.write_text(json.dumps(saved))


def orientations(save):
    content = last(save)
    return content["preprocess"]["orientation"], content["options"]["orientation"]


def test_a_run_records_what_it_does(work):
    assert orientations("half") == orientations("whole") == ("exif", "exif")
    train("--save", "other", "--orientation", "ignore")
    assert orientations("other") == ("ignore", "ignore")


def test_a_run_of_an_earlier_version_goes_on_as_it_was_started(work, capsys):
    without_orientation("half")
    with pytest.raises(UsageError, match="started with other options: --orientation ignore is now exif$"):
        train("--save", "half", "--resume", "--orientation", "exif")
    assert train("--save", "half", "--resume").options["orientation"] == "ignore"
    assert orientations("half") == ("ignore", "ignore")
    without_orientation("whole")
    assert train("--save", "whole", "--resume") is None
    assert train("--save", "whole", "--resume", "--orientation", "ignore") is None
    with pytest.raises(UsageError, match="--orientation ignore is now exif$"):
        train("--save", "whole", "--resume", "--orientation", "exif")
    assert train("--save", "whole", "--overwrite").options["orientation"] == "exif"


@pytest.mark.parametrize("orientation", ["exif", "ignore"])
def test_a_run_to_resume_keeps_its_orientation(work, orientation):
    interrupt("--save", "kept", "--orientation", orientation)
    assert train("--save", "kept", "--resume").options["orientation"] == orientation


def test_a_run_that_may_be_resumed_starts_like_any(work):
    assert train("--save", "fresh", "--resume", "auto").options["orientation"] == "exif"


@pytest.mark.parametrize("value", [7, ["exif"], "upright"])
def test_an_orientation_that_is_none_is_refused(work, value):
    content = last("half")
    content["options"]["orientation"] = value
    checkpoint.save("half/pets_l2_Last.pdparams", content)
    with pytest.raises(UsageError, match="is now ignore$"):
        train("--save", "half", "--resume")
