"""The command line of `finetune.py`: the reference's flags and defaults, and those of the chosen method."""

from __future__ import annotations

import argparse
import typing
from pathlib import Path

import regularizers
from checkpoints.pretrained import check_choice
from models import ARCHITECTURES, STAGED
from models.heads import INITS
from training import embedded
from utils.commandline import Parser, number, switch
from utils.errors import UsageError
from utils.precision import MODES

REFERENCE_SEED = 2022


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line.

    Returns:
        The options; `method` holds the hyper-parameters of the regularizer, `embedded` whether the embedded task runs.

    Raises:
        UsageError: an unknown flag or method, a value out of range, or options that contradict one another.
    """
    name = _regularizer(argv)
    arguments = regularizers.arguments(name)
    parser = _parser(name)
    method = parser.add_argument_group(f"hyper-parameters of {name}")
    told = regularizers.descriptions(name)
    for flag, (parameter, hint) in arguments.items():
        _add_hyper_parameter(method, flag, parameter, hint, told.get(flag, " "))
    options, rest = parser.parse_known_args(argv)
    options.embedded = options.train_dir is None and options.eval_dir is None and not Path("dataset").exists()
    if options.embedded:
        preset = {key: value for key, value in embedded.preset(options).items() if key in vars(options)}
        parser.set_defaults(**preset)
        options, rest = parser.parse_known_args(argv)
        options.embedded = True
    for flag in rest:
        _refuse(flag, name)
    options.method = {flag: vars(options).pop(flag) for flag in arguments}
    _complete(options)
    return options


def _regularizer(argv) -> str:
    parser = Parser(add_help=False)
    parser.add_argument("--regularizer", default=regularizers.DEFAULT)
    return parser.parse_known_args(argv)[0].regularizer


def _refuse(flag: str, name: str):
    flag = flag.split("=")[0]
    others = [other for other in regularizers.REGULARIZERS if flag[2:] in regularizers.arguments(other)]
    if others:
        raise UsageError(f"{flag} is no option of --regularizer {name}; it belongs to {', '.join(others)}")
    raise UsageError(f"unknown argument {flag}; --help lists what there is")


def _add_hyper_parameter(group, flag, parameter, hint, told):
    options = {"default": parameter.default, "help": told.rstrip(".").replace("%", "%%")}
    if typing.get_origin(hint) is typing.Literal:
        options["choices"] = typing.get_args(hint)
    else:
        options["type"] = switch if hint is bool else hint
        options["metavar"] = {bool: "BOOL", int: "N", float: "X"}.get(hint, "TEXT")
    group.add_argument(f"--{flag}", **options)


def _parser(name: str) -> Parser:
    parser = Parser(prog="finetune.py", description="Fine-tune a pretrained network on a folder of images.")
    count, positive, share = number(int, 1), number(float, 0, above=True), number(float, 0)
    data = parser.add_argument_group("data")
    data.add_argument("--train_dir", help="folder of class folders (./dataset/train)")
    data.add_argument("--eval_dir", help="the same classes, scored while training (./dataset/test)")
    data.add_argument("--image_size", type=count, default=224, help="side of the square the network sees")
    data.add_argument("--resize_size", type=count, help="side images are resized to first (256/224 of image_size)")
    data.add_argument("--keep_aspect", action="store_true", help="resize the shorter side only")
    data.add_argument("--sample_rate", type=number(int, 1, 100), metavar="PCT", help="train on a part of the images")
    data.add_argument("--sample_classes", metavar="N|PCT%", help="train on a part of the classes")
    data.add_argument("--sample_total", type=count, metavar="N", help="train on N images, spread over the classes")
    data.add_argument("--sampling", choices=("stratified", "author"), default="stratified", help="rule of sample_rate")
    data.add_argument("--sample_list", metavar="FILE", help="train on the images listed in a file")
    fraction = number(float, 0, 0.9, above=True)
    data.add_argument("--val_split", type=fraction, help="share of the training images to score instead of eval_dir")
    data.add_argument(
        "--on_bad_image", choices=("error", "skip"), default="error", help="skip: leave unreadable training images out"
    )
    data.add_argument("--check_data", action="store_true", help="read every image first and list what is wrong")
    data.add_argument("--cache", choices=("disk", "off"), default="disk", help="keep decoded images")
    data.add_argument("--cache_dir", default="./cache", help="where decoded images and the embedded task go")
    run = parser.add_argument_group("run")
    run.add_argument("--name", help="name of the run (the folder above train_dir)")
    run.add_argument("--save", default="./output", help="where checkpoints, tables and pictures go")
    run.add_argument("--log_dir", default="./visual_log", help="where VisualDL looks")
    run.add_argument("--gpu", type=number(int, -1), default=0, help="number of the GPU; -1 is the CPU")
    run.add_argument("--seed", type=number(int, 0), default=REFERENCE_SEED, help="of every random draw")
    run.add_argument("--print_frequency", type=count, default=50, help="steps between two log lines")
    run.add_argument("--eval_frequency", type=count, default=500, help="steps between two evaluations")
    run.add_argument("--save_frequency", type=count, help="steps between two saves of _Last (eval_frequency)")
    run.add_argument("--resume", action="store_true", help="go on where the run of this name stopped")
    run.add_argument("--overwrite", action="store_true", help="start a run of this name again")
    run.add_argument("--dry_run", action="store_true", help="check the options and the folders, train nothing")
    training = parser.add_argument_group("training")
    archs, methods = ", ".join(ARCHITECTURES), ", ".join(regularizers.REGULARIZERS)
    training.add_argument("--model_arch", choices=tuple(ARCHITECTURES), default="resnet50", metavar="ARCH", help=archs)
    training.add_argument("--pretrained", default="imagenet", help="imagenet, places365, none, or a weight file")
    training.add_argument("--regularizer", default=name, help=f"the method, or several as in a+b: {methods}")
    training.add_argument("--max_iters", type=count, default=9000, help="updates")
    training.add_argument("--batch_size", type=count, default=48, help="images in one update")
    training.add_argument("--accum", type=count, default=1, metavar="N", help="take them in N parts: less memory")
    training.add_argument("--batch_size_eval", type=count, default=8, help="images scored at a time")
    training.add_argument("--lr", type=positive, default=0.01, help="learning rate")
    training.add_argument("--lr_drop", type=count, help="update from which lr is a tenth (2/3 of (max_iters + 1000))")
    training.add_argument("--head_lr_mult", type=positive, default=1.0, help="learning rate of the heads over lr")
    training.add_argument("--wd", type=share, default=1e-4, help="weight decay")
    training.add_argument("--cls_lambda", type=share, default=1e-4, help="weight decay of the heads on top of wd")
    training.add_argument("--amp", choices=tuple(MODES), default="off", help="precision of the forward pass on a GPU")
    training.add_argument("--head_init", choices=INITS, default="paddle", help="how a new head starts")
    return parser


def _complete(options: argparse.Namespace) -> None:
    if options.val_split is not None and options.eval_dir is not None and not options.embedded:
        raise UsageError("--val_split and --eval_dir: give one of them")
    if options.resume and options.overwrite:
        raise UsageError("--resume and --overwrite: give one of them")
    options.train_dir = options.train_dir or "./dataset/train"
    options.eval_dir = options.eval_dir or "./dataset/test"
    options.name = options.name or Path(options.train_dir).resolve().parent.name or "run"
    if "/" in options.name or options.name.startswith("."):
        raise UsageError(f"--name {options.name}: a name, not a path")
    if options.resize_size is None:
        options.resize_size = round(options.image_size * 256 / 224)
    if options.resize_size < options.image_size:
        raise UsageError(f"--resize_size {options.resize_size} is smaller than --image_size {options.image_size}")
    if options.lr_drop is None:
        options.lr_drop = int(2 * (options.max_iters + 1000) / 3)
    if options.save_frequency is None:
        options.save_frequency = options.eval_frequency
    options.run = f"{options.name}_{options.regularizer}"
    method = regularizers.create(options.regularizer, **options.method)
    method.check(options.max_iters)
    if options.accum > 1 and method.whole_batch:
        reason = f"it needs the whole batch at once: {method.whole_batch}"
        raise UsageError(f"--accum {options.accum}: accepted with --regularizer {options.regularizer} is 1: {reason}")
    if method.needs_source and options.pretrained == "none":
        raise UsageError(f"--regularizer {options.regularizer} needs a pretrained network, --pretrained is none")
    if method.needs_stages and options.model_arch not in STAGED:
        culprit = f"--regularizer {options.regularizer} --model_arch {options.model_arch}"
        raise UsageError(f"{culprit}: accepted are {', '.join(STAGED)}: {method.needs_stages}")
    if not (options.embedded and options.pretrained == embedded.source_path(options.cache_dir)):
        check_choice(options.pretrained, options.model_arch)
