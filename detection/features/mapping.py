"""Maps a window of the image to the cells of a map, by the released code's formula.

The paper (appendix A) maps corners by the stride alone, for networks padded so that cell x is at
pixel 16 x. The released code handles any padding, and first moves every side inwards by a constant.
Coordinates inside this module are 1-based and inclusive, as in that code.
"""

import numpy as np
from numpy.typing import NDArray


def window_to_cells(
    windows: NDArray,
    image_size: tuple[int, int],
    scale: float,
    map_size: tuple[int, int],
    *,
    stride: int,
    centre: float,
    shrink: float,
) -> NDArray[np.int64]:
    """The cells of one scale's map that windows cover.

    A window is mapped to the resized image. Each side then moves ``shrink`` pixels inwards, and to
    the nearest cell centre. If nothing is left, the cell between the two sides is used. The result
    is clipped to the map, so no window is ever empty.

    Args:
        windows: ``(P, 4)`` half-open pixels of the original image.
        image_size: (height, width) of the original image.
        scale: shorter side of the resized image in pixels.
        map_size: (rows, columns) of the map.
        stride: pixels between cells.
        centre: 0-based pixel at the centre of cell 0's receptive field.
        shrink: pixels by which a side moves inwards.

    Returns:
        ``(P, 4)`` inclusive 0-based cells (left, top, right, bottom).
    """
    corners = np.asarray(windows, np.float64).reshape(-1, 4) + np.array([1, 1, 0, 0])
    # Pixel 1 is mapped to pixel 1, and the last to the last. A side of one pixel is not scaled.
    factor = (scale - 1) / max(min(image_size) - 1, 1)
    scaled = (corners - 1) * factor + 1
    first = centre + 1
    low = np.floor((scaled[:, :2] - first + shrink) / stride + 0.5) + 1
    high = np.ceil((scaled[:, 2:] - first - shrink) / stride - 0.5) + 1
    # The released code divides integers in C, which rounds towards zero.
    middle = np.trunc((low + high) / 2)
    inverted = low > high
    low = np.where(inverted, middle, low)
    high = np.where(inverted, middle, high)
    rows, columns = map_size
    limit = np.array([columns, rows])
    cells = np.hstack((low.clip(1, limit), high.clip(1, limit)))
    return cells.astype(np.int64) - 1
