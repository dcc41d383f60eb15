"""What a training starts from: a network with ImageNet's weights, or a trained detector.

A detector knows more than ImageNet's network: its convolutions may have been fine-tuned, and its
fc6 and fc7 distinguish objects in windows from background. Its classes and SVMs are not used; SVMs
are trained for the classes of the new images. The box regression of each new class starts from the
mean of the detector's classes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.config import Config
from detection.features.extractor import SPPExtractor
from detection.inference.detector import SPPDetector
from detection.inference.detector_file import shipped
from detection.networks.backbone import Backbone
from detection.networks.linear import Linear
from detection.networks.weight_sources import load_weights
from detection.networks.weights import Weights, tensor_digest
from detection.settings.testing import Detection
from detection.settings.training import Network
from files.writing import file_digest


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        network: the settings of the network.
        weights: of its trunk and, where there are any, of fc6 and fc7.
        digest: SHA-256 of the detector's file; empty where the start is no detector.
        regression: ``(D + 1, 4)`` float32, the mean of its classes' box regression; None where the
            start is no detector.
    """

    network: Network
    weights: Weights
    digest: str = ""
    regression: NDArray[np.float32] | None = None


def load_start(config: Config) -> Start:
    """What the settings say to start from: ``config.start``, or else ``config.network``.

    Raises:
        FileNotFoundError, RuntimeError: as ``load_weights`` or ``SPPDetector.load``.
        ValueError: likewise; or the detector is of R-CNN's features, has no fc layers, or is not of
            the network that is named beside it.
    """
    network = config.network
    if config.start is None:
        weights = load_weights(network.name, network.weights, Path(network.folder))
        return Start(network, weights)
    path = shipped(config.start)
    # Its own settings of detection may ask for a truncation, which takes a while.
    detector = SPPDetector.load(path, precision="float32", detection=Detection())
    backbone, head = detector.extractor.backbone, detector.features.head
    if not isinstance(detector.extractor, SPPExtractor):
        raise ValueError(
            f"{path} was trained on R-CNN's features, whose network saw warped windows; --start "
            "needs a detector trained on SPP-net's features"
        )
    if head is None:
        raise ValueError(
            f"{path} scores by pool5 and has no fc layers to start from; --start needs a detector "
            "with fc6 and fc7"
        )
    _check_named(network, backbone, path)
    head.fc8 = Linear(head.fc8.in_features, 0)
    tensors = backbone.tensors()
    weights = Weights(tensors, str(path), tensor_digest(tensors), head=head)
    network = replace(network, name=backbone.name, pca_channels=None)
    return Start(network, weights, file_digest(path), detector.regressor.weights_.mean(axis=0))


def _check_named(network: Network, backbone: Backbone, path: Path) -> None:
    """What is named beside a detector must be the default, or the detector's own."""
    channels = None if backbone.reduction is None else backbone.channels
    own = {"name": backbone.name, "weights": "auto", "pca_channels": channels}
    for name, value in own.items():
        named = getattr(network, name)
        if named not in (getattr(Network(), name), value):
            raise ValueError(
                f"--start {path} has its own network, {backbone.name}, but --network.{name} "
                f"{named} names another; leave out one of them"
            )
