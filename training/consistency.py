"""Which options of a run go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import regularizers
from checkpoints.pretrained import check_choice
from datasets.augment import named
from models import ARCHITECTURES, STAGED
from regularizers.base import Requirements
from training import embedded
from utils.errors import UsageError
from utils.system import refused

if TYPE_CHECKING:
    from training.options import Options


def check(options: Options) -> None:
    """Refuse options that contradict one another, the network or the method.

    Raises:
        UsageError: naming them and what is accepted.
        WeightsError: the weight file is absent.
    """
    _check_files(options)
    _check_images(options)
    _check_groups(options)
    needs = regularizers.create(options.regularizer, **options.method).requirements()
    _check_method(options, needs)
    _check_training(options, needs)
    if not (options.embedded and options.pretrained == embedded.source_path(options.cache_dir)):
        check_choice(options.pretrained, options.model_arch)


def _check_files(options: Options) -> None:
    if options.resume and options.overwrite:
        raise UsageError("--resume and --overwrite: give one of them")
    if options.elastic and not options.resume:
        raise UsageError("--elastic is of resumed runs; accepted with --resume")
    if "/" in options.name or options.name.startswith("."):
        raise UsageError(f"--name {options.name}: a name, not a path")
    if refused(options.run):
        raise UsageError(
            f"--name {options.name}: Windows accepts no file of this name; accepted are letters and digits"
        )
    for option in ("data_root", "path_column", "label_column"):
        if getattr(options, option) is not None and options.train_list is None and options.eval_list is None:
            raise UsageError(f"--{option} is of lists; accepted with --train_list or --eval_list")


def _check_groups(options: Options) -> None:
    given = [option for option in ("group_column", "group_pattern") if getattr(options, option) is not None]
    if len(given) > 1:
        raise UsageError("--group_column and --group_pattern: give one of them")
    for option in ("group_column", "weight_column"):
        if getattr(options, option) is not None and options.train_list is None:
            raise UsageError(f"--{option} is of lists; accepted with --train_list")
    if given and (options.val_split, options.fold, options.folds) == (None, None, None):
        raise UsageError(f"--{given[0]} is of images that are held out: accepted with --val_split, --fold and --folds")


def _check_images(options: Options) -> None:
    if options.resize_size < options.image_size:
        raise UsageError(f"--resize_size {options.resize_size} is smaller than --image_size {options.image_size}")
    named(options.augment)
    smallest = ARCHITECTURES[options.model_arch].smallest
    if options.image_size < smallest:
        raise UsageError(f"--image_size {options.image_size}: accepted with {options.model_arch} is {smallest} or more")
    if options.calibrate and not options.held_out and options.folds is None:
        reason = "a temperature is fitted on images held out of the training folder, never on those of a report"
        raise UsageError(f"--calibrate needs --val_split, --fold or --folds: {reason}")


def _check_method(options: Options, needs: Requirements) -> None:
    method = f"--regularizer {options.regularizer}"
    if options.max_iters is not None and options.max_iters < needs.steps[0]:
        least, reason = needs.steps
        raise UsageError(f"--max_iters {options.max_iters}: accepted with {method} is {least} or more: {reason}")
    if options.accum > 1 and needs.whole_batch:
        reason = f"it needs the whole batch at once: {needs.whole_batch}"
        raise UsageError(f"--accum {options.accum}: accepted with {method} is 1: {reason}")
    if needs.source and options.pretrained == "none":
        raise UsageError(f"{method} needs a pretrained network, --pretrained is none")
    if needs.stages and options.model_arch not in STAGED:
        accepted = f"accepted are {', '.join(STAGED)}: {needs.stages}"
        raise UsageError(f"{method} --model_arch {options.model_arch}: {accepted}")
    for asked, flag in ((options.probe, "--probe"), (options.head_init == "probe", "--head_init probe")):
        if asked and options.pretrained == "none":
            raise UsageError(f"{flag} needs a pretrained network, --pretrained is none")


def _check_training(options: Options, needs: Requirements) -> None:
    if "ce" in needs.terms:
        own = f"--regularizer {options.regularizer} has its own cross-entropy"
        if options.label_smoothing:
            raise UsageError(f"--label_smoothing {options.label_smoothing}: accepted is 0: {own}")
        if options.balance == "loss":
            raise UsageError(f"--balance loss: accepted are none and draws: {own}")
        if options.weight_column is not None:
            raise UsageError(f"--weight_column: {own}, which it does not weigh")
    if options.max_iters is not None and options.warmup >= options.max_iters:
        raise UsageError(f"--warmup {options.warmup}: accepted are fewer updates than --max_iters {options.max_iters}")
    given = {"freeze_bn": options.freeze_bn, "bn_momentum": options.bn_momentum is not None}
    flags = [name for name, there in given.items() if there]
    if len(flags) > 1:
        raise UsageError("--freeze_bn and --bn_momentum: give one of them; frozen statistics do not move")
    if flags and not ARCHITECTURES[options.model_arch].network.normalises_batches:
        raise UsageError(f"--{flags[0]}: --model_arch {options.model_arch} has no batch normalisation")
    if options.freeze_bn and options.pretrained == "none":
        raise UsageError("--freeze_bn keeps the statistics of a pretrained network, --pretrained is none")
