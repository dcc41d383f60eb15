"""Image classification with the spatial pyramid (He et al., arXiv 1406.4729, section 3).

``from classification import Classifier, SpatialPyramidPooling`` imports these two only when they
are used, because some commands need only this package's settings.
"""

from importlib import import_module
from typing import Any

PUBLIC = {
    "Classifier": "classification.classifier",
    "SpatialPyramidPooling": "detection.networks.spatial_pyramid",
}

__all__ = ["Classifier", "SpatialPyramidPooling"]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)
