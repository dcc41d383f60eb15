import numpy as np
import pytest

from classification.augmentation import (
    LONGEST_ASPECT,
    centre_view,
    cut,
    draw_view,
    resize_shorter,
)
from classification.config import Training

SETTINGS = Training(crop=30, small=20)


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def views(settings, height=50, width=70, count=300):
    rng = np.random.default_rng(0)
    return [draw_view(rng, height, width, settings) for _ in range(count)]


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (20, 20), (128, 1000)])
def test_shorter_side(height, width):
    found = resize_shorter(random_image(height, width), 32)
    assert min(found.shape[:2]) == 32
    assert abs(max(found.shape[:2]) / 32 - max(height, width) / min(height, width)) < 1 / 32


def test_an_image_of_that_size_stays():
    image = random_image(32, 50)
    assert np.array_equal(resize_shorter(image, 32), image)


@pytest.mark.parametrize("shape", [(4, 4000), (4000, 4)])
def test_of_a_very_long_image_the_middle_counts(shape):
    image = np.zeros((*shape, 3), np.uint8)
    image[1900 if shape[0] > 4 else 0 :, 1900 if shape[1] > 4 else 0 :] = 255
    found = resize_shorter(image, 16)
    assert max(found.shape) == 16 * LONGEST_ASPECT
    assert min(found.shape[:2]) == 16
    assert found.min() == 255  # the middle 32 pixels are 1984 to 2016


def test_five_positions_are_corners_and_centre_of_the_whole_image():
    found = {(view.top, view.left) for view in views(SETTINGS)}
    assert found == {(0, 0), (0, 40), (20, 0), (20, 40), (10, 20)}
    assert {view.flip for view in views(SETTINGS)} == {False, True}


def test_any_position():
    drawn = views(Training(crop=30, small=20, positions="any"), count=3000)
    assert {view.top for view in drawn} == set(range(21))
    assert {view.left for view in drawn} == set(range(41))


def test_colours_shift_along_their_axes():
    shifts = np.array([view.shift for view in views(SETTINGS, count=5000)])
    assert abs(shifts.mean(axis=0)).max() < 0.3
    # The first axis is nearly grey, and the others are small.
    assert np.allclose(shifts.std(axis=0), 5.5 * 0.577, rtol=0.1)
    assert np.corrcoef(shifts.T).min() > 0.95
    assert not any(view.shift.any() for view in views(Training(crop=30, small=20, colour=0)))


def test_regions():
    image = random_image(50, 70)
    for view in views(SETTINGS, count=20):
        region = image[view.top : view.top + 30, view.left : view.left + 30]
        expected = region[:, ::-1] if view.flip else region
        assert np.array_equal(cut(image, view, 30, 30), expected)
        assert cut(image, view, 30, 20).shape == (20, 20, 3)


def test_centre():
    image = random_image(50, 70)
    assert np.array_equal(cut(image, centre_view(50, 70, 30), 30, 30), image[10:40, 20:50])
