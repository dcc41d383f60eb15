"""The stages that fit the linear parts: SVMs with hard negatives, and box regression."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from detection.config import Config
from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import SPPExtractor
from detection.inference.detector import FeatureHead, Precision
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.svm import ClassSVMs
from detection.run import Run
from detection.training import hard_negatives
from detection.training.hard_negatives import HardNegativeMiner
from detection.training.labels import label_windows
from detection.training.stages import data_key, mean_norm_scale, random_rows, write_tensors
from detection.training.window_bank import BankEntry, StackedRows, WindowBank
from proposals.disk import key_of, read_picture
from proposals.store import WindowStore

BBOX_VERSION = 1
AHEAD = 8

logger = logging.getLogger(__name__)


def svm_stage(
    run: Run,
    data: Dataset,
    windows: WindowStore,
    entries: Sequence[BankEntry],
    extractor: SPPExtractor,
    features: FeatureHead,
    head_key: str,
) -> ClassSVMs:
    """One SVM a class on fc7, negatives mined over every training picture once."""
    config = run.config
    settings = asdict(config.svm)
    del settings["checkpoint_every"]
    key = key_of({"version": hard_negatives.VERSION, "head": head_key, "settings": settings})
    path = run.artefact("svms", key)
    if path.exists():
        run.reused("SVMs", path)
    else:
        with run.stage("SVMs"):
            head_path = run.artefact("head", head_key)
            svms = _train_svms(run, data, windows, entries, extractor, head_path, features, key)
            write_tensors(path, {"weights": svms.coef_, "bias": svms.intercept_})
        _svm_checkpoint(run).unlink(missing_ok=True)
    arrays = load_file(path)
    return ClassSVMs.from_arrays(arrays["weights"], arrays["bias"])


def _svm_checkpoint(run: Run) -> Path:
    return run.folder / "stages" / "svms.checkpoint"


def _train_svms(
    run: Run,
    data: Dataset,
    windows: WindowStore,
    entries: Sequence[BankEntry],
    extractor: SPPExtractor,
    head_path: Path,
    features: FeatureHead,
    key: str,
) -> ClassSVMs:
    config = run.config
    miner = HardNegativeMiner(
        data.classes,
        features.length,
        C=config.svm.C,
        bias=config.svm.bias,
        positive_weight=config.svm.positive_weight,
        refit_every=config.svm.refit_every,
        seed=config.seed,
        on_refit=lambda event: run.event("svm", **event),
    )
    miner.start(object_features(entries, features, len(data.classes)))
    first = resume_miner(_svm_checkpoint(run), key, miner)
    rest = data.records[first:]
    mined = mine_pictures(run, rest, windows, len(data.classes), extractor, head_path, features)
    for index, (rows, overlap) in enumerate(run.progress(mined, "SVMs", len(rest)), start=first):
        miner.add_image(index, rows, overlap < config.svm.negative_iou)
        done = index + 1
        if done % config.svm.checkpoint_every == 0 and done < len(data.records):
            write_tensors(_svm_checkpoint(run), miner.state(), {"key": key, "pictures": str(done)})
    return miner.finish()


def mine_pictures(
    run: Run,
    records: Sequence[ImageRecord],
    windows: WindowStore,
    num_classes: int,
    extractor: SPPExtractor,
    head_path: Path,
    features: FeatureHead,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """What ``picture_features`` gives of each picture, in order.

    On the CPU pictures are shared out to processes of one thread, which compute ahead while this
    one refits SVMs; they read the head from its file rather than with every picture.
    """
    alone = run.device.type != "cpu" or run.workers == 1
    head = features if alone else None
    source = (head_path, features.scale, run.config.precision)
    jobs = (
        (
            head,
            source,
            extractor,
            record,
            windows.load(record.path),
            num_classes,
            run.config.data.difficult,
        )
        for record in records
    )
    if alone:
        yield from (picture_features(*job) for job in jobs)
        return
    # A generator of joblib's does not wait for its reader: short runs of jobs bound what piles up.
    with (
        parallel_config(backend="loky", inner_max_num_threads=1),
        Parallel(n_jobs=run.workers, return_as="generator") as pool,
    ):
        while some := list(islice(jobs, AHEAD * run.workers)):
            yield from pool(delayed(picture_features)(*job) for job in some)


def picture_features(
    head: FeatureHead | None,
    source: tuple[Path, float, Precision],
    extractor: SPPExtractor,
    record: ImageRecord,
    proposals: NDArray[np.float32],
    num_classes: int,
    difficult: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """fc7 ``(U, hidden)`` of a picture's windows and ``(U, K)`` their overlap with each class.

    Windows on the same cells are one row, with the largest of their overlaps: it is a negative
    only if all of them are.

    Args:
        head: makes the features; None loads it from the source, once a process.
        source: arguments of ``FeatureHead.load``.
        extractor: makes the pooled windows.
        record: the picture.
        proposals: ``(P, 4)`` its windows.
        num_classes: K.
        difficult: as for ``label_windows``.
    """
    labels = label_windows(record, proposals, num_classes, difficult=difficult)
    pooled = extractor.pool(extractor.maps(read_picture(record.path)), labels.windows)
    overlap = np.zeros((len(pooled.pooled), num_classes), np.float32)
    np.maximum.at(overlap, pooled.index, labels.class_overlap)
    return (head or _head_of_process(*source))(pooled.pooled), overlap


_head_of_process = lru_cache(maxsize=1)(FeatureHead.load)


def object_features(
    entries: Sequence[BankEntry], features: FeatureHead, num_classes: int
) -> list[NDArray[np.float32]]:
    """fc7 of every trainable ground-truth box, one array a class: the SVMs' positives."""
    by_class: list[list[NDArray[np.float32]]] = [[] for _ in range(num_classes)]
    for entry in entries:
        if entry.objects:
            rows = features(torch.from_numpy(entry.object_rows.read().astype(np.float32)))
            for row, label in zip(rows, entry.object_classes, strict=True):
                by_class[label].append(row)
    return [np.array(rows, np.float32).reshape(-1, features.length) for rows in by_class]


