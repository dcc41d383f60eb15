"""The stage of box regression, from pooled conv5 (paper 4.1)."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from detection.data.records import Dataset
from detection.learners.bbox_regression import BoxRegressor
from detection.run import Run
from detection.settings.training import BoxRegression
from detection.training.feature_cache import CachedWindows, FeatureCache, StackedRows
from detection.training.window_features import data_key
from files.artefacts import read_artefact, write_artefact
from files.names import content_key

BBOX_VERSION = 4


def box_regression_stage(
    run: Run,
    settings: BoxRegression,
    data: Dataset,
    cache: FeatureCache,
    entries: Sequence[CachedWindows],
    factor: float,
) -> BoxRegressor:
    """Ridge regression from pooled conv5, which ``factor`` brings to norm 20, to a better box."""
    key = content_key(
        {
            "version": BBOX_VERSION,
            "scikit-learn": version("scikit-learn"),
            "data": data_key(cache, data),
            "settings": {"min_iou": settings.min_iou, "ridge": settings.ridge},
        }
    )
    path = run.artefact("box-regression", key)
    if path.exists():
        run.reused("box regression", path)
    else:
        with run.stage("box regression"):
            weights = _fit_regressor(settings.ridge, len(data.classes), entries, factor)
            write_artefact(path, key, {"weights": weights})
    return BoxRegressor.from_arrays(read_artefact(path, key).arrays["weights"])


def _fit_regressor(
    ridge: float, num_classes: int, entries: Sequence[CachedWindows], factor: float
) -> NDArray[np.float32]:
    regressor = BoxRegressor(ridge).fit(
        StackedRows([entry.regression_rows for entry in entries]),
        np.concatenate([entry.windows for entry in entries]),
        np.concatenate([entry.targets for entry in entries]),
        np.concatenate([entry.classes for entry in entries]),
        num_classes,
        factor,
    )
    # Fitted at mean norm 20; with the factor in the weights they read pooled features as they are.
    regressor.weights_[:, :-1] *= np.float32(factor)
    return regressor.weights_
