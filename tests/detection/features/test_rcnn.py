import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kept_weights import KEPT, needs_kept_filters
from made_windows import random_windows

from detection.features.rcnn import BATCH, RCNNExtractor, enlarge, warp
from detection.networks.build import build_backbone
from files.images import read_image

SIZE = (300, 420)

INSIDE = [[120, 110, 190, 170], [100, 80, 295, 275], [90.25, 100.5, 250.75, 140.125]]
BORDERS = [[0, 100, 60, 160], [360, 100, 420, 160], [200, 0, 260, 50], [200, 250, 260, 300]]
CORNERS = [[0, 0, 40, 90], [390, 0, 420, 30], [0, 200, 100, 300], [401, 288, 420, 300]]
TINY = [[200, 150, 201, 151], [0, 0, 1, 1], [419, 299, 420, 300], [50.2, 50.2, 50.3, 50.3]]
LONG = [[0, 150, 420, 151], [200, 0, 203, 300], [5, 2, 415, 299]]
WHOLE = [[0, 0, 420, 300]]
OUTSIDE = [[500, 100, 520, 140], [-90, -80, -10, -20], [-50, 120, 30, 400]]
# The first fills 113.5 pixels of the crop, rounded up; the second 0.24, rounded to 0.
ROUNDED = [[-20, 100, 20, 140], [-900, 100, -100, 140]]
WINDOWS = np.array(INSIDE + BORDERS + CORNERS + TINY + LONG + WHOLE + OUTSIDE + ROUNDED)


def nearest(number):
    return math.floor(number + 0.5)


def slow_side(low, high, limit):
    """Return, along one side, the range that is cut out, and its place and length in the crop."""
    middle, reach = (low + high) / 2, (high - low) * 227 / 195 / 2
    low, high = nearest(middle - reach), nearest(middle + reach)
    if high == low:
        high += 1
    scale = 227 / (high - low)
    first = min(max(low, 0), limit - 1)
    last = max(min(high, limit), first + 1)
    place = min(max(nearest((first - low) * scale), 0), 226)
    share = min(max(nearest((last - first) * scale), 1), 227 - place)
    return (first, last), (place, share)


def slow_crop(prepared, window):
    """Return R-CNN's warp of one window: cut out, resized, and zeros around it."""
    height, width = prepared.shape[2:]
    (left, right), (x, columns) = slow_side(window[0], window[2], width)
    (top, bottom), (y, rows) = slow_side(window[1], window[3], height)
    cut = prepared[:, :, top:bottom, left:right]
    resized = F.interpolate(cut, size=(rows, columns), mode="bilinear", align_corners=False)
    return F.pad(resized, (x, 227 - x - columns, y, 227 - y - rows))[0]


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("alexnet", "random")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def prepared(backbone, image):
    return backbone.preprocess(torch.from_numpy(image))


@pytest.fixture(scope="module")
def extractor(backbone):
    return RCNNExtractor(backbone)


@pytest.fixture(scope="module")
def found(extractor, image):
    features = extractor.features(image, WINDOWS)
    return features.pooled[features.index]


def crops_of(prepared, windows):
    return warp(prepared, torch.from_numpy(enlarge(np.asarray(windows))))


def test_enlarged_windows():
    # 195 pixels become 227: centre 197.5, reach 113.5. One pixel: 200.5 - 0.58 is nearest to 200,
    # 200.5 + 0.58 to 201. Eighty: centre 40, reach 46.56.
    windows = [[100, 100, 295, 295], [200, 200, 201, 201], [0, 0, 80, 80]]
    expected = [[84, 84, 311, 311], [200, 200, 201, 201], [-7, -7, 87, 87]]
    assert enlarge(np.array(windows)).tolist() == expected


def test_a_window_of_195_pixels_is_not_resized(prepared):
    crop = crops_of(prepared, [[100, 80, 295, 275]])[0]
    torch.testing.assert_close(crop, prepared[0, :, 64:291, 84:311], atol=1e-3, rtol=0)


@pytest.mark.parametrize("group", [INSIDE, BORDERS, CORNERS, TINY, LONG, WHOLE, OUTSIDE, ROUNDED])
def test_crops_equal_the_twins(prepared, group):
    for window, crop in zip(group, crops_of(prepared, group), strict=True):
        twin = slow_crop(prepared, window)
        # Neighbouring pixels differ by 5, so 1e-3 is a fraction of a thousandth of a pixel.
        torch.testing.assert_close(crop, twin, atol=1e-3, rtol=0)
        assert torch.equal(crop == 0, twin == 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (227, 5), (700, 90)])
def test_crops_of_other_images_equal_the_twins(rng, size):
    prepared = torch.from_numpy(rng.normal(size=(1, 3, *size))).float()
    windows = random_windows(rng, 20, size)
    for window, crop in zip(windows, crops_of(prepared, windows), strict=True):
        twin = slow_crop(prepared, window.tolist())
        torch.testing.assert_close(crop, twin, atol=1e-3, rtol=0)
        assert torch.equal(crop == 0, twin == 0)


def test_outside_is_the_mean(prepared):
    # Enlarged, 80 pixels at the corner are 94: 7 of them are outside, or 16.9 of 227.
    crop = crops_of(torch.ones_like(prepared), [[0, 0, 80, 80]])[0]
    assert (crop[:, :17] == 0).all()
    assert (crop[:, :, :17] == 0).all()
    torch.testing.assert_close(crop[:, 17:, 17:], torch.ones(3, 210, 210))


