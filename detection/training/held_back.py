"""Images that no stage learns from: they draw the learning curve and calibrate the scores."""

from dataclasses import replace

import numpy as np

from detection.data.records import Dataset


def split_held_back(
    data: Dataset, share: float, seed: int, *, difficult: bool
) -> tuple[Dataset, Dataset]:
    """The images to learn from and those held back, both in the order of ``data``.

    Held back are about ``share`` of the images, drawn by seed. An image stays with the first where
    a class would lose more than twice that share of its objects by it, so that a class of few
    objects keeps them all.

    Args:
        data: the training images.
        share: 0 to 0.5 of them.
        seed: of the draw.
        difficult: objects marked difficult count, as in training.
    """
    rng, count = np.random.default_rng(seed), len(data.records)
    objects = np.zeros((count, len(data.classes)), np.int64)
    for row, record in enumerate(data.records):
        np.add.at(objects[row], record.labels[difficult | ~record.difficult], 1)
    left = 2 * share * objects.sum(axis=0)
    held: set[int] = set()
    for row in rng.permutation(count).tolist():
        if len(held) >= round(count * share):
            break
        if (objects[row] <= left).all():
            left = left - objects[row]
            held.add(row)
    kept = tuple(record for row, record in enumerate(data.records) if row not in held)
    back = tuple(data.records[row] for row in sorted(held))
    return replace(data, records=kept), replace(data, records=back)
