"""Slow, obvious twins of the fast functions, written from the paper and the released formulas.

Coordinates are as in the sources: 1-based and inclusive (l, t, r, b).
"""

import math

import numpy as np
import torch


def inclusive(window):
    x1, y1, x2, y2 = (float(v) for v in window)
    return x1 + 1, y1 + 1, x2, y2


def scale_paper(window, image_size, scales):
    left, top, right, bottom = inclusive(window)
    area = (right - left + 1) * (bottom - top + 1)
    errors = [abs(s**2 * area / min(image_size) ** 2 - 224**2) for s in scales]
    return errors.index(min(errors))


def scale_released(window, image_size, scales):
    left, top, right, bottom = inclusive(window)
    area = (right - left + 1) * (bottom - top + 1)
    expected = math.floor(13 * 16 * min(image_size) / math.sqrt(area) + 0.5)
    errors = [abs(s - expected) for s in scales]
    return errors.index(min(errors))


def cells_of_window(window, image_size, scale, map_size, offset0, offset=6.5, step=16):
    """Return the cells of one window, 0-based and inclusive (left, top, right, bottom)."""
    scaled = [(v - 1) * (scale - 1) / (min(image_size) - 1) + 1 for v in inclusive(window)]
    rows, columns = map_size
    result = [0, 0, 0, 0]
    for axis, last in ((0, columns), (1, rows)):
        low = math.floor((scaled[axis] - offset0 + offset) / step + 0.5) + 1
        high = math.ceil((scaled[axis + 2] - offset0 - offset) / step - 0.5) + 1
        if low > high:
            low = high = int((low + high) / 2)
        result[axis] = min(max(low, 1), last) - 1
        result[axis + 2] = min(max(high, 1), last) - 1
    return result


def pool_window(map, cells):
    """Return a window's 50 C values, bin by bin; map (C, H, W) array, cells 0-based inclusive."""
    left, top, right, bottom = cells
    part = map[:, top : bottom + 1, left : right + 1]
    _, height, width = part.shape
    values = []
    for n in (1, 2, 3, 6):
        for channel in part:
            for y in range(n):
                for x in range(n):
                    rows = slice(y * height // n, -(-(y + 1) * height // n))
                    columns = slice(x * width // n, -(-(x + 1) * width // n))
                    values.append(channel[rows, columns].max())
    return np.array(values)


def within_channel_norm(x, size=3, alpha=5e-5, beta=0.75):
    """Normalise one channel (H, W); cells outside the map count as zeros in the mean."""
    height, width = x.shape
    reach = size // 2
    result = np.empty_like(x)
    for row in range(height):
        for column in range(width):
            around = x[
                max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1
            ]
            mean = (around**2).sum() / size**2
            result[row, column] = x[row, column] / (1 + alpha * mean) ** beta
    return result


def adaptive_pyramid(map, cells):
    """Return a window's 50 C values by PyTorch's adaptive pooling; map (C, H, W) tensor."""
    left, top, right, bottom = cells
    part = map[:, top : bottom + 1, left : right + 1]
    pool = torch.nn.functional.adaptive_max_pool2d
    return torch.cat([pool(part, n).flatten() for n in (1, 2, 3, 6)])
