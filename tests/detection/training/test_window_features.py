"""Features of windows: pooled once for equal cells, against slow twins, and trained through."""

import copy

import numpy as np
import pytest
import reference
import torch
from made_extractor import SCALES, SIZE, made_image, tiny_backbone
from made_windows import random_windows

from detection.features.extractor import SPPExtractor
from detection.features.resizing import resized_size
from detection.features.scales import ScaleChoice, choose_scale_released
from detection.networks.build import build_backbone


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("alexnet", "random")


@pytest.fixture(scope="module")
def image():
    return made_image()


@pytest.fixture(scope="module")
def extractor(backbone):
    return SPPExtractor(backbone, SCALES)


@pytest.fixture(scope="module")
def maps(extractor, image):
    return extractor.maps(image)


def twin_features_at(backbone, image, windows, scale):
    """Return features at one scale, computed window by window with PyTorch's own layers."""
    size = image.shape[:2]
    resized = torch.nn.functional.interpolate(
        backbone.preprocess(torch.from_numpy(image)),
        size=resized_size(size, scale),
        mode="bilinear",
        antialias=False,
    )
    map = backbone(resized)[0]
    offset0, step = backbone.centre + 1, backbone.stride
    rows = [
        reference.adaptive_pyramid(
            map,
            reference.cells_of_window(
                window, size, scale, map.shape[1:], offset0=offset0, step=step
            ),
        )
        for window in windows
    ]
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("rule", "twin"), [("paper", reference.scale_paper), ("released", reference.scale_released)]
)
def test_pooled_windows_equal_the_twins(backbone, maps, rng, rule, twin):
    windows = random_windows(rng, 40, SIZE)
    features = SPPExtractor(backbone, SCALES, rule).pool(maps, windows)
    for window, row in zip(windows, features.index, strict=True):
        number = twin(window, SIZE, SCALES)
        map = maps.maps[number]
        cells = reference.cells_of_window(window, SIZE, SCALES[number], map.shape[1:], offset0=16)
        assert torch.equal(features.pooled[row], reference.adaptive_pyramid(map, cells))


def test_the_released_rule_is_the_networks(backbone, rng):
    windows = random_windows(rng, 40, SIZE)
    small = copy.copy(backbone)
    small.standard_cells = 6
    found = [
        SPPExtractor(each, SCALES, "released").choice.best_fit(windows, SIZE)
        for each in (backbone, small)
    ]
    for each, cells in zip(found, (13, 6), strict=True):
        expected = choose_scale_released(windows, SIZE, SCALES, cells * 16)
        np.testing.assert_array_equal(each, expected)
    assert (found[0] != found[1]).any()


def test_windows_on_the_same_cells_are_pooled_once(extractor, maps, rng):
    windows = random_windows(rng, 50, SIZE)
    twice = np.concatenate((windows, windows[::-1]))
    features = extractor.pool(maps, twice)
    places = extractor.cells(maps, twice)
    assert len(features.pooled) == len({tuple(place) for place in places.tolist()}) <= 50
    assert features.index[:50].tolist() == features.index[50:][::-1].tolist()
    assert features.index.dtype == np.int64


def test_rows_are_sorted_by_scale_and_cells(extractor, maps, rng):
    windows = random_windows(rng, 50, SIZE)
    features = extractor.pool(maps, windows)
    places = np.empty((len(features.pooled), 5), np.int64)
    places[features.index] = extractor.cells(maps, windows)
    assert places.tolist() == sorted(places.tolist())


def test_one_by_one_and_in_any_order(extractor, maps, rng):
    windows = random_windows(rng, 30, SIZE)
    features = extractor.pool(maps, windows)
    together = features.pooled[features.index]
    for number, window in enumerate(windows):
        assert torch.equal(extractor.pool(maps, window[None]).pooled[0], together[number])
    order = rng.permutation(30)
    shuffled = extractor.pool(maps, windows[order])
    assert torch.equal(shuffled.pooled, features.pooled)
    assert shuffled.index.tolist() == features.index[order].tolist()


def test_features_are_the_pooled_maps(extractor, maps, image, rng):
    windows = random_windows(rng, 20, SIZE)
    found, expected = extractor.features(image, windows), extractor.pool(maps, windows)
    assert torch.equal(found.pooled, expected.pooled)
    np.testing.assert_array_equal(found.index, expected.index)
    assert not found.pooled.requires_grad


