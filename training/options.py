"""The options of a run: one line for each, from which the command line, its help, the summary and recipes come."""

from __future__ import annotations

import copy
import functools
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

import regularizers
from checkpoints.pretrained import crop_share
from datasets.augment import AUGMENTATIONS, DEFAULT
from datasets.preprocess import ORIENTATIONS
from evaluation.metrics import METRICS
from models import ARCHITECTURES
from models.heads import INITS
from training import embedded, presets
from training.consistency import check
from training.flags import SWITCH, accepted, converted, flag
from utils.commandline import SEED, number
from utils.errors import UsageError
from utils.precision import MODES
from utils.shares import REFERENCE, Period, at, is_share
from utils.words import fold, pattern, seconds

COUNT, POSITIVE, NOT_NEGATIVE = number(int, 1), number(float, 0, above=True), number(float, 0)
PERCENT, FRACTION, GPU = number(int, 1, 100), number(float, 0, 0.9, above=True), number(int, -1)
SHARE, DECAY = number(float, 0, 1, below=True), number(float, 0, 1, above=True)
AUTO, ONLY = "auto", "only"
LENGTHS = ("max_iters", "epochs", "time")  # of which a run is given one
SCORED = ("val_split", "eval_dir", "eval_list", "fold", "folds")  # likewise: which images are scored
TRAINED = ("train_dir", "train_list")
ALTERNATIVES = (  # a flag replaces each of these that a file has
    LENGTHS,
    SCORED,
    TRAINED,
    ("resume", "overwrite"),
    ("sample_rate", "sample_total", "sample_list"),
)
_data, _run, _training = (functools.partial(flag, group) for group in ("data", "run", "training"))


