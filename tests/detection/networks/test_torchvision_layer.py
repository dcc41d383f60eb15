"""torchvision's networks by name and layer: shapes, keys, fused normalisation, windows."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from detection.features.extractor import SPPExtractor
from detection.networks.backbone import Backbone, map_shape
from detection.networks.build import build_backbone
from detection.networks.network import TORCHVISION_PREPROCESSING
from detection.networks.weight_sources import load_weights
from detection.networks.weights import random_weights, tensor_digest, trunk_shapes
from detection.networks.zoo.catalogue import network_named
from detection.training.finetuning.pyramid_network import convolutions_from

RESNET = "resnet18/layer2"


def made_model(seed=0):
    """Return a ResNet-18 whose normalisation is not the identity."""
    torch.manual_seed(seed)
    model = get_model("resnet18", weights=None).train()
    with torch.no_grad():
        model(torch.randn(4, 3, 64, 64))
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return made_model()


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "resnet18.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("name", "channels", "stride", "centre", "cells"),
    [
        (RESNET, 128, 8, 0, 28),
        ("resnet50/layer3", 1024, 16, 0, 14),
        ("mobilenet_v2/features.13", 96, 16, 0, 14),
        ("vgg16/features.29", 512, 16, 7.5, 14),
        ("densenet121/features.denseblock3", 1024, 16, 6, 14),
    ],
)
def test_what_is_derived(name, channels, stride, centre, cells):
    backbone = build_backbone(name, "random")
    assert (backbone.channels, backbone.stride, backbone.centre) == (channels, stride, centre)
    assert backbone.standard_cells == cells
    assert backbone.pooled_length == 50 * channels
    assert backbone.preprocessing.mean == (0.485 * 255, 0.456 * 255, 0.406 * 255)


def test_the_map_is_the_layers(model, file):
    backbone = build_backbone(RESNET, str(file))
    image = torch.randn(1, 3, 75, 90, generator=torch.Generator().manual_seed(1))
    expected = create_feature_extractor(model, {"layer2": "map"})(image)["map"]
    assert torch.equal(backbone(image), expected)
    assert not any(name.startswith(("layer3", "fc")) for name in backbone.trunk.state_dict())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_windows_come_from_fused_convolutions(file, rng, precision):
    backbone = build_backbone(RESNET, str(file))
    extractor = SPPExtractor(backbone, (96,), precision=precision)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in extractor.trunk.modules())
    assert any(isinstance(each, nn.BatchNorm2d) for each in backbone.trunk.modules())
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    (found,) = extractor.maps(image).maps
    resized = nn.functional.interpolate(
        backbone.preprocess(torch.from_numpy(image)), (96, 128), mode="bilinear"
    )
    expected = backbone(resized)[0]
    error = (found.float() - expected).abs().max() / expected.abs().max()
    assert error < {"float32": 1e-5, "bfloat16": 0.05}[precision]
    pooled = extractor.features(image, np.array([[5, 5, 60, 50]])).pooled
    assert pooled.shape == (1, 50 * 128)


def test_a_file_of_another_network_is_refused(file):
    with pytest.raises(ValueError, match=r"is not of resnet50/layer3: layer1\.0\.conv1\.weight"):
        load_weights("resnet50/layer3", str(file))


def test_weights_are_kept_in_the_folder_under_a_flat_name(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "resnet18_layer2.safetensors")
    found = load_weights(RESNET, "auto", tmp_path)
    assert found.classifier is None
    assert found.state.keys() == trunk_shapes(RESNET).keys()
    again = build_backbone(RESNET, found).tensors()
    assert tensor_digest(again) == found.digest


def test_tensors_are_loaded_into_the_trunks_own_memory():
    backbone = build_backbone("alexnet", "random")
    backbone.trunk.to(memory_format=torch.channels_last)
    weight = backbone.trunk[0].weight
    place, order = weight.data_ptr(), weight.stride()
    backbone.load_tensors({name: value + 1 for name, value in backbone.tensors().items()})
    assert (weight.data_ptr(), weight.stride()) == (place, order)
    assert backbone.trunk[0].bias.min() == 1


@pytest.mark.parametrize(
    "name",
    [
        "resnet18/layer4",
        "regnet_y_400mf/trunk_output",
        "densenet121/features.denseblock1",
        "alexnet",
    ],
)
def test_the_shape_of_a_map_is_that_of_an_image(name):
    """The shape found with an empty batch equals that of an image's map."""
    backbone = build_backbone(name, "random")
    shape = backbone.trunk(torch.zeros(1, 3, 224, 224)).shape
    assert (backbone.channels, backbone.standard_cells) == (shape[1], shape[2])
    before = [value.clone() for value in backbone.state_dict().values()]
    assert map_shape(backbone.trunk, 192) == backbone.trunk(torch.zeros(1, 3, 192, 192)).shape[1:3]
    after = backbone.state_dict().values()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_map_with_its_channels_last_is_refused():
    with pytest.raises(ValueError, match=r"channels first; this one gives \(56, 56, 96\) for an"):
        build_backbone("swin_t/features.1", "random")


def test_random_weights_give_a_map():
    backbone = build_backbone(RESNET, random_weights(RESNET))
    found = backbone(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert found.isfinite().all()
    assert found.std() > 0


def test_names_that_mean_nothing():
    with pytest.raises(ValueError, match=r"network must be one of alexnet.*got 'resnet50'"):
        network_named("resnet50")
    with pytest.raises(ValueError, match="torchvision has no classification network 'resnet5'"):
        network_named("resnet5/layer3")
    with pytest.raises(ValueError, match="layer9"):
        build_backbone("resnet18/layer9", "random")
    with pytest.raises(ValueError, match="does not depend on places"):
        build_backbone("resnet18/flatten", "random")
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    with pytest.raises(ValueError, match="must output a map"):
        Backbone("flat", flat, TORCHVISION_PREPROCESSING)


def test_its_convolutions_are_left_alone():
    backbone = build_backbone(RESNET, "random")
    assert convolutions_from(backbone, "fc") == []
    with pytest.raises(
        ValueError, match=r"resnet18/layer2 does not say.*--finetune\.train_from fc"
    ):
        convolutions_from(backbone, "conv3")
