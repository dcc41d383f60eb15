"""SPP-net object detection (He et al., arXiv 1406.4729).

The public names, which import nothing of training; the modules follow the paper's sections.
"""

from detection.data.reading import read_dataset
from detection.data.records import Dataset, ImageRecord
from detection.data.voc import read_voc
from detection.detections import Detections
from detection.evaluation.voc_ap import evaluate_voc
from detection.features.mapping import window_to_cells
from detection.features.scales import choose_scale_paper, choose_scale_released
from detection.inference.combination import combine
from detection.inference.detector import SPPDetector
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.class_svms import ClassSVMs
from detection.networks.backbone import Backbone
from detection.networks.head import Head
from detection.networks.pyramid import pool_pyramid
from detection.networks.spatial_pyramid import SpatialPyramidPooling
from detection.settings.data import Data

__all__ = [
    "Backbone",
    "BoxRegressor",
    "ClassSVMs",
    "Data",
    "Dataset",
    "Detections",
    "Head",
    "ImageRecord",
    "SPPDetector",
    "SpatialPyramidPooling",
    "choose_scale_paper",
    "choose_scale_released",
    "combine",
    "evaluate_voc",
    "pool_pyramid",
    "read_dataset",
    "read_voc",
    "window_to_cells",
]
