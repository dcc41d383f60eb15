"""The stages that fit the linear parts: SVMs with hard negatives, and box regression."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from detection.config import Config
from detection.data.records import Dataset
from detection.features.extractor import Extractor
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.class_svms import ClassSVMs
from detection.run import Run
from detection.training import hard_negatives
from detection.training.finetune_stage import head_path
from detection.training.memory import hand_back
from detection.training.mining import Mining
from detection.training.stages import data_key, write_tensors
from detection.training.window_bank import BankEntry, StackedRows, WindowBank, picture_key
from proposals.disk import key_of
from proposals.store import Windows

BBOX_VERSION = 3


def svm_stage(
    run: Run,
    data: Dataset,
    windows: Windows,
    entries: Sequence[BankEntry],
    extractor: Extractor,
    features: LayerFeatures,
    head_key: str,
) -> dict[str, ClassSVMs]:
    """One SVM a class on each layer asked for, negatives mined over every picture once."""
    config = run.config
    settings = asdict(config.svm)
    for irrelevant in ("layers", "checkpoint_every"):
        del settings[irrelevant]
    facts = {
        "version": hard_negatives.VERSION,
        "head": head_key,
        "features": extractor.facts,
        "windows": windows.method.key,
        "pictures": [picture_key(record) for record in data.records],
        "difficult": config.data.difficult,
        "seed": config.seed,
        "settings": settings,
    }
    paths: dict[str, Path] = {
        layer: run.artefact(f"svms-{layer}", key_of(facts | {"layer": layer}))
        for layer in config.svm.layers
    }
    missing: list[str] = [layer for layer, path in paths.items() if not path.exists()]
    for layer, path in paths.items():
        if path.exists():
            run.reused(f"SVMs on {layer}", path)
    if missing:
        with run.stage("SVMs"):
            key = key_of(facts | {"layers": missing})
            mining = Mining(run, data, windows, extractor, features, head_path(run, head_key))
            for name, svms in mining.train(missing, entries, key).items():
                write_tensors(paths[name], {"weights": svms.coef_, "bias": svms.intercept_})
        mining.checkpoint.unlink(missing_ok=True)
        # The negatives are not needed any more; box regression needs the room.
        del mining
        hand_back()
    arrays = {layer: load_file(path) for layer, path in paths.items()}
    return {
        layer: ClassSVMs.from_arrays(found["weights"], found["bias"])
        for layer, found in arrays.items()
    }


def bbox_stage(
    run: Run, data: Dataset, bank: WindowBank, entries: Sequence[BankEntry], factor: float
) -> BoxRegressor:
    """Ridge regression from pooled conv5, which ``factor`` brings to norm 20, to a better box."""
    config = run.config
    key = key_of(
        {
            "version": BBOX_VERSION,
            "data": data_key(bank, data),
            "settings": {"min_iou": config.bbox.min_iou, "ridge": config.bbox.ridge},
        }
    )
    path = run.artefact("box-regression", key)
    if path.exists():
        run.reused("box regression", path)
    else:
        with run.stage("box regression"):
            write_tensors(path, {"weights": _fit_regressor(config, data, entries, factor)})
    return BoxRegressor.from_arrays(load_file(path)["weights"])


def _fit_regressor(
    config: Config, data: Dataset, entries: Sequence[BankEntry], factor: float
) -> NDArray[np.float32]:
    regressor = BoxRegressor(config.bbox.ridge).fit(
        StackedRows([entry.regression_rows for entry in entries]),
        np.concatenate([entry.windows for entry in entries]),
        np.concatenate([entry.targets for entry in entries]),
        np.concatenate([entry.classes for entry in entries]),
        len(data.classes),
        factor,
    )
    # Fitted at mean norm 20; with the factor in the weights they read pooled features as they are.
    regressor.weights_[:, :-1] *= np.float32(factor)
    return regressor.weights_
