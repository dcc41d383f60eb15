"""Random brightness, contrast and saturation of images, in this order."""

import numpy as np
import pytest

from detection.training.finetuning.jitter import jitter_light


def slow_jitter(image, light, contrast, colour):
    """Blend with black, with the mean grey and with the grey image; round down every time."""
    grey = np.array([0.2989, 0.587, 0.114])

    def blend(pixels, other, share):
        return np.clip(pixels * share + other * (1 - share), 0, 255).astype(np.uint8)

    image = blend(image, 0, light)
    image = blend(image, np.floor(image @ grey).mean(), contrast)
    return blend(image, np.floor(image @ grey)[..., None], colour)


def made_image(rng, size=(20, 31)):
    return rng.integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.parametrize("strength", [0.1, 0.4, 1.0])
def test_equals_the_slow_way(rng, strength):
    for seed in range(10):
        image = made_image(rng)
        found = jitter_light(image, strength, np.random.default_rng(seed))
        factors = np.random.default_rng(seed).uniform(1 - strength, 1 + strength, size=3)
        assert found.dtype == np.uint8
        # Both round down three times, jitter_light in single and the twin in double precision; a
        # difference after the first rounding grows with the later factors.
        difference = np.abs(found.astype(int) - slow_jitter(image, *factors).astype(int))
        assert difference.max() <= 1 + (1 + strength) ** 2
        assert difference.mean() < 0.05


def test_strength_0_leaves_the_image_and_draws_nothing(rng):
    image, draws = made_image(rng), np.random.default_rng(0)
    assert jitter_light(image, 0, draws) is image
    assert draws.random() == np.random.default_rng(0).random()


def test_the_image_given_is_not_changed_and_may_be_a_mirrored_view(rng):
    image = made_image(rng)
    before = image.copy()
    image.flags.writeable = False
    mirrored = jitter_light(image[:, ::-1], 0.4, np.random.default_rng(1))
    found = jitter_light(image, 0.4, np.random.default_rng(1))
    np.testing.assert_array_equal(image, before)
    # The mean grey of the mirrored image may be rounded differently.
    assert np.abs(mirrored[:, ::-1].astype(int) - found).max() <= 1


def test_a_grey_image_stays_grey_and_one_pixel_is_enough(rng):
    grey = np.repeat(made_image(rng)[..., :1], 3, axis=2)
    found = jitter_light(grey, 0.4, rng)
    assert (np.ptp(found.astype(int), axis=2) <= 1).all()
    assert jitter_light(made_image(rng, (1, 1)), 0.4, rng).shape == (1, 1, 3)
