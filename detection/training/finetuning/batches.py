"""Batches for fine-tuning: windows sampled from sampled images (paper 4.1)."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import flip_boxes
from detection.data.records import ImageRecord
from detection.features.scales import ScaleChoice
from detection.settings.training import Finetune
from detection.training.finetuning.chips import draw_chip, inside
from detection.training.finetuning.jitter import jitter_light
from detection.training.labels import WindowLabels, label_windows
from files.images import read_image
from proposals.store import Windows


@dataclass(frozen=True)
class View:
    """An image, mirrored or not, with the windows that a batch takes from it.

    Attributes:
        image: ``(H, W, 3)`` RGB uint8; with jitter, in changed light and colour, and at fine scales
            only a chip of it. ``(H, W, 0)`` if another process computes its features.
        windows: ``(B, 4)`` half-open pixels of ``image``.
        labels: ``(B,)`` int64 classes, K for background.
        side: pixels of the shorter side after resizing; all windows are pooled from this map.
    """

    image: NDArray[np.uint8]
    windows: NDArray[np.float32]
    labels: NDArray[np.int64]
    side: int

    @property
    def mine(self) -> bool:
        """Whether this process computes the features."""
        return bool(self.image.size)


class WindowBatches:
    """Draws the batches of a training; ``draw(step)`` is a function of seed and step alone.

    So a resumed training draws the same as an uninterrupted one. Images come in an endless sequence
    of permutations, ``settings.images`` per batch.

    Args:
        records: annotated images; those without trainable objects are never drawn.
        store: the windows of each image.
        num_classes: K.
        choice: the scales, and the rule by which an object chooses one.
        settings: batch size, share of positives, choice of scale, jitter.
        difficult: objects marked difficult are trainable.
        seed: seed of every draw.

    Raises:
        ValueError: no image has a trainable object.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        store: Windows,
        num_classes: int,
        choice: ScaleChoice,
        settings: Finetune,
        *,
        difficult: bool,
        seed: int,
    ) -> None:
        self.records = [each for each in records if trainable(each, difficult)]
        self.store = store
        self.num_classes = num_classes
        self.choice = choice
        self.settings = settings
        self.difficult = difficult
        self.seed = seed
        self.rank, self.ranks = 0, 1
        if not self.records:
            raise ValueError(
                f"fine-tuning found no objects in {len(records)} images; expected annotated "
                "objects that are not all marked difficult: check the annotations, or set "
                "--data.difficult true"
            )

    def of_rank(self, rank: int, ranks: int) -> "WindowBatches":
        """The same batches, with pixels only for the images of one process."""
        part = copy(self)
        part.rank, part.ranks = rank, ranks
        return part

    def images(self, step: int) -> list[int]:
        """Indices of the images of a batch; an image can appear twice where permutations meet."""
        count = len(self.records)
        places = np.arange(step * self.settings.images, (step + 1) * self.settings.images)
        orders = {
            int(epoch): np.random.default_rng([self.seed, 1, epoch]).permutation(count)
            for epoch in np.unique(places // count)
        }
        return [int(orders[int(place // count)][place % count]) for place in places]

    def draw(self, step: int) -> list[View]:
        """The views of batch number ``step``."""
        rng = np.random.default_rng([self.seed, 0, step])
        first = step * self.settings.images
        return [
            self._view(self.records[image], rng, mine=place % self.ranks == self.rank)
            for place, image in enumerate(self.images(step), start=first)
        ]

    def _view(self, record: ImageRecord, rng: np.random.Generator, *, mine: bool) -> View:
        labels = label_windows(
            record, self.store.load(record.path), self.num_classes, difficult=self.difficult
        )
        box = labels.boxes[rng.integers(len(labels.boxes))]
        side = self._side(box, record.size, rng)
        x1, y1, x2, y2 = chip = self._chip(box, record.size, side, rng)
        shown = inside(labels.windows, chip)
        rows, classes = draw_rows(labels, shown, self._quota(), self.num_classes, rng)
        windows = labels.windows[rows] - np.array([x1, y1, x1, y1], np.float32)
        image = read_image(record.path) if mine else np.empty((*record.size, 0), np.uint8)
        image = image[y1:y2, x1:x2]
        if rng.random() < 0.5:
            image, windows = image[:, ::-1], flip_boxes(windows, image.shape[1])
        image = jitter_light(image, self.settings.jitter, rng)
        return View(image, windows, classes, round(side * min(image.shape[:2]) / min(record.size)))

    def _quota(self) -> tuple[int, int]:
        """Number of positives, and of windows in all, from each image."""
        count = self.settings.batch // self.settings.images
        return max(1, round(count * self.settings.positive_share)), count

    def _side(self, box: NDArray, image_size: tuple[int, int], rng: np.random.Generator) -> int:
        """The scale of a view in pixels, chosen by one of its image's objects."""
        scales = self.choice.scales
        if self.settings.scale == "random":
            return scales[rng.integers(len(scales))]
        number = int(self.choice.best_fit(box[None], image_size)[0])
        if self.settings.scale == "near":
            number = min(max(number + int(rng.choice((-1, 0, 0, 1))), 0), len(scales) - 1)
        return scales[number]

    def _chip(
        self, box: NDArray, image_size: tuple[int, int], side: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """The part of an image for a view; without jitter the whole, whose map may be kept."""
        if not self.settings.jitter:
            return 0, 0, image_size[1], image_size[0]
        return draw_chip(box, image_size, side, rng)


def trainable(record: ImageRecord, difficult: bool) -> bool:
    """Whether an image has an object to train on; with ``difficult``, difficult objects count."""
    return bool((difficult | ~record.difficult).any())


def draw_rows(
    labels: WindowLabels,
    inside: NDArray[np.bool_],
    quota: tuple[int, int],
    num_classes: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows of one view: indices and labels ``(B,)``, K for background, no window twice.

    Args:
        labels: labels of an image with a trainable object.
        inside: ``(P,)`` windows that may be drawn.
        quota: largest number of positives (IoU in [0.5, 1]), and number of windows in all; the
            rest is background (IoU in [0.1, 0.5)).
        num_classes: K.
        rng: random generator of the draw.
    """
    most, count = quota
    positives = np.flatnonzero(labels.positive & inside)
    positives = rng.permutation(positives)[:most]
    negatives = np.flatnonzero(labels.background & inside)
    negatives = rng.permutation(negatives)[: count - len(positives)]
    classes = np.full(len(positives) + len(negatives), num_classes, np.int64)
    classes[: len(positives)] = labels.labels[labels.nearest[positives]]
    return np.concatenate([positives, negatives]).astype(np.int64), classes
