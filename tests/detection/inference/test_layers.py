"""Features of the layers against plain torch, and from their file."""

import copy

import numpy as np
import pytest
import torch

from detection.inference.layers import LayerFeatures
from detection.networks.head import Head
from detection.networks.truncated import (
    ResponseMoments,
    Responses,
    TruncatedHead,
    pack,
    unpack,
)
from files.artefacts import strip_prefix, write_artefact

CLASSES, LENGTH, HIDDEN = 3, 200, 16
LAYERS = ("pool5", "fc6", "fc7", "softmax")


@pytest.fixture
def head():
    """Return a new head, which is still in training mode."""
    made = Head(LENGTH, CLASSES, HIDDEN)
    generator = torch.Generator().manual_seed(0)
    made.initialise(generator, 4.0)
    for layer in (made.fc6, made.fc7, made.fc8):
        layer.bias.data.normal_(0, 0.2, generator=generator)
    made.fc8.weight.data.normal_(generator=generator)
    return made


@pytest.fixture
def pooled():
    return 3 * torch.rand(30, LENGTH, generator=torch.Generator().manual_seed(1))


def by_hand(head, pooled):
    """Compute the layers by matrix products in float64; pooled vectors have a mean square of 4."""
    weights = {name: value.double() for name, value in head.state_dict().items()}
    fc6 = (pooled.double() / 2) @ weights["fc6.weight"].T + weights["fc6.bias"]
    fc6 = fc6.clamp(min=0)
    fc7 = (fc6 @ weights["fc7.weight"].T + weights["fc7.bias"]).clamp(min=0)
    logits = fc7 @ weights["fc8.weight"].T + weights["fc8.bias"]
    softmax = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
    return {"pool5": pooled, "fc6": fc6, "fc7": fc7, "softmax": softmax[:, :CLASSES]}


def test_layers_by_hand(head, pooled):
    expected = by_hand(head, pooled)
    found = LayerFeatures(head, {})(pooled, LAYERS)
    assert list(found) == list(LAYERS)
    for layer, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[layer], rtol=1e-4, atol=1e-5)
    # The rest is the background's probability, which is left out.
    assert (found["softmax"].sum(axis=1) < 1).all()
    assert found["softmax"].shape == (30, CLASSES)
    # Dropout is off.
    again = LayerFeatures(head, {})(pooled, LAYERS)
    for layer in LAYERS:
        np.testing.assert_array_equal(found[layer], again[layer])


def test_only_the_asked_layers_in_their_order(head, pooled):
    features = LayerFeatures(head, {})
    every = features(pooled, LAYERS)
    for asked in (["fc7"], ["softmax", "pool5"], ("fc7", "fc6"), ["softmax"], []):
        found = features(pooled, asked)
        assert list(found) == list(asked)
        for layer, values in found.items():
            np.testing.assert_array_equal(values, every[layer])


def test_factors_scale_their_layers_and_no_other(head, pooled):
    factors = {"pool5": 0.5, "fc7": 4.0}
    plain = LayerFeatures(head, {})(pooled, LAYERS)
    features = LayerFeatures(head, factors)
    assert features.factors == factors
    scaled = features(pooled, LAYERS)
    for layer, factor in (("pool5", 0.5), ("fc6", 1.0), ("fc7", 4.0), ("softmax", 1.0)):
        np.testing.assert_array_equal(scaled[layer], plain[layer] * np.float32(factor))