def resume_miner(path: Path, key: str, miner: HardNegativeMiner) -> int:
    """Load a checkpoint of the same mining, if there is one; returns the pictures already done.

    Raises:
        ValueError: the file is no checkpoint, or one of other settings or positives.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, "numpy") as file:
            facts = file.metadata() or {}
            if facts.get("key") != key:
                return 0
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not an SVM checkpoint ({error}); delete it and run again"
        ) from error
    try:
        miner.load_state(state)
    except ValueError as error:
        raise ValueError(f"{path} cannot be gone on from: {error}") from error
    logger.info("SVMs go on from picture %s", facts["pictures"])
    return int(facts["pictures"])


def bbox_stage(
    run: Run, data: Dataset, bank: WindowBank, entries: Sequence[BankEntry]
) -> BoxRegressor:
    """Ridge regression from pooled conv5 to a better box."""
    config = run.config
    key = key_of(
        {
            "version": BBOX_VERSION,
            "data": data_key(bank, data),
            "settings": asdict(config.bbox),
        }
    )
    path = run.artefact("box-regression", key)
    if path.exists():
        run.reused("box regression", path)
    else:
        with run.stage("box regression"):
            write_tensors(path, {"weights": _fit_regressor(config, data, entries)})
    return BoxRegressor.from_arrays(load_file(path)["weights"])


def _fit_regressor(
    config: Config, data: Dataset, entries: Sequence[BankEntry]
) -> NDArray[np.float32]:
    norms = [torch.linalg.vector_norm(rows, dim=1).numpy() for rows in random_rows(entries)]
    scale = mean_norm_scale(np.concatenate(norms))
    regressor = BoxRegressor(config.bbox.ridge).fit(
        StackedRows([entry.regression_rows for entry in entries]),
        np.concatenate([entry.windows for entry in entries]),
        np.concatenate([entry.targets for entry in entries]),
        np.concatenate([entry.classes for entry in entries]),
        len(data.classes),
        scale,
    )
    # Fitted at mean norm 20; with the factor in the weights they read pooled features as they are.
    regressor.weights_[:, :-1] *= np.float32(scale)
    return regressor.weights_
