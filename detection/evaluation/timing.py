"""Times the phases of a detector per image, and measures how close it is to the machine's limit.

The phases are the paper's (Table 10): conv, fc and the rest. The step between conv and fc is a
separate phase: SPP-net pools windows, R-CNN warps them.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detection.inference.detector import SPPDetector
from detection.machine import Precision

PHASES = ("conv", "pool", "fc", "rest")


@contextmanager
def timed_module(module: nn.Module) -> Iterator[list[float]]:
    """A list that gets the seconds of each call of a module's forward inside the block."""
    seconds: list[float] = []
    started: list[float] = []
    hooks = (
        module.register_forward_pre_hook(lambda *_: started.append(_now())),
        module.register_forward_hook(lambda *_: seconds.append(_now() - started.pop())),
    )
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def time_image(
    detector: SPPDetector, image: NDArray[np.uint8], windows: NDArray[np.float32]
) -> dict[str, float]:
    """Seconds of each phase, from a decoded image and its windows to detections.

    Args:
        detector: its extractor has its network in ``trunk``.
        image: ``(H, W, 3)`` RGB uint8.
        windows: ``(P, 4)``.

    Returns:
        ``conv``; ``pool``, pooling or warping; ``fc``; ``rest``, which is SVMs, box regression and
        NMS; and ``total``, their sum.
    """
    start = _now()
    with timed_module(detector.extractor.trunk) as conv:
        found = detector.extractor.features(image, windows)
    pooled = _now()
    features = detector.layer_features(found, (detector.layer,))
    fc = _now()
    scores, boxes = detector.score_features(windows, found, features, (detector.layer,))
    (candidates,) = detector.select(windows, scores, boxes).values()
    detector.finish(candidates, image.shape[:2])
    end = _now()
    seconds = dict(
        zip(PHASES, (sum(conv), pooled - start - sum(conv), fc - pooled, end - fc), strict=True)
    )
    return seconds | {"total": end - start}


def convolution_operations(trunk: nn.Module, sizes: Sequence[tuple[int, int]]) -> int:
    """Number of multiplications and additions of a trunk on images of sizes (height, width)."""
    trunk = copy.deepcopy(trunk).float().to("meta")
    with FlopCounterMode(display=False) as counter:
        for size in sizes:
            trunk(torch.empty((1, 3, *size), device="meta"))
    return int(counter.get_total_flops())


def matrix_rate(precision: Precision, device: torch.device, size: int = 4096) -> float:
    """Operations per second of a square matrix product, the best of five runs."""
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(_seconds(lambda: left @ right) for _ in range(5))


def _seconds(call: Callable[[], object]) -> float:
    start = _now()
    call()
    return _now() - start