def test_bfloat16_is_near_float32(head, pooled):
    before = copy.deepcopy(head.state_dict())
    exact = LayerFeatures(head, {"fc6": 2.0, "fc7": 3.0})(pooled, LAYERS)
    near = LayerFeatures(head, {"fc6": 2.0, "fc7": 3.0}, "bfloat16")(pooled, LAYERS)
    np.testing.assert_array_equal(near["pool5"], exact["pool5"])
    for layer in ("fc6", "fc7", "softmax"):
        assert near[layer].dtype == np.float32
        error = np.abs(near[layer] - exact[layer]).max()
        assert 0 < error < 0.03 * np.abs(exact[layer]).max(), layer
    # The head itself is unchanged.
    for name, value in head.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pooled_vectors_in_bfloat16(head, pooled, precision):
    """An extractor in bfloat16 gives such vectors."""
    features = LayerFeatures(head, {"pool5": 3.0}, precision)
    half = pooled.to(torch.bfloat16)
    found, expected = features(half, LAYERS), features(half.float(), LAYERS)
    for layer in LAYERS:
        assert found[layer].dtype == np.float32
        np.testing.assert_allclose(found[layer], expected[layer], rtol=0.02, atol=0.02)


def test_no_windows(head):
    found = LayerFeatures(head, {})(torch.zeros(0, LENGTH), LAYERS)
    shapes = [values.shape for values in found.values()]
    assert shapes == [(0, LENGTH), (0, HIDDEN), (0, HIDDEN), (0, CLASSES)]


