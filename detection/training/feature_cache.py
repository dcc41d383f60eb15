"""Features of the training windows that the linear learners need, kept on disk.

Each image is visited once. Kept, as float16, are the windows that box regression learns from, and
a few random windows for the mean feature norm; none of a mirrored image. The first rows are the
trainable ground truth, which are the SVMs' positives.

Each image has one artefact, with the rows and facts about them.
"""

import hashlib
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.data.records import ImageRecord
from detection.features.extractor import Extractor
from detection.training.labels import WindowLabels, label_windows
from detection.training.row_files import RowFile
from files.artefacts import read_artefact, write_artefact
from files.names import content_key, short_name
from files.writing import content_digest

VERSION = 4
RANDOM_WINDOWS = 8
REGRESSION_WINDOWS = 100


@dataclass(frozen=True)
class Sampling:
    """What is kept of a training image.

    Attributes:
        difficult: objects marked difficult are trainable.
        regression_iou: least IoU of a box-regression window.
        seed: of the random windows.
    """

    difficult: bool = False
    regression_iou: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class CachedWindows:
    """The rows of one image.

    Attributes:
        rows: all of them.
        objects: number of ground-truth boxes at their head.
        windows: ``(B, 4)`` the box-regression windows, the ground truth first.
        targets: ``(B, 4)`` the object each should move to.
        classes: ``(B,)`` that object's class.
    """

    rows: RowFile
    objects: int
    windows: NDArray[np.float32]
    targets: NDArray[np.float32]
    classes: NDArray[np.int64]

    @property
    def regression_rows(self) -> RowFile:
        """B windows that box regression learns from."""
        return self.rows.part(0, len(self.windows))

    @property
    def object_rows(self) -> RowFile:
        """The ground-truth boxes."""
        return self.rows.part(0, self.objects)

    @property
    def object_classes(self) -> NDArray[np.int64]:
        """``(objects,)`` their classes."""
        return self.classes[: self.objects]

    @property
    def random_rows(self) -> RowFile:
        """Windows drawn at random."""
        return self.rows.part(len(self.windows), len(self.rows) - len(self.windows))


def image_key(record: ImageRecord) -> str:
    """An image's id and a digest of its bytes and annotation."""
    return f"{record.image_id}_{record_digest(record)}"


def record_digest(record: ImageRecord) -> str:
    """16 hex digits of an image's bytes and annotation, and of whether it is mirrored."""
    digest = hashlib.sha256(content_digest(record.path).encode())
    for array in (record.boxes, record.labels, record.difficult):
        digest.update(np.ascontiguousarray(array).tobytes())
    if record.mirrored:
        digest.update(b"mirrored")
    return digest.hexdigest()[:16]


def regression_rows(labels: WindowLabels, min_iou: float) -> NDArray[np.int64]:
    """Windows that box regression learns from: every object, then others of IoU >= min_iou.

    At most REGRESSION_WINDOWS an image, those evenly spread over the list.
    """
    objects = np.arange(len(labels.boxes))
    others = np.flatnonzero(labels.overlap >= min_iou)
    others = others[others >= len(objects)]
    room = max(REGRESSION_WINDOWS - len(objects), 0)
    if len(others) > room:
        others = others[np.linspace(0, len(others) - 1, room).round().astype(int)]
    return np.concatenate([objects, others])


class FeatureCache:
    """The features of a set of images' training windows.

    Args:
        cache: folder under which banks live.
        extractor: makes the features; what is in the bank can be read without it.
        windows_key: what made the proposals.
        classes: names of the K classes.
        sampling: which windows are kept.
    """

    def __init__(
        self,
        cache: Path,
        extractor: Extractor,
        windows_key: str,
        classes: Sequence[str],
        sampling: Sampling,
    ) -> None:
        self.extractor: Extractor | None = extractor
        self.num_classes = len(classes)
        self.sampling = sampling
        self.key = content_key(
            {
                "version": VERSION,
                "features": extractor.facts,
                "windows": windows_key,
                "classes": list(classes),
                "sampling": vars(sampling),
            }
        )
        self.folder = cache / "bank" / self.key

    def served_by(self, extractor: Extractor | None) -> "FeatureCache":
        """The same bank with another object of the same extractor, or to be sent without one."""
        bank = copy(self)
        bank.extractor = extractor
        return bank

    def has(self, record: ImageRecord) -> bool:
        """Whether an image's windows are there already."""
        return self._place(record)[0].exists()

    def add(self, record: ImageRecord, proposals: NDArray[np.float32]) -> None:
        """Compute and store the features of an image's windows."""
        path, key = self._place(record)
        write_artefact(path, key, self._rows(record, proposals, key.rsplit(" ", 1)[1]))

    def load(self, record: ImageRecord) -> CachedWindows:
        """The rows of an image.

        Raises:
            FileNotFoundError: ``add`` was not called.
            DamagedArtefact: the file is not what ``add`` wrote.
        """
        path, key = self._place(record)
        arrays = read_artefact(path, key).arrays
        return CachedWindows(
            RowFile.of(path, "rows", arrays["rows"]),
            int(arrays["objects"]),
            arrays["windows"],
            arrays["targets"],
            arrays["classes"],
        )

    def _place(self, record: ImageRecord) -> tuple[Path, str]:
        """The file of an image's rows, and its key."""
        digest = record_digest(record)
        name = short_name(record.image_id, digest)
        return self.folder / f"{name}.safetensors", f"{self.key} {digest}"

    def _rows(
        self, record: ImageRecord, proposals: NDArray[np.float32], digest: str
    ) -> dict[str, NDArray]:
        # Seeded by the image itself: neither order nor number of images matters.
        rng = np.random.default_rng([self.sampling.seed, int(digest, 16)])
        labels = label_windows(
            record, proposals, self.num_classes, difficult=self.sampling.difficult
        )
        regression = regression_rows(labels, self.sampling.regression_iou)
        # A mirrored image needs only the maps of scales at which it has something to learn from.
        count = 0 if record.mirrored else min(RANDOM_WINDOWS, len(proposals))
        spread = len(labels.boxes) + rng.choice(len(proposals), count, replace=False)
        windows = labels.windows[np.concatenate([regression, spread])]
        if self.extractor is None:
            raise RuntimeError("this bank was sent without its extractor; give it one first")
        features = self.extractor.features(record.read(), windows)
        nearest = labels.nearest[regression]
        return {
            "rows": features.pooled.half().cpu().numpy()[features.index],
            "objects": np.array(len(labels.boxes)),
            "windows": labels.windows[regression],
            "targets": labels.boxes[nearest].reshape(-1, 4),
            "classes": labels.labels[nearest].reshape(-1),
        }
