"""The stages of training, in the paper's order; each reuses what it already made.

A stage's artefact is named by a key of everything that determines it, so a second call does what is
missing, and a run killed anywhere and started again ends with the same bytes.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from joblib import delayed
from numpy.typing import NDArray

from detection.data.records import Dataset, ImageRecord
from detection.features.build import ExtractorSpec, extractor_of_process
from detection.features.extractor import Extractor, SPPExtractor
from detection.features.map_store import MapStore
from detection.features.rcnn import RCNNExtractor
from detection.features.scales import SCALES
from detection.inference.layers import LayerFeatures
from detection.networks.backbone import Backbone, reduction_of
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.networks.reduction import CellMoments
from detection.networks.truncated import ResponseMoments
from detection.networks.weights import Weights, tensor_digest
from detection.run import Run
from detection.training.window_bank import BankEntry, Sampling, WindowBank, picture_key
from files.artefacts import read_artefact, write_artefact
from files.images import read_image
from files.names import key_of
from proposals.store import Windows

FEATURE_NORM = 20.0
# Pictures of the training set whose cells the channels' reduction is made from.
REDUCTION_PICTURES = 300
# Raised when the same cells would give another one.
REDUCTION_VERSION = 3

logger = logging.getLogger(__name__)


def weights_folder(run: Run) -> Path:
    """Where network weights are kept."""
    return Path(run.config.network.folder)


def backbone_stage(run: Run, data: Dataset, weights: Weights) -> Backbone:
    """The network; where its maps have more channels than asked for, with their reduction.

    Raises:
        ValueError: its maps have fewer channels than asked for.
    """
    config = run.config
    backbone = build_backbone(config.network.name, weights).to(run.device)
    if config.network.channels in (None, backbone.channels):
        return backbone
    chosen = np.random.default_rng(config.seed).permutation(len(data.records))
    pictures = [data.records[number] for number in sorted(chosen[:REDUCTION_PICTURES])]
    facts = {
        "version": REDUCTION_VERSION,
        "network": backbone.name,
        "weights": weights.digest,
        "channels": config.network.channels,
        "pictures": [picture_key(record) for record in pictures],
        "precision": config.precision,
    }
    key = key_of(facts)
    path = run.artefact("reduction", key)
    if path.exists():
        run.reused("reduction", path)
    else:
        with run.stage("reduction"):
            write_artefact(path, key, _reduction(run, backbone, pictures))
    arrays = read_artefact(path, key).arrays
    weight, bias = (torch.from_numpy(arrays[name]) for name in ("weight", "bias"))
    backbone.reduction = reduction_of(weight, bias)
    backbone.digest = tensor_digest(backbone.tensors())
    return backbone.to(run.device)


def _reduction(run: Run, backbone: Backbone, pictures: Sequence[ImageRecord]) -> dict[str, NDArray]:
    """Weight and bias of the reduction that the pictures' maps at one scale ask for."""
    extractor = SPPExtractor(backbone, SCALES[1], precision=run.config.precision)
    moments = CellMoments(backbone.channels)
    for record in run.progress(pictures, "reduction", len(pictures)):
        moments.add(extractor.maps(read_image(record.path)).maps[0])
    reduction, share = moments.reduction(run.config.network.channels or backbone.channels)
    logger.info("%d channels hold %.3f of the variance", reduction.out_channels, share)
    return {name: value.numpy() for name, value in reduction.state_dict().items()}


def make_extractor(run: Run, backbone: Backbone) -> Extractor:
    """What makes the features that SVMs and box regression learn from."""
    if run.config.features == "rcnn":
        return RCNNExtractor(backbone, run.config.precision)
    return spp_extractor(run, backbone)


def extractor_spec(run: Run, extractor: Extractor) -> ExtractorSpec | None:
    """What other processes make the extractor of, its trunk in a file of the run's.

    None where all work is done in this process, by the extractor itself.
    """
    if run.shares_network:
        return None
    config, backbone = run.config, extractor.backbone
    path = run.artefact("trunk", backbone.digest[:16])
    if not path.exists():
        arrays = {name: value.cpu().numpy() for name, value in backbone.tensors().items()}
        write_artefact(path, backbone.digest, arrays)
    return ExtractorSpec(
        config.features,
        backbone.name,
        path,
        backbone.digest,
        SCALES[config.scales],
        config.network.scale_rule,
        config.precision,
        map_limits(run) if config.features == "spp" else None,
    )


