"""The extractor: maps of an image at all scales, in float32 and bfloat16, and errors."""

import copy
import json

import numpy as np
import pytest
import torch
from kept_weights import KEPT, needs_kept_filters
from made_extractor import SCALES, SIZE, made_image, tiny_backbone
from made_windows import random_windows

from detection.features.extractor import SPPExtractor
from detection.features.network_input import prepare, trunk_in
from detection.features.resizing import resized_size
from detection.networks.build import build_backbone
from files.images import read_image


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


def test_resized_sizes():
    # 500 * 688 / 375 = 917.33; 5 * 3 / 2 = 7.5, rounded up.
    assert resized_size((375, 500), 688) == (688, 917)
    assert resized_size((500, 375), 1200) == (1600, 1200)
    assert resized_size((2, 5), 3) == (3, 8)
    # The longer side has a limit, which VOC's longest image does not reach.
    assert resized_size((96, 500), 1200) == (1200, 6250)
    assert resized_size((40, 12_000), 480) == resized_size((40, 12_000), 1200) == (23, 7000)
    assert resized_size((12_000, 1), 480) == (7000, 1)


@pytest.mark.parametrize("size", [(40, 12_000), (12_000, 40), (3, 9000), (1, 7000)])
def test_long_thin_images_have_features(backbone, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    extractor = SPPExtractor(backbone, (480, 1200))
    height, width = size
    end = [max(width - 5, 0), max(height - 5, 0), width, height]
    windows = np.array([[0, 0, width, height], [0, 0, min(5, width), min(5, height)], end])
    maps = extractor.maps(image)
    assert max(max(map.shape) for map in maps.maps) <= 7000 / 16 + 1
    cells = extractor.cells(maps, windows)
    # Windows at both ends of the image lie at both ends of its map.
    along = slice(1, 4, 2) if width > height else slice(2, 5, 2)
    last = round(resized_size(size, 480)[0 if height > width else 1] / 16)
    first, second = cells[1, along], cells[2, along]
    assert first.min() == 0
    assert abs(second.max() - last) <= 3
    assert np.isfinite(extractor.features(image, windows).pooled.numpy()).all()


def test_maps_are_those_of_the_resized_image(backbone, extractor, maps, image):
    assert maps.image_size == SIZE
    assert len(maps.maps) == len(SCALES)
    for scale, map in zip(SCALES, maps.maps, strict=True):
        prepared = backbone.preprocess(torch.from_numpy(image))
        resized = torch.nn.functional.interpolate(
            prepared, size=resized_size(SIZE, scale), mode="bilinear", antialias=False
        )
        with torch.no_grad():
            torch.testing.assert_close(map, backbone(resized)[0])
        assert map.dtype == torch.float32
        assert map.min() == 0
        assert not map.requires_grad


def test_bfloat16_is_near_and_leaves_the_backbone_alone(backbone, maps, image):
    half = SPPExtractor(backbone, SCALES, precision="bfloat16").maps(image)
    assert next(backbone.trunk.parameters()).dtype == torch.float32
    for map, exact in zip(half.maps, maps.maps, strict=True):
        assert map.dtype == torch.bfloat16
        assert (map.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trunk_in(precision):
    backbone = tiny_backbone()
    backbone.trunk.train()
    before = {name: value.clone() for name, value in backbone.trunk.state_dict().items()}
    trunk, dtype = trunk_in(backbone, precision)
    assert dtype == {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    assert (trunk is backbone.trunk) == (precision == "float32")
    assert not trunk.training
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, before[name].to(dtype))
        assert torch.equal(backbone.trunk.state_dict()[name], before[name])
        assert backbone.trunk.state_dict()[name].dtype == torch.float32
        if value.dim() == 4:
            assert value.is_contiguous(memory_format=torch.channels_last)


def test_prepared_images(backbone, image):
    found = prepare(backbone, image)
    assert found.shape == (1, 3, *SIZE)
    assert found.dtype == torch.float32
    mean, std = (
        np.array(each) for each in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    expected = ((image - mean) / std).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)
    frozen = image.copy()
    frozen.flags.writeable = False
    assert torch.equal(prepare(backbone, frozen), found)
    assert torch.equal(prepare(backbone, image[:, ::-1]), found.flip(3))


def test_what_is_known_of_an_extractor(backbone, extractor, image, rng):
    assert extractor.length == 12800
    assert extractor.device == torch.device("cpu")
    assert extractor.backbone is backbone
    assert extractor.precision == "float32"
    facts = extractor.facts
    assert json.loads(json.dumps(facts)) == facts
    others = [
        SPPExtractor(backbone, SCALES[:2]),
        SPPExtractor(backbone, SCALES, "released"),
        SPPExtractor(backbone, SCALES, precision="bfloat16"),
        SPPExtractor(build_backbone("zf5", "random"), SCALES),
    ]
    trained = copy.copy(backbone)
    trained.digest = "trained"
    others.append(SPPExtractor(trained, SCALES))
    found = [json.dumps(each.facts, sort_keys=True) for each in (extractor, *others)]
    assert len(set(found)) == 6
    assert SPPExtractor(backbone, list(SCALES)).facts == facts
    tiny = SPPExtractor(tiny_backbone(), (60,))
    assert tiny.length == tiny.features(image, random_windows(rng, 3, SIZE)).pooled.shape[1] == 200


def test_mirrored_and_read_only_images(extractor, maps, image):
    frozen = image.copy()
    frozen.flags.writeable = False
    assert torch.equal(extractor.maps(frozen).maps[0], maps.maps[0])
    mirrored = extractor.maps(image[:, ::-1]).maps[0]
    assert torch.equal(mirrored, extractor.maps(image[:, ::-1].copy()).maps[0])


def test_bad_input(backbone, extractor, maps, image):
    window = np.array([[0, 0, 50, 50]], np.float32)
    for call in (
        extractor.maps,
        lambda image: prepare(backbone, image),
        lambda image: extractor.features(image, window),
        lambda image: extractor.features_at(image, window, extractor.scales[0]),
    ):
        with pytest.raises(ValueError, match=r"got float64 of shape \(90, 130, 3\)"):
            call(image / 255)
        with pytest.raises(ValueError, match=r"got uint8 of shape \(90, 130\)"):
            call(image[..., 0])
        with pytest.raises(ValueError, match=r"got uint8 of shape \(90, 130, 4\)"):
            call(np.zeros((*SIZE, 4), np.uint8))
    flat = np.array([[0, 0, 50, 50], [5, 5, 5, 9]], np.float32)
    for call in (extractor.cells, extractor.pool):
        with pytest.raises(ValueError, match=r"window 1 is \[5.0, 5.0, 5.0, 9.0\]"):
            call(maps, flat)
    with pytest.raises(ValueError, match=r"window 1 is"):
        extractor.features(image, flat)
    with pytest.raises(ValueError, match="one or more positive pixels"):
        SPPExtractor(backbone, ())


@pytest.mark.data
@needs_kept_filters
def test_real_filters_on_a_real_image(voc07_root):
    backbone = build_backbone("alexnet", str(KEPT))
    image = read_image(sorted((voc07_root / "JPEGImages").glob("*.jpg"))[0])
    map = SPPExtractor(backbone, (480,)).maps(image).maps[0]
    # Trained filters respond in about one cell of nine, with values of a few units.
    assert 0.05 < (map > 0).float().mean() < 0.3
    assert 5 < map.max() < 60
