"""Probabilities against shares of correct detections."""

import numpy as np
import pytest
from made_page import made_test

from detection.evaluation.reliability import calibration_error, reliability, reliability_facts


def test_calibration_error_by_hand():
    probabilities = np.array([0.05, 0.15, 0.15, 0.95, 1.0])
    correct = np.array([False, True, False, True, True])
    # The gaps are 0.05 (bin 0, one detection), 0.35 (bin 1, two) and 0.025 (bin 9, two).
    assert calibration_error(probabilities, correct) == pytest.approx((0.05 + 0.7 + 0.05) / 5)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0


def test_bins_one_by_one(rng):
    scores = rng.random(200).astype(np.float32)
    right = rng.random(200) < scores
    bins = reliability(scores, right)
    for one in bins:
        mine = [n for n in range(200) if int(scores[n] * 10) == round(one["from"] * 10)]
        assert one["detections"] == len(mine)
        assert one["probability"] == pytest.approx(np.mean(scores[mine]))
        assert one["right"] == pytest.approx(np.mean(right[mine]))
    assert sum(one["detections"] for one in bins) == 200


def test_facts_of_a_class_are_of_its_detections(rng):
    scores = rng.random(100).astype(np.float32)
    labels = rng.integers(0, 2, 100)
    right = rng.random(100) < 0.5
    facts = reliability_facts(scores, labels, right, ("cat", "dog", "fox"), 0.5)
    dogs = [n for n in range(100) if labels[n] == 1]
    sure = [n for n in dogs if scores[n] > 0.5]
    assert facts["per_class"]["dog"] == {
        "error": calibration_error(scores[dogs], right[dogs]),
        "error_shown": calibration_error(scores[sure], right[sure]),
        "shown": len(sure),
    }
    assert facts["per_class"]["fox"] == {"error": 0, "error_shown": 0, "shown": 0}
    assert facts["error"] == calibration_error(scores, right)
    assert facts["bins"] == reliability(scores, right)


def test_raw_scores_have_no_reliability(tmp_path):
    _, shown, _ = made_test(tmp_path, probable=False, drawn=False)
    assert shown.reliability is None