def test_features_equal_the_twins(backbone, prepared, found):
    crops = torch.stack([slow_crop(prepared, window) for window in WINDOWS.tolist()])
    with torch.no_grad():
        maps = backbone(crops)
    assert maps.shape[1:] == (256, 13, 13)
    assert found.shape == (len(WINDOWS), 9216)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    for map, feature in zip(maps, found, strict=True):
        cells = feature.reshape(256, 6, 6)
        for row, column in ((0, 0), (0, 5), (3, 2), (5, 5)):
            seen = map[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            expected = seen.flatten(1).max(dim=1).values
            torch.testing.assert_close(cells[:, row, column], expected, atol=1e-3, rtol=1e-3)


def test_one_by_one(extractor, image, found):
    for window, expected in zip(WINDOWS, found, strict=True):
        alone = extractor.features(image, window[None]).pooled[0]
        torch.testing.assert_close(alone, expected, atol=1e-4, rtol=1e-4)


def test_windows_of_an_image(extractor, image, found):
    again = extractor.of_image(image)(WINDOWS)
    assert torch.equal(again.pooled[again.index], found)


def test_in_any_order(extractor, image, rng):
    windows = random_windows(rng, BATCH + 5, SIZE)
    order = rng.permutation(len(windows))
    features, shuffled = (extractor.features(image, each) for each in (windows, windows[order]))
    assert torch.equal(shuffled.pooled, features.pooled)
    assert shuffled.index.tolist() == features.index[order].tolist()
    last = extractor.features(image, windows[-1:]).pooled[0]
    torch.testing.assert_close(features.pooled[features.index[-1]], last, atol=1e-4, rtol=1e-4)


def test_the_same_windows_are_computed_once(extractor, image):
    # Enlarged to whole pixels, the last window is equal to the first.
    windows = np.array([[50, 50, 90, 90], [10, 20, 30, 80], [50, 50, 90, 90], [50, 50, 90.1, 90]])
    features = extractor.features(image, windows)
    assert features.index.tolist() == [1, 0, 1, 1]
    assert features.index.dtype == np.int64
    assert features.pooled.shape == (2, 9216)


def test_no_windows(extractor, image):
    features = extractor.features(image, np.zeros((0, 4), np.float32))
    assert features.pooled.shape == (0, 9216)
    assert features.index.shape == (0,)


def test_bfloat16_is_near_and_leaves_the_backbone_alone(backbone, image, found):
    half = RCNNExtractor(backbone, "bfloat16").features(image, WINDOWS)
    assert next(backbone.trunk.parameters()).dtype == torch.float32
    assert half.pooled.dtype == torch.bfloat16
    assert (half.pooled[half.index].float() - found).norm() < 0.02 * found.norm()


def test_what_it_says_of_itself(backbone, extractor):
    assert extractor.length == 9216
    assert extractor.device == backbone.device
    assert extractor.scales == ()
    half = RCNNExtractor(backbone, "bfloat16")
    assert extractor.facts["features"] == "rcnn"
    assert extractor.facts["weights"] == backbone.digest
    assert {**extractor.facts, "precision": "bfloat16"} == half.facts


def test_zf5(image):
    extractor = RCNNExtractor(build_backbone("zf5", "random"))
    assert extractor.features(image, WINDOWS[:2]).pooled.shape == (2, extractor.length)
    assert extractor.length == 9216


def test_mirrored_and_read_only_images(extractor, image):
    windows = WINDOWS[:3]
    frozen = image.copy()
    frozen.flags.writeable = False
    expected = extractor.features(image, windows).pooled
    assert torch.equal(extractor.features(frozen, windows).pooled, expected)
    mirrored = extractor.features(image[:, ::-1], windows).pooled
    assert torch.equal(mirrored, extractor.features(image[:, ::-1].copy(), windows).pooled)


def test_bad_input(extractor, image):
    with pytest.raises(ValueError, match=r"got float64 of shape \(300, 420, 3\)"):
        extractor.features(image / 255, WINDOWS)
    with pytest.raises(ValueError, match=r"got uint8 of shape \(300, 420\)"):
        extractor.features(image[..., 0], WINDOWS)
    with pytest.raises(ValueError, match=r"window 1 is \[3.0, 3.0, 3.0, 9.0\]"):
        extractor.features(image, np.array([[0, 0, 5, 5], [3, 3, 3, 9]]))


@pytest.mark.data
@needs_kept_filters
def test_real_filters_on_a_real_image(voc07_root):
    backbone = build_backbone("alexnet", str(KEPT))
    image = read_image(sorted((voc07_root / "JPEGImages").glob("*.jpg"))[0])
    height, width = image.shape[:2]
    windows = np.array([[0, 0, width, height], [width // 4, height // 4, width // 2, height // 2]])
    features = RCNNExtractor(backbone).features(image, windows)
    # Trained filters respond sparsely; the maximum of nine cells is above 0 more often.
    for feature in features.pooled:
        assert 0.1 < (feature > 0).float().mean() < 0.6
        assert 3 < feature.max() < 60
    prepared = backbone.preprocess(torch.from_numpy(image.copy()))
    for window, row in zip(windows.tolist(), features.index, strict=True):
        with torch.no_grad():
            map = backbone(slow_crop(prepared, window)[None])
        expected = F.max_pool2d(map, 3, 2)[0].flatten()
        difference = features.pooled[row] - expected
        assert difference.norm() < 1e-3 * expected.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_gpu(image, found):
    extractor = RCNNExtractor(build_backbone("alexnet", "random").cuda())
    features = extractor.features(image, WINDOWS)
    assert features.pooled.is_cuda
    assert (features.pooled[features.index].cpu() - found).norm() < 0.01 * found.norm()