def map_limits(run: Run) -> tuple[Path, float] | None:
    """Folder and bytes of the maps to keep; None where none are kept."""
    limit = run.config.network.keep_maps_gb * 1e9
    return (run.cache / "maps", limit) if limit else None


def spp_extractor(run: Run, backbone: Backbone, *, keep_maps: bool = True) -> SPPExtractor:
    """SPP-net's features of training pictures, whose maps are kept where the settings say so."""
    config, limits = run.config, map_limits(run) if keep_maps else None
    store = None if limits is None else MapStore(*limits)
    scales, rule = SCALES[config.scales], config.network.scale_rule
    return SPPExtractor(backbone, scales, rule, config.precision, store)


def bank_stage(run: Run, data: Dataset, windows: Windows, extractor: Extractor) -> WindowBank:
    """Features of the windows that SVMs take for positives and box regression learns from."""
    config = run.config
    least = config.bbox.min_iou if config.bbox.layer == "pool5" else None
    sampling = Sampling(config.data.difficult, least, config.seed)
    bank = WindowBank(run.cache, extractor, windows.method.key, data.classes, sampling)
    missing = [record for record in data.records if not bank.has(record)]
    run.done_before("training windows", len(data.records) - len(missing), len(data.records))
    if missing:
        with run.stage("training windows"):
            for _ in run.progress(_pool_all(run, bank, windows, missing), "pooling", len(missing)):
                pass
    return bank


def _pool_all(
    run: Run, bank: WindowBank, windows: Windows, records: Sequence[ImageRecord]
) -> Iterator[None]:
    """Pool pictures."""
    spec = extractor_spec(run, bank.extractor) if bank.extractor is not None else None
    shared = bank if spec is None else bank.served_by(None)
    jobs = (delayed(_pool)(shared, spec, record, windows.load(record.path)) for record in records)
    yield from run.pool("generator_unordered")(jobs)


def _pool(
    bank: WindowBank,
    spec: ExtractorSpec | None,
    record: ImageRecord,
    proposals: NDArray[np.float32],
) -> None:
    """Pool a picture; in another process with that process's own extractor."""
    served = bank if spec is None else bank.served_by(extractor_of_process(spec))
    served.add(record, proposals)


def data_key(bank: WindowBank, data: Dataset) -> str:
    """What determines the rows a run learns from: the bank's settings and every picture."""
    return key_of({"bank": bank.key, "pictures": [picture_key(record) for record in data.records]})


def mean_norm_factor(norms: NDArray[np.float32]) -> float:
    """Factor that brings features of these L2 norms to mean norm 20 (released code).

    Raises:
        ValueError: all features are 0.
    """
    mean = float(np.mean(norms, dtype=np.float64))
    if not mean > 0:
        raise ValueError(
            "all features are 0, so they cannot be scaled; was fine-tuning too strong?"
        )
    return FEATURE_NORM / mean


def layer_features(run: Run, entries: Sequence[BankEntry], head: Head | None) -> LayerFeatures:
    """The layers' features at mean norm 20 over the bank's random windows.

    The responses of fc6 and fc7 to the same windows go with them, for a truncated head.
    """
    layers = sorted({"pool5", *run.config.svm.layers})
    raw = LayerFeatures(head, {}, run.config.precision)
    norms: dict[str, list[NDArray]] = {layer: [] for layer in layers}
    moments = None if head is None else ResponseMoments(head)
    for first in range(0, len(entries), 250):
        rows = [entry.random_rows.read() for entry in entries[first : first + 250]]
        pooled = torch.from_numpy(np.concatenate(rows).astype(np.float32))
        for layer, features in raw(pooled, layers).items():
            norms[layer].append(np.linalg.norm(features, axis=1))
        if moments is not None:
            moments.add(pooled)
    factors = {layer: mean_norm_factor(np.concatenate(each)) for layer, each in norms.items()}
    responses = None if moments is None else moments.responses()
    return LayerFeatures(head, factors, run.config.precision, responses=responses)
