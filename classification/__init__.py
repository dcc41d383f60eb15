"""Image classification with the spatial pyramid (He et al., arXiv 1406.4729, section 3).

``from classification import Classifier, SpatialPyramidPooling``; they are imported when asked for,
as the settings of this package are read by commands that use nothing else of it.
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
