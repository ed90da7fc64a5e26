"""Exported networks, run on the CPU as an application runs them and compared with the checkpoint."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from utils.errors import WeightsError

INPUT = "x"  # the name of a network's input
BATCH = 8
LIMIT = 1e-3  # largest difference of a probability, as a share of the image's highest

Runner = Callable[[np.ndarray], np.ndarray]  # normalised images [B, 3, S, S] to probabilities [B, K]


def runner(path: Path) -> Runner:
    """Return the runner of an exported network: an ONNX file by onnxruntime, others by Paddle Inference."""
    return _onnx_runner(path) if path.suffix == ".onnx" else _paddle_runner(path)


def _paddle_runner(program: Path) -> Runner:
    """Return the runner of an exported network by Paddle Inference with an application's defaults on the CPU."""
    from paddle import inference

    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    predictor = inference.create_predictor(config)
    inputs = predictor.get_input_handle(INPUT)
    outputs = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(batch: np.ndarray) -> np.ndarray:
        inputs.copy_from_cpu(batch)
        predictor.run()
        return outputs.copy_to_cpu()

    return run


def _onnx_runner(path: Path) -> Runner:
    """Return the runner of an ONNX file by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {INPUT: batch})[0]


def compare(expected: np.ndarray, actual: np.ndarray, name: str) -> float:
    """Return the largest difference of two sets of probabilities [N, K], as a share of the image's highest.

    Raises:
        WeightsError: it is above `LIMIT` or not a number, or a top class changes.
    """
    difference = float(np.max(np.abs(actual - expected) / expected.max(axis=1, keepdims=True)))
    changed = int((actual.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if changed or not difference <= LIMIT:
        raise WeightsError(
            f"{name} does not agree with the checkpoint: on {changed} of {len(expected)} images the top class changes, "
            f"outputs differ by up to {difference:.1e}, accepted is {LIMIT:.0e}; nothing was kept"
        )
    return difference


def timed(run: Runner, images: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the outputs for `images` and how many images a second, in batches of `BATCH` after a first single one."""
    with quiet():
        run(images[:1])
    began = time.perf_counter()
    outputs = [run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(outputs), len(images) / (time.perf_counter() - began)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what libraries print, from Python or from C++; it is meant for their developers."""
    sys.stdout.flush()  # what was printed before is no library's
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, copy in zip((1, 2), kept):
                os.dup2(copy, stream)
                os.close(copy)
