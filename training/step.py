"""One update, whatever the method."""

from __future__ import annotations

from paddle import nn

from datasets.batch import Batch
from regularizers import Regularizer
from training.criterion import Criterion
from training.meter import Meter
from training.optimizer import Optimizer

CROSS_ENTROPY = Criterion()


def train_step(
    model: nn.Layer,
    regularizer: Regularizer,
    optimizer: Optimizer,
    meter: Meter,
    batch: Batch,
    step: int,
    criterion: Criterion = CROSS_ENTROPY,
) -> Batch:
    """Make update number `step`, counted from 0, and return the batch as the network saw it.

        loss = criterion(model(images), targets) + sum of the method's terms

    Args:
        model: the network that is fine-tuned, in training mode.
        regularizer: the method, prepared.
        optimizer: of all that both train; it knows precision, ranks and the number of micro-batches.
        meter: is given every term and the logits.
        batch: clean images and their targets, of this rank.
        step: the number of updates before this one.
        criterion: what the targets ask of the logits.
    """
    batch = regularizer.transform(batch, step)
    for part in batch.micro_batches(optimizer.accum):
        outputs = optimizer.precision.forward(model, part.images)
        terms = {"ce": criterion(outputs.logits, part.targets, part.weights)}
        terms.update(regularizer.loss(model, part, outputs, step))
        optimizer.backward(sum(terms.values()))
        meter.add(step, terms, outputs.logits, part)
    optimizer.sync_gradients()
    optimizer.step()
    regularizer.after_step(model, step)
    return batch
