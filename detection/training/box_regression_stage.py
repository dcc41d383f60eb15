"""The stage of box regression, from pooled conv5 (paper 4.1)."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from detection.data.records import Dataset
from detection.learners.bbox_regression import BoxRegressor
from detection.networks.weights import tensor_digest
from detection.run import Run
from detection.settings.training import BoxRegression
from detection.training.feature_cache import CachedWindows, FeatureCache
from detection.training.row_files import StackedRows
from detection.training.window_features import data_key
from files.artefacts import read_artefact, write_artefact
from files.names import content_key

BBOX_VERSION = 5


def box_regression_stage(
    run: Run,
    settings: BoxRegression,
    data: Dataset,
    cache: FeatureCache,
    entries: Sequence[CachedWindows],
    factor: float,
    prior: NDArray[np.float32] | None = None,
) -> BoxRegressor:
    """Ridge regression from pooled conv5, which ``factor`` brings to norm 20, to a better box.

    Args:
        run: keeps the result.
        settings: the penalty, and which windows are samples.
        data: the training images.
        cache: made the entries.
        entries: of each image the windows to learn from.
        factor: on pooled features.
        prior: ``(D + 1, 4)`` weights for pooled features as they are, which every class starts
            from; None starts from 0.
    """
    key = content_key(
        {
            "version": BBOX_VERSION,
            "scipy": version("scipy"),
            "data": data_key(cache, data),
            "settings": {"min_iou": settings.min_iou, "ridge": settings.ridge},
            **(
                {}
                if prior is None
                else {"prior": tensor_digest({"prior": torch.from_numpy(prior)})}
            ),
        }
    )
    path = run.artefact("box-regression", key)
    if path.exists():
        run.reused("box regression", path)
    else:
        with run.stage("box regression"):
            weights = _fit_regressor(settings.ridge, len(data.classes), entries, factor, prior)
            write_artefact(path, key, {"weights": weights})
    return BoxRegressor.from_arrays(read_artefact(path, key).arrays["weights"])


def _fit_regressor(
    ridge: float,
    num_classes: int,
    entries: Sequence[CachedWindows],
    factor: float,
    prior: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    regressor = BoxRegressor(ridge).fit(
        StackedRows([entry.regression_rows for entry in entries]),
        np.concatenate([entry.windows for entry in entries]),
        np.concatenate([entry.targets for entry in entries]),
        np.concatenate([entry.classes for entry in entries]),
        num_classes,
        factor,
        prior,
    )
    # Fitted at mean norm 20; with the factor in the weights they read pooled features as they are.
    regressor.weights_[:, :-1] *= np.float32(factor)
    return regressor.weights_
