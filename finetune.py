"""Fine-tune one network on one folder of images with one method.

python finetune.py --regularizer smile --gpu 0 --train_dir dataset/cub/train --eval_dir dataset/cub/test
"""

from __future__ import annotations

import contextlib
import sys

from utils import startup  # noqa: F401  it sets threads and memory up, so it comes before paddle

# isort: split
from datasets import splits
from datasets.batch import Batch
from datasets.check import check_data
from datasets.loader import training_batches
from evaluation.metrics import METRICS
from evaluation.scores import evaluate
from regularizers.losses import cross_entropy
from training import embedded
from training.build import Training
from training.options import parse
from training.runlog import RunLog, SilentLog
from utils import device, errors
from utils.distributed import Ranks, join
from utils.files import write_text
from utils.provenance import provenance
from utils.rng import seed_layers
from utils.signals import Stop


def main(argv: list[str] | None = None) -> None:
    """Read the command line, check everything, train, leave the files of a run behind."""
    options = parse(sys.argv[1:] if argv is None else argv)
    where = device.select(options.gpu)
    ranks = join()
    ranks.shard(options.batch_size, options.accum)  # refused before anything is done
    with ranks.rank0_first():
        if options.embedded:
            print("no --train_dir and no ./dataset: running the embedded task, Latin to Greek letters", flush=True)
            embedded.prepare(options.cache_dir, -1 if where == "cpu" else options.gpu, train=not options.dry_run)
        train, evaluation = splits.scan_folders(options)
    if ranks.first:
        log = RunLog(options.save, options.log_dir, options.run, options.max_iters)
    else:
        log = SilentLog(options.save, options.run)
    with contextlib.closing(log):
        if options.check_data and ranks.first:
            check_data(train, evaluation, log.line)
        if options.dry_run:
            print(f"{options.run}: {len(train)} training images, {len(train.class_names)} classes; nothing was trained")
            return
        if not _may_start(options, log, ranks):
            return
        with ranks.rank0_first():
            skipped = []
            if options.on_bad_image == "skip":
                train, skipped = splits.without_unreadable(train, "decoding the training images")
            splits.decode_once(train, "decoding the training images")
            splits.decode_once(evaluation, "decoding the evaluation images")
            training = Training(options, train, skipped, ranks)
        finetune(options, training, evaluation, log, where)


def _may_start(options, log: RunLog, ranks: Ranks) -> bool:
    finished, started = log.path(".json").exists(), log.path("_Last.pdparams").exists()
    if finished and options.resume:
        print(f"{log.path('.json')}: the run is finished; --overwrite starts it again")
        return False
    if (finished or started) and not (options.resume or options.overwrite):
        state = "is finished" if finished else "was interrupted: --resume continues it"
        raise errors.UsageError(f"the run {log.base} {state}; --overwrite starts it again, --name gives another name")
    ranks.barrier()  # all have looked
    if options.overwrite and ranks.first:
        for ending in (".json", "_Last.pdparams", "_Best.pdparams"):
            log.path(ending).unlink(missing_ok=True)
    return True


def finetune(options, training: Training, evaluation, log: RunLog, where: str) -> None:
    """Train from the first step, or from where `_Last` stopped, to the last one."""
    model, regularizer, optimizer, ranks = training.model, training.regularizer, training.optimizer, training.ranks
    last = log.path("_Last.pdparams")
    first = training.restore(last) if options.resume and last.exists() else 0
    log.start(first)
    if ranks.first:
        write_text(log.path("_samples.txt"), splits.listing(training.train)[0])
    for line in training.skipped:
        log.line(f"skipped: {line}")
    log.line(f"{options.run}: {len(training.train)} images, {len(training.train.class_names)} classes, {where}")
    own = ranks.shard(options.batch_size)
    batches = training_batches(training.train, options.batch_size, options.seed, first, own)
    ranks.barrier()
    training.watch.start()
    with Stop() as stop:
        for step, batch in zip(range(first, options.max_iters), training.watch.data_wait(batches)):
            seed_layers(options.seed, step, ranks.rank)
            batch = regularizer.transform(batch, step)
            for part in batch.parts(options.accum):
                outputs = training.precision.forward(model, part.images)
                terms = {"ce": cross_entropy(outputs.logits, part.targets)}
                terms.update(regularizer.loss(model, part, outputs, step))
                optimizer.backward(sum(terms.values()))
                training.meter.add(step, terms, outputs.logits, part)
            optimizer.sync_gradients()
            regularizer.after_backward(model, step)
            optimizer.step()
            regularizer.after_step(model, step)
            log.advance()
            scored = look(options, training, evaluation, log, step + 1, batch)
            signal = ranks.any_signal(stop.signal or 0, scored or (step + 1) % options.print_frequency == 0)
            if scored or (step + 1) % options.save_frequency == 0 or signal:
                training.save(last, step)
            if signal and step + 1 < options.max_iters:
                raise errors.Interrupted(signal, f"stopped after step {step + 1}; --resume goes on from {last}")
    if ranks.first:
        summarize(options, training, evaluation, log, where)


def look(options, training: Training, evaluation, log: RunLog, done: int, batch: Batch) -> bool:
    """Report and score what is due after `done` steps, keep the best checkpoint; return whether it was scored."""
    scored = done % options.eval_frequency == 0 or done == options.max_iters
    if not scored and done % options.print_frequency:
        return False
    means, accuracy = training.meter.means()
    with training.watch.exclude():
        reported = {name: value.item() for name, value in training.regularizer.report(training.model).items()}
        means.update(reported, loss=means["loss"] + sum(reported.values()))
        log.training(done, training.optimizer.last_lr, means, accuracy, training.images_per_second(done))
        log.mixed(done, batch, training.train.class_names)
        if scored:
            scores = evaluate(training.model, evaluation, options.batch_size_eval, ranks=training.ranks)
            better = scores.acc1 > training.best["acc"]
            log.evaluation(done, scores, better)
            if better:
                training.best = {"step": done, "acc": scores.acc1}
                training.save(log.path("_Best.pdparams"), done - 1)
    return scored


def summarize(options, training: Training, evaluation, log: RunLog, where: str) -> None:
    """Write the summary: a run that has one is finished."""
    last = {name: float(log.rows[-1][f"val_{name}"]) for name in METRICS}
    folder = str(evaluation.store.images.root)
    scored_on = folder if options.val_split is None else f"{len(evaluation)} images held out of {folder}"
    log.summary(
        {
            "run": options.run,
            "last": {"step": options.max_iters, **last},
            "best": training.best,
            "scored_on": {"folder": folder, "images": len(evaluation), "held_out": options.val_split is not None},
            "samples_sha256": splits.listing(training.train)[1],
            "skipped_images": training.skipped,
            "source": training.source,
            "ranks": training.ranks.count,
            "seconds": round(training.watch.seconds, 3),
            "step_share": round(training.watch.step_share, 4),
            "images_per_second": round(training.images_per_second(options.max_iters), 2),
            "options": vars(options),
            **provenance(where),
        }
    )
    log.line(
        f"last {last['acc']:.2f} %, best {training.best['acc']:.2f} % at step {training.best['step']}, on {scored_on}"
    )


if __name__ == "__main__":
    errors.run(main)
