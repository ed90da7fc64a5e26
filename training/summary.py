"""What a finished run came to: the content of its `.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import splits
from datasets.loader import Dataset
from evaluation.scores import Scores
from training.build import Run
from utils.provenance import provenance
from utils.system import slashes


@dataclass(frozen=True)
class Summary:
    """The result of a run and what it was made from.

    Attributes:
        run: the name of its files.
        last: updates and every metric of the last evaluation.
        best: updates and accuracy of the best one, and the metric that chose it.
        teacher: updates and every metric by the teacher's weights, at the end; None for a method without teacher.
        scored_on: folder or list and number of the evaluation images; whether they were held out of the training ones.
        samples_sha256: of the list of training files.
        images: sha256 of the "train" and "evaluation" images, names and bytes.
        skipped_images: a line for each image that was left out because it cannot be read.
        source: origin, sha256 and number of classes of the pretrained weights; None without.
        ranks: the number of processes.
        seconds: of the run, over all its parts when it was resumed.
        step_share: the share of the time that was spent in training steps.
        images_per_second: training images, evaluations included.
        options: every option by name; `method` holds the hyper-parameters.
        provenance: versions, machine, device, threads, command line, state of the code.
    """

    run: str
    last: dict[str, Any]
    best: dict[str, Any]
    teacher: dict[str, Any] | None
    scored_on: dict[str, Any]
    samples_sha256: str
    images: dict[str, str]
    skipped_images: list[str]
    source: dict[str, Any] | None
    ranks: int
    seconds: float
    step_share: float
    images_per_second: float
    options: dict[str, Any]
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file; what `provenance` holds stands at its top."""
        content = asdict(self)
        provenance = content.pop("provenance")
        return {**content, **provenance}

    def __str__(self) -> str:
        scored_on = self.scored_on["folder"]
        if self.scored_on["held_out"]:
            scored_on = f"{self.scored_on['images']} images held out of {scored_on}"
        elif self.scored_on["folder"] == slashes(Path(self.options["train_list"] or self.options["train_dir"])):
            scored_on = "the images that it was trained on"
        best = f"best {self.best['acc']:.2f} % at step {self.best['step']}"
        select = self.options["select"]
        if select != "acc":
            best += f" (by {select}, {self.best[select]:.4f})"
        done, asked = self.last["step"], self.options["max_iters"]
        if done < asked:
            best += f", stopped after {done} of {asked} updates (--patience {self.options['patience']})"
        return f"last {self.last['acc']:.2f} %, {best}, on {scored_on}"


def summarize(run: Run, done: int, scores: Scores, teacher: Scores | None, evaluation: Dataset, device: str) -> Summary:
    """Return the summary of a run that ended after `done` updates.

    Args:
        run: the run.
        done: updates made.
        scores: of the network on `evaluation`.
        teacher: likewise, by the teacher's weights; None without teacher.
        evaluation: the images.
        device: what the run computed on.
    """
    options = run.options
    return Summary(
        run=options.run,
        last={"step": done, **scores.values},
        best=run.best,
        teacher={"step": done, **teacher.values} if teacher else None,
        scored_on={
            "folder": slashes(evaluation.store.images.origin),
            "images": len(evaluation),
            "held_out": options.held_out,
        },
        samples_sha256=splits.listing(run.train)[1],
        images=run.images,
        skipped_images=run.skipped,
        source=run.source,
        ranks=run.ranks.count,
        seconds=round(run.watch.seconds, 3),
        step_share=round(run.watch.step_share, 4),
        images_per_second=round(run.images_per_second(done), 2),
        options=options.to_dict(),
        provenance=provenance(device),
    )
