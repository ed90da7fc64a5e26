"""Fine-tune one network on one folder of images with one method.

python finetune.py --regularizer smile --gpu 0 --train_dir dataset/cub/train --eval_dir dataset/cub/test
"""

from __future__ import annotations

import contextlib
import sys
import time

from utils import startup

if __name__ == "__main__":
    startup.configure()  # before paddle is imported

from checkpoints.pretrained import trained_with
from datasets import splits
from datasets.batch import Batch
from datasets.check import check_data
from datasets.loader import Dataset
from evaluation.calibration import calibrate
from evaluation.metrics import is_better
from evaluation.scores import Scores, evaluate, predict, score
from training import embedded, probe
from training.build import Run, batches_of, build
from training.folds import Pooled, cross_validate
from training.identity import digests
from training.options import ONLY, Options
from training.pace import Forecast, with_length
from training.parsing import parse
from training.runlog import RunLog, open_log
from training.start import as_started, check_select, is_finished, may_start, require_agreement, require_state
from training.state import restore, save
from training.step import train_step
from training.summary import Summary, summarize
from utils import device, errors
from utils.distributed import Ranks, join
from utils.rng import seed_layers
from utils.signals import Stop


def main(argv: list[str] | None = None) -> Summary | Pooled | None:
    """Read the command line and train; return what the run or, with --folds, the runs came to, None without any."""
    options = parse(sys.argv[1:] if argv is None else argv)
    if options.folds is None:
        return run(options, startup.STARTED if argv is None else None)
    pooled = cross_validate(options, run)
    print(pooled, flush=True)
    return pooled


def run(options: Options, began: float | None = None) -> Summary | None:
    """Check everything, build the run, train it, leave its files behind; `--time` counts from `began` or from now."""
    began, where = began or time.perf_counter(), device.select(options.gpu)
    ranks = join()
    ranks.shard(options.batch_size, options.accum)  # refused before anything is done
    require_state(options)
    options = as_started(options)
    with ranks.rank0_first():
        if options.embedded:
            if ranks.first:
                print("no --train_dir and no ./dataset: running the embedded task, Latin to Greek letters", flush=True)
            embedded.prepare(options.cache_dir, -1 if where == "cpu" else options.gpu, train=not options.dry_run)
        train, evaluation = splits.scan_folders(options, trained_with(options.pretrained, options.model_arch))
        check_select(options, evaluation)
    for line in splits.unusual(train, evaluation) if ranks.first else ():
        errors.warn(line)
    if options.dry_run:
        if options.check_data and ranks.first:
            check_data(train, evaluation, print, f"{options.save}/{options.name}_data.png")
        print(f"{options.run}: {len(train)} training images, {len(train.class_names)} classes; nothing was trained")
        return None
    with contextlib.closing(open_log(options, ranks)) as log:
        if options.check_data and ranks.first:
            check_data(train, evaluation, log.line, f"{options.save}/{options.name}_data.png")
        may_start(options, log)
        train, skipped, images = decode(options, train, evaluation, ranks)
        options = with_length(options, train, evaluation, log, ranks, began)
        if options.resume and is_finished(options, train, images, log, ranks):
            return None
        with ranks.rank0_first():
            run = build(options, train, skipped, images, ranks)
        return finetune(run, evaluation, log, where)


def decode(
    options: Options, train: Dataset, evaluation: Dataset, ranks: Ranks
) -> tuple[Dataset, list[str], dict[str, str]]:
    """Decode the images; return those to train on, a line for each that was left out, and the digests of all."""
    with ranks.rank0_first():
        skipped = []
        if options.on_bad_image == "skip":
            train, skipped = splits.without_unreadable(train, "decoding the training images")
        else:
            splits.decode_once(train, "decoding the training images")
        splits.decode_once(evaluation, "decoding the evaluation images")
        return train, skipped, digests(train, evaluation)


def finetune(run: Run, evaluation: Dataset, log: RunLog, where: str) -> Summary | None:
    """Train from the first update, or from where `_Last` stopped, to the last one; with `--probe only` none."""
    options, ranks, scores = run.options, run.ranks, None
    last = log.path("_Last.pdparams")
    done = first = restore(run, last) if options.resume and last.exists() else 0
    require_agreement(ranks, first, run.images, run.source)
    probe.begin(run, log, first)
    if options.probe == ONLY:
        return None
    updates = range(first, first if run.ends(first) else options.max_iters)
    log.start(first, options.max_iters, run.best["step"] > 0)
    log.describe(run, where)
    batches = batches_of(options, run.train, ranks, first)
    forecast = Forecast(run, evaluation, log, first)
    ranks.barrier()
    run.watch.start()
    with Stop(undisturbed=ranks.count > 1) as stop, startup.quiet_steps():
        for step, batch in zip(updates, run.watch.data_wait(batches)):
            seed_layers(options.seed, step, ranks.rank)
            batch = train_step(run.model, run.regularizer, run.optimizer, run.meter, batch, step, run.criterion)
            done = step + 1
            score_now = done % options.eval_frequency == 0 or done == options.max_iters
            print_now = score_now or done % options.print_frequency == 0
            log.advance()
            forecast.update(done)
            if print_now:
                report(run, log, done, batch)
            if score_now:
                scores = evaluate_and_keep_best(run, evaluation, log, done)
            signal = ranks.any_signal(stop.signal or 0, print_now)
            if score_now or done % options.save_frequency == 0 or signal:
                save(run, last, done, log.replace_earlier)
            if run.ends(done):
                break
            if signal:
                raise errors.Interrupted(signal, f"stopped after step {done}; --resume goes on from {last}")
    if scores is None:  # stopped between the last update and the summary
        scores = evaluate(run.model, evaluation, options.batch_size_eval, ranks=ranks)
    summary = summarize(run, done, scores, run.score_teacher(evaluation), evaluation, where)
    log.summary(summary)
    return summary


def report(run: Run, log: RunLog, done: int, batch: Batch) -> None:
    """Log the loss terms and the training accuracy since the last report, after `done` updates."""
    means, accuracy = run.meter.means()
    with run.watch.exclude():
        log.training(done, run.optimizer.last_lr, means, accuracy, run.images_per_second(done))
        log.mixed(done, batch, run.train.class_names, run.train.store.preprocess)


def evaluate_and_keep_best(run: Run, evaluation: Dataset, log: RunLog, done: int) -> Scores:
    """Score the network after `done` updates; write `_Best` when it is better than all before by `--select`."""
    with run.watch.exclude():
        logits = predict(run.model, evaluation, run.options.batch_size_eval, ranks=run.ranks)
        scores, select = score(logits, evaluation.labels), run.options.select
        if run.options.calibrate:
            run.calibration = done, calibrate(logits, evaluation.labels)
        better = run.best["step"] == 0 or is_better(select, scores.values[select], run.best[select])
        if better:
            run.best = {"step": done, "acc": scores.acc1, select: scores.values[select]}
            save(run, log.path("_Best.pdparams"), done, log.replace_earlier)
        log.evaluation(done, scores, better)
        if run.calibration:
            log.line(f"temperature {run.calibration[1]['temperature']:.4f} for {len(evaluation)} held-out images")
    return scores


if __name__ == "__main__":
    errors.run(main)
