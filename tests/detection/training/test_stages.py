"""What the stages of training share, and the small ones: extractor, window bank, reduction."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_network import made_backbone
from made_world import CLASSES, CONFIG, LAYERS, artefacts, events_of, made_weights, made_world

from detection.data.records import Dataset
from detection.features.extractor import SPPExtractor
from detection.features.rcnn import RCNNExtractor
from detection.features.scales import SCALES
from detection.networks.build import build_backbone
from detection.networks.weights import Weights, random_weights
from detection.settings.data import Data
from detection.settings.training import Network
from detection.training.extractors import make_extractor
from detection.training.feature_cache import Sampling
from detection.training.network_stage import network_stage
from detection.training.pipeline import training_facts
from detection.training.scaling import mean_norm_factor, scaled_layers
from detection.training.start import Start
from detection.training.window_features import data_key, window_features_stage


@pytest.fixture
def world(tmp_path):
    return made_world(tmp_path)


@pytest.fixture
def weights(monkeypatch):
    """Return weights of a tiny network, and make 32 pixels the only scale."""
    monkeypatch.setitem(SCALES, 1, (32,))
    return made_weights()


def network_of(run, data, weights):
    return network_stage(run, run.config.network, data, weights)


def test_mean_norm_factor():
    assert mean_norm_factor(np.array([10, 30], np.float32)) == 1.0
    assert mean_norm_factor(np.array([5], np.float32)) == 4.0
    with pytest.raises(ValueError, match="all features are 0"):
        mean_norm_factor(np.zeros(3, np.float32))


@pytest.mark.parametrize("layers", [("fc7",), ("fc6", "pool5"), LAYERS])
def test_features_have_mean_norm_20(world, layers):
    # There are more images than are read at once, and the last ones have other norms.
    entries = [world.entries[number % 2] for number in range(300)] + world.entries
    head = world.features.head
    features = scaled_layers(layers, "float32", entries, head)
    # Box regression always reads pool5.
    assert set(features.factors) == {"pool5", *layers}
    assert features.head is head
    rows = np.concatenate([entry.random_rows.read() for entry in entries]).astype(np.float32)
    assert len(rows) == 12 * len(entries)
    for layer, found in features(torch.from_numpy(rows), [*features.factors]).items():
        norms = np.linalg.norm(found.astype(np.float64), axis=1)
        assert norms.mean() == pytest.approx(20, rel=1e-5), layer
        assert norms.std() > 0.1


def test_features_without_a_head(world):
    features = scaled_layers(("pool5",), "float32", world.entries, None)
    assert features.head is None
    rows = np.concatenate([entry.random_rows.read() for entry in world.entries])
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert features.factors == {"pool5": pytest.approx(20 / norms.mean(), rel=1e-5)}


def test_features_that_are_all_0(world):
    torch.nn.init.zeros_(world.features.head.fc6.weight)
    with pytest.raises(ValueError, match="all features are 0, so they cannot be scaled"):
        scaled_layers(LAYERS, "float32", world.entries, world.features.head)


def test_keys_of_the_training_data(world):
    key = data_key(world.bank, world.data)
    fewer = Dataset(world.data.records[1:], CLASSES)
    backward = Dataset(world.data.records[::-1], CLASSES)
    first = replace(world.data.records[0], labels=np.array([1, 1]))
    relabelled = Dataset((first, *world.data.records[1:]), CLASSES)
    others = {data_key(SimpleNamespace(key="other"), world.data)}
    others |= {data_key(world.bank, data) for data in (fewer, backward, relabelled)}
    assert len(others | {key}) == 5


@pytest.mark.usefixtures("bfloat16")
def test_the_extractor_that_the_settings_ask_for(world, weights):
    backbone = made_backbone()
    extractor = make_extractor(world.run(precision="bfloat16"), backbone)
    assert isinstance(extractor, SPPExtractor)
    assert extractor.scales == (32,)
    assert extractor.choice.rule == "paper"
    assert extractor.precision == "bfloat16"
    rcnn = make_extractor(world.run(features="rcnn"), backbone)
    assert isinstance(rcnn, RCNNExtractor)
    assert rcnn.backbone is backbone
    assert rcnn.precision == "float32"


def test_the_bank_is_filled_once(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = world.run(data=Data(cache=str(tmp_path / "cache")))
    extractor = SPPExtractor(made_backbone(), (32,))
    first = Dataset(world.data.records[:2], CLASSES)
    window_features_stage(run, Sampling(), first, world.windows, extractor)
    bank = window_features_stage(run, Sampling(), world.data, world.windows, extractor)
    assert all(bank.has(record) for record in world.data.records)
    again = window_features_stage(run, Sampling(), world.data, world.windows, extractor)
    assert again.key == bank.key
    said = [line for line in caplog.messages if line.startswith("training windows: ")]
    counts = ((0, 2), (2, 6), (6, 6))
    assert said == [f"training windows: {n} of {of} images were already done" for n, of in counts]
    assert [event["stage"] for event in events_of(run, "stage")] == ["training windows"] * 2
    entry = bank.load(world.data.records[0])
    assert entry.objects == 2
    assert entry.rows.length == extractor.length


def test_wide_maps_are_reduced_once(world, tmp_path):
    weights = random_weights("alexnet")
    whole = network_of(world.run(), world.data, weights)
    assert (whole.channels, whole.reduction, whole.digest) == (256, None, weights.digest)
    same = network_of(world.run(network=Network(pca_channels=256)), world.data, weights)
    assert same.reduction is None
    run = world.run(network=Network(pca_channels=8))
    first, again = (network_of(run, world.data, weights) for _ in range(2))
    assert (first.channels, first.pooled_length) == (8, 400)
    assert first.digest == again.digest != weights.digest
    assert len(artefacts(run, "reduction")) == 1
    assert [event["stage"] for event in events_of(run, "reused")] == ["reduction"]
    # A network built from the saved tensors gives the same map.
    loaded = build_backbone("alexnet", Weights(first.tensors(), "saved", first.digest))
    image = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(image), first(image))
    unread = replace(world.data, records=())  # the setting is refused before an image is read
    with pytest.raises(ValueError, match="pca_channels is 300, but the maps of alexnet have 256"):
        network_of(world.run(network=Network(pca_channels=300)), unread, weights)


def test_the_facts_of_a_training(world):
    none = replace(world.data, records=())
    facts = training_facts(CONFIG, Start(Network("vgg16"), None), world.data, none)
    expected = {"network": "vgg16", "start": "", "train_from": "fc", "held_back": 0}
    assert facts.items() >= {**expected, "split": "trainval", "images": 6}.items()
    config = replace(CONFIG, start="small", finetune=replace(CONFIG.finetune, steps=0))
    # Data without a trainval split are trained on train.
    read = replace(world.data, split="train")
    facts = training_facts(config, Start(Network(), None, "digest"), read, none)
    expected = {"start": "digest", "train_from": "svm", "split": "train"}
    assert facts.items() >= expected.items()
