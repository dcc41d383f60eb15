"""Layers of a fixed network as vectors."""

import numpy as np
import pytest
import torch
from torch import nn

from classification.transfer.layers import POOLINGS, LayerExtractor
from classification.transfer.view import View
from detection.features.network_input import prepare
from detection.networks.backbone import Backbone, Preprocessing
from detection.networks.build import build_backbone
from detection.networks.pyramid import pool_pyramid

CROP, FULL = View("crop", 96), View("full", 96)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (110, 150, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def alexnet():
    return build_backbone("alexnet", "random")


def fc_layers(hidden=7):
    made = torch.Generator().manual_seed(0)
    return {
        "fc6.weight": torch.randn(hidden, 9216, generator=made),
        "fc6.bias": torch.randn(hidden, generator=made),
        "fc7.weight": torch.randn(hidden, hidden, generator=made),
        "fc7.bias": torch.randn(hidden, generator=made),
    }


def unit(tensor):
    values = tensor.flatten().numpy()
    return values / np.linalg.norm(values)


def test_every_layer_of_alexnet_is_what_its_definition_gives(image, alexnet):
    classifier = fc_layers()
    found = LayerExtractor(alexnet, classifier).features(
        image, CROP, ["conv4", "conv5", "pool5_6x6", "pool5_pyramid", "fc6", "fc7"]
    )
    with torch.no_grad():
        pixels = CROP.of(prepare(alexnet, image))
        conv4 = alexnet.trunk[:10](pixels)
        conv5 = alexnet.trunk(pixels)
        six = nn.AdaptiveMaxPool2d(6)(conv5).flatten(1)
        fc6 = (six @ classifier["fc6.weight"].T + classifier["fc6.bias"]).relu()
        fc7 = (fc6 @ classifier["fc7.weight"].T + classifier["fc7.bias"]).relu()
        pyramid = pool_pyramid(
            conv5[0], torch.tensor([[0, 0, conv5.shape[3] - 1, conv5.shape[2] - 1]])
        )
    slow = {"conv4": conv4, "conv5": conv5, "pool5_6x6": six, "pool5_pyramid": pyramid}
    for layer, values in (slow | {"fc6": fc6, "fc7": fc7}).items():
        np.testing.assert_allclose(found[layer], unit(values), atol=1e-5, err_msg=layer)
        assert np.linalg.norm(found[layer]) == pytest.approx(1, abs=1e-5)


def test_six_by_six_of_13_cells_is_the_networks_own_pooling(rng):
    map = torch.from_numpy(rng.normal(size=(1, 4, 13, 13)).astype(np.float32))
    own = nn.MaxPool2d(3, 2)(map).flatten(1)
    assert torch.equal(POOLINGS["pool5_6x6"](map), own)


def test_the_pyramid_of_means(rng):
    map = torch.from_numpy(rng.normal(size=(1, 3, 5, 8)).astype(np.float32))
    slow = []
    for n in (1, 2, 3, 6):
        for channel in map[0]:
            for i in range(n):
                for j in range(n):
                    rows = slice(i * 5 // n, -(-(i + 1) * 5 // n))
                    columns = slice(j * 8 // n, -(-(j + 1) * 8 // n))
                    slow.append(float(channel[rows, columns].mean()))
    np.testing.assert_allclose(POOLINGS["pool5_pyramid_mean"](map)[0], slow, atol=1e-6)


def test_full_images_of_any_shape_have_vectors_of_one_length(alexnet, rng):
    extractor = LayerExtractor(alexnet)
    for size in ((80, 200), (200, 80), (30, 31)):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        found = extractor.features(pixels, FULL, ["pool5_6x6", "pool5_pyramid_mean"])
        assert [len(each) for each in found.values()] == [36 * 256, 50 * 256]


@pytest.mark.parametrize(
    ("network", "channels"), [("resnet50_caffe", 1024), ("efficientnet_lite0", 112), ("vgg16", 512)]
)
def test_conv4_is_what_conv5_sees(network, channels, image):
    extractor = LayerExtractor(build_backbone(network, "random"))
    assert extractor.why_not("conv4", CROP) is None
    assert len(extractor.features(image, CROP, ["conv4"])["conv4"]) == channels * 6 * 6


def test_why_a_layer_has_no_vector(alexnet):
    extractor = LayerExtractor(alexnet)
    assert extractor.why_not("pool5_pyramid", FULL) is None
    assert "no fixed length" in extractor.why_not("conv5", FULL)
    assert extractor.why_not("conv5", View("warp", 96)) is None
    assert "convolutions only" in extractor.why_not("fc6", CROP)
    assert LayerExtractor(alexnet, fc_layers()).why_not("fc7", FULL) is None


def test_a_view_too_small_is_refused():
    trunk = nn.Sequential(nn.Conv2d(3, 4, 40), nn.ReLU())
    own = Backbone("own", trunk, Preprocessing("rgb", (0, 0, 0), (1, 1, 1)), stages=())
    LayerExtractor(own).check(View("full", 40))
    with pytest.raises(ValueError, match="own has no map of a view of 39 pixels"):
        LayerExtractor(own).check(View("full", 39))


def test_a_layer_without_response_is_zero(alexnet):
    extractor = LayerExtractor(alexnet, {k: v * 0 for k, v in fc_layers().items()})
    black = np.zeros((96, 96, 3), np.uint8)
    assert not extractor.features(black, CROP, ["fc6"])["fc6"].any()
