"""Windows at random places."""

import numpy as np


def random_windows(rng, count, image_size):
    height, width = image_size
    corners = rng.uniform(0, 1, (count, 2, 2)) * (width, height)
    low, high = np.floor(corners.min(axis=1)), np.floor(corners.max(axis=1)) + 1
    return np.hstack((low, high)).astype(np.float32)
