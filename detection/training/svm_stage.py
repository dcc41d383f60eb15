"""The stage of the SVMs, with hard negatives (paper 4.1)."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from detection.data.records import Dataset
from detection.features.extractor import Extractor
from detection.inference.layers import LayerFeatures
from detection.learners.class_svms import ClassSVMs
from detection.run import Run
from detection.settings.training import Svm
from detection.training.feature_cache import CachedWindows, image_key
from detection.training.finetuning.memory import hand_back
from detection.training.finetuning.phases import head_path
from detection.training.mining import hard_negatives
from detection.training.mining.hard_windows import HeadFile
from detection.training.mining.search import Mining
from files.artefacts import read_artefact, write_artefact
from files.names import content_key
from proposals.store import Windows


def svm_stage(
    run: Run,
    settings: Svm,
    data: Dataset,
    windows: Windows,
    entries: Sequence[CachedWindows],
    extractor: Extractor,
    features: LayerFeatures,
    head_key: str,
) -> dict[str, ClassSVMs]:
    """One SVM a class on each layer asked for, negatives mined over every image once.

    Mirrored images give positives only: their negatives are those of the images, mirrored.

    Args:
        run: its folder, seed and processes.
        settings: of the SVMs.
        data: the training images.
        windows: of each.
        entries: the cached windows of each, with the objects, which are the positives.
        extractor: features of windows.
        features: the layers' features.
        head_key: key of the fine-tuning's artefact.
    """
    facts = _facts(run, settings, data, windows, extractor, head_key)
    keys: dict[str, str] = {
        layer: content_key(facts | {"layer": layer}) for layer in settings.layers
    }
    paths = {layer: run.artefact(f"svms-{layer}", key) for layer, key in keys.items()}
    missing: list[str] = [layer for layer, path in paths.items() if not path.exists()]
    for layer, path in paths.items():
        if path.exists():
            run.reused(f"SVMs on {layer}", path)
    if missing:
        mined = data.without_mirrored()
        with run.stage("SVMs", len(mined.records)):
            key = content_key(facts | {"layers": missing})
            head = HeadFile(head_path(run, head_key), head_key)
            mining = Mining(run, settings, mined, windows, extractor, features, head)
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


def _facts(
    run: Run, settings: Svm, data: Dataset, windows: Windows, extractor: Extractor, head_key: str
) -> dict[str, Any]:
    """What determines the SVMs of a layer, besides the layer."""
    config, relevant = run.config, asdict(settings)
    for irrelevant in ("layers", "checkpoint_every"):
        del relevant[irrelevant]
    return {
        "version": hard_negatives.VERSION,
        "scikit-learn": version("scikit-learn"),
        "head": head_key,
        "features": extractor.facts,
        "windows": windows.method.key,
        "images": [image_key(record) for record in data.records],
        "difficult": config.data.difficult,
        "seed": config.seed,
        "settings": relevant,
    }
