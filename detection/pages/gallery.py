"""A page's images: the worst of a split, as thumbnails with objects and detections."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.data.records import ImageRecord
from detection.evaluation.error_kinds import ERRORS
from detection.pages.outcomes import Shown
from detection.pages.page import packed, thumbnails

MOST_IMAGES = 300


def mistakes(shown: Shown, images: int) -> NDArray[np.int64]:
    """``(images,)`` number of false positives and of objects not found, at the threshold."""
    explained, objects = shown.explained, shown.explained.objects
    seen = shown.scores > np.float32(shown.threshold)
    wrong = np.isin(explained.kind, ERRORS) & seen
    missed = (shown.fates_at(shown.threshold) != 0) & ~objects.difficult
    return np.bincount(explained.image[wrong], minlength=images) + np.bincount(
        objects.image[missed], minlength=images
    )


def worst_images(shown: Shown, records: Sequence[ImageRecord]) -> NDArray[np.int64]:
    """Indices of the images of a split, by decreasing number of mistakes.

    Ties are sorted by the highest score of a mistake. Missing images are left out: result files can
    be evaluated without images.
    """
    explained = shown.explained
    surest = np.full(len(records), -np.inf)
    wrong = np.isin(explained.kind, ERRORS)
    np.maximum.at(surest, explained.image[wrong], shown.scores[wrong])
    order = np.lexsort((-surest, -mistakes(shown, len(records))))
    there = np.array([record.path.is_file() for record in records])
    return order[there[order]][:MOST_IMAGES]


def gallery_data(shown: Shown, records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
    """The worst images for the page's script: id, size, thumbnail, objects, detections.

    Detections are those above the page's lowest threshold, by decreasing score. Boxes are in whole
    pixels of the original image.
    """
    explained, objects = shown.explained, shown.explained.objects
    worst = worst_images(shown, records)
    found = []
    first_object = np.searchsorted(objects.image, np.arange(len(records)))
    by_score = np.argsort(-shown.scores, kind="stable")
    by_score = by_score[shown.scores[by_score] > np.float32(shown.lowest)]
    by_image = by_score[np.argsort(explained.image[by_score], kind="stable")]
    starts = np.searchsorted(explained.image[by_image], np.arange(len(records) + 1))
    for row, uri in thumbnails(records[place].path for place in worst).items():
        place = worst[row]
        record, rows = records[place], by_image[starts[place] : starts[place + 1]]
        on = explained.on[rows]
        found.append(
            {
                "id": record.image_id,
                "image": uri,
                "size": [int(record.size[1]), int(record.size[0])],
                "objects": [
                    [*box, int(label), int(hard)]
                    for box, label, hard in zip(
                        record.boxes.round().astype(int).tolist(),
                        record.labels,
                        record.difficult,
                        strict=True,
                    )
                ],
                "boxes": packed(explained.boxes[rows].round().clip(0, 65535).astype(np.uint16)),
                "scores": packed(shown.scores[rows]),
                "labels": packed(explained.labels[rows].astype(np.uint16)),
                "kinds": packed(explained.kind[rows]),
                "on": packed(np.where(on < 0, -1, on - first_object[place]).astype(np.int32)),
            }
        )
    return found
