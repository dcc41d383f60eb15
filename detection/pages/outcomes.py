"""The data for a page's counts at a threshold: detections by kind, and the outcome of each object.

The page's script computes the counts from the arrays of ``script_data``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.data.records import ImageRecord
from detection.evaluation.error_kinds import Explained, Kind, explain
from detection.evaluation.reliability import reliability_facts
from detection.evaluation.voc_ap import ClassDetections
from detection.pages.page import packed

SIZES = ("small", "middle", "large")
# Outcomes of an object: found; only an error of class or of place is on it; no detection.
FATES = ("found", "class", "place", "missed")
# Largest number of detections in a page, five bytes each; those with the highest scores.
MOST_DETECTIONS = 300_000


@dataclass(frozen=True)
class Shown:
    """The detections of a split as users see them.

    Attributes:
        explained: detections with their kinds.
        scores: ``(n,)`` float32 as the detector displays them: probabilities or raw scores.
        threshold: detections above it (strictly) are shown.
        probable: whether scores are probabilities.
        bounds: areas between small and middle, and middle and large boxes, as shares of the image.
        areas: ``(n,)`` of the detections, as shares of their images.
        object_areas: ``(m,)`` of the objects, likewise.
    """

    explained: Explained
    scores: NDArray[np.float32]
    threshold: float
    probable: bool
    bounds: tuple[float, float]
    areas: NDArray[np.float64]
    object_areas: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        explained: Explained,
        records: Sequence[ImageRecord],
        scores: NDArray[np.float32],
        threshold: float | None = None,
        *,
        probable: bool = False,
    ) -> "Shown":
        """Measure the boxes; of the objects that count, a third is small and a third large.

        The default threshold is the one with the highest F1.
        """
        images = np.array([np.prod(record.size) for record in records], np.float64)
        objects = explained.objects
        object_areas = _areas(objects.boxes) / images[objects.image]
        low, high = np.quantile(object_areas[~objects.difficult], (1 / 3, 2 / 3))
        areas = _areas(explained.boxes) / images[explained.image]
        bounds = (float(low), float(high))
        shown = cls(explained, scores, threshold or 0.0, probable, bounds, areas, object_areas)
        if threshold is None:
            shown = replace(shown, threshold=shown.best_threshold() or 0.0)
        return shown

    @classmethod
    def raw(
        cls,
        detections: Mapping[str, ClassDetections],
        records: Sequence[ImageRecord],
        classes: Sequence[str],
    ) -> "Shown":
        """Detections with raw scores, shown above the threshold with the highest F1.

        Arguments: see ``explain``.
        """
        explained = explain(detections, records, classes)
        return cls.of(explained, records, explained.scores.astype(np.float32))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """``(n,)`` indices of the detections' sizes in ``SIZES``."""
        return np.searchsorted(self.bounds, self.areas, side="left")

    @property
    def object_sizes(self) -> NDArray[np.int64]:
        """``(m,)`` indices of the objects' sizes in ``SIZES``."""
        return np.searchsorted(self.bounds, self.object_areas, side="left")

    def best(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """``(m,)`` each object's best score of correct detections, errors of class, of place."""
        found, wrong, place = (
            self.explained.best_on(kind, self.scores)
            for kind in (Kind.FOUND, Kind.CLASS, Kind.PLACE)
        )
        return found, wrong, place

    def taken_for(self) -> NDArray[np.int64]:
        """``(m,)`` class of each object's error of class with the highest score; -1 if none."""
        rows = np.flatnonzero(self.explained.kind == Kind.CLASS)
        rows = rows[np.argsort(self.scores[rows], kind="stable")]
        taken = np.full(len(self.explained.objects.labels), -1, np.int64)
        taken[self.explained.on[rows]] = self.explained.labels[rows]
        return taken

    def fates_at(self, threshold: float) -> NDArray[np.int64]:
        """``(m,)`` indices in ``FATES``; an error of class counts before one of place."""
        above = [best > np.float32(threshold) for best in self.best()]
        return np.select(above, [0, 1, 2], 3)

    def best_threshold(self) -> float | None:
        """The threshold with the highest F1, in hundredths; None if nothing is found."""
        explained = self.explained
        counted = np.flatnonzero(explained.kind != Kind.IGNORED)
        order = counted[np.argsort(-self.scores[counted], kind="stable")]
        found = (explained.kind[order] == Kind.FOUND).cumsum()
        objects = int((~explained.objects.difficult).sum())
        f1 = 2 * found / (np.arange(1, len(order) + 1) + objects)
        if not f1.max(initial=0.0):
            return None
        return float(np.floor(self.scores[order[f1.argmax()]] * 100 - 1e-3) / 100)

    @property
    def reliability(self) -> dict[str, Any] | None:
        """``reliability_facts`` of the detections that count; None for raw scores."""
        counted = self.explained.kind != Kind.IGNORED
        if not self.probable or not counted.any():
            return None
        right = (self.explained.kind == Kind.FOUND)[counted]
        labels = self.explained.labels[counted]
        return reliability_facts(
            self.scores[counted], labels, right, self.explained.classes, self.threshold
        )

    @property
    def lowest(self) -> float:
        """The page's lowest threshold: hundredths, and at most ``MOST_DETECTIONS`` are above it."""
        if not len(self.scores):
            return 0.0
        low = 0.0 if self.probable else min(float(self.scores.min()) - 0.01, self.threshold)
        if len(self.scores) > MOST_DETECTIONS:
            place = len(self.scores) - MOST_DETECTIONS
            bound = float(np.partition(self.scores, place)[place])
            return float(np.ceil(max(low, bound) * 100) / 100)
        return float(np.floor(low * 100) / 100)

    @property
    def highest(self) -> float:
        """The page's highest threshold, in hundredths; no detection is above it."""
        if self.probable:
            return 1.0
        return float(np.ceil(max(self.scores.max(initial=-np.inf), self.threshold) * 100) / 100)

    @property
    def start(self) -> float:
        """The page's initial threshold."""
        return max(self.threshold, self.lowest)

    def script_data(self) -> dict[str, Any]:
        """The arrays for the page's script, in base64, with classes and initial threshold."""
        kept = self.scores > np.float32(self.lowest)
        explained, objects = self.explained, self.explained.objects
        code = explained.kind + len(Kind) * self.sizes
        counts = ~objects.difficult
        found, wrong, place = (each[counts] for each in self.best())
        return {
            "classes": list(explained.classes),
            "threshold": self.start,
            "detections": {
                "scores": packed(self.scores[kept]),
                "codes": packed(code[kept].astype(np.uint8)),
                "lengths": np.bincount(
                    explained.labels[kept], minlength=len(explained.classes)
                ).tolist(),
            },
            "objects": {
                "labels": packed(objects.labels[counts].astype(np.uint16)),
                "sizes": packed(self.object_sizes[counts].astype(np.uint8)),
                "found": packed(found),
                "class": packed(wrong),
                "place": packed(place),
                "taken": packed(self.taken_for()[counts].astype(np.int32)),
            },
        }


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
