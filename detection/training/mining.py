"""Hard negatives of several layers in one pass over the pictures (paper 4.1).

Pictures come in blocks. Those of a block are shared out to processes, each of which sends back only
the windows that are hard for the SVMs as they were when the block began; the miners, one a layer,
check them against their newest SVMs, take them, and refit while the next pictures are computed.
What a block holds depends on the pictures done before it alone, so neither the number of processes
nor a kill changes the result.
"""

import logging
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import delayed
from numpy.typing import NDArray

from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import Extractor
from detection.inference.layers import LayerFeatures
from detection.learners.class_svms import ClassSVMs
from detection.run import Run
from detection.training.hard_negatives import HardNegativeMiner, Model
from detection.training.labels import label_windows
from detection.training.window_bank import BankEntry
from proposals.disk import read_picture, write_atomic
from proposals.store import Windows

# The first SVMs find nearly every window hard, so blocks begin at one picture and double.
BLOCK = 32
# Negatives of all classes that a layer's miner holds, in bytes of float16, were no window shared.
NEGATIVE_BYTES = 2.3e9
MOST_NEGATIVES = 7000

logger = logging.getLogger(__name__)


class Hard(NamedTuple):
    """Hard windows of a picture at one layer: features ``(R, D)`` and ``(R, K)`` of which class."""

    features: NDArray[np.float16]
    negative: NDArray[np.bool_]


