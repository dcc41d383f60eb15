"""One linear SVM a class from a Gram matrix: L2-regularised hinge, the intercept free.

    0.5 |w|^2 + C sum hinge(y (w x + b))

libsvm solves the dual; its kernel is the matrix of inner products, so that a fit costs the same
for any length of features. liblinear's ``LinearSVC`` gives the same scores where its intercept is
hardly regularised (tests).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

# C that are tried; features have norm 1, and above 10 the training images are fitted whole.
GRID = (0.1, 0.3, 1.0, 3.0, 10.0)
CACHE_MB = 300
TOLERANCE = 1e-3


def svm_scores(
    gram: NDArray,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    targets: NDArray[np.int64],
    C: float,
    classes: Sequence[str],
) -> NDArray[np.float64]:
    """Scores of test images by SVMs of the training images.

    Args:
        gram: ``(n, n)`` inner products of all images.
        train: ``(t,)`` rows to train on.
        test: ``(m,)`` rows to score.
        targets: ``(n, K)`` 1 for images of a class, -1 for others, 0 for those left out of it.
        C: weight of the loss.
        classes: names of the K classes, for errors.

    Returns:
        ``(m, K)``.

    Raises:
        ValueError: a class without a positive or without a negative to train on.
    """
    inside = gram[np.ix_(train, train)].astype(np.float64)
    across = gram[np.ix_(test, train)].astype(np.float64)
    scores = np.empty((len(test), targets.shape[1]))
    for number, (name, target) in enumerate(zip(classes, targets[train].T, strict=True)):
        if not {-1, 1} <= set(target.tolist()):
            raise ValueError(
                f"class {name} has {int((target > 0).sum())} images to train on and "
                f"{int((target < 0).sum())} others; an SVM needs at least one of each"
            )
        use = np.flatnonzero(target)
        all_used = len(use) == len(target)
        solver = SVC(C=C, kernel="precomputed", tol=TOLERANCE, cache_size=CACHE_MB)
        solver.fit(inside if all_used else inside[np.ix_(use, use)], target[use])
        scores[:, number] = solver.decision_function(across if all_used else across[:, use])
    return scores


def best_C(measure: Callable[[float], float], grid: Sequence[float] = GRID) -> tuple[float, float]:
    """The C of the highest measure, the smallest of equals, and that measure."""
    found = [(measure(C), C) for C in grid]
    value, C = max(found, key=lambda each: (each[0], -each[1]))
    return C, value
