from pathlib import Path

import pytest

import regularizers
from tests.pictures import write_folder
from training.options import Options
from training.parsing import parse
from utils.errors import UsageError, WeightsError

REFERENCE = {
    "image_size": 224,
    "batch_size": 48,
    "batch_size_eval": 8,
    "max_iters": 9000,
    "lr": 0.01,
    "wd": 1e-4,
    "gpu": 0,
    "print_frequency": 50,
    "eval_frequency": 500,
    "seed": 2022,
    "cls_lambda": 1e-4,
    "regularizer": "smile",
    "model_arch": "resnet50",
    "log_dir": "./visual_log",
    "save": "./output",
    "lr_drop": 6666,
    "resize_size": 256,
    "pretrained": "imagenet",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "dataset" / "train")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_are_the_references():
    options = parse([])
    assert {name: getattr(options, name) for name in REFERENCE} == REFERENCE
    assert options.method == {
        "alpha": 0.2,
        "reg_lambda": 0.01,
        "aux_lambda": 0.1,
        "ema_decay": 0.9999,
        "ema_every": 1,
        "ema_bn_stats": True,
        "clean_tail": 1000,
    }
    assert (options.train_dir, options.eval_dir) == ("./dataset/train", "./dataset/test")
    assert options.run == "dataset_smile"
    assert not options.embedded


def test_every_flag_of_the_reference_is_accepted():
    flags = [
        "--name",
        "x",
        "--train_dir",
        "a",
        "--eval_dir",
        "b",
        "--log_dir",
        "c",
        "--save",
        "d",
        "--ema_decay",
        "0.999",
        "--model_arch",
        "resnet18",
        "--image_size",
        "96",
        "--batch_size",
        "4",
        "--batch_size_eval",
        "2",
        "--max_iters",
        "2000",
        "--lr",
        "0.1",
        "--wd",
        "0",
        "--alpha",
        "0.3",
        "--gpu",
        "1",
        "--print_frequency",
        "7",
        "--eval_frequency",
        "9",
        "--seed",
        "3",
        "--reg_lambda",
        "0.5",
        "--aux_lambda",
        "0.6",
        "--cls_lambda",
        "0.7",
        "--regularizer",
        "smile",
    ]
    options = parse(flags)
    for flag, text in zip(flags[::2], flags[1::2]):
        assert str({**vars(options), **options.method}[flag[2:]]) in (text, f"{text}.0")


def test_dashes_and_equals_signs_are_accepted():
    assert parse(["--max-iters=3000", "--head-init", "torch"]).max_iters == 3000


def test_without_data_the_embedded_task_is_meant(folder):
    (folder / "dataset").rename(folder / "elsewhere")
    options = parse(["--max_iters", "120"])
    assert options.embedded
    assert (options.model_arch, options.max_iters, options.lr_drop) == ("resnet8", 120, 80)
    assert (options.method["ema_decay"], options.method["clean_tail"]) == (0.99**2.5, 13)
    options = parse([])
    assert (options.max_iters, options.lr_drop, options.eval_frequency, options.print_frequency) == (300, 200, 50, 50)
    assert (options.method["ema_decay"], options.method["clean_tail"]) == (0.99, 33)
    assert parse(["--regularizer", "l2"]).method == {}
    assert not parse(["--train_dir", "elsewhere/train"]).embedded


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--regularizer nonsense", "no method 'nonsense'; there are"),
        ("--regularizer smile+smile", "named twice"),
        ("--regularizer mixup+cutmix", "both mix"),
        ("--regularizer l2 --alpha 0.2", "--alpha is not an option of --regularizer l2; it belongs to mixup, smile"),
        ("--nonsense 3", "unknown argument --nonsense"),
        ("--max_iter 3", "unknown argument --max_iter"),
        ("--lr 0", "--lr: '0': accepted is a number above 0"),
        ("--lr nan", "--lr"),
        ("--batch_size 0", "whole number from 1"),
        ("--batch_size 2.5", "whole number"),
        ("--model_arch resnet19", "resnet19"),
        ("--max_iters 1000 --clean_tail 1000", "is 1001 or more: the last --clean_tail 1000"),
        ("--max_iters 1000 --time 10m", "--max_iters and --time: give one of them"),
        ("--epochs 3 --time 10m", "--epochs and --time: give one of them"),
        ("--epochs 0", "--epochs: '0': accepted is a whole number from 1"),
        ("--time 10", "--time: '10': accepted is a time such as 10m, 1h30m or 45s"),
        ("--ema_decay 2", "from 0 to 1"),
        ("--ema_bn_stats maybe", "accepted are true and false"),
        ("--resize_size 100", "smaller than --image_size 224"),
        ("--val_split 0.2 --eval_dir x", "give one of them"),
        ("--resume --overwrite", "give one of them"),
        ("--name a/b", "a name, not a path"),
        ("--pretrained none", "needs a pretrained network"),
        ("--model_arch resnet8", "no file for --model_arch resnet8"),
        (
            "--pretrained places365 --model_arch resnet18",
            "there are files for resnet50;",
        ),
        ("--sample_rate 0", "from 1 to 100"),
        ("--lr", "expected one argument"),
    ],
)
def test_what_a_flag_can_get_wrong_is_one_line(flags, message):
    with pytest.raises(UsageError, match="^[^\n]*$") as caught:
        parse(flags.split())
    assert message in str(caught.value)


