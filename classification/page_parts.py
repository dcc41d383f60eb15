"""Parts of both classification pages: the most frequent confusions, and a list of images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.pages.page import thumbnails
from files.images import image_size

MOST_IMAGES = 300
SIDE = 256
COMMONEST = 20


def commonest(
    confusion: NDArray[np.int64], totals: NDArray[np.int64], order: NDArray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """The most frequent confusions: true class, predicted class, number of images and of all.

    Args:
        confusion: ``(K, K)`` images of the row's class wrongly predicted as the column's.
        totals: ``(K,)`` number of images of each class.
        order: ``(K, K)`` values to sort by, largest first.
        classes: K names.
    """
    places = np.argsort(-order, axis=None, kind="stable")[:COMMONEST]
    pairs = zip(*np.unravel_index(places, order.shape), strict=True)
    return [
        {
            "true": classes[row],
            "named": classes[column],
            "images": int(confusion[row, column]),
            "of": int(totals[row]),
        }
        for row, column in pairs
        if confusion[row, column]
    ]


def listed_images(
    paths: Sequence[Path], facts_of: Callable[[int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The first images, up to the page's limit, for the page's script.

    Args:
        paths: in the order in which they are shown.
        facts_of: returns the facts shown about an image, by its index in ``paths``.
    """
    images = []
    for place, uri in thumbnails(paths[:MOST_IMAGES], SIDE).items():
        height, width = image_size(paths[place])
        images.append({"image": uri, "size": [width, height], **facts_of(place)})
    return images
