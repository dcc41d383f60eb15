"""One linear SVM per class from a Gram matrix: hinge loss, L2 regularisation, free intercept.

    0.5 |w|^2 + C sum hinge(y (w x + b))

libsvm solves the dual problem. Its kernel is the matrix of inner products, so the time of a fit
does not depend on the length of the features. liblinear's ``LinearSVC`` gives the same scores if
its intercept is hardly regularised (tests).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

# The C that are tried. Features have norm 1; above 10, the training images are fitted perfectly.
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
    """Scores of test images by SVMs trained on the training images.

    Args:
        gram: ``(n, n)`` inner products of all images.
        train: ``(t,)`` rows of training images.
        test: ``(m,)`` rows of test images.
        targets: ``(n, K)`` 1 for images of a class, -1 for others, 0 for images left out.
        C: weight of the loss.
        classes: names of the K classes, for errors.

    Returns:
        ``(m, K)``.

    Raises:
        ValueError: a class has no positive or no negative training image.
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
    """The C with the highest measure (on ties, the smallest C), and this measure."""
    found = [(measure(C), C) for C in grid]
    value, C = max(found, key=lambda each: (each[0], -each[1]))
    return C, value
