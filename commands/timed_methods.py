"""What the benchmark times: SPP-net with its levers and without, and R-CNN."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detection.features.extractor import SPPExtractor, WindowFeatures
from detection.features.rcnn import RCNNExtractor
from detection.features.scales import SCALES
from detection.inference.detector import SPPDetector
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.class_svms import ClassSVMs
from detection.machine import Precision, native_precision
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.networks.pyramid import LEVELS
from detection.networks.torchvision_ops import roi_pool
from detection.networks.truncated import LAYERS, MOST, Responses
from detection.settings.testing import Detection

CLASSES = 20
# Of fc6 and fc7; chosen by what it costs in mAP (docs/decisions.md).
RANK = 256


class Method(NamedTuple):
    """What is timed: features, number of scales, precision, and the rank of fc6 and fc7."""

    features: Literal["spp", "plain", "rcnn"]
    scales: int
    precision: Precision
    rank: int | None = None


METHODS = {
    "spp_5_scales": Method("spp", 5, "bfloat16", RANK),
    "spp_1_scale": Method("spp", 1, "bfloat16", RANK),
    "spp_5_scales_whole": Method("spp", 5, "bfloat16"),
    "spp_1_scale_whole": Method("spp", 1, "bfloat16"),
    "spp_5_scales_float32": Method("spp", 5, "float32"),
    "spp_1_scale_float32": Method("spp", 1, "float32"),
    "spp_5_scales_plain": Method("plain", 5, "float32"),
    "spp_1_scale_plain": Method("plain", 1, "float32"),
    "rcnn": Method("rcnn", 0, "float32"),
    "rcnn_bfloat16": Method("rcnn", 0, "bfloat16"),
}


class PlainSPP(SPPExtractor):
    """SPP features without shortcuts: each window for itself, each level of the pyramid too."""

    @torch.no_grad()
    def features(self, image: NDArray[np.uint8], windows: NDArray) -> WindowFeatures:
        """``(P, D)``, a row for every window."""
        maps = self.maps(image)
        places = self.cells(maps, windows)
        pooled = torch.empty(len(windows), self.length, device=self.device)
        for number, map in enumerate(maps.maps):
            here = np.flatnonzero(places[:, 0] == number)
            rois = torch.from_numpy(places[here]).float().to(self.device)
            rois[:, 0] = 0
            levels = [
                roi_pool(map[None].contiguous(), rois, level, 1.0).flatten(1) for level in LEVELS
            ]
            pooled[here] = torch.cat(levels, dim=1)
        return WindowFeatures(pooled, np.arange(len(windows)))


def native_methods(device: torch.device) -> dict[str, Method]:
    """``METHODS`` in the precisions that detection uses on a device."""
    return {
        name: method._replace(precision=native_precision(method.precision, device))
        for name, method in METHODS.items()
    }


def make(method: Method, hidden: int, device: torch.device) -> SPPDetector:
    """A detector with random weights throughout: time does not depend on what was learned.

    Args:
        method: what is timed.
        hidden: width of fc6 and fc7.
        device: where the network runs.
    """
    features, scales, precision, rank = method
    backbone = build_backbone("alexnet", "random").to(device)
    if features == "rcnn":
        extractor: Any = RCNNExtractor(backbone, precision)
    else:
        kind = PlainSPP if features == "plain" else SPPExtractor
        extractor = kind(backbone, SCALES[scales], precision=precision)
    head = Head(extractor.length, CLASSES, hidden)
    head.initialise(torch.Generator().manual_seed(0), 1.0)
    # Any directions will do: time does not depend on them.
    responses = Responses(torch.zeros(hidden), torch.eye(hidden, MOST))
    rng = np.random.default_rng(0)
    svms = ClassSVMs.from_arrays(rng.normal(0, 0.01, (CLASSES, hidden)), np.full(CLASSES, -1.0))
    regressor = BoxRegressor.from_arrays(rng.normal(0, 1e-5, (CLASSES, extractor.length + 1, 4)))
    classes = tuple(f"class {number}" for number in range(CLASSES))
    return SPPDetector(
        classes,
        extractor,
        LayerFeatures(
            head.to(device), {"fc7": 0.01}, precision, rank, dict.fromkeys(LAYERS, responses)
        ),
        {"fc7": svms},
        regressor,
        detection=Detection(),
    )
