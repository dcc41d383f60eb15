"""Spatial pyramid pooling: any window of a map to 50 bins a channel (paper, section 2.2)."""

import torch
from torch import Tensor, nn
from torchvision.ops import roi_pool

LEVELS = (1, 2, 3, 6)


def pool_pyramid(map: Tensor, cells: Tensor) -> Tensor:
    """Maxima over the bins of windows: levels 1x1, 2x2, 3x3 and 6x6, in this order.

    Bin i of n over a side of w cells is ``[floor(i w / n), ceil((i + 1) w / n))``, so that bins of
    a window smaller than its level repeat cells; equal, bit for bit, to ``adaptive_max_pool2d``
    of every window. Differentiable with respect to the map.

    Args:
        map: ``(C, H, W)`` float32 or float64.
        cells: ``(P, 4)`` integers, inclusive (left, top, right, bottom), inside the map.

    Returns:
        ``(P, 50 * C)``; the levels one after the other, inside a level channel, row, column.
    """
    count, channels = len(cells), len(map)
    if count == 0:
        return map.new_zeros((0, 50 * channels))
    rois = torch.cat([cells.new_zeros((count, 1)), cells], dim=1).to(map.device, map.dtype)
    six = roi_pool(map[None], rois, output_size=6, spatial_scale=1.0)  # [P, C, 6, 6]
    # Bins 2i and 2i + 1 of six unite to bin i of three, and so on: the other levels nest in this.
    columns = torch.maximum(six[..., 0::2], six[..., 1::2])
    three = torch.maximum(columns[..., 0::2, :], columns[..., 1::2, :])
    two = six.view(count, channels, 2, 3, 2, 3).amax(dim=(3, 5))
    one = two.amax(dim=(2, 3))
    return torch.cat([level.reshape(count, -1) for level in (one, two, three, six)], dim=1)


class SpatialPyramidPooling(nn.Module):
    """The pyramid as a layer: whole maps of any size to one length, as in classification."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, 50 * C)`` of maps ``(B, C, H, W)``, order as ``pool_pyramid``."""
        last = (maps.shape[3] - 1, maps.shape[2] - 1)
        whole = torch.tensor([[0, 0, *last]], device=maps.device)
        return torch.cat([pool_pyramid(one, whole) for one in maps])
