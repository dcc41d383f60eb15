"""Extractors by name, here and in other processes."""

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
    """The paper's features, or R-CNN's, which warps windows and so knows no scales."""
    if features == "rcnn":
        return RCNNExtractor(backbone, precision)
    return SPPExtractor(backbone, scales, scale_rule, precision, store)


@dataclass(frozen=True)
class ExtractorSpec:
    """What another process makes an extractor of; a few hundred bytes, sent with every job.

    Attributes:
        features: SPP-net's or R-CNN's.
        network: name in the catalogue.
        trunk: artefact with the trunk's tensors.
        digest: of these; the artefact's key.
        scales: shorter sides in pixels.
        scale_rule: of windows.
        precision: of the products.
        maps: folder and bytes of the maps that are kept; None for none.
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
            DamagedArtefact: the trunk's file is not whole, or another's.
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
    """The extractor, made once in a process."""
    return spec.build()
