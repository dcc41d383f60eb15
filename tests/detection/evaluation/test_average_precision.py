"""Average precisions of curves whose recalls are tenths."""

import numpy as np
import pytest
from golden_set import toy_cases

from detection.evaluation import average_precision
from detection.evaluation.average_precision import area_ap, eleven_point_ap


def test_recall_of_three_tenths_does_not_reach_its_threshold():
    # Three of ten objects are found at precision 1. Recall 3 / 10 does not reach 3 * 0.1.
    assert eleven_point_ap(np.array([0.1, 0.2, 3 / 10]), np.ones(3)) == pytest.approx(3 / 11)
    assert area_ap(np.array([0.1, 0.2, 3 / 10]), np.ones(3)) == pytest.approx(0.3)


def test_the_golden_answers_tell_octaves_recalls_from_matlabs(monkeypatch):
    """Octave's recalls gave the answers; with MATLAB's, 6/10 and 7/10 reach 0.6 and 0.7."""
    steps = np.arange(11)
    matlabs = np.where(steps <= 5, steps * 0.1, 1 - (10 - steps) * 0.1)
    assert np.flatnonzero(matlabs != average_precision.RECALLS).tolist() == [6, 7]
    expected = toy_cases()["recall_grid"]["expected"]["ten"]
    curve = [np.array(expected[name], float) for name in ("rec", "prec")]
    assert eleven_point_ap(*curve) == pytest.approx(expected["ap11"], abs=1e-14)
    monkeypatch.setattr(average_precision, "RECALLS", matlabs)
    assert eleven_point_ap(*curve) > expected["ap11"] + 0.01
