"""Features at mean L2 norm 20, the scale for which C and lambda are chosen (released code)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detection.inference.layers import LayerFeatures
from detection.machine import Precision
from detection.networks.head import Head
from detection.networks.truncated import ResponseMoments, TruncatedHead
from detection.training.feature_cache import CachedWindows

FEATURE_NORM = 20.0


def mean_norm_factor(norms: NDArray[np.float32]) -> float:
    """Factor that brings features of these L2 norms to mean norm 20 (released code).

    Raises:
        ValueError: all features are 0.
    """
    mean = float(np.mean(norms, dtype=np.float64))
    if not mean > 0:
        raise ValueError(
            "all features are 0, so they cannot be scaled; was fine-tuning too strong?"
        )
    return FEATURE_NORM / mean


def scaled_layers(
    layers: Sequence[str],
    precision: Precision,
    entries: Sequence[CachedWindows],
    head: Head | TruncatedHead | None,
) -> LayerFeatures:
    """The layers' features at mean norm 20 over the images' random windows.

    The responses of fc6 and fc7 to the same windows go with them, for a truncated head; not those
    of one that is truncated already.

    Args:
        layers: that SVMs are trained on; box regression always reads pool5.
        precision: of the products.
        entries: the cached windows of each image.
        head: the fine-tuned one, or a start detector's; None where only pool5 is asked for.
    """
    layers = sorted({"pool5", *layers})
    raw = LayerFeatures(head, {}, precision)
    norms: dict[str, list[NDArray]] = {layer: [] for layer in layers}
    moments = ResponseMoments(head) if isinstance(head, Head) else None
    for first in range(0, len(entries), 250):
        rows = [entry.random_rows.read() for entry in entries[first : first + 250]]
        pooled = torch.from_numpy(np.concatenate(rows).astype(np.float32))
        for layer, features in raw(pooled, layers).items():
            norms[layer].append(np.linalg.norm(features, axis=1))
        if moments is not None:
            moments.add(pooled)
    factors = {layer: mean_norm_factor(np.concatenate(each)) for layer, each in norms.items()}
    responses = None if moments is None else moments.responses()
    return LayerFeatures(head, factors, precision, responses=responses)
