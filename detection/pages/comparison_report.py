"""The page that compares two tests: AP per class, and objects that only one detector finds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.data.records import ImageRecord
from detection.evaluation.comparison import Comparison
from detection.evaluation.error_kinds import Kind
from detection.pages.gallery import MOST_IMAGES
from detection.pages.outcomes import Shown
from detection.pages.page import thumbnails, write_page

# Which detectors find an object: the values of ``found_by``.
BOTH, FIRST, SECOND, NEITHER = range(4)


def found_by(first: Shown, second: Shown) -> NDArray[np.int64]:
    """``(m,)`` which detectors find each object, each above its own threshold."""
    one, other = (
        shown.explained.best_on(Kind.FOUND, shown.scores) > np.float32(shown.threshold)
        for shown in (first, second)
    )
    return np.select([one & other, one, other], [BOTH, FIRST, SECOND], NEITHER)


def counts_found(first: Shown, second: Shown) -> NDArray[np.int64]:
    """``(K, 4)`` number of objects of each class that count, by which detectors find them."""
    objects = first.explained.objects
    table = np.zeros((len(first.explained.classes), 4), np.int64)
    counted = ~objects.difficult
    np.add.at(table, (objects.labels[counted], found_by(first, second)[counted]), 1)
    return table


def write_comparison(
    path: str | Path,
    names: tuple[str, str],
    records: Sequence[ImageRecord],
    shown: tuple[Shown, Shown],
    comparison: Comparison,
    facts: Mapping[str, Any],
) -> None:
    """Write the page.

    Args:
        path: of the HTML file; replaced if it exists.
        names: of the two tests.
        records: every image of the split.
        shown: both tests' detections, each shown above its own threshold.
        comparison: from ``compare``.
        facts: ``command``, ``date`` and ``environment``.
    """
    classes = shown[0].explained.classes
    content = {
        "title": f"{names[0]} and {names[1]}",
        "names": names,
        "images": len(records),
        "shown": shown,
        "comparison": comparison,
        "classes": classes,
        "counts": counts_found(*shown),
        "facts": facts,
        "data": {"classes": list(classes), "images": differing_images(records, *shown)},
    }
    write_page(path, "comparison_report.html.jinja", content)


def differing_images(
    records: Sequence[ImageRecord], first: Shown, second: Shown
) -> list[dict[str, Any]]:
    """Images for the page's script, by decreasing number of objects that only one test finds."""
    objects, who = first.explained.objects, found_by(first, second)
    differs = np.isin(who, (FIRST, SECOND)) & ~objects.difficult
    number = np.bincount(objects.image[differs], minlength=len(records))
    order = np.argsort(-number, kind="stable")[: min(MOST_IMAGES, int((number > 0).sum()))]
    found = []
    for row, uri in thumbnails(records[place].path for place in order).items():
        place = order[row]
        record, mine = records[place], objects.image == place
        rows = zip(
            record.boxes.round().astype(int).tolist(),
            record.labels.tolist(),
            record.difficult.tolist(),
            who[mine].tolist(),
            strict=True,
        )
        found.append(
            {
                "id": record.image_id,
                "image": uri,
                "size": [int(record.size[1]), int(record.size[0])],
                "objects": [[*box, label, int(hard), one] for box, label, hard, one in rows],
                "found": [_boxes(shown, int(place)) for shown in (first, second)],
            }
        )
    return found


def _boxes(shown: Shown, image: int) -> list[list[float]]:
    """Corners, class, score and kind of the detections shown in an image, by decreasing score."""
    explained = shown.explained
    rows = np.flatnonzero((explained.image == image) & (shown.scores > np.float32(shown.threshold)))
    rows = rows[np.argsort(-shown.scores[rows], kind="stable")]
    return [
        [*map(round, box), int(label), round(float(score), 3), int(kind)]
        for box, label, score, kind in zip(
            explained.boxes[rows].tolist(),
            explained.labels[rows],
            shown.scores[rows],
            explained.kind[rows],
            strict=True,
        )
    ]
