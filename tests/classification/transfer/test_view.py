"""Views of an image for a fixed network."""

import numpy as np
import pytest
import torch
from PIL import Image

from classification.transfer.view import View


def image_of(rng, height, width):
    return torch.from_numpy(rng.uniform(0, 255, (1, 3, height, width)).astype(np.float32))


@pytest.mark.parametrize("text", ["crop-224", "full-392", "warp-32"])
def test_a_view_is_a_word(text):
    assert str(View.parse(text)) == text


@pytest.mark.parametrize("text", ["", "crop", "224", "crop-", "half-224", "full-31", "full-1e3"])
def test_other_words_are_refused(text):
    with pytest.raises(ValueError, match="such as full-392; got"):
        View.parse(text)


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (50, 50), (40, 333), (2, 900)])
def test_sizes(rng, height, width):
    image = image_of(rng, height, width)
    assert View("crop", 48).of(image).shape == (1, 3, 48, 48)
    assert View("warp", 48).of(image).shape == (1, 3, 48, 48)
    full = View("full", 48).of(image).shape[2:]
    assert min(full) == 48
    if height > 2:
        assert max(full) == pytest.approx(48 * max(height, width) / min(height, width), abs=0.5)


def test_a_crop_is_the_centre_of_the_full_view(rng):
    image = image_of(rng, 70, 131)
    full = View("full", 48).of(image)
    left = (full.shape[3] - 48) // 2
    assert torch.equal(View("crop", 48).of(image), full[:, :, :, left : left + 48])


def test_resizing_is_that_of_pillow(rng):
    image = image_of(rng, 80, 120)
    pillow = [
        np.asarray(Image.fromarray(channel.numpy()).resize((72, 48), Image.Resampling.BILINEAR))
        for channel in image[0]
    ]
    np.testing.assert_allclose(View("full", 48).of(image)[0].numpy(), pillow, atol=1e-3)


def test_what_an_image_too_thin_lacks_is_the_mean(rng):
    view = View("full", 48).of(image_of(rng, 2, 900))
    assert view.shape == (1, 3, 48, 7000)
    assert (view[:, :, 16:] == 0).all()
    assert (view[:, :, :15] != 0).any()