def test_an_absent_weight_file_is_found_before_anything_is_built():
    with pytest.raises(WeightsError, match="nowhere.pdparams: no such file"):
        parse(["--pretrained", "nowhere.pdparams"])


def test_help_shows_the_methods_own_hyper_parameters(capsys):
    with pytest.raises(SystemExit) as left:
        parse(["--regularizer", "smile", "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{flag}" in text for flag in regularizers.arguments("smile"))
    assert "--bss_lambda" not in text


def test_hyper_parameters_have_one_owner_or_one_meaning():
    """A flag made from the arguments of two methods must be the same argument in both."""
    owners = {}
    for name in regularizers.REGULARIZERS:
        for flag, (parameter, hint) in regularizers.arguments(name).items():
            owners.setdefault(flag, set()).add((parameter.default, hint))
    assert {flag for flag, kinds in owners.items() if len(kinds) > 1} == set()


@pytest.mark.parametrize(
    "folder, name", [(".data", "data"), (".cache/pets", "pets"), ("..pets", "pets"), ("...", "run")]
)
def test_the_name_of_data_in_a_hidden_folder(tmp_path, monkeypatch, folder, name):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / folder / "train", ("a", "b"), count=1)
    options = parse(["--regularizer", "l2", "--pretrained", "none", "--train_dir", f"{folder}/train"])
    assert (options.name, options.run) == (name, f"{name}_l2")


@pytest.mark.parametrize(
    ("pretrained", "arch", "size", "resize"),
    [
        ("imagenet", "resnet50", 224, 256),
        ("places365", "resnet50", 224, 256),
        ("imagenet_v2", "resnet50", 224, 232),
        ("imagenet_v2", "mobilenet_v3_large", 224, 232),
        ("imagenet", "convnext_tiny", 224, 236),
        ("imagenet", "vit_small_patch16_224", 224, 249),
        ("none", "vit_small_patch16_224", 224, 256),
        ("none", "resnet8", 32, 37),
        ("file.pdparams", "resnet8", 32, 37),
        ("file.pdparams", "convnext_tiny", 224, 256),
        ("file.pdparams", "vit_small_patch16_224", 224, 249),
    ],
)
def test_images_are_resized_as_for_the_weights(tmp_path, monkeypatch, pretrained, arch, size, resize):
    monkeypatch.chdir(tmp_path)
    Path("file.pdparams").touch()
    given = {"train_dir": "x", "model_arch": arch, "image_size": size, "pretrained": pretrained}
    assert Options.of({**given, "regularizer": "l2"}).resize_size == resize


def test_another_number_of_processes_is_of_resumed_runs():
    with pytest.raises(UsageError, match="--elastic is of resumed runs; accepted with --resume"):
        parse(["--elastic"])
    assert parse(["--elastic", "--resume"]).elastic
