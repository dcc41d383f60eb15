"""How well probabilities are calibrated: the expected calibration error and its bins."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


def calibration_error(probabilities: NDArray, correct: NDArray[np.bool_]) -> float:
    """Expected calibration error: the difference of probabilities and shares of correct detections.

    It is the mean over detections of ``|mean probability - share correct|`` in the detection's bin;
    the bins are tenths of 0..1 (Guo et al. 2017, equation 5). It is 0 without detections.

    Args:
        probabilities: ``(n,)`` in 0..1.
        correct: ``(n,)``.
    """
    gaps = (
        one["detections"] * abs(one["probability"] - one["right"])
        for one in reliability(probabilities, correct)
    )
    return sum(gaps) / max(len(probabilities), 1)


def reliability(probabilities: NDArray, correct: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """For each tenth of 0..1 with detections: their number, mean probability and share correct.

    Arguments: see ``calibration_error``.
    """
    bin_of = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    found = []
    for place in np.unique(bin_of).tolist():
        rows = bin_of == place
        found.append(
            {
                "from": place / BINS,
                "detections": int(rows.sum()),
                "probability": float(probabilities[rows].mean(dtype=np.float64)),
                "right": float(correct[rows].mean()),
            }
        )
    return found


def reliability_facts(
    probabilities: NDArray,
    labels: NDArray[np.int64],
    correct: NDArray[np.bool_],
    classes: Sequence[str],
    threshold: float,
) -> dict[str, Any]:
    """Calibration error of all detections, of those shown to users, and of each class.

    Most detections are wrong and have low probabilities, which makes the error over all detections
    small. So the error of those above ``threshold`` is computed too.

    Args:
        probabilities: ``(n,)`` of the detections that count.
        labels: ``(n,)`` their classes.
        correct: ``(n,)``.
        classes: names of the classes.
        threshold: detections above it (strictly) are shown.

    Returns:
        ``error``, ``error_shown`` and ``shown`` (their number); the same for each class under
        ``per_class``; and ``bins`` of all detections.
    """

    def measured(rows: NDArray[np.bool_]) -> dict[str, Any]:
        """Both errors of some detections, and the number of those shown."""
        above = rows & (probabilities > np.float32(threshold))
        return {
            "error": calibration_error(probabilities[rows], correct[rows]),
            "error_shown": calibration_error(probabilities[above], correct[above]),
            "shown": int(above.sum()),
        }

    return {
        **measured(np.ones(len(labels), bool)),
        "per_class": {name: measured(labels == label) for label, name in enumerate(classes)},
        "bins": reliability(probabilities, correct),
    }
