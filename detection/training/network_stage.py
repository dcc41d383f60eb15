"""The stage of the network: wide maps are reduced by PCA (``networks/reduction.py``)."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import SPPExtractor
from detection.features.scales import SCALES
from detection.networks.backbone import Backbone, reduction_of
from detection.networks.build import build_backbone
from detection.networks.reduction import CellMoments
from detection.networks.weights import Weights, tensor_digest
from detection.run import Run
from detection.settings.training import Network
from detection.training.feature_cache import image_key
from files.artefacts import read_artefact, write_artefact
from files.images import read_image
from files.names import content_key

# Images of the training set whose cells the channels' reduction is made from.
REDUCTION_IMAGES = 300
# Raised when the same cells would give another one.
REDUCTION_VERSION = 3

logger = logging.getLogger(__name__)


def network_stage(run: Run, settings: Network, data: Dataset, weights: Weights) -> Backbone:
    """The network; where its maps have more channels than asked for, with their reduction.

    Args:
        run: its folder, device, seed and precision.
        settings: the network's name and pca_channels.
        data: the training images.
        weights: of the trunk.

    Raises:
        ValueError: its maps have fewer channels than asked for.
    """
    config, channels = run.config, settings.pca_channels
    backbone = build_backbone(settings.name, weights).to(run.device)
    if channels is None or channels == backbone.channels:
        return backbone
    if channels > backbone.channels:
        raise ValueError(
            f"Network.pca_channels is {channels}, but the maps of {backbone.name} have "
            f"{backbone.channels} channels; give a smaller number, or null to leave the maps as "
            "they are"
        )
    chosen = np.random.default_rng(config.seed).permutation(len(data.records))
    images = [data.records[number] for number in sorted(chosen[:REDUCTION_IMAGES])]
    facts = {
        "version": REDUCTION_VERSION,
        "network": backbone.name,
        "weights": weights.digest,
        "channels": channels,
        "images": [image_key(record) for record in images],
        "precision": config.precision,
    }
    key = content_key(facts)
    path = run.artefact("reduction", key)
    if path.exists():
        run.reused("reduction", path)
    else:
        with run.stage("reduction"):
            write_artefact(path, key, _reduction(run, backbone, images, channels))
    arrays = read_artefact(path, key).arrays
    weight, bias = (torch.from_numpy(arrays[name]) for name in ("weight", "bias"))
    backbone.reduction = reduction_of(weight, bias)
    backbone.digest = tensor_digest(backbone.tensors())
    return backbone.to(run.device)


def _reduction(
    run: Run, backbone: Backbone, images: Sequence[ImageRecord], channels: int
) -> dict[str, NDArray]:
    """Weight and bias of the reduction that the images' maps at one scale ask for."""
    extractor = SPPExtractor(backbone, SCALES[1], precision=run.config.precision)
    moments = CellMoments(backbone.channels)
    for record in run.progress(images, "reduction", len(images)):
        moments.add(extractor.maps(read_image(record.path)).maps[0])
    reduction, share = moments.reduction(channels)
    logger.info("%d channels hold %.3f of the variance", reduction.out_channels, share)
    return {name: value.numpy() for name, value in reduction.state_dict().items()}
