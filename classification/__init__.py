"""Image classification with the spatial pyramid (He et al., arXiv 1406.4729, section 3)."""

from classification.classifier import Classifier
from detection.networks.spatial_pyramid import SpatialPyramidPooling

__all__ = ["Classifier", "SpatialPyramidPooling"]
