"""A detector made small: fc layers of low rank for good, to be written as whole numbers."""

from dataclasses import replace

from detection.inference.detector import SPPDetector
from detection.inference.layers import LayerFeatures
from detection.networks.head import Head
from detection.networks.truncated import TruncatedHead


def compact(detector: SPPDetector, rank: int) -> SPPDetector:
    """A detector with fc6 of a low rank and fc7 of twice as much (``networks/truncated.py``).

    One of this rank or less stays as it is, as after a training that started from a small one.

    Raises:
        ValueError: it has no fc layers, or a rank already, or fewer directions are known.
    """
    head = detector.features.head
    if isinstance(head, TruncatedHead) and head.rank <= rank:
        return detector
    if not isinstance(head, Head):
        raise ValueError(
            "this detector has no whole fc layers to truncate: it scores by pool5 alone, or was "
            "already truncated, to a higher rank; --rank null leaves its layers as they are"
        )
    thin = TruncatedHead.of(head, detector.features.responses, rank)
    layers = LayerFeatures(thin, detector.features.factors, detector.extractor.precision)
    return replace(detector, features=layers, detection=replace(detector.detection, fc_rank=None))
