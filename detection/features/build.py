"""Builds extractors by name, in this and in other processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from detection.features.extractor import Extractor, SPPExtractor
from detection.features.map_store import MapStore
from detection.features.rcnn import RCNNExtractor
from detection.machine import Precision, ready
from detection.networks.backbone import Backbone
from detection.networks.build import build_backbone
from detection.networks.weights import Weights
from files.artefacts import read_artefact


def build_extractor(
    features: Literal["spp", "rcnn"],
    backbone: Backbone,
    scales: Sequence[int],
    scale_rule: Literal["paper", "released"],
    precision: Precision,
    store: MapStore | None = None,
) -> Extractor:
    """An extractor of the paper's features, or of R-CNN's, which has no scales."""
    if features == "rcnn":
        return RCNNExtractor(backbone, precision)
    return SPPExtractor(backbone, scales, scale_rule, precision, store)


@dataclass(frozen=True)
class ExtractorSpec:
    """The description from which another process builds an extractor.

    It has a few hundred bytes and is sent with every job.

    Attributes:
        features: SPP-net's or R-CNN's.
        network: name in the catalogue.
        trunk: artefact with the trunk's tensors.
        digest: of these tensors; the artefact's key.
        scales: shorter sides in pixels.
        scale_rule: chooses a window's scale.
        precision: number format of the network's products.
        maps: folder and largest number of bytes of stored maps; None stores none.
        device: type of the device that the network runs on.
    """

    features: Literal["spp", "rcnn"]
    network: str
    trunk: Path
    digest: str
    scales: tuple[int, ...]
    scale_rule: Literal["paper", "released"]
    precision: Precision
    maps: tuple[Path, float] | None = None
    device: str = "cpu"

    def build(self) -> Extractor:
        """The extractor.

        Raises:
            DamagedArtefact: the trunk's file is damaged, or belongs to another trunk.
            RuntimeError: the device cannot be used.
        """
        arrays = read_artefact(self.trunk, self.digest).arrays
        state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return build_extractor(
            self.features,
            build_backbone(self.network, Weights(state, str(self.trunk), self.digest)).to(
                ready(self.device)
            ),
            self.scales,
            self.scale_rule,
            self.precision,
            None if self.maps is None else MapStore(*self.maps),
        )


@lru_cache(maxsize=1)
def extractor_of_process(spec: ExtractorSpec) -> Extractor:
    """The extractor, built once per process."""
    return spec.build()
