"""Images written in every format, to be read."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def large(rng):
    """Return a smooth (200, 300, 3) image, which has a few kilobytes in any format."""
    small = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8))
    return np.asarray(small.resize((300, 200), Image.Resampling.BICUBIC))