def test_the_head_is_put_to_use(head, pooled):
    assert head.training
    features = LayerFeatures(head, {})
    assert features.head is head
    assert not head.training
    # The results are arrays, without a graph.
    assert all(isinstance(values, np.ndarray) for values in features(pooled, LAYERS).values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_without_a_head(pooled, precision):
    for features in (
        LayerFeatures(None, {"pool5": 2.0}, precision),
        LayerFeatures.load(None, "", {"pool5": 2.0}, precision),
    ):
        assert features.head is None
        found = features(pooled, ["pool5"])
        np.testing.assert_array_equal(found["pool5"], 2 * pooled)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_head_comes_back_from_its_file(head, pooled, tmp_path, precision):
    """The file is that of the fine-tuning stage, which has the trunk's tensors too."""
    path = tmp_path / "head.safetensors"
    state = {f"head.{name}": value.numpy() for name, value in head.state_dict().items()}
    write_artefact(path, "key", state | {"trunk.0.weight": np.zeros((2, 3))})
    factors = {"fc6": 1.5, "fc7": 3.0}
    loaded = LayerFeatures.load(path, "key", factors, precision)
    assert loaded.factors == factors
    assert loaded.head.input_scale == head.input_scale == 0.5
    expected = LayerFeatures(head, factors, precision)(pooled, LAYERS)
    for layer, values in loaded(pooled, LAYERS).items():
        np.testing.assert_array_equal(values, expected[layer])


def test_parts_of_tensors():
    tensors = {
        "head.a": torch.ones(1),
        "head.b.head.": torch.ones(2),
        "trunk.head.a": torch.ones(3),
    }
    assert {name: len(value) for name, value in strip_prefix(tensors, "head.").items()} == {
        "a": 1,
        "b.head.": 2,
    }
    assert strip_prefix(tensors, "tail.") == {}


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_rows_added_to_bfloat16_products_are_cut_off(count):
    head = Head(50, 3, 16)
    head.initialise(torch.Generator().manual_seed(0), 1.0)
    pooled = torch.rand((count, 50), generator=torch.Generator().manual_seed(1)).bfloat16()
    found = LayerFeatures(head, {}, "bfloat16")(pooled, ["pool5", "fc6", "fc7", "softmax"])
    assert {len(values) for values in found.values()} == {count}
    alone = LayerFeatures(head, {}, "bfloat16")(pooled[:1], ["fc7"])["fc7"]
    np.testing.assert_allclose(found["fc7"][:1], alone, rtol=2e-2, atol=1e-3)


def gathered(head, pooled):
    moments = ResponseMoments(head.eval())
    for rows in pooled.split(7):
        moments.add(rows)
    return moments.responses()


def test_responses_by_hand(head, pooled):
    found = gathered(head, pooled)
    weights = {name: value.double() for name, value in head.state_dict().items()}
    fc6 = (pooled.double() / 2) @ weights["fc6.weight"].T + weights["fc6.bias"]
    fc7 = fc6.clamp(min=0) @ weights["fc7.weight"].T + weights["fc7.bias"]
    for name, values in (("fc6", fc6), ("fc7", fc7)):
        mean = values.mean(dim=0)
        torch.testing.assert_close(found[name].mean.double(), mean, rtol=1e-4, atol=1e-5)
        directions = found[name].directions.double()
        torch.testing.assert_close(
            directions.T @ directions, torch.eye(HIDDEN).double(), rtol=0, atol=1e-5
        )
        spread = ((values - mean) @ directions).square().sum(dim=0)
        whole = torch.linalg.svdvals(values - mean).square()
        torch.testing.assert_close(spread, whole[:HIDDEN], rtol=1e-3, atol=1e-3)


def test_truncated_layers_by_hand(head, pooled):
    found, rank = gathered(head, pooled), 5
    made = TruncatedHead.of(head, found, rank)
    with torch.no_grad():
        exact = head.fc6_response(pooled)
        mean, u = found["fc6"].mean, found["fc6"].directions[:, :rank]
        near = mean + (exact - mean) @ u @ u.T
        torch.testing.assert_close(made.fc6(pooled), near, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(made.fc6_of(pooled), torch.relu(near), rtol=1e-4, atol=1e-4)
    assert [layer.out_features for layer in made.fc6] == [rank, HIDDEN]
    assert [layer.out_features for layer in made.fc7] == [2 * rank, HIDDEN]
    state = {n: v.clone() for n, v in head.state_dict().items()}
    LayerFeatures(head, {}, rank=rank, responses=found)(pooled, LAYERS)
    assert all(torch.equal(state[name], value) for name, value in head.state_dict().items())


def test_responses_through_a_file(head, pooled):
    found = gathered(head, pooled)
    again = unpack(pack(found))
    assert again.keys() == found.keys() == {"fc6", "fc7"}
    assert all(torch.equal(again[n].directions, found[n].directions) for n in found)
    assert unpack({}) == {}


def test_a_rank_without_responses(head):
    with pytest.raises(ValueError, match="their responses to windows; none were given"):
        LayerFeatures(head, {}, rank=5)


def test_a_rank_above_the_directions(head, pooled):
    few = {
        name: Responses(each.mean, each.directions[:, :4])
        for name, each in gathered(head, pooled).items()
    }
    with pytest.raises(ValueError, match="a rank of 1, and of 4 at most, got 5"):
        LayerFeatures(head, {}, rank=5, responses=few)


@pytest.mark.parametrize("rank", [HIDDEN, 1000])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_rank_that_saves_nothing_changes_nothing(head, pooled, rank, precision):
    whole = LayerFeatures(head, {}, precision)(pooled, LAYERS)
    found = LayerFeatures(head, {}, precision, rank, gathered(head, pooled))(pooled, LAYERS)
    close = {"float32": 1e-5, "bfloat16": 3e-2}[precision]
    for layer in LAYERS:
        np.testing.assert_allclose(found[layer], whole[layer], rtol=close, atol=close)


def test_truncated_layers_come_nearer_with_the_rank(head, pooled):
    whole = LayerFeatures(head, {})(pooled, ["fc7"])["fc7"]
    responses = gathered(head, pooled)
    errors = [
        np.abs(
            LayerFeatures(head, {}, rank=rank, responses=responses)(pooled, ["fc7"])["fc7"] - whole
        ).mean()
        for rank in (2, 6, 10, 14)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 3


def test_truncated_layers_without_windows(head, pooled):
    features = LayerFeatures(head, {}, "bfloat16", 3, gathered(head, pooled))
    found = features(torch.zeros(0, LENGTH), LAYERS)
    assert {layer: len(values) for layer, values in found.items()} == dict.fromkeys(LAYERS, 0)
