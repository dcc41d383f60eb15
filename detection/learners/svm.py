"""The linear SVMs that score windows: one per class, liblinear's plain hinge (paper 4.1).

The released system trains liblinear of type 3 (L2-regularised hinge, dual) with ``C`` = 1e-3,
positives weighted 2, and a constant feature of 10 after the others. So the intercept is ten times
the weight of this feature, and is regularised too:

    0.5 |w|^2 + 0.5 (b / 10)^2 + 2 C sum hinge(positives) + C sum hinge(negatives)

with hinge = max(0, 1 - y (w x + b)). Features must have a mean L2 norm of 20; ``C`` is chosen for
this scale. liblinear has one random state per process and gives other weights if two fits share
it, so classes are fitted one after the other or in several processes, never in threads.
"""

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

# Fits take 20 to 150 passes at tol 1e-4; one that needs this many has failed.
MAX_ITER = 100_000
# The solver stops when margins are within its tolerance, so support vectors get a wider margin.
ON_MARGIN = 1e-3


@dataclass(frozen=True)
class HingeLoss:
    """The loss of an SVM, as in the module's docstring, with the released code's defaults.

    Attributes:
        C: weight of the loss; higher fits the samples more closely.
        positive_weight: factor on the loss of positives.
        bias: value B of the constant feature; higher regularises the intercept less.
    """

    C: float = 1e-3
    positive_weight: float = 2.0
    bias: float = 10.0


RELEASED = HingeLoss()


@dataclass(frozen=True)
class SVMObjective:
    """The value that the solver minimised, and its three parts, which add up to ``total``.

    Attributes:
        total: the objective in the module's docstring.
        positive_loss: ``positive_weight * C`` times the summed hinge of the positives.
        negative_loss: ``C`` times the summed hinge of the negatives.
        regularisation: ``0.5 |w|^2 + 0.5 (b / B)^2``.
    """

    total: float
    positive_loss: float
    negative_loss: float
    regularisation: float


@dataclass(frozen=True)
class LinearSVM:
    """One fitted class.

    Attributes:
        weights: ``(D,)`` float64.
        bias: the intercept, to be added to ``features @ weights``.
        objective: the objective at these weights.
        negative_scores: ``(m,)`` float64, scores of the negatives of the fit, in their order.
        support_vectors: number of samples on or inside the margin, ``y * score <= 1.001``.
        seconds: time of the fit.
    """

    weights: NDArray[np.float64]
    bias: float
    objective: SVMObjective
    negative_scores: NDArray[np.float64]
    support_vectors: int
    seconds: float


def svm_objective(
    weights: NDArray,
    intercept: float,
    positive_scores: NDArray,
    negative_scores: NDArray,
    loss: HingeLoss,
) -> SVMObjective:
    """The objective at given weights.

    Args:
        weights: ``(D,)``.
        intercept: already included in the scores.
        positive_scores: ``(n,)`` scores of the positives.
        negative_scores: ``(m,)`` scores of the negatives.
        loss: weights of the loss; the intercept is regularised as ``0.5 (intercept / B)^2``.
    """
    positive = loss.positive_weight * loss.C * float(np.maximum(0.0, 1.0 - positive_scores).sum())
    negative = loss.C * float(np.maximum(0.0, 1.0 + negative_scores).sum())
    regularisation = (
        0.5 * float(np.einsum("d,d->", weights, weights)) + 0.5 * (intercept / loss.bias) ** 2
    )
    return SVMObjective(positive + negative + regularisation, positive, negative, regularisation)


def _stacked(positives: NDArray, negatives: NDArray) -> NDArray[np.float64]:
    """Positives, then negatives, in one float64 matrix, which liblinear reads without a copy."""
    for name, features in (("positives", positives), ("negatives", negatives)):
        if features.ndim != 2 or not len(features):
            raise ValueError(
                f"an SVM needs {name} of shape (n, D) with n > 0, got {features.shape}"
            )
    if positives.shape[1] != negatives.shape[1]:
        raise ValueError(
            f"positives and negatives of an SVM must have the same length, "
            f"got {positives.shape[1]} and {negatives.shape[1]}"
        )
    samples = np.empty((len(positives) + len(negatives), positives.shape[1]))
    samples[: len(positives)] = positives
    samples[len(positives) :] = negatives
    return samples


def _solved(
    samples: NDArray[np.float64],
    targets: NDArray[np.int64],
    positive_weight: float,
    **settings: Any,
) -> LinearSVC:
    """The fitted solver, liblinear of type 3.

    Raises:
        RuntimeError: the solver did not converge.
    """
    weights = {1: positive_weight, -1: 1.0}
    solver = LinearSVC(loss="hinge", dual=True, class_weight=weights, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            solver.fit(samples, targets)
        except ConvergenceWarning as warning:
            raise RuntimeError(
                f"an SVM on {int((targets > 0).sum())} positives and {int((targets < 0).sum())} "
                f"negatives did not converge in {solver.max_iter} passes; expected features at "
                f"mean norm 20, got {np.linalg.norm(samples, axis=1).mean():.3g}"
            ) from warning
    return solver


def fit_svm(
    positives: NDArray,
    negatives: NDArray,
    loss: HingeLoss = RELEASED,
    *,
    seed: int = 0,
    tol: float = 1e-4,
    max_iter: int = MAX_ITER,
) -> LinearSVM:
    """Fit one class. The same arrays in the same order give the same bytes.

    Do not call it from two threads at once. Peak memory, besides the arguments, is 8 bytes per
    entry and 16 per non-zero entry.

    Args:
        positives: ``(n, D)`` float32 at mean norm 20, n > 0.
        negatives: ``(m, D)`` float32, m > 0.
        loss: loss to minimise.
        seed: seed of the solver's order of samples.
        tol: the solver's stopping tolerance. At 1e-4, scores are within 1e-4 of the optimum. At
            1e-3 they are within 1e-3, and a fit takes at most a quarter less time.
        max_iter: number of passes after which the fit fails.

    Raises:
        ValueError: no positives, no negatives, or different lengths.
        RuntimeError: the solver did not converge.
    """
    start = time.perf_counter()
    samples = _stacked(positives, negatives)
    targets = np.repeat([1, -1], [len(positives), len(negatives)])
    solver = _solved(
        samples,
        targets,
        loss.positive_weight,
        C=loss.C,
        intercept_scaling=loss.bias,
        random_state=seed,
        tol=tol,
        max_iter=max_iter,
    )
    weights, intercept = solver.coef_[0], float(solver.intercept_[0])
    # einsum, not matmul: it does not use BLAS, so the number of threads cannot change the last bit.
    scores = np.einsum("nd,d->n", samples, weights) + intercept
    of_positives, of_negatives = np.split(scores, [len(positives)])
    return LinearSVM(
        weights,
        intercept,
        svm_objective(weights, intercept, of_positives, of_negatives, loss),
        of_negatives,
        int((targets * scores <= 1.0 + ON_MARGIN).sum()),
        time.perf_counter() - start,
    )
