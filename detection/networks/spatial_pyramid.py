"""The spatial pyramid as a layer: pools maps of any size to one length (paper, section 2.2)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from detection.networks.pyramid import LEVELS


class SpatialPyramidPooling(nn.Module):
    """Pools a map of any size to ``n x n`` bins for each level n.

    Bin i of n along a side of w cells is ``[floor(i w / n), ceil((i + 1) w / n))``. These bins
    cover the side, and there are n of them for every w. A pooling of one kernel and stride cannot
    do this: for example, 10 cells to 6 bins. If a side has fewer than n cells, its bins share
    cells. Maxima equal ``adaptive_max_pool2d`` bit for bit, means ``adaptive_avg_pool2d`` up to
    rounding.

    Adaptive pooling is faster, also for gradients. If the layer is scripted, traced or exported,
    slices, rows first, give the same maxima, because adaptive pooling of 13 cells to 6 bins cannot
    be exported.

    Args:
        levels: bins along a side of each level; (1, 2, 3, 6) gives the paper's 50 bins and
            (1, 2, 3, 4) its 30.
        pool: the maximum or the mean of a bin's cells.

    Attributes:
        bins: number of bins of all levels together.

    Raises:
        ValueError: no level, or a level below 1.
    """

    def __init__(
        self, levels: tuple[int, ...] = LEVELS, pool: Literal["max", "mean"] = "max"
    ) -> None:
        super().__init__()
        if not levels or min(levels) < 1 or pool not in ("max", "mean"):
            raise ValueError(
                "a pyramid needs levels of 1 bin a side or more, and max or mean, got levels "
                f"{levels} and pool {pool!r}"
            )
        self.levels = tuple(levels)
        self.pool = pool
        self.bins = sum(level * level for level in levels)

    def forward(self, maps: Tensor) -> Tensor:
        """Pooled maps: the levels in sequence, each in the order channel, row, column.

        Args:
            maps: ``(B, C, H, W)`` with H and W of at least 1.

        Returns:
            ``(B, bins * C)`` in the maps' type.
        """
        if not torch.jit.is_scripting():  # noqa: SIM102 - scripts know this condition only
            if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
                adaptive = adaptive_max_pool2d if self.pool == "max" else adaptive_avg_pool2d
                return torch.cat([adaptive(maps, level).flatten(1) for level in self.levels], dim=1)
        return self.by_slices(maps)

    def by_slices(self, maps: Tensor) -> Tensor:
        """``forward`` by operations that TorchScript, tracing and ONNX support for any size."""
        pooled = []
        for level in self.levels:
            rows = self._bins(maps, 2, level)
            pooled.append(self._bins(rows, 3, level).flatten(1))
        return torch.cat(pooled, dim=1)

    def _bins(self, maps: Tensor, dim: int, level: int) -> Tensor:
        """Maps whose dimension ``dim``, 2 or 3, is pooled to ``level`` bins."""
        side = maps.shape[dim]
        found = []
        for i in range(level):
            start = i * side // level
            stop = ((i + 1) * side + level - 1) // level
            cells = maps[:, :, start:stop] if dim == 2 else maps[:, :, :, start:stop]
            if self.pool == "max":
                found.append(cells.amax(dim))
            else:
                found.append(cells.mean(dim))
        return torch.stack(found, dim)

    def extra_repr(self) -> str:
        """The settings, for printing."""
        return f"levels={self.levels}, pool={self.pool!r}"
