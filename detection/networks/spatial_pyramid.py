"""The spatial pyramid as a layer: whole maps of any size to one length (paper, section 2.2)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from detection.networks.pyramid import LEVELS


class SpatialPyramidPooling(nn.Module):
    """Every map to ``n x n`` bins for each level n, whatever its size.

    Bin i of n over a side of w cells is ``[floor(i w / n), ceil((i + 1) w / n))``, which covers the
    side and gives n bins for every w, where a pooling of one kernel and stride does not (10 cells
    and 6 bins); a side shorter than n has bins that repeat cells. Maxima equal
    ``adaptive_max_pool2d`` bit for bit, means ``adaptive_avg_pool2d`` to rounding.

    Adaptive pooling is quicker, with its gradient; slices, rows first, give the same maxima where
    the layer is scripted, traced or exported, as adaptive pooling of 13 cells to 6 bins does not
    export.

    Args:
        levels: bins along a side, a level each; (1, 2, 3, 6) are the paper's 50 bins and
            (1, 2, 3, 4) its 30.
        pool: what a bin keeps of its cells.

    Attributes:
        bins: of all levels together.

    Raises:
        ValueError: no level, or one below 1.
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
        """Pooled maps, the levels one after the other, inside a level channel, row, column.

        Args:
            maps: ``(B, C, H, W)`` of any H and W from 1 on.

        Returns:
            ``(B, bins * C)`` in the maps' type.
        """
        if not torch.jit.is_scripting():  # noqa: SIM102 - scripts know this condition only
            if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
                adaptive = adaptive_max_pool2d if self.pool == "max" else adaptive_avg_pool2d
                return torch.cat([adaptive(maps, level).flatten(1) for level in self.levels], dim=1)
        return self.by_slices(maps)

    def by_slices(self, maps: Tensor) -> Tensor:
        """``forward`` by operations that scripts, traces and ONNX know for any size."""
        pooled = []
        for level in self.levels:
            rows = self._bins(maps, 2, level)
            pooled.append(self._bins(rows, 3, level).flatten(1))
        return torch.cat(pooled, dim=1)

    def _bins(self, maps: Tensor, dim: int, level: int) -> Tensor:
        """The maps with their side ``dim`` of 2 or 3 pooled to ``level`` bins."""
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
