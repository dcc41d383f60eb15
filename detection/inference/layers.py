"""Layers that score windows: features at mean norm 20 for SVMs, or the network's softmax.

The layers are the paper's (Table 9): pool5 (the pooled windows), fc6 and fc7.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from detection.machine import Precision
from detection.networks.head import Head
from detection.networks.truncated import Responses, TruncatedHead, head_from
from files.artefacts import read_artefact, strip_prefix

# Rows that a bfloat16 product is rounded up to.
ROWS = 256


class LayerFeatures:
    """Features of windows at the layers, scaled to mean norm 20.

    Args:
        head: the fine-tuned fc6, fc7 and fc8, whole or truncated; None if only pool5 is used.
        factors: each layer's factor to mean norm 20; 1 if none is given.
        precision: number format of the matrix products; the features are always float32.
        rank: rank to which fc6 and fc7 are truncated, an approximation; None uses whole layers.
        responses: responses of fc6 and fc7 to windows; needed for a rank.
    """

    def __init__(
        self,
        head: Head | TruncatedHead | None,
        factors: Mapping[str, float],
        precision: Precision = "float32",
        rank: int | None = None,
        responses: Mapping[str, Responses] | None = None,
    ) -> None:
        self.head = head
        self.factors = dict(factors)
        self.responses = dict(responses or {})
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._compute = (
            None if head is None else computed_by(head.eval(), self._dtype, rank, self.responses)
        )

    @classmethod
    def load(
        cls,
        path: Path | None,
        key: str,
        factors: Mapping[str, float],
        precision: Precision,
        device: str = "cpu",
    ) -> "LayerFeatures":
        """From the ``head.`` arrays of the artefact that the fine-tuning stage leaves.

        Without a path there is no head.

        Raises:
            DamagedArtefact: the file is not whole, or of another key.
        """
        head = None
        if path is not None:
            arrays = strip_prefix(read_artefact(path, key).arrays, "head.")
            head = head_from({name: torch.from_numpy(each) for name, each in arrays.items()})
            head.to(device)
        return cls(head, factors, precision)

    @property
    def has_softmax(self) -> bool:
        """Whether the network has its own classifier, besides the SVMs."""
        return self.head is not None and self.head.fc8.out_features > 0

    @torch.inference_mode()
    def __call__(self, pooled: Tensor, layers: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Features ``(P, D)`` of each wanted layer, from pooled vectors ``(P, D5)``.

        ``softmax`` means the K class probabilities of the network itself.
        """
        count, values = len(pooled), {"pool5": pooled}
        if self._compute is not None and set(layers) - {"pool5"}:
            pooled = pooled.to(self._compute.fc8.weight.device)
            blocks = [self._compute.fc6_of(block) for block in self._blocks(pooled)]
            values["fc6"] = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
            values["fc7"] = self._compute.fc7_of(values["fc6"])
            if "softmax" in layers:
                logits = self._compute.fc8(values["fc7"].float())
                values["softmax"] = logits.softmax(dim=1)[:, :-1]
        return {layer: self._scaled(values[layer][:count], layer) for layer in layers}

    def _blocks(self, pooled: Tensor) -> list[Tensor]:
        """The rows in one or two parts, with rows of zeros added to the last.

        oneDNN prepares a bfloat16 product anew for every number of rows, which takes half as long
        as the product itself (docs/decisions.md), so that images should share a few. Only the last
        rows are copied: copying all takes a ninth of fc6's time.
        """
        if self._dtype != torch.bfloat16:
            return [pooled]
        whole = len(pooled) // ROWS * ROWS
        last = pad(pooled[whole:], (0, 0, 0, -len(pooled) % ROWS))
        return [part for part in (pooled[:whole], last) if len(part)] or [pooled]

    def _scaled(self, values: Tensor, layer: str) -> NDArray[np.float32]:
        scaled = values.to(torch.float32, copy=True).mul_(self.factors.get(layer, 1.0))
        return scaled.cpu().numpy()


def computed_by(
    head: Head | TruncatedHead,
    dtype: torch.dtype,
    rank: int | None,
    responses: Mapping[str, Responses],
) -> Head | TruncatedHead:
    """What computes a head's layers, fc6 and fc7 in ``dtype``; the head itself where it can.

    Raises:
        ValueError: a rank of what is truncated already, without responses, or above the directions
            there are.
    """
    if rank is not None and isinstance(head, TruncatedHead):
        raise ValueError(
            f"this detector's fc layers already have rank {head.rank} and cannot be truncated "
            "again; leave out --detection.fc_rank"
        )
    if rank is not None and not responses:
        raise ValueError("truncating fc layers needs their responses to windows; none were given")
    if rank is None and next(head.fc6.parameters()).dtype == dtype:
        return head
    if rank is None or isinstance(head, TruncatedHead):
        made: Head | TruncatedHead = copy.deepcopy(head)
    else:
        made = TruncatedHead.of(head, responses, rank)
    made.fc6.to(dtype)
    made.fc7.to(dtype)
    return made
