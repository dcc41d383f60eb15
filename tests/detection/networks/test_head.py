"""fc6, fc7 and the (K+1)-way layer, and the layers' features that SVMs read."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_max_pool2d

from detection.inference.layers import LayerFeatures
from detection.networks.head import Head
from detection.networks.pyramid import pool_pyramid
from detection.networks.truncated import ResponseMoments, TruncatedHead, head_from, with_classes
from files.artefacts import strip_prefix, write_artefact

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
    """Return random fc6 and fc7 as an ImageNet classifier has them."""
    source = generator(5)
    return {
        "fc6.weight": torch.randn(hidden, fine, generator=source) / 10,
        "fc6.bias": torch.randn(hidden, generator=source),
        "fc7.weight": torch.randn(hidden, hidden, generator=source),
        "fc7.bias": torch.randn(hidden, generator=source),
    }


def slow_layers(state, x):
    """Return fc6, fc7 and the logits of vectors that are already scaled."""
    fc6 = np.maximum(x @ state["fc6.weight"].T + state["fc6.bias"], 0)
    fc7 = np.maximum(fc6 @ state["fc7.weight"].T + state["fc7.bias"], 0)
    return fc6, fc7, fc7 @ state["fc8.weight"].T + state["fc8.bias"]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes(count):
    head = made_head()
    fc6 = head.fc6_of(pooled_rows(count))
    fc7 = head.fc7_of(fc6)
    assert fc6.shape == fc7.shape == (count, 16)
    assert (fc6 >= 0).all()
    assert (fc7 >= 0).all()
    assert head(pooled_rows(count)).shape == (count, 4)


def test_forward_by_hand():
    head = made_head()
    with torch.no_grad():
        for layer in (head.fc6, head.fc7, head.fc8):
            layer.bias.normal_(generator=generator(3))
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    rows = pooled_rows(5)
    # The mean square is 4, so vectors are halved before fc6.
    fc6, fc7, logits = slow_layers(state, rows.double().numpy() / 2)
    found = head.fc6_of(rows)
    np.testing.assert_allclose(found.detach().numpy(), fc6, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.fc7_of(found).detach().numpy(), fc7, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head(rows).detach().numpy(), logits, rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_rows():
    head, rows = made_head(), pooled_rows(6)
    single = torch.cat([head(row[None]) for row in rows])
    torch.testing.assert_close(head(rows), single)


def test_he_initialisation():
    head = Head(3200, 20, 256)
    head.initialise(generator(), 9.0)
    # The deviation of n numbers is accurate to 1 / sqrt(2 n): 0.1 % for fc6, 0.3 % for fc7.
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
        fc6 = head.fc6_of(rows)
        # ReLU halves the mean square: it is 2 before the ReLU and 1 after it.
        assert fc6.square().mean().item() == pytest.approx(1, rel=0.2)
        assert head.fc7_of(fc6).square().mean().item() == pytest.approx(1, rel=0.4)


def test_initialisation_is_the_generators():
    one, same, other = (made_head(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["fc6.weight"], other["fc6.weight"])


def test_dropout_only_in_training():
    head, rows = made_head(hidden=64), pooled_rows(4)
    assert torch.equal(head(rows), head(rows))
    assert not torch.equal(head.train()(rows), head(rows))
    assert torch.equal(head.eval()(rows), head(rows))


def test_dropout_of_both_layers():
    head, rows = Head(LENGTH, 3, 64, dropout=0.5).train(), pooled_rows(50)
    head.initialise(generator(), 4.0)
    torch.manual_seed(0)
    with torch.no_grad():
        fc6 = head.fc6_of(rows)
        exact = torch.relu(head.fc6(rows * head.input_scale))
        fc7 = head.fc7_of(exact)
        # Dropout doubles the units that it keeps, so that nothing is rescaled at test.
        for found, full in ((fc6, exact), (fc7, torch.relu(head.fc7(exact)))):
            alive = full > 0
            kept = found[alive] > 0
            torch.testing.assert_close(found[alive][kept], 2 * full[alive][kept])
            assert kept.float().mean().item() == pytest.approx(0.5, abs=0.05)


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


FACTORS = {"pool5": 3.0, "fc6": 2.0, "fc7": 0.5}


def test_layers_by_hand():
    head = made_head().train()
    with torch.no_grad():
        for layer in (head.fc6, head.fc7, head.fc8):
            layer.bias.normal_(generator=generator(3))
    rows = pooled_rows(5)
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    fc6, fc7, logits = slow_layers(state, rows.double().numpy() / 2)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = {
        "pool5": 3 * rows.numpy(),
        "fc6": 2 * fc6,
        "fc7": fc7 / 2,
        "softmax": (powers / powers.sum(axis=1, keepdims=True))[:, :3],
    }
    features = LayerFeatures(head, FACTORS)
    assert not head.training
    found = features(rows, list(expected))
    assert list(found) == list(expected)
    for layer, values in expected.items():
        assert found[layer].dtype == np.float32
        np.testing.assert_allclose(found[layer], values, rtol=1e-4, atol=1e-5)
        # A layer's features do not depend on the other layers in the same call.
        np.testing.assert_array_equal(features(rows, [layer])[layer], found[layer])
        assert features(rows[:0], [layer])[layer].shape == (0, values.shape[1])
    plain = LayerFeatures(head, {})(rows, ["fc7"])["fc7"]
    np.testing.assert_array_equal(plain / 2, found["fc7"])


def test_pool5_needs_no_head():
    rows = pooled_rows(5)
    for given in (rows, rows.bfloat16()):
        (found,) = LayerFeatures(None, FACTORS)(given, ["pool5"]).values()
        np.testing.assert_array_equal(found, 3 * given.float().numpy())


def test_layers_from_a_file(tmp_path):
    head, rows = made_head(), pooled_rows(5)
    state = {f"head.{name}": value for name, value in head.state_dict().items()}
    assert (
        strip_prefix(state | {"trunk.0.weight": rows}, "head.").keys() == head.state_dict().keys()
    )
    arrays = {name: value.numpy() for name, value in state.items()}
    write_artefact(tmp_path / "head.safetensors", "key", arrays)
    for precision in ("float32", "bfloat16"):
        loaded = LayerFeatures.load(tmp_path / "head.safetensors", "key", FACTORS, precision)
        made = LayerFeatures(head, FACTORS, precision)
        layers = ["pool5", "fc6", "fc7", "softmax"]
        for one, other in zip(
            loaded(rows, layers).values(), made(rows, layers).values(), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    without = LayerFeatures.load(None, "", FACTORS, "float32")
    assert without.head is None
    np.testing.assert_array_equal(without(rows, ["pool5"])["pool5"], 3 * rows.numpy())


@pytest.mark.parametrize("layer", ["fc6", "fc7", "softmax"])
def test_bfloat16_features_are_near(layer):
    head = Head(3200, 3, 64)
    head.initialise(generator(), 3.0)
    rows = pooled_rows(20, 3200)
    exact, near, from_near = (
        LayerFeatures(head, {"fc6": 1.5}, kind)(given, [layer])[layer]
        for kind, given in (("float32", rows), ("bfloat16", rows), ("bfloat16", rows.bfloat16()))
    )
    for found in (near, from_near):
        assert found.dtype == np.float32
        assert 0 < np.linalg.norm(found - exact) < 0.02 * np.linalg.norm(exact)
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}


def truncated(head, rank):
    moments = ResponseMoments(head)
    moments.add(pooled_rows(200))
    return TruncatedHead.of(head, moments.responses(), rank)


@pytest.mark.parametrize("rank", [None, 3, 8, 16])
def test_a_head_for_other_classes(rank):
    """Rank None is the whole head; rank 3 makes fc6 and fc7 thin, 8 only fc6, and 16 neither."""
    head = made_head()
    given = head if rank is None else truncated(head, rank)
    rows, shift = pooled_rows(7), pooled_rows(1)[0]
    made = with_classes(given, 5, dropout=0.5).eval()
    assert type(made) is type(given)
    fc6 = given.fc6_of(rows)
    torch.testing.assert_close(made.fc6_of(rows), fc6)
    torch.testing.assert_close(made.fc7_of(fc6), given.fc7_of(fc6))
    assert made(rows).shape == (7, 6)
    torch.testing.assert_close(made(rows), made.fc8(given.fc7_of(fc6)))
    # The new head can be trained on shifted rows and read rows without a shift afterwards.
    made.shift_input(-shift)
    torch.testing.assert_close(made.fc6_of(rows - shift), fc6, rtol=1e-4, atol=1e-4)
    made.shift_input(shift)
    torch.testing.assert_close(made.fc6_of(rows), fc6, rtol=1e-4, atol=1e-4)
    # Half of the units are dropped in training, and the heads share no parameters.
    dropped = (made.train().fc6_of(rows) == 0) & (fc6 > 0)
    assert 0.2 < dropped.sum() / (fc6 > 0).sum() < 0.8
    for parameter in made.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(given.fc6_of(rows), fc6)


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("rank", [None, 4])
def test_a_head_from_its_state(classes, rank):
    head = made_head(classes=classes)
    given = head if rank is None else truncated(head, rank)
    made = head_from(given.state_dict())
    assert type(made) is type(given)
    assert made.fc8.weight.shape == ((0 if classes is None else 4), 16)
    assert LayerFeatures(made, {}).has_softmax == (classes is not None)
    for name, value in given.state_dict().items():
        assert torch.equal(made.state_dict()[name], value)
