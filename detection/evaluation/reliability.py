"""Whether probabilities can be believed: expected calibration error, and the bins behind it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


def calibration_error(probabilities: NDArray, correct: NDArray[np.bool_]) -> float:
    """Expected calibration error: how far probabilities are from shares of right detections.

    The mean over detections of ``|mean probability - share right|`` of the detection's bin, the
    bins being tenths of 0..1 (Guo et al. 2017, equation 5); 0 of no detections.

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
    """Of each tenth of 0..1 with detections: how many, mean probability, and the share right.

    Arguments as ``calibration_error``.
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
    """Calibration error of all detections, of those shown to people, and of each class.

    Most detections are wrong and known to be: they make the error of all of them small. So the
    error of those above ``threshold`` stands beside it.

    Args:
        probabilities: ``(n,)`` of the detections that count.
        labels: ``(n,)`` their classes.
        correct: ``(n,)``.
        classes: their names.
        threshold: a detection is shown above it (strict).

    Returns:
        ``error``, ``error_shown`` and ``shown`` (how many), the same of each class under
        ``per_class``, and ``bins`` of all.
    """

    def measured(rows: NDArray[np.bool_]) -> dict[str, Any]:
        """Both errors of some detections, and how many of these are shown."""
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
