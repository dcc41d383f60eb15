import numpy as np
import pytest
from scipy.optimize import minimize

from detection.evaluation.reliability import calibration_error
from detection.learners.calibration import Calibration

SLOPES = np.array([2.0, 4.0, 3.0])
OFFSETS = np.array([-1.0, 0.5, -3.0])


def detections(count, seed=0):
    """Return scores, classes, whether each is right, and the probability of that."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(0, 1, count), rng.integers(0, 3, count)
    chance = 1 / (1 + np.exp(-(SLOPES[labels] * scores + OFFSETS[labels])))
    return scores.astype(np.float32), labels, rng.random(count) < chance, chance


def slow_fit(scores, labels, correct, num_classes):
    """Minimise the same loss with a general solver; return the slope and offset of each class."""

    def loss(values):
        slope, offset = values[0] + values[2 : 2 + num_classes], values[1] + values[-num_classes:]
        logits = slope[labels] * scores + offset[labels]
        likelihood = np.logaddexp(0, np.where(correct, -logits, logits)).sum()
        return likelihood + 0.5 * ((values[0] / 10) ** 2 + (values[2:] ** 2).sum())

    found = minimize(loss, np.zeros(2 + 2 * num_classes), tol=1e-10).x
    return found[0] + found[2 : 2 + num_classes], found[1] + found[-num_classes:]


def test_known_sigmoids_are_found_again():
    scores, labels, correct, chance = detections(60_000)
    fitted = Calibration().fit(scores, labels, correct, 3)
    np.testing.assert_allclose(fitted.predict(scores, labels), chance, atol=0.03)
    assert calibration_error(fitted.predict(scores, labels), correct) < 0.01


def test_the_fit_is_the_slow_one():
    scores, labels, correct, _ = detections(300)
    fitted = Calibration().fit(scores, labels, correct, 3)
    slope, offset = slow_fit(scores, labels, correct, 3)
    np.testing.assert_allclose(fitted.slope_, slope, atol=2e-3)
    np.testing.assert_allclose(fitted.offset_, offset, atol=2e-3)


def test_a_class_without_detections_gets_the_common_sigmoid():
    scores, labels, correct, _ = detections(2000)
    fitted = Calibration().fit(scores, labels, correct, 4)
    assert fitted.slope_[:3].min() <= fitted.slope_[3] <= fitted.slope_[:3].max()
    assert fitted.offset_[:3].min() <= fitted.offset_[3] <= fitted.offset_[:3].max()


def test_the_order_of_a_class_stays():
    scores, labels, correct, _ = detections(500)
    # Add a class whose three low scores are right and whose three high scores are wrong.
    scores = np.append(scores, [-3, -3, -3, 3, 3, 3]).astype(np.float32)
    labels, correct = np.append(labels, [3] * 6), np.append(correct, [True] * 3 + [False] * 3)
    fitted = Calibration().fit(scores, labels, correct, 4)
    assert (fitted.slope_ > 0).all()
    rising = np.linspace(-2, 2, 50, dtype=np.float32)
    assert (np.diff(fitted.predict(rising, np.full(50, 3))) > 0).all()


def test_the_order_of_detections_does_not_matter():
    scores, labels, correct, _ = detections(400)
    order = np.random.default_rng(1).permutation(400)
    one = Calibration().fit(scores, labels, correct, 3)
    two = Calibration().fit(scores[order], labels[order], correct[order], 3)
    np.testing.assert_allclose(one.slope_, two.slope_, rtol=1e-3)


def test_arrays_make_the_same_calibration():
    scores, labels, correct, _ = detections(400)
    one = Calibration().fit(scores, labels, correct, 3)
    two = Calibration.from_arrays(one.slope_, one.offset_)
    np.testing.assert_array_equal(one.predict(scores, labels), two.predict(scores, labels))
    assert one.predict(scores[:0], labels[:0]).shape == (0,)


def test_too_little_to_learn_from_is_refused():
    scores, labels, correct, _ = detections(100)
    few = np.cumsum(correct) <= 9
    with pytest.raises(ValueError, match=r"9 right and .* too few"):
        Calibration().fit(scores, labels, correct & few, 3)
    with pytest.raises(ValueError, match="not right more often"):
        Calibration().fit(-scores, labels, correct, 3)
    with pytest.raises(ValueError, match="slopes above 0"):
        Calibration.from_arrays(np.array([1.0, 0.0]), np.zeros(2))
