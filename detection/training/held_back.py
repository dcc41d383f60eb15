"""Images that no stage learns from: they give the learning curve and calibrate the scores."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from detection.data.records import Dataset, copies


def split_held_back(
    data: Dataset, share: float, seed: int, *, difficult: bool
) -> tuple[Dataset, Dataset]:
    """The images to learn from and those held back, both in the order of ``data``.

    About ``share`` of the images are held back, chosen by the seed; copies of an image stay on one
    side (``copies``). An image is not held back if a class would lose more than twice that share of
    its objects, so a class with few objects keeps all of them; or if, with its copies, more than
    twice that share of the images would be held back.

    Args:
        data: the training images.
        share: share of images to hold back, 0 to 0.5.
        seed: seed of the draw.
        difficult: objects marked difficult count, as in training.
    """
    rng, count = np.random.default_rng(seed), len(data.records)
    objects = np.zeros((count, len(data.classes)), np.int64)
    for row, record in enumerate(data.records):
        np.add.at(objects[row], record.labels[difficult | ~record.difficult], 1)
    left = 2 * share * objects.sum(axis=0)
    held: set[int] = set()
    wanted = round(count * share)
    digests = copies([record.path for record in data.records if wanted])
    alike: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        alike[digest].append(row)
    for row in rng.permutation(count).tolist():
        if len(held) >= wanted:
            break
        same = alike[digests[row]]
        lost = objects[same].sum(axis=0)
        fits = len(held) + len(same) <= 2 * wanted
        if row not in held and fits and (lost <= left).all():
            left = left - lost
            held.update(same)
    kept = tuple(record for row, record in enumerate(data.records) if row not in held)
    back = tuple(data.records[row] for row in sorted(held))
    return replace(data, records=kept), replace(data, records=back)
