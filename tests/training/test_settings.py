"""Settings from a file: what a run leaves repeats it, flags win, whatever is wrong is named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import finetune
import regularizers
from checkpoints import pdparams
from tests.pictures import write_folder
from training import settings
from training.options import Options
from training.parsing import parse
from utils.errors import UsageError


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(text, *flags):
    Path("a.yaml").write_text(text, encoding="utf-8")
    return parse(["--config", "a.yaml", *flags])


ODD = {
    "folders": [
        "--train_dir",
        "a b: #c/train",
        "--eval_dir",
        "ünï/'x' \"y\"\\z",
        "--lr",
        "3e-7",
        "--wd",
        "0",
        "--seed",
        "0",
    ],
    "a share": [
        "--train_dir",
        "1e3",
        "--val_split",
        "0.1",
        "--keep_aspect",
        "--sample_classes",
        "25%",
        "--name",
        "007",
    ],
    "lists": [
        "--train_list",
        "x/t.csv",
        "--eval_list",
        "null",
        "--data_root",
        "~",
        "--label_column",
        "true",
        "--probe",
    ],
    "the training": [
        "--train_dir",
        "a",
        "--schedule",
        "cosine",
        "--augment",
        "resized_crop,flip",
        "--bn_momentum",
        "0",
    ],
    "a fold": ["--train_dir", "a", "--fold", "2/5", "--sample_total", "9", "--resume", "auto"],
    "the embedded task": ["--head_lr_mult", "10", "--cache_dir", "c"],
    "a part of the embedded task": ["--val_split", "0.25", "--sample_rate", "30", "--gpu", "-1"],
}


CASES = [(name, "folders") for name in (*regularizers.REGULARIZERS, "mixup+bss")] + [("smile", case) for case in ODD]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_file_of_a_run_gives_its_options(name, case):
    Path("source").write_bytes(b"")
    embedded = [] if "embedded" in case else ["--pretrained", "source"]
    options = parse(["--regularizer", name, *embedded, *ODD[case]])
    assert options.embedded == ("embedded" in case)
    expected = replace(options, resume=False)
    if options.schedule == "cosine":
        assert "lr_drop" not in settings.text(options)
        expected = replace(expected, lr_drop=given(settings.text(options)).lr_drop)
    assert given(settings.text(options)) == expected


def test_the_length_of_a_run_is_kept_as_updates():
    options = parse(["--train_dir", "a", "--pretrained", "none", "--regularizer", "l2", "--epochs", "3"])
    decided = options.lasting(50)
    assert given(settings.text(decided)) == replace(decided, epochs=None)
    assert given(settings.text(decided)).lr_drop == decided.lr_drop != 6666


def test_what_is_on_by_default_can_be_off():
    Path("source").write_bytes(b"")
    on = Options.of({"regularizer": "smile", "train_dir": "a", "pretrained": "source"})
    off = replace(on, method={**on.method, "ema_bn_stats": False})
    assert given(settings.text(off)).method["ema_bn_stats"] is False
    assert "keep_aspect" not in settings.text(off)


BASE = "train_dir: a\npretrained: none\nregularizer: l2\n"


def test_flags_win():
    options = given(BASE + "lr: 0.5\nmax_iters: 70\nbatch-size: 9\nval_split: 0.2\nkeep_aspect:\n", "--lr", "0.25")
    assert (options.lr, options.max_iters, options.batch_size, options.keep_aspect) == (0.25, 70, 9, True)
    assert given(BASE + "max_iters: 70\n", "--epochs", "2").max_iters is None
    assert given(BASE + "val_split: 0.2\n", "--eval_dir", "b").val_split is None
    assert given(BASE + "lr_drop: 9\n", "--schedule", "cosine").schedule == "cosine"
    assert given(BASE, "--train_list", "c/t.csv", "--val_split", "0.2").train_dir is None
    assert given(BASE + "resume: auto\n").resume == "auto"
    assert given(BASE + "resume: true\n").resume is True
    assert given(BASE + "resume: auto\n", "--overwrite").resume is False
    assert given("regularizer: mixup\nalpha: 0.5\ntrain_dir: a\npretrained: none\n").method["alpha"] == 0.5


def test_an_empty_file_changes_nothing():
    assert given("# nothing\n", *["--train_dir", "a", "--pretrained", "none", "--regularizer", "l2"]) == given(BASE)
    assert given("\ufeff" + BASE.replace("\n", "\r\n")) == given(BASE)


WRONG = {
    "lr_dorp: 3": "unknown argument --lr_dorp; the nearest option is lr_drop",
    "zzzzzzzz: 3": "unknown argument --zzzzzzzz; --help lists the accepted ones",
    "config: b.yaml": "unknown argument --config",
    "alpha: 0.2": "--alpha is not an option of --regularizer l2; it belongs to .*smile",
    "lr: x": "argument --lr: 'x': accepted is a number above 0",
    "lr: -1": "argument --lr: '-1': accepted is a number above 0",
    "lr:": "argument --lr: expected one argument",
    "lr: [1, 2]": "a.yaml: lr: expected is a single value",
    "lr: {a: 1}": "a.yaml: lr: expected is a single value",
    "lr: 1\nlr: 2": "a.yaml: lr is there twice",
    "batch_size: 1\nbatch-size: 2": "a.yaml: batch_size is there twice",
    "keep_aspect: maybe": "a.yaml: keep_aspect: 'maybe': accepted are true and false",
    "resume: maybe": "argument --resume: invalid choice: 'maybe'",
    "amp: fp4": "argument --amp: invalid choice: 'fp4'",
    "<<: {lr: 1}": "a.yaml: <<: expected is a single value",
    "- lr": "a.yaml is not YAML",
    "lr: 'x": "a.yaml is not YAML",
    "lr: \x00": "a.yaml is not YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named(text):
    with pytest.raises(UsageError, match=WRONG[text]) as failure:
        given(BASE + text + "\n")
    assert len(str(failure.value)) < 500


def test_another_content_is_refused():
    for text, message in {
        "- lr\n": "a.yaml: expected is a line for each option",
        "lr\n": "a.yaml: expected is a line for each option",
        "a: &a [x]\n"
        + "".join(f"b{i}: &b{i} [*{'a' if not i else f'b{i - 1}'}, *a]\n" for i in range(40)): "single value",
        "[" * 5000: "nested too deeply",
        "#" * 300_000: "accepted are settings files of up to 262144 characters",
    }.items():
        with pytest.raises(UsageError, match=message):
            given(text)
    for path, message in {".": "Is a directory", "absent": "No such file", "/dev/zero": "."}.items():
        with pytest.raises(UsageError, match=message):
            parse(["--config", path])
    Path("binary").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match="binary is not YAML"):
        parse(["--config", "binary"])


def test_a_run_leaves_the_file_that_repeats_it(work):
    write_folder(work / "pets" / "train")
    write_folder(work / "pets" / "test", count=2, seed=1)
    flags = ["--regularizer", "mixup", "--pretrained", "none", "--train_dir", "pets/train", "--eval_dir", "pets/test"]
    flags += ["--model_arch", "resnet8", "--image_size", "32", "--batch_size", "8", "--gpu", "-1"]
    first = finetune.main([*flags, "--epochs", "1", "--alpha", "0.35", "--seed", "7"])
    second = finetune.main(["--config", "output/pets_mixup.yaml", "--save", "again"])
    assert (second.last, second.best) == (first.last, first.best)
    a, b = (pdparams.load(f"{save}/pets_mixup_Last.pdparams") for save in ("output", "again"))
    assert a["model"].keys() == b["model"].keys()
    assert all(np.array_equal(a["model"][name], value) for name, value in b["model"].items())
    left, again = (Path(save, "pets_mixup.yaml").read_text() for save in ("output", "again"))
    assert again == left.replace("save: ./output", "save: again")
    assert "max_iters: 2\n" in left
    other = finetune.main(["--config", "output/pets_mixup.yaml", "--save", "other", "--seed", "8"])
    assert other.last != first.last
