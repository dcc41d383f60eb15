"""A training starts from ImageNet's network or from a trained detector's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_detector import made_detector
from made_world import CONFIG

from detection.features.extractor import SPPExtractor
from detection.features.rcnn import RCNNExtractor
from detection.inference import detector_file
from detection.inference.compact import compact
from detection.inference.detector import SPPDetector
from detection.networks.backbone import reduction_of
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.networks.truncated import TruncatedHead
from detection.networks.weights import tensor_digest
from detection.run import Run
from detection.settings.training import Network
from detection.training.network_stage import network_stage
from detection.training.start import load_start
from files.writing import file_digest


@pytest.fixture(scope="module")
def backbone():
    """Return a network whose maps have 4 channels, so that the head is small."""
    made = build_backbone("alexnet", "random")
    weight = torch.rand(4, 256, 1, 1, generator=torch.Generator().manual_seed(0)) / 100
    made.reduction = reduction_of(weight, torch.zeros(4))
    made.digest = tensor_digest(made.tensors())
    return made


@pytest.fixture(scope="module")
def detector(backbone):
    return made_detector(SPPExtractor(backbone, (96,)))


def started(detector, folder, numbers="float32", **network):
    """Save the detector, and return the start from its file with settings of the network."""
    path = folder / "detector.safetensors"
    detector.save(path, numbers)
    return load_start(replace(CONFIG, start=str(path), network=Network(**network)))


def test_imagenets_network_is_the_default():
    start = load_start(replace(CONFIG, network=Network(weights="random")))
    assert start.network == Network(weights="random")
    assert (start.weights.head, start.digest, start.regression) == (None, "", None)


def test_a_detectors_network_and_fc_layers(detector, backbone, tmp_path):
    start = started(detector, tmp_path)
    path = tmp_path / "detector.safetensors"
    assert (start.weights.source, start.digest) == (str(path), file_digest(path))
    assert start.weights.digest == backbone.digest
    assert start.weights.classifier is None
    np.testing.assert_array_equal(start.regression, detector.regressor.weights_.mean(axis=0))
    head, trained = start.weights.head, detector.features.head
    assert isinstance(head, Head)
    for name in ("fc6", "fc7"):
        for part, value in getattr(trained, name).state_dict().items():
            assert torch.equal(getattr(head, name).state_dict()[part], value)
    assert head.fc8.out_features == 0
    # The reduction comes with the trunk, so no new one is made.
    made = network_stage(
        Run(replace(CONFIG, run=str(tmp_path / "run"))), start.network, None, start.weights
    )
    assert made.channels == 4
    image = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made(image), backbone(image))


def test_a_small_detector_stays_small(detector, backbone, tmp_path):
    start = started(compact(detector, 4), tmp_path, "int8")
    assert isinstance(start.weights.head, TruncatedHead)
    assert start.weights.head.rank == 4
    # The digest is of the rounded weights, which are not the backbone's.
    assert start.weights.digest == tensor_digest(start.weights.state) != backbone.digest


def test_a_detector_of_the_package(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(detector_file, "SHIPPED", tmp_path)
    detector.save(tmp_path / "small.safetensors")
    start = load_start(replace(CONFIG, start="small"))
    assert start.digest == file_digest(tmp_path / "small.safetensors")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"name": "vgg16"}, "alexnet, but --network.name vgg16 names another"),
        ({"weights": "random"}, "--network.weights random names another"),
        ({"pca_channels": 8}, "--network.pca_channels 8 names another"),
    ],
)
def test_another_network_is_refused(detector, tmp_path, network, words):
    with pytest.raises(ValueError, match=words):
        started(detector, tmp_path, **network)


def test_naming_the_same_network_is_none_of_another(detector, tmp_path):
    assert started(detector, tmp_path, pca_channels=4).network == Network()


def test_detectors_that_are_no_start(backbone, tmp_path):
    for extractor, words in (
        (RCNNExtractor(backbone), "was trained on R-CNN's features"),
        (SPPExtractor(backbone, (96,)), "has no fc layers to start from"),
    ):
        with pytest.raises(ValueError, match=words):
            started(made_detector(extractor, hidden=None), tmp_path)
    with pytest.raises(FileNotFoundError, match="no detector at none"):
        load_start(replace(CONFIG, start="none"))


def test_a_head_without_classes_through_a_file(detector, tmp_path):
    start = started(detector, tmp_path)
    layers = type(detector.features)(start.weights.head, detector.features.factors)
    replace(detector, features=layers).save(tmp_path / "mine.safetensors", "int8")
    loaded = SPPDetector.load(tmp_path / "mine.safetensors")
    assert loaded.layers == ("pool5", "fc6", "fc7", "fc6+fc7")
    with pytest.raises(ValueError, match="scores by pool5, fc6, fc7, "):
        loaded.score(None, None, ["softmax"])
