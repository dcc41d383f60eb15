import copy

import numpy as np
import pytest
import reference
import torch
from test_scales import random_windows
from test_weights import KEPT, needs_kept_filters

from detection.features.extractor import SPPExtractor, resized_size
from detection.features.scales import choose_scale_released
from detection.networks.build import build_backbone
from proposals.disk import read_picture

SCALES = (120, 160, 240)
SIZE = (90, 130)


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("alexnet", "random")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def extractor(backbone):
    return SPPExtractor(backbone, SCALES)


@pytest.fixture(scope="module")
def maps(extractor, image):
    return extractor.maps(image)


def test_resized_sizes():
    # 500 * 688 / 375 = 917.33; 5 * 3 / 2 = 7.5, rounded up.
    assert resized_size((375, 500), 688) == (688, 917)
    assert resized_size((500, 375), 1200) == (1600, 1200)
    assert resized_size((2, 5), 3) == (3, 8)


def test_maps_are_those_of_the_resized_picture(backbone, extractor, maps, image):
    assert maps.image_size == SIZE
    assert len(maps.maps) == len(SCALES)
    for scale, map in zip(SCALES, maps.maps, strict=True):
        picture = backbone.preprocess(torch.from_numpy(image))
        resized = torch.nn.functional.interpolate(
            picture, size=resized_size(SIZE, scale), mode="bilinear", antialias=False
        )
        with torch.no_grad():
            torch.testing.assert_close(map, backbone(resized)[0])
        assert map.dtype == torch.float32
        assert map.min() == 0
        assert not map.requires_grad


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
        SPPExtractor(each, SCALES, "released").best_fit(windows, SIZE) for each in (backbone, small)
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


def test_a_scale_can_be_given_for_each_window(extractor, maps, rng):
    windows = random_windows(rng, 20, SIZE)
    scale_index = rng.integers(0, len(SCALES), 20)
    assert extractor.cells(maps, windows, scale_index)[:, 0].tolist() == scale_index.tolist()
    best = extractor.cells(maps, windows)[:, 0]
    assert torch.equal(
        extractor.pool(maps, windows, best).pooled, extractor.pool(maps, windows).pooled
    )
    for bad in (np.full(20, 3), np.full(20, -1), np.zeros(7, np.int64)):
        with pytest.raises(ValueError, match=r"scale_index must hold 0\.\.2 for each of 20"):
            extractor.pool(maps, windows, bad)


def test_no_windows(extractor, maps):
    features = extractor.pool(maps, np.zeros((0, 4), np.float32))
    assert features.pooled.shape == (0, 12800)
    assert features.index.shape == (0,)


def test_pooled_features_can_train_a_head(extractor, maps, rng):
    features = extractor.pool(maps, random_windows(rng, 5, SIZE))
    layer = torch.nn.Linear(12800, 2)
    layer(features.pooled).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_bfloat16_is_near_and_leaves_the_backbone_alone(backbone, maps, image):
    half = SPPExtractor(backbone, SCALES, precision="bfloat16").maps(image)
    assert next(backbone.trunk.parameters()).dtype == torch.float32
    for map, exact in zip(half.maps, maps.maps, strict=True):
        assert map.dtype == torch.float32
        assert (map - exact).norm() < 0.02 * exact.norm()


def test_mirrored_and_read_only_images(extractor, maps, image):
    frozen = image.copy()
    frozen.flags.writeable = False
    assert torch.equal(extractor.maps(frozen).maps[0], maps.maps[0])
    mirrored = extractor.maps(image[:, ::-1]).maps[0]
    assert torch.equal(mirrored, extractor.maps(image[:, ::-1].copy()).maps[0])


def test_zf5(image, rng):
    extractor = SPPExtractor(build_backbone("zf5", "random"), (160,))
    features = extractor.pool(extractor.maps(image), random_windows(rng, 5, SIZE))
    assert features.pooled.shape[1] == 12800


def test_bad_input(backbone, extractor, image):
    with pytest.raises(ValueError, match=r"got float64 of shape \(90, 130, 3\)"):
        extractor.maps(image / 255)
    with pytest.raises(ValueError, match=r"got uint8 of shape \(90, 130\)"):
        extractor.maps(image[..., 0])
    with pytest.raises(ValueError, match="one or more positive pixels"):
        SPPExtractor(backbone, ())


@pytest.mark.data
@needs_kept_filters
def test_real_filters_on_a_real_picture(voc07_root):
    backbone = build_backbone("alexnet", str(KEPT))
    picture = read_picture(sorted((voc07_root / "JPEGImages").glob("*.jpg"))[0])
    map = SPPExtractor(backbone, (480,)).maps(picture).maps[0]
    # Trained filters answer sparsely: about one cell in nine, with values of a few units.
    assert 0.05 < (map > 0).float().mean() < 0.3
    assert 5 < map.max() < 60


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
