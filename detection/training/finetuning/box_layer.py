"""The layer on fc7 that learns, with the network, to move windows to objects (Fast R-CNN 2.3).

It has four targets a class, those of box regression (``learners/bbox_regression.py``), and is
trained beside the classes, so that the features keep where an object is. Ridge regression on the
features of a network trained for classes alone gains half as much (Fast R-CNN, Table 6).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from detection.learners.bbox_regression import BoxRegressor, encode
from detection.training.finetuning.batches import View

# What targets are divided by, to be of the order of 1; py-faster-rcnn's numbers.
DEVIATIONS = (0.1, 0.1, 0.2, 0.2)


def box_layer(hidden: int, num_classes: int) -> nn.Linear:
    """A layer ``hidden -> 4K`` that begins by leaving windows where they are."""
    layer = nn.Linear(hidden, 4 * num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def box_targets(views: Sequence[View]) -> Tensor:
    """Targets ``(B, 4)`` float32 that take the views' windows to the objects they overlap most."""
    targets = np.concatenate([encode(view.windows, view.boxes) for view in views])
    return torch.from_numpy((targets / DEVIATIONS).astype(np.float32))


def box_loss(moves: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Smooth L1 loss of the objects' windows, summed over targets, a window of the batch.

    Args:
        moves: ``(B, 4K)`` what the layer says.
        targets: ``(B, 4)``; those of background count for nothing.
        labels: ``(B,)`` classes, K for background.
    """
    of_classes = moves.float().unflatten(1, (-1, 4))
    objects = (labels < of_classes.shape[1]).nonzero().squeeze(1)
    moved = of_classes[objects, labels[objects]]
    return smooth_l1_loss(moved, targets[objects], reduction="sum") / max(len(labels), 1)


def regressor_of(layer: nn.Linear, factor: float) -> BoxRegressor:
    """Box regression that reads fc7 times ``factor`` and does what the trained layer does."""
    rows = torch.cat([layer.weight / factor, layer.bias[:, None]], dim=1).detach().cpu()
    weights = rows.unflatten(0, (-1, 4)).transpose(1, 2) * torch.tensor(DEVIATIONS)
    return BoxRegressor.from_arrays(weights.numpy())
