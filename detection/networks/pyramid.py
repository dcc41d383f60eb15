"""Spatial pyramid pooling: any window of a map to 50 bins per channel (paper, section 2.2)."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detection.networks.torchvision_ops import roi_pool

LEVELS = (1, 2, 3, 6)
# 50 bins per channel.
BINS = sum(level**2 for level in LEVELS)

HALF = (torch.bfloat16, torch.float16)

# Bytes of level 6 of the windows pooled together: with its copies they fit in a core's own cache.
CHUNK_BYTES = 384 << 10


def pool_pyramid(map: Tensor, cells: Tensor) -> Tensor:
    """Maxima over the bins of windows: levels 1x1, 2x2, 3x3 and 6x6, in this order.

    Bin i of n along a side of w cells is ``[floor(i w / n), ceil((i + 1) w / n))``, so if a window
    has fewer cells than bins along a side, its bins share cells. The result equals
    ``adaptive_max_pool2d`` of every window, bit for bit and in any type, because maxima do not
    round. It is differentiable with respect to the map.

    Two implementations give the same numbers. If a gradient is needed, or the map is not on the
    CPU, torchvision's ``roi_pool`` computes level 6: it has a gradient and a CUDA kernel. Otherwise
    tables of maxima (``_pool_by_tables``) are several times faster than ``roi_pool``.

    Args:
        map: ``(C, H, W)`` float32, float64, bfloat16 or float16.
        cells: ``(P, 4)`` integers, inclusive (left, top, right, bottom), inside the map.

    Returns:
        ``(P, 50 * C)`` in the map's type: the levels in sequence, each in the order channel, row,
        column.
    """
    return pool_pyramids([map], [cells])


def pool_pyramids(maps: Sequence[Tensor], cells: Sequence[Tensor]) -> Tensor:
    """``pool_pyramid`` of several maps and their windows, stacked in one tensor."""
    parts = list(zip(maps, cells, strict=True))
    if any(map.device.type != "cpu" or wants_gradient(map) for map in maps):
        return torch.cat([_pool_by_operator(map, places) for map, places in parts])
    count, length = sum(len(places) for places in cells), 50 * len(maps[0])
    if count == 0:
        return maps[0].new_zeros((0, length))
    # Filled in place: joining parts afterwards would take a third of the pooling's time. NumPy's
    # arrays use huge pages, unlike new torch tensors.
    room = np.empty((count, length * maps[0].element_size()), np.uint8)
    rows = torch.from_numpy(room).view(maps[0].dtype)
    first = 0
    for each, places in parts:
        _pool_by_tables(each.detach(), places, rows[first : first + len(places)])
        first += len(places)
    return rows


def wants_gradient(map: Tensor) -> bool:
    """Whether results computed from a map must be differentiable."""
    return map.requires_grad and torch.is_grad_enabled()


def _pool_by_operator(map: Tensor, cells: Tensor) -> Tensor:
    """``pool_pyramid`` by ``roi_pool``."""
    if len(cells) == 0:
        return map.new_zeros((0, 50 * len(map)))
    count, channels = len(cells), len(map)
    # Half precision is too coarse for cell numbers and for sums of gradients.
    single = map.float() if map.dtype in HALF else map
    rois = torch.cat([cells.new_zeros((count, 1)), cells], dim=1).to(map.device, single.dtype)
    six = roi_pool(single[None], rois, output_size=6, spatial_scale=1.0)  # [P, C, 6, 6]
    # The other levels nest in level 6: its bins 2i and 2i + 1 make bin i of level 3, and so on.
    columns = torch.maximum(six[..., 0::2], six[..., 1::2])
    three = torch.maximum(columns[..., 0::2, :], columns[..., 1::2, :])
    two = six.view(count, channels, 2, 3, 2, 3).amax(dim=(3, 5))
    one = two.amax(dim=(2, 3))
    pooled = torch.cat([level.reshape(count, -1) for level in (one, two, three, six)], dim=1)
    return pooled.to(map.dtype)


def _pool_by_tables(map: Tensor, cells: Tensor, out: Tensor) -> None:
    """``pool_pyramid`` on the CPU, without a gradient, into ``out`` ``(P, 50 * C)``.

    A bin is the union of four overlapping rectangles in its corners, whose sides are powers of two.
    A table holds the maxima of all rectangles of one size, so four look-ups give any bin.

    It uses NumPy and a thread per group of windows. Torch would divide each of these short steps
    among its threads and wait for the slowest, which is many times slower on a busy machine.
    """
    if len(cells) == 0:
        return
    columns = map.shape[2]
    table = _table(map)
    if map.dtype in HALF and table.view(np.uint16).max() > 0x8000:  # 0x8000 is -0; above: negative
        single = torch.empty(out.shape)
        _pool_by_tables(map.float(), cells, single)
        out.copy_(single)
        return
    left, top, right, bottom = cells.to("cpu", torch.int64).numpy().T
    x, x_power = _corners(left, right)
    y, y_power = _corners(top, bottom)
    pooled = (out.view(torch.int16) if map.dtype in HALF else out).numpy()

    def pool(job: tuple[NDArray, NDArray[np.int64]]) -> None:
        """Fill the rows of some windows from the table of their rectangles."""
        maxima, windows = job
        pooled[windows] = _levels(_level_six(maxima, y[:, windows] * columns, x[:, windows]))

    jobs = _jobs(table, columns, y_power, x_power)
    if torch.get_num_threads() == 1:
        for job in jobs:
            pool(job)
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            list(threads.map(pool, jobs))


def _table(map: Tensor) -> NDArray:
    """The cells of a map ``(C, H, W)`` row by row: ``(H * W, C)``, half precision as integers.

    The bits of non-negative numbers sort like integers, and maxima of integers are fast.
    """
    rows = map.flatten(1).t()
    return np.ascontiguousarray((rows.view(torch.int16) if map.dtype in HALF else rows).numpy())


def _corners(
    first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """First cells, along one axis, of the two rectangles that cover each bin of level 6.

    The first bin of a window is its smallest; the others have at most one cell more. So two
    rectangles cover any bin if their size is the largest power of two up to the first bin's size.

    Args:
        first: ``(P,)`` first cells of windows.
        last: ``(P,)`` last cells.

    Returns:
        ``(2, P, 6)`` cells, and ``(P,)`` the exponent of the rectangles' size.
    """
    side = last - first + 1
    exponent = np.frexp(-(-side // 6))[1] - 1
    bins, side = np.arange(6), side[:, None]
    start = first[:, None] + bins * side // 6
    stop = first[:, None] - (-(bins + 1) * side // 6)
    return np.stack((start, stop - (1 << exponent)[:, None])), exponent


def _jobs(
    table: NDArray, columns: int, y_power: NDArray[np.int32], x_power: NDArray[np.int32]
) -> Iterator[tuple[NDArray, NDArray[np.int64]]]:
    """Tables of maxima, each with the windows to look up in it, at most a chunk at a time.

    Row r of a table is the maximum over the rectangle of ``2 ** y_power`` by ``2 ** x_power`` cells
    that begins at cell r. Rectangles across the map's right border are wrong, but never used.
    """
    size = max(1, CHUNK_BYTES // (36 * table[0].nbytes))
    tall = table
    for i in range(y_power.max() + 1):
        if i > 0:
            below = columns << (i - 1)
            tall = np.maximum(tall[:-below], tall[below:])
        high, wide = y_power == i, tall
        for j in range(x_power[high].max(initial=-1) + 1):
            if j > 0:
                beside = 1 << (j - 1)
                wide = np.maximum(wide[:-beside], wide[beside:])
            windows = np.flatnonzero(high & (x_power == j))
            for begin in range(0, len(windows), size):
                yield wide, windows[begin : begin + size]


def _level_six(maxima: NDArray, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray:
    """Level 6 ``(B, 6, 6, C)`` of windows.

    Args:
        maxima: ``(cells, C)``; row r is the maximum over the rectangle that begins at cell r.
        rows: ``(2, B, 6)`` number of the first cell in the rows where the rectangles begin.
        columns: ``(2, B, 6)`` columns where the rectangles begin.
    """
    corners = [row[:, :, None] + column[:, None, :] for row in rows for column in columns]
    six = maxima.take(corners[0], axis=0)
    for corner in corners[1:]:
        np.maximum(six, maxima.take(corner, axis=0), out=six)
    return six


def _levels(six: NDArray) -> NDArray:
    """All levels ``(B, 50 * C)``, as ``pool_pyramid`` returns them, of level 6 ``(B, 6, 6, C)``."""
    count, channels = len(six), six.shape[3]
    pairs = np.maximum(six[:, :, 0::2], six[:, :, 1::2])
    three = np.maximum(pairs[:, 0::2], pairs[:, 1::2])
    # Columns 0 to 2 are a pair and a single column, like columns 3 to 5; then the same along rows.
    halves = np.maximum(pairs[:, :, 0::2], six[:, :, 2:4])
    two = np.maximum(np.maximum(halves[:, 0::4], halves[:, 1::4]), halves[:, 2:4])
    one = np.maximum(two[:, 0:1], two[:, 1:2])
    one = np.maximum(one[:, :, 0:1], one[:, :, 1:2])
    levels = np.empty((count, 50 * channels), six.dtype)
    begin = 0
    for n, level in zip(LEVELS, (one, two, three, six), strict=True):
        end = begin + n * n * channels
        part = levels[:, begin:end].reshape(count, channels, n, n)  # shares memory
        part[...] = level.transpose(0, 3, 1, 2)
        begin = end
    return levels
