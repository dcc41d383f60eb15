"""An extractor by name."""

from collections.abc import Sequence
from typing import Literal

from detection.features.extractor import Extractor, Precision, SPPExtractor
from detection.features.rcnn import RCNNExtractor
from detection.networks.backbone import Backbone


def build_extractor(
    features: Literal["spp", "rcnn"],
    backbone: Backbone,
    scales: Sequence[int],
    scale_rule: Literal["paper", "released"],
    precision: Precision,
) -> Extractor:
    """The paper's features, or R-CNN's, which warps windows and so knows no scales."""
    if features == "rcnn":
        return RCNNExtractor(backbone, precision)
    return SPPExtractor(backbone, scales, scale_rule, precision)
