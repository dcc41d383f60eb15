"""The description of a fixed network from which other processes build its extractor."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from classification.transfer.layers import LayerExtractor
from detection.machine import Precision, device_in_keys, ready
from detection.networks.build import build_backbone
from detection.networks.weight_sources import load_weights
from detection.networks.weights import tensor_digest

# Part of every key: raise it when the same images give other numbers.
VERSION = 2


@dataclass(frozen=True)
class FixedNetwork:
    """The network that computes the features; it is not trained.

    Attributes:
        name: alexnet, vgg16, zf5, efficientnet_lite0 or resnet50_caffe; or a network of torchvision
            with the layer to pool from, such as ``resnet50/layer4``.
        weights: auto, torchvision, index, random, or a file; 'auto' takes the first it finds: a
            file in the folder, torchvision's weights, or those of the package index.
        folder: folder where weights are kept.
    """

    name: str = "alexnet"
    weights: str = "auto"
    folder: str = "data/weights"


@dataclass(frozen=True)
class ExtractorSpec:
    """The description from which another process builds an extractor.

    Attributes:
        network: name, and source of the weights.
        digest: of the weights of convolutions and fc layers.
        precision: of the convolutions.
        device: type of the device that computes them.
    """

    network: FixedNetwork
    digest: str
    precision: Precision = "float32"
    device: str = "cpu"

    @classmethod
    def of(cls, network: FixedNetwork, precision: Precision, device: str) -> "ExtractorSpec":
        """The spec of a network; missing weights are downloaded.

        Raises:
            ValueError, FileNotFoundError, RuntimeError: see ``load_weights``.
        """
        weights = load_weights(network.name, network.weights, Path(network.folder))
        digest = tensor_digest({**weights.state, **(weights.classifier or {})})
        return cls(network, digest, precision, device)

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that determines the features, except the image, its view and the layer."""
        device = device_in_keys(torch.device(self.device), self.precision)
        named = {"network": self.network.name, "device": device}
        return {"version": VERSION, **asdict(self), **named}

    def build(self) -> LayerExtractor:
        """The extractor."""
        network = self.network
        weights = load_weights(network.name, network.weights, Path(network.folder))
        backbone = build_backbone(network.name, weights).to(ready(self.device))
        return LayerExtractor(backbone, weights.classifier, self.precision)


@lru_cache(maxsize=1)
def extractor_of_process(spec: ExtractorSpec) -> LayerExtractor:
    """The extractor, built once per process."""
    return spec.build()
