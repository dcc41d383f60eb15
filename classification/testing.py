"""Tests a classifier on a split: probabilities of the images, accuracies, and their files."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.folder import LabelledImages
from classification.scorer import ViewScorer
from detection.evaluation.report import columns_of
from detection.run import Progress, silent
from files.images import UnreadableImage, read_image
from files.text import read_text
from files.writing import save_text

TOP = 5
COLUMNS = ("image", "class", "predicted", "probability", "class_probability", "rank")


def top5_tells(classes: int) -> bool:
    """Whether top-5 is meaningful: with five classes or fewer, every image is correct."""
    return classes > TOP


@dataclass(frozen=True)
class Predictions:
    """A classifier's predictions for images with known classes.

    Attributes:
        classes: names of the K classes.
        images: ids of the N images.
        labels: ``(N,)`` true classes.
        probabilities: ``(N, K)``.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """``(N,)`` ranks of the true classes, from 1; on ties, the first class is ahead."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        return np.argmax(order == self.labels[:, None], axis=1) + 1

    @property
    def predicted(self) -> NDArray[np.int64]:
        """``(N,)`` most probable classes."""
        return np.argmax(self.probabilities, axis=1)

    def top(self, count: int) -> float:
        """The share of images whose class is among the ``count`` most probable."""
        return float(np.mean(self.ranks <= count))

    def confusion(self) -> NDArray[np.int64]:
        """``(K, K)`` numbers of images: true class by predicted class."""
        count = len(self.classes)
        pairs = np.bincount(self.labels * count + self.predicted, minlength=count * count)
        return pairs.reshape(count, count)

    def class_accuracies(self) -> dict[str, float | None]:
        """The share of each class's images that are correct; None for a class without images."""
        confusion = self.confusion()
        return {
            name: float(row[k] / row.sum()) if row.sum() else None
            for k, (name, row) in enumerate(zip(self.classes, confusion, strict=True))
        }

    def measures(self) -> dict[str, float]:
        """``top1``, with more than five classes ``top5``, and ``mean_class``, in this order.

        ``mean_class`` is the mean over classes with images.
        """
        found = {"top1": self.top(1)}
        if top5_tells(len(self.classes)):
            found["top5"] = self.top(TOP)
        known = [each for each in self.class_accuracies().values() if each is not None]
        return found | {"mean_class": float(np.mean(known))}

    def save(self, path: str | Path) -> None:
        """Write one CSV line per image: class, predicted class, probabilities, rank."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        lines = zip(
            self.images, self.labels, self.predicted, self.probabilities, self.ranks, strict=True
        )
        for image, label, best, row, rank in lines:
            names = (self.classes[label], self.classes[best])
            writer.writerow((image, *names, f"{row[best]:.6f}", f"{row[label]:.6f}", rank))
        save_text(path, table.getvalue())


def predict(
    scorer: ViewScorer,
    images: LabelledImages,
    *,
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[Predictions, dict[str, str]]:
    """Predictions for a split's images and, by name, why some of them could not be read.

    Args:
        scorer: the network with its views.
        images: with the network's classes.
        strict: raises an error at the first unreadable image.
        progress: progress bar.

    Raises:
        UnreadableImage, FileNotFoundError: an image cannot be read, and ``strict`` is set.
        ValueError: no image can be read.
    """
    rows: list[int] = []
    skipped: dict[str, str] = {}

    def pixels() -> Iterator[NDArray[np.uint8]]:
        """The readable images."""
        for row in progress(range(len(images.names)), "images", len(images.names)):
            try:
                found = read_image(images.path(row))
            except (UnreadableImage, FileNotFoundError) as error:
                if strict:
                    raise
                skipped[images.names[row]] = str(error)
                continue
            rows.append(row)
            yield found

    probabilities = list(scorer.probabilities(pixels()))
    if not rows:
        raise ValueError(f"no image of {images.root} can be read: {next(iter(skipped.values()))}")
    names = tuple(images.names[row] for row in rows)
    found = Predictions(images.classes, names, images.labels[rows], np.stack(probabilities))
    return found, skipped


def read_ranks(path: str | Path) -> dict[str, int]:
    """The rank of each image's true class, from a CSV that ``Predictions.save`` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not such a table, or names an image twice.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(
            f"{path} has the columns {reader.fieldnames}, expected {', '.join(COLUMNS)}: name a "
            "predictions.csv that tools/test_cls.py wrote"
        )
    ranks: dict[str, int] = {}
    for line in reader:
        if line["image"] in ranks or not str(line["rank"]).isdecimal():
            raise ValueError(
                f"{path} line {reader.line_num} names {line['image']!r} again or has no rank; test "
                "again"
            )
        ranks[line["image"]] = int(line["rank"])
    return ranks


def format_measures(found: Predictions) -> str:
    """The result as a table, one line per class, top-1 last; without a final newline."""
    width = max(map(columns_of, ("class", *found.classes)))
    counts = found.confusion().sum(axis=1)
    lines = [f"{'class':<{width}}  {'images':>8}  {'accuracy':>8}"]
    for count, (name, value) in zip(counts, found.class_accuracies().items(), strict=True):
        share = "-" if value is None else f"{value:.4f}"
        lines.append(f"{name}{' ' * (width - columns_of(name))}  {count:>8}  {share:>8}")
    measures = found.measures()
    names = {"mean_class": "mean class accuracy", "top5": "top-5", "top1": "top-1"}
    lines += [f"{names[each]} {measures[each]:.4f}" for each in names if each in measures]
    return "\n".join(lines)
