"""Pooled features of sampled training windows, kept on disk.

Fine-tuning draws the same windows many times, so each picture is visited once: its maps are
computed, the sampled windows pooled, and only their 12,800-d vectors kept, as float16. Maps are
never stored: recomputing them costs less than the fully connected layers that follow.

A picture has two files, ``<name>.npy`` with the pooled rows and ``<name>.npz`` with what the rows
are; the second is written last, so that it stands for a finished picture. The rows come in four
kinds, in this order: fine-tuning windows; box-regression windows, the trainable ground truth
first, at their best-fit scale; and a few windows drawn at random, for the mean feature norm.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detection.boxes import flip_boxes
from detection.data.records import ImageRecord
from detection.features.extractor import Maps, SPPExtractor
from detection.training.labels import WindowLabels, label_windows
from proposals.disk import file_digest, key_of, read_picture, save_array, write_atomic

VERSION = 1
RANDOM_WINDOWS = 8
REGRESSION_WINDOWS = 100


@dataclass(frozen=True)
class Sampling:
    """What is kept of a training picture.

    Attributes:
        positives: fine-tuning windows with IoU in [0.5, 1] of the picture and of its mirror.
        negatives: the same for [0.1, 0.5).
        scale: pool fine-tuning windows from a random scale or from the best-fit one.
        difficult: objects marked difficult are trainable.
        regression_iou: least IoU of a box-regression window.
        seed: of the draws.
    """

    positives: int = 32
    negatives: int = 64
    scale: Literal["random", "best_fit"] = "random"
    difficult: bool = False
    regression_iou: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class RowFile:
    """Some rows of a float16 matrix in a ``.npy`` file, read when asked for.

    Thousands of these can exist at once: nothing is open between two reads.

    Attributes:
        path: the file.
        offset: byte at which the matrix begins.
        length: D, numbers in a row.
        first: first row.
        count: number of rows.
    """

    path: Path
    offset: int
    length: int
    first: int
    count: int

    @classmethod
    def open(cls, path: Path) -> "RowFile":
        """All rows of a file that ``save_array`` wrote.

        Raises:
            ValueError: the file is not a whole float16 matrix.
        """
        matrix = np.load(path, mmap_mode="r")
        if matrix.ndim != 2 or matrix.dtype != np.float16:
            raise ValueError(f"expected a float16 matrix, got {matrix.dtype} of {matrix.shape}")
        return cls(path, matrix.offset, matrix.shape[1], 0, len(matrix))

    def __len__(self) -> int:
        return self.count

    def part(self, first: int, count: int) -> "RowFile":
        """``count`` of these rows, from the one numbered ``first`` on."""
        return replace(self, first=self.first + first, count=count)

    def read(self, row: int = 0, count: int | None = None) -> NDArray[np.float16]:
        """``(count, D)`` from one of these rows on; all of them by default."""
        count = self.count if count is None else count
        start = self.offset + 2 * self.length * (self.first + row)
        numbers = np.fromfile(self.path, np.float16, count * self.length, offset=start)
        return numbers.reshape(count, self.length)


@dataclass(frozen=True)
class BankEntry:
    """The rows of one picture.

    Attributes:
        pooled: all rows.
        labels: ``(F,)`` class of each fine-tuning row, K for background.
        objects: number of ground-truth boxes at the head of the box-regression rows.
        windows: ``(B, 4)`` the box-regression windows.
        targets: ``(B, 4)`` the object each should move to.
        classes: ``(B,)`` that object's class.
    """

    pooled: RowFile
    labels: NDArray[np.int64]
    objects: int
    windows: NDArray[np.float32]
    targets: NDArray[np.float32]
    classes: NDArray[np.int64]

    @property
    def finetune_rows(self) -> RowFile:
        """F pooled fine-tuning windows."""
        return self.pooled.part(0, len(self.labels))

    @property
    def regression_rows(self) -> RowFile:
        """B pooled box-regression windows."""
        return self.pooled.part(len(self.labels), len(self.windows))

    @property
    def object_rows(self) -> RowFile:
        """The pooled ground-truth boxes."""
        return self.regression_rows.part(0, self.objects)

    @property
    def object_classes(self) -> NDArray[np.int64]:
        """``(objects,)`` their classes."""
        return self.classes[: self.objects]

    @property
    def random_rows(self) -> RowFile:
        """Pooled windows drawn at random, best-fit scale."""
        first = len(self.labels) + len(self.windows)
        return self.pooled.part(first, len(self.pooled) - first)


class StackedRows:
    """Rows of many files as if they were one matrix.

    Args:
        parts: rows of one length.

    Attributes:
        shape: (sum of the parts' rows, D).
    """

    def __init__(self, parts: Sequence[RowFile]) -> None:
        counts = [len(part) for part in parts]
        self.parts = parts
        self.shape = (sum(counts), parts[0].length)
        self._part = np.repeat(np.arange(len(parts)), counts)
        self._row = np.concatenate([np.arange(count) for count in counts])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Rows by index, ``(len(rows), D)``, in the order asked for."""
        gathered = np.empty((len(rows), self.shape[1]), np.float16)
        for place, row in enumerate(rows):
            gathered[place] = self.parts[self._part[row]].read(int(self._row[row]), 1)[0]
        return gathered


def draw_rows(
    labels: WindowLabels, sampling: Sampling, num_classes: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fine-tuning windows of one view of a picture: indices and labels (K is background)."""
    kept = []
    for mask, most in (
        (labels.positive, sampling.positives),
        (labels.background, sampling.negatives),
    ):
        rows = np.flatnonzero(mask)
        kept.append(rng.permutation(rows)[:most])
    index = np.concatenate(kept).astype(np.int64)
    label = np.full(len(index), num_classes, np.int64)
    if len(kept[0]):
        label[: len(kept[0])] = labels.labels[labels.nearest[kept[0]]]
    return index, label


def regression_rows(labels: WindowLabels, min_iou: float) -> NDArray[np.int64]:
    """Windows that box regression learns from: every object, then others of IoU >= min_iou.

    At most REGRESSION_WINDOWS a picture, those evenly spread over the list.
    """
    objects = np.arange(len(labels.boxes))
    others = np.flatnonzero(labels.overlap >= min_iou)
    others = others[others >= len(objects)]
    room = max(REGRESSION_WINDOWS - len(objects), 0)
    if len(others) > room:
        others = others[np.linspace(0, len(others) - 1, room).round().astype(int)]
    return np.concatenate([objects, others])


class WindowBank:
    """The pooled training windows of a set of pictures.

    Args:
        cache: folder under which banks live.
        extractor: makes the features.
        extractor_key: what determines them (weights, scales, rule, precision).
        windows_key: what made the proposals.
        classes: names of the K classes.
        sampling: which windows are kept.
    """

    def __init__(
        self,
        cache: Path,
        extractor: SPPExtractor,
        extractor_key: str,
        windows_key: str,
        classes: Sequence[str],
        sampling: Sampling,
    ) -> None:
        self.extractor = extractor
        self.num_classes = len(classes)
        self.sampling = sampling
        self.key = key_of(
            {
                "version": VERSION,
                "features": extractor_key,
                "windows": windows_key,
                "classes": list(classes),
                "sampling": vars(sampling),
            }
        )
        self.folder = cache / "bank" / self.key

    def name_of(self, record: ImageRecord) -> str:
        """File stem of a picture's rows: its id and a digest of picture and annotation."""
        digest = hashlib.sha256(file_digest(record.path).encode())
        for array in (record.boxes, record.labels, record.difficult):
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{record.image_id}_{digest.hexdigest()[:16]}"

    def has(self, record: ImageRecord) -> bool:
        """Whether a picture's windows are there already."""
        return (self.folder / f"{self.name_of(record)}.npz").exists()

    def add(self, record: ImageRecord, proposals: NDArray[np.float32]) -> None:
        """Pool and store a picture's windows."""
        name = self.name_of(record)
        pooled, facts = self._pool(record, proposals, name)
        save_array(self.folder / f"{name}.npy", pooled)
        with write_atomic(self.folder / f"{name}.npz") as file:
            np.savez(file, **facts)  # type: ignore[arg-type]

    def load(self, record: ImageRecord) -> BankEntry:
        """The rows of a picture.

        Raises:
            ValueError: the files are not what ``add`` wrote.
        """
        name = self.folder / self.name_of(record)
        try:
            pooled = RowFile.open(name.with_suffix(".npy"))
            with name.with_suffix(".npz").open("rb") as file, np.load(file) as facts:
                return BankEntry(
                    pooled,
                    facts["labels"],
                    int(facts["objects"]),
                    facts["windows"],
                    facts["targets"],
                    facts["classes"],
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{name}.npy/.npz is damaged ({error}); delete both and run the same command again"
            ) from error

    def _pool(
        self, record: ImageRecord, proposals: NDArray[np.float32], name: str
    ) -> tuple[NDArray[np.float16], dict[str, NDArray]]:
        # Seeded by the picture's own name: neither order nor number of pictures matters.
        rng = np.random.default_rng([self.sampling.seed, int(name.rsplit("_", 1)[1], 16)])
        image = read_picture(record.path)
        labels = label_windows(
            record, proposals, self.num_classes, difficult=self.sampling.difficult
        )
        maps = self.extractor.maps(image)
        index, label = draw_rows(labels, self.sampling, self.num_classes, rng)
        mirror_index, mirror_label = draw_rows(labels, self.sampling, self.num_classes, rng)
        mirrored = flip_boxes(labels.windows[mirror_index], image.shape[1])
        regression = regression_rows(labels, self.sampling.regression_iou)
        count = min(RANDOM_WINDOWS, len(proposals))
        spread = len(labels.boxes) + rng.choice(len(proposals), count, replace=False)
        rows = [
            self._rows(maps, labels.windows[index], rng),
            self._rows(self.extractor.maps(image[:, ::-1].copy()), mirrored, rng),
            self._rows(maps, labels.windows[np.concatenate([regression, spread])], None),
        ]
        nearest = labels.nearest[regression]
        facts = {
            "labels": np.concatenate([label, mirror_label]),
            "objects": np.array(len(labels.boxes)),
            "windows": labels.windows[regression],
            "targets": labels.boxes[nearest].reshape(-1, 4),
            "classes": labels.labels[nearest].reshape(-1),
        }
        return np.concatenate(rows), facts

    def _rows(
        self, maps: Maps, windows: NDArray[np.float32], rng: np.random.Generator | None
    ) -> NDArray[np.float16]:
        scale = None
        if rng is not None and self.sampling.scale == "random":
            scale = rng.integers(len(self.extractor.scales), size=len(windows))
        features = self.extractor.pool(maps, windows, scale)
        return features.pooled.cpu().numpy().astype(np.float16)[features.index]
