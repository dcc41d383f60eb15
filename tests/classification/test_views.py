"""Crops at the right places, their flips, and the 96 views of the paper."""

import numpy as np
import pytest

from classification.views import corners_of, inputs_of


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def test_corners_middles_and_centre():
    assert corners_of((20, 30), 10, 1) == ((5, 10),)
    assert set(corners_of((20, 30), 10, 5)) == {(0, 0), (0, 20), (10, 0), (10, 20), (5, 10)}
    nine = corners_of((20, 30), 10, 9)
    assert len(nine) == 9
    assert {(0, 10), (10, 10), (5, 0), (5, 20)} < set(nine)


def test_crops_that_coincide_count_once():
    assert corners_of((10, 30), 10, 9) == ((0, 0), (0, 10), (0, 20))
    assert corners_of((10, 10), 10, 9) == ((0, 0),)


@pytest.mark.parametrize(
    ("crop", "scales"),
    [(224, (224, 256, 300, 360, 448, 560)), (112, (112, 128, 150, 180, 224, 280))],
)
def test_96_views_of_six_scales_in_proportion_to_the_training_size(image, crop, scales):
    inputs = inputs_of(image, "multi", crop, 0)
    assert [min(each.pixels.shape[:2]) for each in inputs] == [s for s in scales for _ in "if"]
    assert [len(each.corners) for each in inputs] == [3, 3] + [9] * 10
    assert not any(each.whole for each in inputs)


@pytest.mark.parametrize(("size", "count"), [(128, 12), (100, 14)])
def test_the_full_image_and_its_flip_join_the_scale_of_their_size(image, size, count):
    inputs = inputs_of(image, "multi+full", 112, size)
    assert len(inputs) == count
    whole = [each for each in inputs if each.whole]
    assert [min(each.pixels.shape[:2]) for each in whole] == [size, size]


def test_views_of_the_flip_are_flips_of_the_views(image):
    for number in range(0, 12, 2):
        plain, flip = inputs_of(image, "multi", 40, 0)[number : number + 2]
        for (top, left), (y, x) in zip(plain.corners, flip.corners, strict=True):
            view = plain.pixels[top : top + 40, left : left + 40]
            assert np.array_equal(flip.pixels[y : y + 40, x : x + 40], view[:, ::-1])


def test_kinds_of_crops_and_full_images(image):
    (centre,) = inputs_of(image, "centre", 40, 60)
    whole, flip = inputs_of(image, "full+flip", 40, 60)
    assert whole.pixels.shape == (60, 80, 3)
    assert np.array_equal(centre.pixels, whole.pixels[10:50, 20:60])
    assert np.array_equal(flip.pixels, whole.pixels[:, ::-1])
    assert len(inputs_of(image, "full", 40, 60)) == 1
    ten = inputs_of(image, "ten", 40, 60)
    assert len(ten) == 10
    assert all(each.pixels.shape == (40, 40, 3) for each in ten)
    assert np.array_equal(ten[4].pixels, centre.pixels)
    assert np.array_equal(ten[9].pixels, centre.pixels[:, ::-1])


def test_a_small_image_is_made_larger(image):
    (found,) = inputs_of(image[:3, :4], "full", 30, 30)
    assert found.pixels.shape == (30, 40, 3)
