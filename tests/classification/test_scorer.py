"""Probabilities over all views at once equal those of single views."""

import numpy as np
import pytest
import torch

from classification import scorer as scoring
from classification.network import build_network
from classification.scorer import ViewScorer
from classification.views import inputs_of
from detection.networks.receptive_field import receptive_field

CROP = 64
SIZE = 80


@pytest.fixture(scope="module")
def network():
    return build_network("alexnet", 4, levels=(1, 2), hidden=8)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    shapes = [(30, 36), (30, 36), (40, 32), (32, 32)]
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


@torch.inference_mode()
def slowly(network, image, views):
    """Pool and classify each view by itself; return the mean and the number of views."""
    found = []
    for each in inputs_of(image, views, CROP, SIZE):
        pixels = torch.from_numpy(each.pixels.copy())[None]
        maps = network.trunk(network.preprocess(pixels))
        side = network.trunk(torch.zeros(1, 3, CROP, CROP)).shape[2]
        parts = [maps] if each.whole else []
        for corner in each.corners:
            top, left = (
                min(int(np.floor(pixel / 16 + 0.5)), cells - side)
                for pixel, cells in zip(corner, maps.shape[2:], strict=True)
            )
            parts.append(maps[:, :, top : top + side, left : left + side])
        found += [network.head(network.pooling(part)).softmax(1)[0] for part in parts]
    return torch.stack(found).mean(0).numpy(), len(found)


@pytest.mark.parametrize(
    ("views", "count", "square"),
    [
        *[("centre", 1, 1), ("ten", 10, 10), ("full", 1, 1), ("full+flip", 2, 2)],
        *[("multi", 96, 92), ("multi+full", 98, 94)],
    ],
)
def test_equals_one_view_after_the_other(network, images, views, count, square, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 3)
    monkeypatch.setattr(scoring, "HEAD_ROWS", 70)
    monkeypatch.setattr(scoring, "BATCH_PIXELS", 40_000)
    found = list(ViewScorer(network, views, CROP, SIZE).probabilities(images))
    assert len(found) == len(images)
    for number, (image, row) in enumerate(zip(images, found, strict=True)):
        expected, seen = slowly(network, image, views)
        # At the smallest scale, the views along a square image are one view.
        assert seen == (square if number == 3 else count)
        np.testing.assert_allclose(row, expected, atol=1e-5)
        assert row.sum() == pytest.approx(1, abs=1e-5)


def test_an_image_has_the_same_probabilities_alone(network, images):
    scorer = ViewScorer(network, "full", CROP, SIZE)
    together = list(scorer.probabilities(images))
    for image, row in zip(images, together, strict=True):
        (alone,) = scorer.probabilities([image])
        np.testing.assert_allclose(alone, row, atol=1e-6)


def test_no_images_have_no_probabilities(network):
    assert list(ViewScorer(network, "ten", CROP, SIZE).probabilities([])) == []


def test_a_flipped_image_has_the_same_probabilities_of_views_with_flips(network, images):
    scorer = ViewScorer(network, "full+flip", CROP, SIZE)
    (plain,), (flipped,) = (
        list(scorer.probabilities([each])) for each in (images[0], images[0][:, ::-1])
    )
    np.testing.assert_allclose(plain, flipped, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("corner", [(32, 48), (35, 41)])
def test_views_from_maps_equal_crops_in_cells_that_see_nothing_outside(network, corner):
    """This holds at multiples of the stride; elsewhere cells lie between the crop's cells."""
    crop = 224
    image = np.random.default_rng(2).integers(0, 256, (320, 352, 3), np.uint8)
    scorer = ViewScorer(network, "multi", crop, 256)
    top, left = corner
    view = scorer._part(scorer._map(image[None])[0], corner)
    own = scorer._map(np.ascontiguousarray(image[None, top : top + crop, left : left + crop]))[0]
    assert view.shape == own.shape == (256, 13, 13)
    field = receptive_field(network.trunk)
    centres = field.centre + field.stride * np.arange(13)
    reach = (field.size - 1) / 2
    inside = np.flatnonzero((centres >= reach) & (centres + reach <= crop - 1))
    assert len(inside) == 3
    cells = np.ix_(range(256), inside, inside)
    same = torch.isclose(view, own, rtol=1e-4, atol=1e-4 * float(own.abs().max())).numpy()
    if top % field.stride or left % field.stride:
        assert not same[cells].all()
    else:
        assert same[cells].all()
        assert not same.all()


def test_a_network_without_a_pyramid_sees_crops_only(images):
    network = build_network("alexnet", 3, levels=(), hidden=8, crop=112)
    for views in ("centre", "ten"):
        assert len(list(ViewScorer(network, views, 112, 112).probabilities(images[:1]))) == 1
    for views in ("full", "full+flip", "multi", "multi+full"):
        with pytest.raises(ValueError, match="has no pyramid and takes images of 112 x 112"):
            ViewScorer(network, views, 112, 128)


@pytest.mark.parametrize(("views", "size"), [("centre", 60), ("ten", 63)])
def test_sizes_that_are_too_small_are_refused(network, views, size):
    with pytest.raises(ValueError, match=f"shorter side of {size} pixels is too small"):
        ViewScorer(network, views, CROP, size)


def test_a_full_image_too_small_for_a_cell_is_refused(network):
    with pytest.raises(ValueError, match="20x20 are too small for alexnet"):
        ViewScorer(network, "full", CROP, 20)


@pytest.mark.parametrize(
    ("views", "said"), [("ten", "80"), ("multi", "64-160"), ("multi+full", "64-160+80")]
)
def test_sizes_in_a_word(network, views, said):
    assert ViewScorer(network, views, CROP, SIZE).sizes == said
