"""The stages that fit the linear parts: SVMs with hard negatives, and box regression."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

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
from detection.training.mining import HeadFile, Mining
from detection.training.stages import data_key
from detection.training.window_bank import BankEntry, StackedRows, WindowBank, picture_key
from files.artefacts import read_artefact, write_artefact
from files.names import key_of
from proposals.store import Windows

BBOX_VERSION = 4


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
        "scikit-learn": version("scikit-learn"),
        "head": head_key,
        "features": extractor.facts,
        "windows": windows.method.key,
        "pictures": [picture_key(record) for record in data.records],
        "difficult": config.data.difficult,
        "seed": config.seed,
        "settings": settings,
    }
    keys: dict[str, str] = {layer: key_of(facts | {"layer": layer}) for layer in config.svm.layers}
    paths = {layer: run.artefact(f"svms-{layer}", key) for layer, key in keys.items()}
    missing: list[str] = [layer for layer, path in paths.items() if not path.exists()]
    for layer, path in paths.items():
        if path.exists():
            run.reused(f"SVMs on {layer}", path)
    if missing:
        with run.stage("SVMs"):
            key = key_of(facts | {"layers": missing})
            head = HeadFile(head_path(run, head_key), head_key)
            mining = Mining(run, data, windows, extractor, features, head)
            for layer, svms in mining.train(missing, entries, key).items():
                arrays = {"weights": svms.coef_, "bias": svms.intercept_}
                write_artefact(paths[layer], keys[layer], arrays)
        mining.checkpoint.unlink(missing_ok=True)
        # The negatives are not needed any more; box regression needs the room.
        del mining
        hand_back()
    read = {layer: read_artefact(path, keys[layer]).arrays for layer, path in paths.items()}
    return {
        layer: ClassSVMs.from_arrays(arrays["weights"], arrays["bias"])
        for layer, arrays in read.items()
    }


def bbox_stage(
    run: Run, data: Dataset, bank: WindowBank, entries: Sequence[BankEntry], factor: float
) -> BoxRegressor:
    """Ridge regression from pooled conv5, which ``factor`` brings to norm 20, to a better box."""
    config = run.config
    key = key_of(
        {
            "version": BBOX_VERSION,
            "scikit-learn": version("scikit-learn"),
            "data": data_key(bank, data),
            "settings": {"min_iou": config.bbox.min_iou, "ridge": config.bbox.ridge},
        }
    )
    path = run.artefact("box-regression", key)
    if path.exists():
        run.reused("box regression", path)
    else:
        with run.stage("box regression"):
            weights = _fit_regressor(config, data, entries, factor)
            write_artefact(path, key, {"weights": weights})
    return BoxRegressor.from_arrays(read_artefact(path, key).arrays["weights"])


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
