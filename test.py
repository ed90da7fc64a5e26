"""Score checkpoints on a folder of images, report their mistakes, compare two, measure how linear they are.

python test.py --ckpts output/cub_smile_Best.pdparams --test_dir dataset/cub/test --report mistakes
python test.py --compare output/cub_l2_Last.pdparams output/cub_smile_Last.pdparams --test_dir dataset/cub/test
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

from checkpoints.classifier import WEIGHTS
from datasets.folder import remarks
from datasets.splits import labelled, store_of
from evaluation import error_analysis, interpolation, page
from evaluation.comparison import compare_checkpoints
from evaluation.interpolation import Interpolation
from evaluation.prediction import Given
from evaluation.rejection import find_unknown, measure
from evaluation.scoring import Scored, score_checkpoints, spread
from models import ARCHITECTURES
from training import embedded, history
from utils import device, errors
from utils.commandline import SEED, Parser, number
from utils.files import refuse_inputs, write_text
from utils.optional import need

DEFAULT_SEED = 2022  # the reference's


def parser() -> Parser:
    """Return the command line of this script."""
    parser = Parser(prog="test.py", description="Score checkpoints on a folder of images.")
    parser.add_argument("--ckpts", nargs="+", metavar="FILE", help="checkpoints of finetune.py")
    paired = "score these too, and test how B differs from A on the same images"
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help=paired)
    whose = "the network's weights, or its teacher's backbone under the network's head"
    parser.add_argument("--weights", choices=WEIGHTS, default=WEIGHTS[0], help=whose)
    parser.add_argument("--test_dir", help="folder of class folders (./dataset/test)")
    parser.add_argument("--test_list", metavar="FILE", help="in place of it: a table of paths and labels")
    relative = "what its paths are relative to (the folder of the list)"
    parser.add_argument("--data_root", metavar="DIR", help=relative)
    parser.add_argument("--path_column", metavar="NAME", help="its column of paths (path)")
    parser.add_argument("--label_column", metavar="NAME", help="its column of classes (label)")
    parser.add_argument("--gpu", type=number(int, -1), default=0, help="number of the GPU; -1 is the CPU")
    parser.add_argument("--batch_size_eval", type=number(int, 1), help="images scored at a time (as in training)")
    faster = "score by Paddle Inference with oneDNN: faster on a CPU, the same but for rounding"
    parser.add_argument("--onednn", action="store_true", help=faster)
    parser.add_argument("--cache", choices=("disk", "off"), default="disk", help="keep decoded images")
    parser.add_argument("--cache_dir", default="./cache", help="where decoded images go")
    parser.add_argument("--json", type=_new_file, metavar="FILE", help="write the results for a program too")
    report = "write a page to look at, tables and pictures here; of several checkpoints into a folder each"
    parser.add_argument("--report", type=_new_folder, metavar="DIR", help=report)
    share = "and what comes of the thresholds for these shares of right answers, as in predict.py (after --calibrate)"
    target = number(float, 0, 1, above=True, below=True)
    parser.add_argument("--reject", nargs="+", type=target, metavar="SHARE", help=share)
    none = "folder of images of none of the classes: how well the confidence tells them"
    parser.add_argument("--unknown_dir", metavar="DIR", help=none)
    between = parser.add_argument_group("interpolation losses")
    between.add_argument("--il", action="store_true", help="measure Label-IL and Feature-IL")
    between.add_argument(
        "--il_repeats", type=number(int, 1), default=5, metavar="N", help="random pairings of all images"
    )
    laws = "law of the mixing ratio: uniform, or beta(0.2, 0.2) as in training"
    between.add_argument("--il_ratio", choices=interpolation.RATIO_LAWS, default="uniform", help=laws)
    picture = "draw the losses against the mixing ratio, one line for each checkpoint"
    between.add_argument("--il_picture", type=_new_file, metavar="FILE", help=picture)
    board = "write the same curves for VisualDL here, in a folder for each checkpoint"
    between.add_argument("--log_dir", type=_new_folder, metavar="DIR", help=board)
    between.add_argument("--seed", type=SEED, default=DEFAULT_SEED, help="of pairs, mixing ratios and bootstrap")
    reference = parser.add_argument_group("for checkpoints of the reference, which do not record these")
    reference.add_argument("--model_arch", choices=tuple(ARCHITECTURES), metavar="ARCH", help="resnet50")
    reference.add_argument("--image_size", type=number(int, 1), help="224")
    return parser


def _new_file(text: str) -> Path:
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; accepted is the name of a file")
    return Path(text)


def _new_folder(text: str) -> Path:
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a file; accepted is the name of a folder")
    return Path(text)


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line; the checkpoints to compare join `ckpts`, each once."""
    options = parser().parse_args(argv)
    options.ckpts = list(dict.fromkeys([*(options.ckpts or ()), *(options.compare or ())]))
    if not options.ckpts:
        raise errors.UsageError("no checkpoint: --ckpts FILE ... or --compare A B is needed")
    for name in ("il_picture", "log_dir"):
        if getattr(options, name) and not options.il:
            raise errors.UsageError(f"--{name} needs --il")
    for name, package in (("il_picture", "matplotlib"), ("log_dir", "visualdl")):
        if getattr(options, name):
            need(package, f"--{name}")
    if options.test_list is not None and options.test_dir is not None:
        raise errors.UsageError("--test_dir and --test_list: give one of them")
    for name in ("data_root", "path_column", "label_column"):
        if getattr(options, name) is not None and options.test_list is None:
            raise errors.UsageError(f"--{name} needs --test_list")
    if options.test_list is None and options.test_dir is None:
        options.test_dir = "./dataset/test" if Path("dataset").exists() else str(embedded.test_dir(options.cache_dir))
    return options


