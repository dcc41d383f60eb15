"""A buffer of pooled windows from many images, for training fc layers (paper 4.1).

While convolutions are not trained, the features of a window do not change. So features of the
latest images are kept for a while, and a batch is sampled from all of them. Its windows come from
hundreds of images, as in the released code, not only from the few that one step can read.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detection.training.finetuning.batches import View, WindowBatches

# Steps whose images are held: 400 images by default, 0.7 GB in float16.
STEPS_HELD = 100


class ShuffleBuffer:
    """Batches for steps in rising order; each a function of the seed and its step alone.

    Args:
        batches: of the training; their settings and seed decide what is drawn.
        draw: the views that join at a step: ``batches.draw``, or one that reads ahead.
        pooled: features ``(B, D)`` of a view's windows.
        background: K, the label of background.
        length: D.
    """

    def __init__(
        self,
        batches: WindowBatches,
        draw: Callable[[int], list[View]],
        pooled: Callable[[View], Tensor],
        background: int,
        length: int,
    ) -> None:
        self.batches = batches
        self.draw_views = draw
        self.pooled = pooled
        self.background = background
        self.length = length
        self._rows: dict[int, Tensor] = {}
        self._labels: dict[int, NDArray[np.int64]] = {}
        self._mine: dict[int, NDArray[np.bool_]] = {}

    @torch.no_grad()
    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``(M, D)``, labels ``(batch,)`` and places ``(M,)`` of batch ``step``.

        It holds the settings' share of objects, or as many as there are, no window twice. The
        features are of the windows at these places: all of them, or this process's.
        """
        held = range(step, step + STEPS_HELD)
        for gone in self._rows.keys() - set(held):
            del self._rows[gone], self._labels[gone], self._mine[gone]
        for each in held:
            if each not in self._rows:
                views = self.draw_views(each)
                self._rows[each] = torch.cat([self._kept(view) for view in views])
                self._labels[each] = np.concatenate([view.labels for view in views])
                self._mine[each] = np.concatenate(
                    [np.full(len(view.labels), view.mine) for view in views]
                )
        labels = np.concatenate([self._labels[each] for each in held])
        chosen = self._choose(labels, step)
        starts = np.cumsum([0, *(len(self._labels[each]) for each in held)])
        owners = np.searchsorted(starts, chosen, side="right") - 1
        rows, places = [], []
        for place, (owner, row) in enumerate(zip(owners, chosen, strict=True)):
            mine, number = self._mine[held[owner]], row - starts[owner]
            if mine[number]:
                rows.append(self._rows[held[owner]][np.count_nonzero(mine[:number])])
                places.append(place)
        pooled = torch.stack(rows).float() if rows else torch.empty(0, self.length)
        return pooled, torch.from_numpy(labels[chosen]), torch.tensor(places, dtype=torch.int64)

    def _kept(self, view: View) -> Tensor:
        if not view.mine:
            return torch.empty(0, self.length, dtype=torch.float16)
        return self.pooled(view).half()

    def _choose(self, labels: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        settings = self.batches.settings
        rng = np.random.default_rng([self.batches.seed, 2, step])
        objects = rng.permutation(np.flatnonzero(labels != self.background))
        objects = objects[: max(1, round(settings.batch * settings.positive_share))]
        others = rng.permutation(np.flatnonzero(labels == self.background))
        return np.concatenate([objects, others[: settings.batch - len(objects)]])