def test_only_maps_that_windows_need_are_computed(backbone, maps, image, rng):
    extractor, computed = SPPExtractor(backbone, SCALES), []
    trunk = extractor.trunk
    extractor.trunk = lambda pixels: computed.append(min(pixels.shape[2:])) or trunk(pixels)
    extractor.choice = ScaleChoice(SCALES, "released", 100)  # the paper's never takes 120 here
    windows = random_windows(rng, 200, SIZE)
    scales = extractor.choice.best_fit(windows, SIZE)
    assert set(scales) == {0, 1, 2}
    for numbers in ({0}, {0, 2}, {1}, set()):
        some = windows[np.isin(scales, list(numbers))]
        found, expected = extractor.features(image, some), extractor.pool(maps, some)
        assert computed == [SCALES[number] for number in sorted(numbers)]
        assert torch.equal(found.pooled, expected.pooled)
        np.testing.assert_array_equal(found.index, expected.index)
        computed.clear()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_features_at_a_scale_equal_the_twins(backbone, extractor, maps, image, rng, number):
    windows = random_windows(rng, 20, SIZE)
    windows = np.concatenate([windows, windows[:3]])
    with torch.no_grad():
        found = extractor.features_at(image, windows, SCALES[number])
        expected = twin_features_at(backbone, image, windows, SCALES[number])
    assert found.shape == (23, 12800)
    torch.testing.assert_close(found, expected)
    # An extractor that has this scale alone gives the same bits.
    alone = SPPExtractor(backbone, SCALES[number : number + 1]).features(image, windows)
    assert torch.equal(found, alone.pooled[alone.index])
    assert extractor.features_at(image, windows[:0], SCALES[number]).shape == (0, 12800)


def test_features_at_a_scale_train_the_trunk(image, rng):
    windows = random_windows(rng, 12, SIZE)
    backbone, twin = tiny_backbone(), tiny_backbone()
    weights = torch.rand(12, 200, generator=torch.Generator().manual_seed(1))
    for each in (backbone, twin):
        for frozen in (0, 2):
            each.trunk[frozen].requires_grad_(False)
    extractor = SPPExtractor(backbone, (30, 60))
    found = extractor.features_at(image, windows, 60)
    (found * weights).sum().backward()
    (twin_features_at(twin, image, windows, 60) * weights).sum().backward()
    for (name, value), other in zip(backbone.named_parameters(), twin.parameters(), strict=True):
        if name.split(".")[1] in ("0", "2"):
            assert value.grad is None
        else:
            assert value.grad.abs().sum() > 0
            torch.testing.assert_close(value.grad, other.grad, rtol=1e-4, atol=1e-4, msg=name)


def test_training_changes_the_features(image, rng):
    windows = random_windows(rng, 12, SIZE)
    backbone = tiny_backbone()
    extractor = SPPExtractor(backbone, (60,))
    before = extractor.features(image, windows).pooled
    extractor.features_at(image, windows, 60).sum().backward()
    with torch.no_grad():
        for value in backbone.parameters():
            value -= 1e-3 * value.grad
    after = extractor.features(image, windows).pooled
    assert not torch.equal(before, after)
    assert not after.requires_grad
    # Maps never require gradients, although the trunk's weights may.
    assert not extractor.maps(image).maps[0].requires_grad


def test_no_windows(extractor, maps):
    features = extractor.pool(maps, np.zeros((0, 4), np.float32))
    assert features.pooled.shape == (0, 12800)
    assert features.index.shape == (0,)


def test_pooled_features_can_train_a_head(extractor, maps, rng):
    features = extractor.pool(maps, random_windows(rng, 5, SIZE))
    layer = torch.nn.Linear(12800, 2)
    layer(features.pooled).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_bfloat16_features_are_maxima_of_bfloat16_maps(backbone, image, rng):
    windows = random_windows(rng, 30, SIZE)
    extractor = SPPExtractor(backbone, SCALES, precision="bfloat16")
    maps = extractor.maps(image)
    found = extractor.features(image, windows)
    assert found.pooled.dtype == torch.bfloat16
    places = extractor.cells(maps, windows)
    for row, (number, *cells) in zip(found.index, places.tolist(), strict=True):
        expected = reference.adaptive_pyramid(maps.maps[number].float(), cells)
        assert torch.equal(found.pooled[row].float(), expected)
    at = extractor.features_at(image, windows, SCALES[2])
    here = places[:, 0] == 2
    assert here.sum() > 5
    assert at.dtype == torch.bfloat16
    assert torch.equal(at[here], found.pooled[found.index[here]])


def test_zf5(image, rng):
    extractor = SPPExtractor(build_backbone("zf5", "random"), (160,))
    features = extractor.pool(extractor.maps(image), random_windows(rng, 5, SIZE))
    assert features.pooled.shape[1] == 12800


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_gpu(image, maps, rng):
    extractor = SPPExtractor(build_backbone("alexnet", "random").cuda(), SCALES)
    on_gpu = extractor.maps(image)
    for map, exact in zip(on_gpu.maps, maps.maps, strict=True):
        assert map.is_cuda
        assert (map.cpu() - exact).norm() < 0.01 * exact.norm()
    windows = random_windows(rng, 50, SIZE)
    expected = extractor.pool(type(maps)(SIZE, [map.cpu() for map in on_gpu.maps]), windows)
    assert torch.equal(extractor.pool(on_gpu, windows).pooled.cpu(), expected.pooled)
