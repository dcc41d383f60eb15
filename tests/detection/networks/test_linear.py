"""The product of fc layers equals PyTorch's, whichever library computes it."""

import pytest
import torch

from detection.networks import linear as module
from detection.networks.linear import Linear, linear


def made(rows, generator, dtype=torch.float32):
    shapes = (rows, 40), (24, 40), (24,)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


@pytest.mark.parametrize("rows", [0, 1, 7, 300])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_pytorchs(rows, biased):
    values, weight, bias = made(rows, torch.Generator().manual_seed(0))
    bias = bias if biased else None
    with torch.inference_mode():
        found = linear(values, weight, bias)
    expected = torch.nn.functional.linear(
        values.double(), weight.double(), None if bias is None else bias.double()
    )
    assert found.shape == (rows, 24)
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_the_same_every_time_and_in_parts():
    values, weight, bias = made(512, torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = linear(values, weight, bias)
        parts = torch.cat([linear(part, weight, bias) for part in values.split(256)])
        assert torch.equal(linear(values, weight, bias), whole)
    assert torch.allclose(parts, whole, atol=1e-5)


def test_a_layer():
    values, weight, bias = made(5, torch.Generator().manual_seed(4))
    layer = Linear(40, 24)
    layer.load_state_dict({"weight": weight, "bias": bias})
    with torch.inference_mode():
        assert torch.equal(layer(values), linear(values, weight, bias))


@pytest.mark.parametrize("rows", [1, 5, 130])
@pytest.mark.parametrize("biased", [True, False])
def test_gradients_are_pytorchs(rows, biased):
    values, weight, bias = made(rows, torch.Generator().manual_seed(2))
    slope = torch.randn((rows, 24), generator=torch.Generator().manual_seed(3))
    found, expected = [], []
    for call, gradients in ((linear, found), (torch.nn.functional.linear, expected)):
        given = [each.clone().requires_grad_() for each in (values, weight, bias)[: 2 + biased]]
        call(*given).backward(slope)
        gradients.extend(each.grad for each in given)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_only_the_gradients_that_are_wanted():
    values, weight, bias = made(5, torch.Generator().manual_seed(2))
    weight.requires_grad_(True)
    # The gradient of a sum is one number, expanded without memory for each element.
    linear(values, weight, bias).sum().backward()
    assert torch.allclose(weight.grad, values.sum(dim=0).expand(24, 40), atol=1e-5)
    assert values.grad is None
    assert bias.grad is None


def test_without_onednn_and_in_other_types(monkeypatch):
    values, weight, bias = made(5, torch.Generator().manual_seed(3))
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(values, weight, bias).dtype == torch.bfloat16
        half = [each.bfloat16() for each in (values, weight, bias)]
        assert torch.equal(linear(*half), torch.nn.functional.linear(*half))
        monkeypatch.setattr(module, "_ONEDNN", None)
        found = linear(values, weight, bias)
        assert torch.equal(found, torch.nn.functional.linear(values, weight, bias))
