import numpy as np
import pytest
from numpy.typing import NDArray

from detection.learners.class_svms import ClassSVMs
from detection.learners.svm import HingeLoss, fit_svm


def samples(
    seed: int, positives: int = 30, negatives: int = 80, dimension: int = 20
) -> tuple[NDArray, NDArray]:
    """Return positives and negatives: overlapping clouds of features of mean norm 20."""
    rng = np.random.default_rng(seed)
    drawn = np.maximum(rng.standard_normal((positives + negatives, dimension)), 0)
    drawn[:positives, :4] += 0.8
    drawn *= 20 / np.linalg.norm(drawn, axis=1).mean()
    drawn = drawn.astype(np.float32)
    return drawn[:positives], drawn[positives:]


def slow_parts(
    w: NDArray, b: float, positives: NDArray, negatives: NDArray, C: float, B: float, weight: float
) -> tuple[float, float, float]:
    """Return the released objective's terms: positive loss, negative loss and regularisation."""
    positive = negative = 0.0
    for x in positives:
        positive += weight * C * max(0.0, 1 - (float(np.dot(w, x)) + b))
    for x in negatives:
        negative += C * max(0.0, 1 + (float(np.dot(w, x)) + b))
    return positive, negative, 0.5 * sum(v * v for v in w) + 0.5 * (b / B) ** 2


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("C", "B", "weight"), [(1e-3, 10.0, 2.0), (1e-2, 1.0, 5.0)])
def test_objective_equals_slow_twin(seed: int, C: float, B: float, weight: float) -> None:
    positives, negatives = samples(seed)
    svm = fit_svm(positives, negatives, HingeLoss(C, weight, B))
    twin = slow_parts(svm.weights, svm.bias, positives, negatives, C, B, weight)
    parts = svm.objective
    np.testing.assert_allclose(
        (parts.positive_loss, parts.negative_loss, parts.regularisation), twin, rtol=1e-10
    )
    assert parts.total == pytest.approx(sum(twin), rel=1e-10)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_step_lowers_the_objective(seed: int) -> None:
    """The fit is at the minimum of the objective whose term for the bias is 0.5 (b / B)^2."""
    positives, negatives = samples(seed)
    svm = fit_svm(positives, negatives, tol=1e-7)
    rng = np.random.default_rng(seed)
    # The first steps change the bias alone: they would lower the objective if the fit did not
    # regularise the bias, or did so by 0.5 b^2.
    steps = [(np.zeros(20), db) for db in (-0.05, 0.05)]
    steps += [(rng.normal(0, 0.003, 20), rng.normal(0, 0.02)) for _ in range(30)]
    for dw, db in steps:
        moved = slow_parts(svm.weights + dw, svm.bias + db, positives, negatives, 1e-3, 10.0, 2.0)
        assert sum(moved) > svm.objective.total - 1e-8


def test_two_samples_by_hand() -> None:
    # The samples are +1 and -1 in one dimension. C is so large that both margins are met: w = 1,
    # b = 0, the objective is 0.5 * 1^2 = 0.5 without any loss, and both samples are on the margin.
    svm = fit_svm(
        np.ones((1, 1), np.float32),
        -np.ones((1, 1), np.float32),
        HingeLoss(C=100, positive_weight=1.0),
        tol=1e-7,
    )
    assert svm.weights[0] == pytest.approx(1, abs=1e-3)
    assert svm.bias == pytest.approx(0, abs=1e-3)
    assert svm.objective.total == pytest.approx(0.5, abs=1e-3)
    assert svm.support_vectors == 2
    np.testing.assert_allclose(svm.negative_scores, [-1], atol=1e-3)


def test_released_loss_by_hand() -> None:
    # One positive and three negatives have features of 0, so only b is fitted: 0.5 (b / 10)^2
    # + 2e-3 (1 - b) + 3e-3 (1 + b) is least where b / 100 + 1e-3 = 0, b = -0.1. The positive
    # loss is 2e-3 * 1.1, the negative loss 3e-3 * 0.9, the regularisation 0.5 * 1e-4.
    svm = fit_svm(np.zeros((1, 3), np.float32), np.zeros((3, 3), np.float32), tol=1e-9)
    assert svm.bias == pytest.approx(-0.1, abs=1e-6)
    assert svm.objective.positive_loss == pytest.approx(2.2e-3, abs=1e-8)
    assert svm.objective.negative_loss == pytest.approx(2.7e-3, abs=1e-8)
    assert svm.objective.regularisation == pytest.approx(5e-5, abs=1e-8)


def test_a_fit_that_does_not_converge_is_an_error() -> None:
    positives, negatives = samples(0)
    with pytest.raises(RuntimeError, match="30 positives and 80 negatives did not converge in 1 "):
        fit_svm(positives, negatives, max_iter=1)


def test_missing_samples_are_refused() -> None:
    positives, negatives = samples(0)
    with pytest.raises(ValueError, match=r"needs positives of shape \(n, D\) with n > 0"):
        fit_svm(positives[:0], negatives)
    with pytest.raises(ValueError, match="needs negatives"):
        fit_svm(positives, negatives[:0])
    with pytest.raises(ValueError, match="the same length, got 20 and 5"):
        fit_svm(positives, negatives[:, :5])


def test_class_svms_follow_the_contract() -> None:
    tasks = [samples(seed) for seed in range(3)]
    fitted = [fit_svm(positives, negatives) for positives, negatives in tasks]
    weights, bias = [svm.weights for svm in fitted], [svm.bias for svm in fitted]
    svms = ClassSVMs.from_arrays(np.stack(weights), np.array(bias))
    assert svms.coef_.shape == (3, 20)
    assert svms.coef_.dtype == svms.intercept_.dtype == np.float32
    features = tasks[1][1]
    scores = svms.decision_function(features)
    assert scores.shape == (80, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[:, 1], fit_svm(*tasks[1]).negative_scores, atol=1e-5)
    again = ClassSVMs.from_arrays(svms.coef_, svms.intercept_)
    np.testing.assert_array_equal(again.decision_function(features), scores)
    assert svms.decision_function(features[:0]).shape == (0, 3)


def test_wrong_shapes_are_refused() -> None:
    svms = ClassSVMs.from_arrays(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(1, 4\)"):
        svms.decision_function(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match=r"weights \(K, D\) and intercepts \(K,\)"):
        ClassSVMs.from_arrays(np.zeros((2, 3)), np.zeros(3))