class Mining:
    """One pass over the pictures.

    Args:
        run: the run.
        data: its training pictures.
        windows: of each.
        extractor: features of windows.
        features: the layers' features.
        head_file: where the head lies, for processes to read it from.
    """

    def __init__(
        self,
        run: Run,
        data: Dataset,
        windows: Windows,
        extractor: Extractor,
        features: LayerFeatures,
        head_file: Path,
    ) -> None:
        self.run = run
        self.data = data
        self.windows = windows
        self.extractor = extractor
        self.features = features
        self.head_file = head_file
        self.checkpoint = run.folder / "stages" / "svms.checkpoint"

    def train(
        self, layers: Sequence[str], entries: Sequence[BankEntry], key: str
    ) -> dict[str, ClassSVMs]:
        """SVMs of each layer; ``key`` is what determines them, for the checkpoint."""
        miners = self._start(layers, entries)
        done = resume(self.checkpoint, key, miners)
        records, saved = self.data.records, done
        total = len(records) - done
        for _ in self.run.progress(self._mine(miners, done), "SVMs", total):
            done += 1
            if block_ends(done) and done - saved >= self.run.config.svm.checkpoint_every:
                save(self.checkpoint, key, done, miners)
                saved = done
        return {layer: miner.finish() for layer, miner in miners.items()}

    def _start(
        self, layers: Sequence[str], entries: Sequence[BankEntry]
    ) -> dict[str, HardNegativeMiner]:
        """A miner for each layer, given its positives."""
        settings, count = self.run.config.svm, len(self.data.classes)
        miners = {}
        for layer, positives in object_features(entries, self.features, layers, count).items():
            length = positives[0].shape[1]
            new, kept = negatives_held(count, length, settings.refit_every)
            miners[layer] = HardNegativeMiner(
                self.data.classes,
                length,
                C=settings.C,
                bias=settings.bias,
                positive_weight=settings.positive_weight,
                refit_every=new,
                max_negatives=kept,
                seed=self.run.config.seed,
                on_refit=partial(self.run.event, "svm", layer=layer),
            ).start(positives)
        return miners

    def _mine(self, miners: dict[str, HardNegativeMiner], done: int) -> Iterator[ImageRecord]:
        """Give the miners every picture from number ``done`` on; yields each when it is taken."""
        records = self.data.records
        with (
            one_thread(),
            self.run.pool("generator") as pool,
        ):
            while done < len(records):
                block = records[done : done + block_size(done)]
                models = {layer: miner.model() for layer, miner in miners.items()}
                found = pool(delayed(hard_windows)(*self._job(record, models)) for record in block)
                for index, (record, hard) in enumerate(zip(block, found, strict=True), start=done):
                    for layer, rows in hard.items():
                        miners[layer].add_image(index, rows.features, rows.negative)
                    yield record
                done += len(block)

    def _job(self, record: ImageRecord, models: dict[str, Model]) -> tuple:
        """The arguments of ``hard_windows``."""
        config = self.run.config
        head_file = None if self.features.head is None else self.head_file
        return (
            self.features if self.run.shares_network else None,
            (head_file, tuple(self.features.factors.items()), config.precision),
            self.extractor,
            record,
            self.windows.load(record.path),
            models,
            config.svm.negative_iou,
            config.data.difficult,
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch with one thread, as worker processes have: with more, sums differ in their last bits.

    So one process finds the same windows hard as several do.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def negatives_held(classes: int, length: int, refit_every: int) -> tuple[int, int]:
    """New negatives that bring on a class's refit, and how many it keeps after one.

    At most ``refit_every`` and MOST_NEGATIVES; fewer where so many of all classes, of ``length``
    numbers each, would not fit in NEGATIVE_BYTES.
    """
    room = int(NEGATIVE_BYTES / (2 * classes * length))
    new = min(refit_every, max(room // 2, 1))
    return new, min(MOST_NEGATIVES, max(room - new, 1))


def block_size(done: int) -> int:
    """Pictures of the block that begins after ``done`` ones: 1, 1, 2, 4, ..., 32, 32, ..."""
    return min(BLOCK, max(1, done))


def block_ends(done: int) -> bool:
    """Whether a block ends after ``done`` pictures: at powers of two, then multiples of 32."""
    return done % BLOCK == 0 if done >= BLOCK else done & (done - 1) == 0


def hard_windows(
    features: LayerFeatures | None,
    source: tuple[Path | None, tuple[tuple[str, float], ...], str],
    extractor: Extractor,
    record: ImageRecord,
    proposals: NDArray[np.float32],
    models: dict[str, Model],
    negative_iou: float,
    difficult: bool,
) -> dict[str, Hard]:
    """The windows of a picture that a layer's SVM of some class finds hard, by layer.

    Windows on the same cells are one row, with the largest of their overlaps: it is a negative
    only if all of them are.

    Args:
        features: the layers' features; None loads them from the source, once a process.
        source: arguments of ``LayerFeatures.load``.
        extractor: features of windows.
        record: the picture.
        proposals: ``(P, 4)`` its windows.
        models: the SVMs of each layer.
        negative_iou: a window is a negative of a class below this overlap with all its objects.
        difficult: as for ``label_windows``.
    """
    num_classes = len(next(iter(models.values())).bias)
    labels = label_windows(record, proposals, num_classes, difficult=difficult)
    found = extractor.features(read_picture(record.path), labels.windows)
    overlap = np.zeros((len(found.pooled), num_classes), np.float32)
    np.maximum.at(overlap, found.index, labels.class_overlap)
    rows = (features or _features_of_process(*source))(found.pooled, list(models))
    hard = {}
    for layer, model in models.items():
        negative = (overlap < negative_iou) & model.hard(rows[layer])
        kept = negative.any(axis=1)
        hard[layer] = Hard(rows[layer][kept].astype(np.float16), negative[kept])
    return hard


@lru_cache(maxsize=1)
def _features_of_process(
    path: Path | None, factors: tuple[tuple[str, float], ...], precision: str
) -> LayerFeatures:
    return LayerFeatures.load(path, dict(factors), precision)  # type: ignore[arg-type]


def object_features(
    entries: Sequence[BankEntry], features: LayerFeatures, layers: Sequence[str], num_classes: int
) -> dict[str, list[NDArray[np.float16]]]:
    """Features of every trainable ground-truth box, by layer and class: the SVMs' positives."""
    parts: dict[str, list[NDArray[np.float16]]] = {layer: [] for layer in layers}
    shown = [entry for entry in entries if entry.objects]
    for entry in shown:
        pooled = torch.from_numpy(entry.object_rows.read().astype(np.float32))
        for layer, rows in features(pooled, layers).items():
            parts[layer].append(rows.astype(np.float16))
    classes = np.concatenate([entry.object_classes for entry in shown])
    return {
        layer: [rows[classes == label] for label in range(num_classes)]
        for layer, rows in ((layer, np.concatenate(each)) for layer, each in parts.items())
    }


def save(path: Path, key: str, done: int, miners: dict[str, HardNegativeMiner]) -> None:
    """Write what the miners hold after ``done`` pictures, whole or not at all.

    As ``.npz``, which is written array by array: in memory there is nothing twice.
    """
    arrays = {
        f"{layer}.{name}": value
        for layer, miner in miners.items()
        for name, value in miner.state().items()
    }
    with write_atomic(path) as file:
        np.savez(file, key=key, pictures=done, **arrays)  # type: ignore[arg-type]


def resume(path: Path, key: str, miners: dict[str, HardNegativeMiner]) -> int:
    """Load a checkpoint of the same mining, if there is one; returns the pictures already done.

    Raises:
        ValueError: the file is no checkpoint, or one of other settings or positives.
    """
    if not path.exists():
        return 0
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            if str(arrays["key"]) != key:
                return 0
            state = dict(arrays)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not an SVM checkpoint ({error}); delete it and run again"
        ) from error
    try:
        for layer, miner in miners.items():
            prefix = f"{layer}."
            own = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            miner.load_state(own)
    except ValueError as error:
        raise ValueError(f"{path} cannot be gone on from: {error}") from error
    done = int(state["pictures"])
    logger.info("SVMs go on from picture %d", done)
    return done
