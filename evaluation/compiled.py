"""A network that does not change any more, run on the CPU by Paddle Inference with oneDNN."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import paddle
from paddle import nn

from evaluation.deployed import INPUT, quiet
from models import Network
from models.outputs import Outputs


class Compiled(nn.Layer):
    """The logits of a network in eval mode, equal to its own but for rounding; other outputs are absent.

    Args:
        network: what it computes then; later changes of its weights are not seen.
        image_size: side of the images in pixels.
    """

    def __init__(self, network: Network, image_size: int):
        super().__init__()
        from paddle import inference  # slow to import

        spec = paddle.static.InputSpec([None, 3, image_size, image_size], "float32", INPUT)
        with tempfile.TemporaryDirectory() as folder, quiet():
            paddle.jit.save(_Logits(network), str(Path(folder, "network")), input_spec=[spec])
            program = next(path for path in Path(folder).iterdir() if path.suffix in (".json", ".pdmodel"))
            config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
            config.disable_gpu()
            config.disable_glog_info()
            config.enable_mkldnn()
            config.set_cpu_math_library_num_threads(int(os.environ["OMP_NUM_THREADS"]))
            self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(INPUT)
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
        with quiet():  # the first pass also prints
            self(paddle.zeros([1, 3, image_size, image_size]))

    def forward(self, images: paddle.Tensor) -> Outputs:
        """Map normalised images [B, 3, S, S] to logits [B, K]."""
        self._input.copy_from_cpu(images.numpy())
        self._predictor.run()
        return Outputs(paddle.to_tensor(self._output.copy_to_cpu()), None, ())


class _Logits(nn.Layer):
    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.network(images).logits