def _outputs(options: argparse.Namespace) -> dict[str, Path]:
    """Return the files to write, by flag; of a report the pictures, which could be images of a folder, and the page."""
    files = {"json": options.json, "il_picture": options.il_picture}
    if options.report:
        reports = [options.report, *error_analysis.folders(options.report, options.ckpts).values()]
        names = (*error_analysis.PICTURES, page.NAME)
        files.update({f"report {folder}, its {name}:": folder / name for folder in reports for name in names})
    return {flag: path for flag, path in files.items() if path}


def _rejection(scored: Scored, unknown: Given, folder: str | None) -> dict:
    """Print how `scored` tells the unknown images and what its thresholds accept; return both for `--json`."""
    detection, acceptances = measure(scored, unknown)
    for line in [detection, *acceptances] if detection else acceptances:
        print(f"{scored.path}: {line}", flush=True)
    found = {"unknown": {"unknown_dir": folder, **detection.to_dict()}} if detection else {}
    return {**found, "reject": [each.to_dict() for each in acceptances]} if acceptances else found


def main(argv: list[str] | None = None) -> list[dict]:
    """Score each checkpoint, print a line for each and whatever else was asked for; return what `--json` writes."""
    options = parse(sys.argv[1:] if argv is None else argv)
    folder = labelled(options, "test")
    for line in remarks(folder):
        errors.warn(line)
    unknown = find_unknown(options.unknown_dir, folder) if options.unknown_dir else {}
    read = [*options.ckpts, folder.origin, *(folder.root / path for path in folder.paths), *unknown]
    refuse_inputs(_outputs(options), read)
    if device.select(options.gpu) != "cpu" and options.onednn:
        raise errors.UsageError("--onednn is of the CPU: accepted with --gpu -1")
    reports = error_analysis.folders(options.report, options.ckpts) if options.report else {}
    if len(reports) == 1:
        reports = dict.fromkeys(reports, options.report)
    results, answers, curves = {}, {}, {}
    reference = options.model_arch, options.image_size, options.onednn
    stores = partial(store_of, folder, cache=options.cache, cache_dir=options.cache_dir)
    flags = *reference, options.weights, options.reject or ()
    for scored in score_checkpoints(options.ckpts, stores, options.batch_size_eval, *flags):
        print(scored, flush=True)
        origin = {f"test_{folder.kind}": options.test_list or options.test_dir}
        result = {"path": scored.path, **origin, **scored.scores.to_dict()}
        if options.weights != WEIGHTS[0]:
            result["weights"] = options.weights
        if scored.calibration:
            result["calibration"] = scored.calibration.to_dict()
        result.update(_rejection(scored, unknown, options.unknown_dir))
        results[scored.path], answers[scored.path] = result, scored.answers
        if reports:
            error_analysis.write(reports[scored.path], scored.images, scored.logits)
            page.write(reports[scored.path], scored, history.of(scored.path, options.weights))
        if options.il:
            between = Interpolation(scored.network, scored.images, scored.batch_size, options.seed)
            result["il"] = between.report(options.il_ratio, options.il_repeats)
            if options.il_picture or options.log_dir:
                curves[scored.path] = between.curve()
    if len(results) > 1:
        print(spread([result["acc"] for result in results.values()]))
    if options.compare:
        a, b = options.compare
        comparison = compare_checkpoints(answers[a], answers[b], options.seed)
        print(f"B ({b}) - A ({a}): {comparison}", flush=True)
        results[b]["compared"] = {"with": a, **comparison.to_dict()}
    if options.il_picture:
        interpolation.draw(options.il_picture, curves)
    if options.log_dir:
        for path, visual_dir in error_analysis.folders(options.log_dir, options.ckpts).items():
            interpolation.log(visual_dir, curves[path])
    if options.json:
        write_text(options.json, json.dumps([*results.values()], indent=2) + "\n")
    return [*results.values()]


if __name__ == "__main__":
    errors.run(main)
