"""Convolutions by NNPACK equal direct convolutions, and are used only where faster."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from detection.features.network_input import trunk_in
from detection.networks.build import build_backbone
from detection.networks.nnpack import NnpackConv2d, by_nnpack

pytestmark = pytest.mark.skipif(
    not torch.backends.nnpack.is_available(), reason="PyTorch has no NNPACK here"
)


@pytest.fixture
def calls(monkeypatch):
    """Return the list of input shapes that NNPACK is called with."""
    found, real = [], torch._nnpack_spatial_convolution

    def recorded(input, *rest):
        found.append(tuple(input.shape))
        return real(input, *rest)

    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", recorded)
    return found


def made(inputs=128, outputs=128, kernel=3, **settings):
    """Return a layer that NNPACK may compute, and its twin that PyTorch computes."""
    torch.manual_seed(0)
    twin = nn.Conv2d(inputs, outputs, kernel, **settings).to(memory_format=torch.channels_last)
    layer = nn.Conv2d(inputs, outputs, kernel, **settings).to(memory_format=torch.channels_last)
    layer.load_state_dict(twin.state_dict())
    return by_nnpack(layer), twin


def images(*shape):
    generator = torch.Generator().manual_seed(1)
    found = torch.randn(*shape, generator=generator)
    return found.contiguous(memory_format=torch.channels_last)


def slow_cell(layer, image, channel, row, column):
    """Return one number of a convolution, computed in float64 from its definition."""
    (top, left), (height, width) = layer.padding, layer.kernel_size
    total = 0.0 if layer.bias is None else layer.bias[channel].item()
    for y in range(height):
        for x in range(width):
            place = row + y - top, column + x - left
            if 0 <= place[0] < image.shape[1] and 0 <= place[1] < image.shape[2]:
                weights = layer.weight[channel, :, y, x].double()
                total += (weights * image[:, place[0], place[1]].double()).sum().item()
    return total


@pytest.mark.parametrize(
    ("kernel", "padding", "size", "bias"),
    [
        (3, 1, (32, 32), True),
        (3, 0, (35, 41), False),
        (5, 2, (33, 47), True),
        (5, 0, (40, 32), True),
        (7, 3, (37, 37), False),
        ((3, 5), (1, 2), (32, 50), True),
    ],
)
def test_it_is_the_convolution(calls, kernel, padding, size, bias):
    layer, twin = made(128, 130, kernel, padding=padding, bias=bias)
    shown = images(1, 128, *size)
    with torch.no_grad():
        found, expected = layer(shown), twin(shown)
        assert calls == [(1, 128, *size)]
        assert found.shape == expected.shape
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
        height, width = found.shape[2:]
        for row, column in ((0, 0), (0, width - 1), (height - 1, 0), (height // 2, width // 3)):
            expected = slow_cell(twin, shown[0], 5, row, column)
            assert abs(found[0, 5, row, column].item() - expected) < 2e-4


def test_a_batch_is_its_images(calls):
    layer, _ = made(padding=1)
    shown = images(3, 128, 32, 40)
    with torch.no_grad():
        together = layer(shown)
        alone = [layer(image[None]) for image in shown]
    assert torch.equal(together, torch.cat(alone))
    assert calls == [(1, 128, 32, 40)] * 6


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"stride": 2}, (1, 128, 64, 64)),
        ({"dilation": 2}, (1, 128, 64, 64)),
        ({"groups": 2}, (1, 128, 64, 64)),
        ({"padding": "same"}, (1, 128, 64, 64)),
        ({"padding": 1, "padding_mode": "reflect"}, (1, 128, 64, 64)),
        ({"kernel": 1}, (1, 128, 64, 64)),
        ({"inputs": 3}, (1, 3, 64, 64)),
        ({"outputs": 113}, (1, 128, 64, 64)),
        ({}, (1, 128, 31, 33)),
        ({}, (0, 128, 64, 64)),
    ],
)
def test_elsewhere_nothing_changes(calls, settings, size):
    layer, twin = made(**settings)
    with torch.no_grad():
        assert torch.equal(layer(images(*size)), twin(images(*size)))
    assert not calls


def test_gradients_and_other_numbers_are_pytorchs(calls):
    layer, twin = made(padding=1)
    shown = images(1, 128, 40, 40)
    assert torch.equal(layer(shown), twin(shown))
    for each in (layer, twin):
        each(shown).square().sum().backward()
    assert torch.equal(layer.weight.grad, twin.weight.grad)
    with torch.no_grad():
        for kind in (torch.bfloat16, torch.float64):
            assert torch.equal(layer.to(kind)(shown.to(kind)), twin.to(kind)(shown.to(kind)))
    assert not calls


def test_a_convolution_after_another_takes_its_order_and_changes_no_bit(calls):
    def made_trunk():
        torch.manual_seed(0)
        layers = [nn.Conv2d(128, 128, 3, padding=1) for _ in range(3)]
        pool = nn.MaxPool2d(3, 2)
        return nn.Sequential(layers[0], nn.ReLU(), layers[1], pool, nn.ReLU(), layers[2])

    chain, apart = by_nnpack(made_trunk()), made_trunk()
    assert [layer.feeds_another for layer in chain if isinstance(layer, nn.Conv2d)] == [
        True,
        False,
        False,
    ]
    shown = images(2, 128, 66, 70)
    with torch.no_grad():
        found = chain(shown)
        for layer in apart:
            shown = by_nnpack(layer)(shown)
    assert len(calls) == 12
    assert torch.equal(found, shown)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_the_trunk_keeps_its_weights(calls):
    backbone = build_backbone("alexnet", "random")
    before = dict(backbone.trunk.named_parameters())
    trunk, _ = trunk_in(backbone, "float32")
    assert trunk is backbone.trunk
    assert all(each is before[name] for name, each in trunk.named_parameters())
    assert sum(isinstance(layer, NnpackConv2d) for layer in trunk.modules()) == 5
    with torch.no_grad():
        trunk(images(1, 3, 520, 560))
    assert calls == [(1, 64, 64, 69), (1, 192, 31, 34), (1, 384, 31, 34), (1, 256, 31, 34)]


def test_threads_do_not_change_the_bits():
    script = """
import sys, torch
from hashlib import sha256
from detection.networks.nnpack import NnpackConv2d
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
with torch.no_grad():
    for kernel in (3, 5):
        found = NnpackConv2d(130, 140, kernel)(torch.randn(1, 130, 50, 70)).contiguous()
        print(sha256(found.numpy().tobytes()).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", script, count], capture_output=True, check=True
        ).stdout
        for count in ("1", "3")
    }
    assert len(digests) == 1
