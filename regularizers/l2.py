"""L2: plain fine-tuning, the baseline of every comparison (Donahue et al., DeCAF, arXiv 1310.1531).

    loss = CE(z, y),   weight decay `wd` on every trained tensor

The decay is the optimizer's, coupled: batch normalisation's scale and shift and the biases decay too.

Differs from the reference: its second decay of the heads, `cls_lambda`, is an option of every run here, and no
auxiliary head is built that nothing would train.
"""

from regularizers.base import Regularizer, Requirements


class L2(Regularizer):
    """Add nothing: cross-entropy and weight decay alone."""

    def requirements(self) -> Requirements:
        return Requirements(alone="plain fine-tuning is part of every method and adds nothing to one")