@dataclass(frozen=True)
class Options:
    """The options of one run, complete and checked when it exists.

    Raises:
        UsageError: a value out of range, or options that contradict one another.
        WeightsError: the weight file is absent.
    """

    # fmt: off
    train_dir: str | None = _data(None, str, "folder of class folders (./dataset/train)")
    eval_dir: str | None = _data(None, str, "the same classes, scored while training (./dataset/test)")
    train_list: str | None = _data(None, str, "in place of train_dir: a table of paths and labels", "FILE")
    eval_list: str | None = _data(None, str, "in place of eval_dir: likewise", "FILE")
    data_root: str | None = _data(None, str, "what paths of the lists are relative to (the folder of the list)", "DIR")
    path_column: str | None = _data(None, str, "their column of paths (path)", "NAME")
    label_column: str | None = _data(None, str, "their column of classes (label)", "NAME")
    image_size: int = _data(224, COUNT, "side of the square the network sees")
    resize_size: int = _data(None, COUNT, "side images are resized to first (256/224 of image_size for most networks)")
    keep_aspect: bool = _data(False, SWITCH, "resize the shorter side only")
    orientation: str = _data(None, ORIENTATIONS, "exif: turn photographs upright; ignore: as the reference does (exif)")
    sample_rate: int | None = _data(None, PERCENT, "train on a part of the images", "PCT")
    sample_classes: str | None = _data(None, str, "train on a part of the classes", "N|PCT%")
    sample_total: int | None = _data(None, COUNT, "train on N images, spread over the classes", "N")
    sampling: str = _data("stratified", ("stratified", "author"), "rule of sample_rate")
    sample_list: str | None = _data(None, str, "train on the images listed in a file", "FILE")
    val_split: float | None = _data(None, FRACTION, "share of the training images to score instead of eval_dir")
    fold: str | None = _data(None, fold, "hold out part I of K of the training images instead; 0/K: none", "I/K")
    group_column: str | None = _data(None, str, "column of train_list: images of a group are held out together", "NAME")
    group_pattern: str | None = _data(None, pattern, "likewise: what the first parentheses find in a path is its group",
                                      "REGEX")
    weight_column: str | None = _data(None, str, "column of train_list: what the loss of an image is multiplied by",
                                      "NAME")
    on_bad_image: str = _data("error", ("error", "skip"), "skip: leave unreadable training images out",
                             affects=False)
    check_data: bool = _data(False, SWITCH, "read every image first: what is there, what is wrong, a picture of some",
                              affects=False)
    cache: str = _data("disk", ("disk", "off"), "keep decoded images", affects=False)
    cache_dir: str = _data("./cache", str, "where decoded images and the embedded task go", affects=False)

    name: str = _run(None, str, "name of the run (the folder above train_dir)")
    save: str = _run("./output", str, "where checkpoints, tables and pictures go", affects=False)
    log_dir: str = _run("./visual_log", str, "where VisualDL looks", affects=False)
    gpu: int = _run(0, GPU, "number of the GPU; -1 is the CPU", affects=False)
    seed: int = _run(2022, SEED, "of every random draw")  # the reference's
    print_frequency: int = _run(Period(50), COUNT, "steps between two log lines")
    eval_frequency: int = _run(Period(500), COUNT, "steps between two evaluations")
    select: str = _run("acc", tuple(METRICS), f"metric that chooses _Best: {', '.join(METRICS)}", "METRIC")
    save_frequency: int = _run(None, COUNT, "steps between two saves of _Last (eval_frequency)", affects=False)
    folds: int | None = _run(None, number(int, 2, 1000), "cross-validation: a run without each of K parts of the "
                             "training images, and one of all", "K", affects=False)
    resume: bool | str = _run(False, (AUTO,), f"go on where the run of this name stopped; {AUTO}: or start it",
                              affects=False, bare=True)
    elastic: bool = _run(False, SWITCH, "resume with another number of processes: other bits", affects=False)
    calibrate: bool = _run(False, SWITCH, "fit a temperature to the held-out images and keep it in the checkpoints",
                           affects=False)
    probe: bool | str = _run(False, (ONLY,), "say what a linear probe of the pretrained features reaches by folds, and "
                             f"keep it as _Probe.pdparams; {ONLY}: train nothing", affects=False, bare=True)
    overwrite: bool = _run(False, SWITCH, "start a run of this name again", affects=False)
    preset: str = _run(presets.PAPER, presets.PRESETS, "few: for up to about 20 images of a class", affects=False)
    dry_run: bool = _run(False, SWITCH, "check the options and the folders, train nothing", affects=False)

    model_arch: str = _training("resnet50", ARCHITECTURES, ", ".join(ARCHITECTURES), "ARCH")
    pretrained: str = _training("imagenet", str, "imagenet, imagenet_v2, places365, none, or a weight file")
    regularizer: str = _training(regularizers.DEFAULT, str,
                                 f"the method, or several as in a+b: {', '.join(regularizers.REGULARIZERS)}")
    max_iters: int | None = _training(REFERENCE, COUNT, "updates")
    epochs: int | None = _training(None, COUNT, "in place of max_iters: how often each image is seen", affects=False)
    time: float | None = _training(None, seconds, "in place of max_iters: how long the run takes, as in 10m or 1h30m",
                                   affects=False)
    batch_size: int = _training(48, COUNT, "images in one update")
    accum: int = _training(1, COUNT, "take them in N micro-batches: less memory", "N")
    batch_size_eval: int = _training(8, COUNT, "images scored at a time")
    lr: float = _training(0.01, POSITIVE, "learning rate")
    lr_drop: int = _training(Period(6666), COUNT, "update from which lr is a tenth")
    schedule: str = _training("step", ("step", "cosine"), "how lr falls: at lr_drop, or along a cosine to 0 at the end")
    warmup: int = _training(0, number(int, 0), "updates at the start in which lr rises linearly", "N")
    optimizer: str = _training("sgd", ("sgd", "adamw"), "SGD with Nesterov momentum, or AdamW with decoupled decay")
    layer_decay: float = _training(1.0, DECAY, "learning rate of a block over that of the next one towards the head")
    clip_norm: float | None = _training(None, POSITIVE, "largest norm of the gradient of everything trained")
    patience: int | None = _training(None, COUNT, "stop after N evaluations without a better one", "N")
    head_lr_mult: float = _training(1.0, POSITIVE, "learning rate of the heads over lr")
    wd: float = _training(1e-4, NOT_NEGATIVE, "weight decay")
    cls_lambda: float = _training(1e-4, NOT_NEGATIVE, "weight decay of the heads on top of wd")
    amp: str = _training("off", tuple(MODES), "precision of the forward pass on a GPU")
    bn_momentum: float | None = _training(None, SHARE, "share of the old statistics that batch normalisation keeps "
                                                       "at an update (the network's own)")
    freeze_bn: bool = _training(False, SWITCH, "keep and use the source's statistics of batch normalisation")
    label_smoothing: float = _training(0.0, SHARE, "share of the targets that is spread over all classes")
    head_init: str = _training("paddle", INITS, "how a new head starts")
    augment: str = _training(",".join(DEFAULT), str,
                             f"random changes of the training images, in order: {', '.join(AUGMENTATIONS)}", "NAME,...")
    balance: str = _training("none", ("none", "draws", "loss"),
                             "unequal classes: draw each equally often, or weigh their losses")
    # fmt: on

    method: dict[str, Any] = field(default_factory=dict)  # the hyper-parameters of the regularizer
    embedded: bool = False  # whether it is a run of the embedded task
    run: str = ""  # the name of its files

    def __post_init__(self) -> None:
        self._complete()
        check(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Options:
        """Return the options of a run for which those in `given`, hyper-parameters of the method included, were chosen.

        Without a folder of images and without ./dataset that is a run of the embedded task, whose defaults then hold.

        Raises:
            UsageError: an unknown option, besides what the constructor refuses.
        """
        name = presets.regularizer(given)
        arguments = regularizers.arguments(name)
        for option in given:
            if option not in arguments and option not in FLAGS:
                refuse(option, name)
        if given.get("schedule") == "cosine" and "lr_drop" in given:
            raise UsageError("--schedule cosine and --lr_drop: give one of them")
        folders = {"train_dir", "eval_dir", "train_list", "eval_list"}
        task = not folders & given.keys() and not Path("dataset").exists()
        known = {**arguments, **FLAGS}
        defaults = {**(embedded.preset(given) if task else {}), **presets.defaults(given)}
        chosen = {**{key: value for key, value in defaults.items() if key in known}, **given}
        for options in (LENGTHS, SCORED, TRAINED):
            both = [f"--{option}" for option in options if given.get(option) is not None]
            if len(both) > 1:
                raise UsageError(f"{' and '.join(both)}: give one of them")
        if given.get("train_list") and not given.keys() & SCORED:
            accepted = "--eval_list, --eval_dir, --val_split and --folds"
            raise UsageError(f"--train_list: what is scored? accepted beside it are {accepted}")
        if given.get("epochs") or given.get("time"):
            chosen["max_iters"] = None  # decided when the images, or their pace, are known
        method = {key: chosen.pop(key, parameter.default) for key, (parameter, _) in arguments.items()}
        return cls(**chosen, method=method, embedded=task)

    @classmethod
    def from_flags(cls, flags: dict[str, str]) -> Options:
        """Return the options of the texts in `flags`, as a recipe has them; a switch has an empty text.

        Raises:
            UsageError: naming the flag, its value and what is accepted.
        """
        return cls.of(values(flags, presets.regularizer(flags)))

    def to_dict(self) -> dict[str, Any]:
        """Return every option by name, for a summary or a checkpoint."""
        return asdict(self)

    def affecting(self) -> dict[str, Any]:
        """Return the options and hyper-parameters that can change the result of the run."""
        return {**{name: getattr(self, name) for name in [*AFFECTING, "run"]}, **self.method}

    def lasting(self, steps: int) -> Options:
        """Return the options of a run of `steps` updates, for those whose `max_iters` is None.

        Raises:
            UsageError: the method does not accept so few.
        """
        options = copy.copy(self)
        object.__setattr__(options, "max_iters", steps)
        options._follow(steps)
        check(options)
        return options

    def following(self) -> dict[str, float]:
        """Return the options and hyper-parameters whose defaults follow the length of the run."""
        own = {name: getattr(self, name) for name, option in FLAGS.items() if is_share(option.default)}
        arguments = regularizers.arguments(self.regularizer)
        return {**own, **{name: self.method[name] for name, (each, _) in arguments.items() if is_share(each.default)}}

    def oriented(self, orientation: str) -> Options:
        """Return the same options with this `orientation`; only that of a run to resume is found out so late."""
        options = copy.copy(self)
        object.__setattr__(options, "orientation", orientation)
        return options

    @property
    def held_out(self) -> bool:
        """Whether the images that are scored are held out of the training folder."""
        return self.val_split is not None or not (self.fold or "0/").startswith("0/")

    def _complete(self) -> None:
        def default(name: str, value: Any) -> None:
            if getattr(self, name) in (None, ""):
                object.__setattr__(self, name, value)

        if self.train_list is None:
            default("train_dir", "./dataset/train")
        if self.eval_list is None:
            default("eval_dir", "./dataset/test")
        default("name", Path(self.train_list or self.train_dir).resolve().parent.name.lstrip(".") or "run")
        default("resize_size", round(self.image_size / crop_share(self.pretrained, self.model_arch)))
        if not self.resume:  # else as when the run was started
            default("orientation", "exif")
        default("run", f"{self.name}_{self.regularizer}")
        if self.max_iters is not None:
            self._follow(self.max_iters)

    def _follow(self, steps: int) -> None:
        """Give the defaults that are a share of the run their values for `steps` updates."""
        for name in FLAGS:
            object.__setattr__(self, name, at(getattr(self, name), steps))
        object.__setattr__(self, "method", {name: at(value, steps) for name, value in self.method.items()})
        if self.save_frequency is None:
            object.__setattr__(self, "save_frequency", self.eval_frequency)


FLAGS = {each.name: each for each in fields(Options) if each.metadata}
AFFECTING = [name for name, each in FLAGS.items() if each.metadata["affects"]]  # that can change the result of a run


def values(flags: dict[str, str], name: str) -> dict[str, Any]:
    """Return the values of flags, given as text, of a run of method `name`."""
    arguments, given = regularizers.arguments(name), {}
    for option, text in flags.items():
        about = FLAGS[option].metadata if option in FLAGS else {"accepts": SWITCH, "bare": None}
        accepts = accepted(arguments[option][1]) if option in arguments else about["accepts"]
        given[option] = True if about["bare"] and not text else converted(option, text, accepts)
    return given


def refuse(option: str, name: str, hint: str = "--help lists the accepted ones") -> NoReturn:
    """Refuse an option that a run of method `name` does not have.

    Raises:
        UsageError: naming the methods that have it, or with `hint`.
    """
    others = [other for other in regularizers.REGULARIZERS if option in regularizers.arguments(other)]
    if others:
        raise UsageError(f"--{option} is not an option of --regularizer {name}; it belongs to {', '.join(others)}")
    raise UsageError(f"unknown argument --{option}; {hint}")
