"""A detector with random weights, and a synthetic image with windows."""

from dataclasses import asdict, replace

import numpy as np
import torch

from detection.inference.detector import SPPDetector
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.calibration import Calibration
from detection.learners.class_svms import ClassSVMs
from detection.networks.head import Head
from detection.networks.truncated import ResponseMoments
from detection.settings.testing import Detection
from proposals.methods import Proposals
from proposals.selective_search import SelectiveSearch

CLASSES = ("cat", "dog", "sheep")
LAYERS = ("pool5", "fc6", "fc7", "fc6+fc7", "softmax")
SIZE = (60, 80)
ALL = -1e9


def made_image(seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3), np.uint8)
    image[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] += 150
    return image


def made_windows(count=40, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 40, (count, 2))
    return np.hstack([first, first + rng.integers(4, 20, (count, 2))]).astype(np.float32)


def made_detector(extractor, hidden=16):
    """Return a detector with random SVMs on every layer; ``hidden`` None leaves out fc layers."""
    rng = np.random.default_rng(0)
    pooled = extractor.features(made_image(), made_windows()).pooled.float()
    head = None
    if hidden is not None:
        head = Head(extractor.length, len(CLASSES), hidden)
        head.initialise(torch.Generator().manual_seed(0), pooled.square().mean().item())
        head.fc8.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    layers = ("pool5",) if head is None else ("pool5", "fc6", "fc7")
    found = LayerFeatures(head, {})(pooled, layers)
    responses = None
    if head is not None:
        moments = ResponseMoments(head)
        moments.add(pooled)
        responses = moments.responses()
    factors = {
        layer: float(20 / np.linalg.norm(rows, axis=1).mean()) for layer, rows in found.items()
    }
    svms = {
        layer: ClassSVMs.from_arrays(
            rng.standard_normal((3, rows.shape[1])) / 10, np.array([0, -0.2, 0.2])
        )
        for layer, rows in found.items()
    }
    bbox = rng.standard_normal((len(CLASSES), extractor.length + 1, 4))
    return SPPDetector(
        CLASSES,
        extractor,
        LayerFeatures(head, factors, responses=responses),
        svms,
        BoxRegressor.from_arrays(bbox * 2e-3 / pooled.norm(dim=1).mean().item()),
        Proposals(selective_search=SelectiveSearch(min_side=8)),
        Detection() if hidden else Detection(layer="pool5"),
        {"split": "train", "images": 2, "seed": 0, "precision": extractor.precision},
    )


def calibrated(detector):
    """Return the detector with sigmoids for each of its layers."""
    sigmoids = Calibration.from_arrays(np.array([1.0, 2.0, 0.5]), np.array([0.0, -0.5, 0.3]))
    return replace(detector, calibration=dict.fromkeys(detector.layers, sigmoids))


def scoring_by(detector, layer, **changes):
    settings = asdict(detector.detection) | {"layer": layer} | changes
    return replace(detector, detection=Detection(**settings))


def assert_same(one, other):
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.classes == other.classes


class Counting:
    """A detector that counts the images it scores, and may die at one of them."""

    def __init__(self, detector, dies_at=None):
        self.detector = detector
        self.dies_at = dies_at
        self.scored = 0

    def __getattr__(self, name):
        return getattr(self.detector, name)

    def candidates(self, image, windows, layers):
        if self.scored == self.dies_at:
            raise KeyboardInterrupt
        self.scored += 1
        return self.detector.candidates(image, windows, layers)
