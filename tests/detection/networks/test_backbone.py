from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import reference
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize

from detection.features.resizing import resized_size
from detection.networks.build import build_backbone
from detection.networks.normalization import WithinChannelNorm
from detection.networks.receptive_field import receptive_field
from detection.networks.zoo.alexnet import alexnet_trunk
from detection.networks.zoo.convnet5 import convnet5_trunk
from detection.networks.zoo.overfeat import overfeat_trunk
from detection.networks.zoo.zf5 import zf5_trunk


@pytest.fixture(scope="module")
def alexnet():
    return build_backbone("alexnet", "random")


@pytest.fixture(scope="module")
def zf5():
    return build_backbone("zf5", "random")


def map_size(trunk, height, width):
    return tuple(trunk.to("meta")(torch.empty(1, 3, height, width, device="meta")).shape[2:])


def test_what_a_backbone_states(alexnet, zf5):
    # The released mapping counts pixels from 1, so its offset0 is 16 and 21.
    assert (alexnet.channels, alexnet.stride, alexnet.centre) == (256, 16, 15)
    assert (zf5.channels, zf5.stride, zf5.centre) == (256, 16, 20)
    assert receptive_field(zf5.trunk).size == 139
    for network in (alexnet, zf5):
        assert (network.shrink, network.standard_cells) == (6.5, 13)
        assert network.pooled_length == 12800
        assert not network.training


def test_what_vgg16_states():
    network = build_backbone("vgg16", "random")
    assert (network.channels, network.stride, network.centre) == (512, 16, 7.5)
    assert (network.standard_cells, network.shrink) == (14, 6)
    assert receptive_field(network.trunk).size == 196
    assert network.pooled_length == 25600
    convolutions = [key for key, layer in network.trunk.named_modules() if hasattr(layer, "groups")]
    assert [convolutions[number] for number in network.stages] == ["0", "5", "10", "17", "24"]
    assert map_size(network.trunk, 224, 224) == (14, 14)


def test_what_efficientnet_lite0_states():
    network = build_backbone("efficientnet_lite0", "random")
    assert (network.channels, network.stride, network.standard_cells) == (1280, 32, 7)
    # The layers of stride 2 move the centre by 1, 1 * 2 (3x3), (2 - 1) * 4 (5x5, padded by 1
    # before), 1 * 8 (3x3) and (2 - 1) * 16 (5x5).
    assert network.centre == 1 + 2 + 4 + 8 + 16
    image = torch.randn(1, 3, 96, 130, generator=torch.Generator().manual_seed(0))
    found = network(image)
    assert found.shape == (1, 1280, 3, 4)
    assert found.min() >= 0
    assert found.max() <= 6


def test_padding_on_one_side_moves_the_centre():
    # The kernel moves the centre by 1; a padded pixel before the image moves it back by 1.
    convolution = nn.Conv2d(1, 1, 3, 2)
    after = receptive_field(nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), convolution))
    before = receptive_field(nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), convolution))
    assert (after.centre, before.centre) == (1, 0)
    with pytest.raises(ValueError, match="a layer must be square"):
        receptive_field(nn.Sequential(nn.ZeroPad2d((1, 0, 0, 1)), convolution))


def test_receptive_field_by_hand():
    # Conv k5 s2 p1: centre (5-1)/2 - 1 = 1, steps of 2; pool k3 s2: + 1 * 2 = 3, steps of 4.
    # Size: 1 + 4 = 5, then + 2 * 2 = 9.
    field = receptive_field(nn.Sequential(nn.Conv2d(1, 1, 5, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2)))
    assert (field.size, field.stride, field.centre) == (9, 4, 3)


@pytest.mark.parametrize(
    "make",
    [alexnet_trunk, zf5_trunk, convnet5_trunk, *(partial(overfeat_trunk, n) for n in (5, 7))],
)
def test_receptive_field_as_gradients_measure_it(make):
    # With average pooling and constant filters, every pixel that a cell sees has a gradient.
    trunk = make().double()
    for number, layer in enumerate(trunk):
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1e-3)
            nn.init.constant_(layer.bias, 0)
        elif isinstance(layer, nn.MaxPool2d):
            trunk[number] = nn.AvgPool2d(layer.kernel_size, layer.stride, 0, layer.ceil_mode)
        elif isinstance(layer, WithinChannelNorm):
            trunk[number] = nn.Identity()
    field = receptive_field(make())
    image = torch.ones(1, 3, 40, 400, dtype=torch.double, requires_grad=True)
    trunk(image)[0, 0, 0, 12].backward()
    seen = image.grad[0, 0].abs().sum(dim=0).nonzero().flatten()
    assert (seen[0] + seen[-1]) / 2 == field.centre + 12 * field.stride
    assert seen[-1] - seen[0] + 1 == field.size


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        # VGG-16 without its last pooling: conv5_3 sees 196 pixels, and its first centre is 7.5.
        ("vgg16", "features.29", (196, 16, 7.5)),
        # By hand: 7 of the stem, 11 with the pooling, + 24 (3 blocks), + 8 + 3 * 16, + 16 + 5 * 32.
        ("resnet50", "layer3", (267, 16, 0)),
        ("resnet18", "layer2", (99, 8, 0)),
    ],
)
def test_receptive_fields_of_graphs(name, layer, expected):
    trunk = create_feature_extractor(get_model(name, weights=None), {layer: "map"})
    field = receptive_field(trunk)
    assert (field.size, field.stride, field.centre) == expected


