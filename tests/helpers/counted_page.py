"""What a page's script counts, counted in Python."""

import numpy as np

from detection.evaluation.error_kinds import Kind
from detection.pages.outcomes import SIZES


def kinds_at(shown, threshold):
    """Return the numbers of detections by class, size and kind, ``(K, 3, 7)``."""
    seen = shown.scores > np.float32(threshold)
    count = np.zeros((len(shown.explained.classes), len(SIZES), len(Kind)), np.int64)
    places = shown.explained.labels[seen], shown.sizes[seen], shown.explained.kind[seen]
    np.add.at(count, places, 1)
    return count


def confusion_at(shown, threshold):
    """Return the confusion table ``(K + 1, K + 2)`` at a threshold.

    A class's row counts its objects that are not difficult. Its columns are the class that they
    were detected as, then badly placed, then missed. The last row counts, by class, detections on
    no object, or hardly on an object of another class.
    """
    objects, labels = shown.explained.objects, shown.explained.objects.labels
    classes = len(shown.explained.classes)
    columns = np.choose(
        shown.fates_at(threshold),
        [
            labels,
            shown.taken_for(),
            np.full_like(labels, classes),
            np.full_like(labels, classes + 1),
        ],
    )
    table = np.zeros((classes + 1, classes + 2), np.int64)
    np.add.at(table, (labels[~objects.difficult], columns[~objects.difficult]), 1)
    nothing = kinds_at(shown, threshold)[:, :, [Kind.BOTH, Kind.BACKGROUND]].sum(axis=(1, 2))
    table[-1, :classes] = nothing
    return table
