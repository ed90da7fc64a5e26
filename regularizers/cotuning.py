"""Co-Tuning: go on training the source's classifier, on what it says of each target class (You et al., NeurIPS 2020).

    loss = CE(z, y) + cot_lambda * CE(z_s, R[y])

z_s are the logits of a second head on the same features, which starts as the pretrained classifier and is trained;
R[t] [K_s] is the distribution of source classes for target class t, measured once from the pretrained network on clean
images (regularizers/relationship.py). The targets are distributions over t, so R[y] is targets R, mixed ones included.

Differs from the official code: R is "direct" unless asked otherwise (there "reverse"; few images per class leave
little to hold out for it), and is kept under a name made from weights and files instead of the first one found. The
source's head learns at the target head's rate, there at the backbone's: not the same when `--head_lr_mult` is not 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import paddle
from paddle import nn

from datasets.batch import Batch
from models.outputs import Outputs
from regularizers import validate
from regularizers.base import Regularizer, Requirements, Setup
from regularizers.losses import cross_entropy
from regularizers.teacher import Frozen
from utils.files import cached_array
from utils.rng import generator


class CoTuning(Regularizer):
    """Train the target's head and the source's together.

    Args:
        cot_lambda: weight of the source's head, 2.3 in the official code.
        relationship: how the source classes of a target class are found: "direct" averages the source's predictions,
            "reverse" inverts a classifier of the target classes that is fitted on them.
        temperature: what the source's logits are multiplied by for that. The default calibrates the ImageNet weights
            of torchvision's ResNet-50 (official); 1 leaves the logits as they are.
    """

    def __init__(
        self,
        *,
        cot_lambda: float = 2.3,
        relationship: Literal["direct", "reverse"] = "direct",
        temperature: float = 0.8840456604957581,
    ):
        super().__init__()
        validate.not_negative(cot_lambda=cot_lambda)
        validate.one_of(("direct", "reverse"), relationship=relationship)
        validate.positive(temperature=temperature)
        self.cot_lambda, self.relationship, self.temperature = cot_lambda, relationship, temperature

    def requirements(self) -> Requirements:
        return Requirements(source=True, backbone="regularized", terms=("cot",))

    def prepare(self, setup: Setup) -> None:
        pretrained = setup.source.head
        self.source_head = nn.Linear(*pretrained.weight.shape)
        self.source_head.set_state_dict(pretrained.state_dict())
        shape = (len(setup.train.class_names), pretrained.weight.shape[1])
        # only the hold-out of "reverse" is random; files without the 2 hold fits that had not converged
        draw = f"-{setup.seed}-2" if self.relationship == "reverse" else ""
        name = f"relationship-{setup.fingerprint}-{self.relationship}-{self.temperature}{draw}.npy"
        matrix = cached_array(setup.cache_dir / name, shape, lambda: self._relate(setup))
        self.register_buffer("source_classes", paddle.to_tensor(matrix.astype("float32")))

    def _relate(self, setup: Setup) -> np.ndarray:
        from regularizers import relationship

        train = setup.train
        probabilities = relationship.source_probabilities(Frozen(setup.source), train, self.temperature)
        if self.relationship == "direct":
            return relationship.direct(probabilities, train.labels, train.class_names)
        return relationship.reverse(
            probabilities, train.labels, train.class_names, generator(setup.seed, "relationship")
        )

    def loss(self, model: nn.Layer, batch: Batch, outputs: Outputs, step: int) -> dict[str, paddle.Tensor]:
        source_targets = paddle.matmul(batch.targets, self.source_classes)
        return {"cot": self.cot_lambda * cross_entropy(self.source_head(outputs.features), source_targets)}