def test_a_factor_of_the_whole_map_does_not_count():
    network = get_model("efficientnet_b0", weights=None)
    field = receptive_field(create_feature_extractor(network, {"features.5": "map"}))
    assert field.stride == 16
    assert field.size < 500


def test_what_has_no_receptive_field():
    with pytest.raises(ValueError, match="a layer must be square"):
        receptive_field(nn.Sequential(nn.Conv2d(3, 3, (1, 3))))
    with pytest.raises(ValueError, match="does not depend on places"):
        receptive_field(nn.Sequential(nn.AdaptiveAvgPool2d(1)))


def layer_sizes(trunk, side):
    """Return the number of cells along a side after every convolution and pooling."""
    sizes, rows = [], torch.empty(1, 3, side, side, device="meta")
    for layer in trunk.to("meta"):
        rows = layer(rows)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            sizes.append(rows.shape[2])
    return sizes


@pytest.mark.parametrize(
    ("make", "at_224", "at_180"),
    [
        (zf5_trunk, [110, 55, 26, 13, 13, 13, 13], [88, 44, 20, 10, 10, 10, 10]),
        (convnet5_trunk, [55, 55, 27, 27, 13, 13, 13], [44, 44, 21, 21, 10, 10, 10]),
        (partial(overfeat_trunk, 5), [110, 36, 36, *[18] * 4], [88, 29, 29, *[14] * 4]),
        (partial(overfeat_trunk, 7), [110, 36, 36, *[18] * 6], [88, 29, 29, *[14] * 6]),
    ],
)
def test_sizes_of_the_paper(make, at_224, at_180):
    """Maps have the sizes of the paper's table 1 at 224 pixels; ZF-5's is 10x10 at 180 (3.1)."""
    assert layer_sizes(make(), 224) == at_224
    assert layer_sizes(make(), 180) == at_180


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("convnet5", (256, 16, 15, 13, 12800)),
        ("overfeat5", (512, 12, 7, 18, 25600)),
        ("overfeat7", (512, 12, 7, 18, 25600)),
    ],
)
def test_what_the_papers_other_networks_state(name, states):
    network = build_backbone(name, "random")
    found = (network.channels, network.stride, network.centre, network.standard_cells)
    assert (*found, network.pooled_length) == states
    convolutions = [layer for layer in network.trunk if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == (7 if name == "overfeat7" else 5)
    assert convolutions[-1].out_channels == network.channels


@pytest.mark.parametrize(
    ("scale", "size"),
    [(480, (29, 39)), (576, (35, 47)), (688, (42, 56)), (864, (53, 71)), (1200, (74, 99))],
)
def test_conv5_sizes_of_a_375x500_image(scale, size):
    assert map_size(zf5_trunk(), *resized_size((375, 500), scale)) == size


def test_alexnet_is_torchvisions():
    assert map_size(alexnet_trunk(), 224, 224) == (13, 13)
    assert sorted({int(key.split(".")[0]) for key in alexnet_trunk().state_dict()}) == [
        0,
        3,
        6,
        8,
        10,
    ]
    assert isinstance(alexnet_trunk()[-1], nn.ReLU)


def test_alexnet_preprocessing_is_torchvisions(alexnet, rng):
    image = torch.from_numpy(rng.integers(0, 256, (5, 7, 3), np.uint8))
    expected = normalize(image.permute(2, 0, 1) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(alexnet.preprocess(image)[0], expected)


def test_zf5_preprocessing_is_bgr_less_128(zf5):
    image = torch.tensor([[[255, 128, 0]]], dtype=torch.uint8)
    assert zf5.preprocess(image).flatten().tolist() == [-128, 0, 127]


def test_preprocessing_leaves_the_image_alone(alexnet):
    image = torch.full((2, 2, 3), 7, dtype=torch.uint8)
    alexnet.preprocess(image)
    assert (image == 7).all()


def test_within_channel_norm_equals_the_twin(rng):
    # Values and alpha are large, so that the norm matters.
    x = rng.normal(0, 100, (2, 3, 6, 5))
    for alpha, beta in ((5e-5, 0.75), (0.01, 0.5)):
        expected = np.array(
            [[reference.within_channel_norm(c, 3, alpha, beta) for c in one] for one in x]
        )
        found = WithinChannelNorm(3, alpha, beta)(torch.from_numpy(x))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_within_channel_norm_by_hand():
    # The map is one cell of 600: its mean square is 360000 / 9 = 40000, 1 + 5e-5 * 40000 = 3.
    found = WithinChannelNorm()(torch.full((1, 1, 1, 1), 600.0))
    assert found.item() == pytest.approx(600 / 3**0.75)


def test_within_channel_norm_gradient():
    x = 100 * torch.randn(
        1, 2, 4, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0)
    )
    assert torch.autograd.gradcheck(WithinChannelNorm(), (x.requires_grad_(),))


def test_networks_are_made_in_several_threads():
    """Threads do not disturb each other, although torch.fx patches modules of the whole process."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: build_backbone("alexnet", "random"), range(12)))
    alone = build_backbone("alexnet", "random")
    assert {(each.stride, each.centre) for each in made} == {(alone.stride, alone.centre)}
