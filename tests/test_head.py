"""fc6, fc7 and the (K+1)-way layer, and the features that SVMs read from them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_max_pool2d

from detection.features.pyramid import pool_pyramid
from detection.inference.detector import FeatureHead
from detection.networks.head import Head

CHANNELS = 4
LENGTH = 50 * CHANNELS
FINE = 36 * CHANNELS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made_head(hidden=16, classes=3, mean_square=4.0, seed=0):
    head = Head(LENGTH, classes, hidden).eval()
    head.initialise(generator(seed), mean_square)
    return head


def pooled_rows(count, length=LENGTH, seed=1):
    return torch.rand(count, length, generator=generator(seed)) * 3


def imagenet(hidden=16, fine=FINE):
    """A pretended ImageNet classifier."""
    source = generator(5)
    return {
        "fc6.weight": torch.randn(hidden, fine, generator=source) / 10,
        "fc6.bias": torch.randn(hidden, generator=source),
        "fc7.weight": torch.randn(hidden, hidden, generator=source),
        "fc7.bias": torch.randn(hidden, generator=source),
    }


@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes(count):
    head = made_head()
    features = head.features(pooled_rows(count))
    assert features.shape == (count, 16)
    assert (features >= 0).all()
    assert head(pooled_rows(count)).shape == (count, 4)


def test_forward_by_hand():
    head = made_head()
    with torch.no_grad():
        for layer in (head.fc6, head.fc7, head.fc8):
            layer.bias.normal_(generator=generator(3))
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    rows = pooled_rows(5)
    # mean square 4: vectors are halved before fc6
    x = rows.double().numpy() / 2
    for name in ("fc6", "fc7"):
        x = np.maximum(x @ state[f"{name}.weight"].T + state[f"{name}.bias"], 0)
    logits = x @ state["fc8.weight"].T + state["fc8.bias"]
    np.testing.assert_allclose(head.features(rows).detach().numpy(), x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head(rows).detach().numpy(), logits, rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_rows():
    head, rows = made_head(), pooled_rows(6)
    single = torch.cat([head(row[None]) for row in rows])
    torch.testing.assert_close(head(rows), single)


def test_he_initialisation():
    head = Head(3200, 20, 256)
    head.initialise(generator(), 9.0)
    # The deviation of n normal numbers is known to 1 / sqrt(2 n): 0.1 % for fc6, 0.3 % for fc7.
    assert head.fc6.weight.std().item() == pytest.approx((2 / 3200) ** 0.5, rel=0.01)
    assert head.fc7.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert head.fc8.weight.std().item() == pytest.approx(0.01, rel=0.05)
    for layer in (head.fc6, head.fc7, head.fc8):
        assert abs(layer.weight.mean().item()) < 5 * layer.weight.std().item() / (
            layer.weight.numel() ** 0.5
        )
        assert not layer.bias.any()
    assert head.input_scale.item() == pytest.approx(1 / 3)


def test_he_initialisation_keeps_the_size_of_activations():
    rows = torch.rand(200, 3200, generator=generator(2)) * 50
    head = Head(3200, 20, 512).eval()
    head.initialise(generator(), rows.square().mean().item())
    with torch.no_grad():
        fc6 = torch.relu(head.fc6(rows * head.input_scale))
        # A rectified unit of mean square 2 before it has 1 after it.
        assert fc6.square().mean().item() == pytest.approx(1, rel=0.2)
        assert head.features(rows).square().mean().item() == pytest.approx(1, rel=0.4)


def test_initialisation_is_the_generators():
    one, same, other = (made_head(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["fc6.weight"], other["fc6.weight"])


def test_dropout_only_in_training():
    head, rows = made_head(hidden=64), pooled_rows(4)
    assert torch.equal(head(rows), head(rows))
    assert not torch.equal(head.train()(rows), head(rows))
    assert torch.equal(head.eval()(rows), head(rows))


def test_imagenet_filters_see_the_fine_level():
    head, classifier = made_head(mean_square=9.0), imagenet()
    head.start_from_imagenet(classifier, generator())
    coarse = head.fc6.weight[:, :-FINE]
    assert coarse.std().item() == pytest.approx(1e-4, rel=0.1)
    with torch.no_grad():
        coarse.zero_()
    map = torch.rand(CHANNELS, 9, 11, generator=generator(4)) * 20
    cells = torch.tensor([[0, 0, 10, 8], [1, 2, 8, 7], [3, 3, 4, 8], [5, 5, 5, 5]])
    pooled = pool_pyramid(map, cells)
    for row, (left, top, right, bottom) in zip(pooled, cells.tolist(), strict=True):
        six = adaptive_max_pool2d(map[:, top : bottom + 1, left : right + 1], 6)
        expected = classifier["fc6.weight"] @ six.flatten() + classifier["fc6.bias"]
        torch.testing.assert_close(head.fc6(row * head.input_scale), expected)
    assert torch.equal(head.fc7.weight, classifier["fc7.weight"])
    assert torch.equal(head.fc7.bias, classifier["fc7.bias"])
    assert head.input_scale.item() == 1


@pytest.mark.parametrize(
    ("classifier", "found"),
    [(imagenet(hidden=8), r"\(8, 144\)"), (imagenet(fine=36 * 7), r"\(16, 252\)")],
)
def test_imagenet_filters_of_other_shapes_are_refused(classifier, found):
    message = rf"ImageNet's fc6 is {found}, this head needs \(16, 144\); set --finetune.hidden 4096"
    with pytest.raises(ValueError, match=message):
        made_head().start_from_imagenet(classifier, generator())


def test_features_are_scaled_fc7():
    head = made_head().train()
    features = FeatureHead(head, 2.0)
    rows = pooled_rows(5)
    found = features(rows)
    assert features.length == 16
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, 2 * head.features(rows).detach().numpy())
    np.testing.assert_array_equal(found, features(rows))
    assert features(rows[:0]).shape == (0, 16)


def test_bfloat16_features_are_near():
    head = Head(3200, 3, 64)
    head.initialise(generator(), 3.0)
    rows = pooled_rows(20, 3200)
    exact, near = (FeatureHead(head, 1.5, kind)(rows) for kind in ("float32", "bfloat16"))
    assert near.dtype == np.float32
    assert 0 < np.linalg.norm(near - exact) < 0.02 * np.linalg.norm(exact)
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}
