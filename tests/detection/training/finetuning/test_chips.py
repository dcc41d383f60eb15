"""Chips: every position that contains the box, and no other."""

import numpy as np
import pytest

from detection.training.finetuning.chips import draw_chip, inside


def slow_places(box, image_size, side):
    """Return every chip (x1, y1, x2, y2) that may be drawn."""
    height, width = image_size
    w, h = -(-width * 688 // side), -(-height * 688 // side)
    return {
        (x, y, x + w, y + h)
        for x in range(width - w + 1)
        for y in range(height - h + 1)
        if x <= box[0] and y <= box[1] and box[2] <= x + w and box[3] <= y + h
    }


@pytest.mark.parametrize(
    ("box", "side"),
    [
        ((3, 2, 9, 8), 1200),
        ((0, 0, 4, 4), 864),
        ((16, 10, 20, 15), 1200),
        ((2.5, 3.5, 8.2, 8.9), 1376),
        ((4, 3, 15, 11), 864),
    ],
)
def test_all_places_around_the_box_are_drawn(box, side, rng):
    expected = slow_places(box, (15, 20), side)
    assert expected
    found = {draw_chip(np.array(box, np.float32), (15, 20), side, rng) for _ in range(2000)}
    assert found == expected


@pytest.mark.parametrize(
    ("box", "image_size", "side"),
    [
        ((3, 2, 9, 8), (15, 20), 688),
        ((3, 2, 9, 8), (15, 20), 480),
        ((1, 2, 19, 8), (15, 20), 1200),  # wider than a chip
        ((3, 0, 9, 15), (15, 20), 1200),  # higher than a chip
        ((3, 2, 9, 8), (15, 100), 1200),  # 1200 x 8000 is too long
    ],
)
def test_the_whole_image(box, image_size, side, rng):
    found = draw_chip(np.array(box, np.float32), image_size, side, rng)
    assert found == (0, 0, image_size[1], image_size[0])


def test_a_chip_has_the_images_scale(rng):
    for _ in range(50):
        height, width = rng.integers(200, 900, 2).tolist()
        x1, y1, x2, y2 = draw_chip(np.array([50, 50, 90, 80]), (height, width), 1200, rng)
        assert 0 <= x1 <= 50 <= 90 <= x2 <= width
        assert 0 <= y1 <= 50 <= 80 <= y2 <= height
        assert abs((x2 - x1) * 1200 / min(height, width) - 688 * width / min(height, width)) <= 6
        assert abs((y2 - y1) * 1200 / min(height, width) - 688 * height / min(height, width)) <= 6


def test_windows_inside():
    windows = np.array([[2, 3, 5, 7], [1, 3, 5, 7], [2, 2, 5, 7], [2, 3, 6, 7], [2, 3, 5, 8]])
    assert inside(windows, (2, 3, 5, 7)).tolist() == [True, False, False, False, False]
    assert inside(windows[:0], (2, 3, 5, 7)).shape == (0,)
