"""The windows of one image that SVMs find hard: the work of mining that processes share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.data.records import ImageRecord
from detection.features.build import ExtractorSpec, extractor_of_process
from detection.features.extractor import Extractor
from detection.inference.layers import LayerFeatures
from detection.machine import Precision
from detection.training.labels import label_windows
from detection.training.mining.models import Model, ModelsFile, models_of_process


class Hard(NamedTuple):
    """Hard windows of an image at one layer: features ``(R, D)`` and ``(R, K)`` of which class."""

    features: NDArray[np.float16]
    negative: NDArray[np.bool_]


class HeadFile(NamedTuple):
    """The artefact of fine-tuning, with its key."""

    path: Path
    key: str


@dataclass(frozen=True)
class FeatureSource:
    """Describes the features, so that another process can compute them.

    Attributes:
        extractor: describes the extractor of windows.
        head: file of fc6 and fc7; None if only pool5 is used.
        factors: each layer's factor to mean norm 20.
        precision: number format of the products.
    """

    extractor: ExtractorSpec
    head: HeadFile | None
    factors: tuple[tuple[str, float], ...]
    precision: Precision


@dataclass(frozen=True)
class MiningJob:
    """An image to be searched for hard windows.

    Attributes:
        record: the image.
        proposals: ``(P, 4)`` its windows.
        models: the SVMs of each layer, or their file for another process.
        negative_iou: a window that overlaps all objects of a class by less is a negative of it.
        difficult: as for ``label_windows``.
    """

    record: ImageRecord
    proposals: NDArray[np.float32]
    models: Mapping[str, Model] | ModelsFile
    negative_iou: float
    difficult: bool


def hard_windows(extractor: Extractor, features: LayerFeatures, job: MiningJob) -> dict[str, Hard]:
    """The windows of an image that are hard for an SVM of some class, by layer.

    Windows on the same cells are one row, with the largest of their overlaps: the row is a negative
    only if all its windows are.

    Args:
        extractor: features of windows.
        features: the layers' features.
        job: the image and what is hard in it.
    """
    models = models_of_process(job.models) if isinstance(job.models, ModelsFile) else job.models
    num_classes = len(next(iter(models.values())).bias)
    labels = label_windows(job.record, job.proposals, num_classes, difficult=job.difficult)
    found = extractor.features(job.record.read(), labels.windows)
    overlap = np.zeros((len(found.pooled), num_classes), np.float32)
    np.maximum.at(overlap, found.index, labels.class_overlap)
    rows = features(found.pooled, list(models))
    hard = {}
    for layer, model in models.items():
        negative = (overlap < job.negative_iou) & model.hard(rows[layer])
        kept = negative.any(axis=1)
        hard[layer] = Hard(rows[layer][kept].astype(np.float16), negative[kept])
    return hard


def hard_windows_in_process(source: FeatureSource, job: MiningJob) -> dict[str, Hard]:
    """``hard_windows`` by a network that this process loads once."""
    return hard_windows(extractor_of_process(source.extractor), _features_of_process(source), job)


@lru_cache(maxsize=1)
def _features_of_process(source: FeatureSource) -> LayerFeatures:
    """The layers' features, made once in a process."""
    path, key = (None, "") if source.head is None else source.head
    factors, device = dict(source.factors), source.extractor.device
    return LayerFeatures.load(path, key, factors, source.precision, device)
