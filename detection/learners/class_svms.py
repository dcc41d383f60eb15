"""Scores features with the SVMs of all classes, which mining has fitted."""

import numpy as np
from numpy.typing import NDArray

from detection.learners.scores import linear_scores


class ClassSVMs:
    """The SVMs of K classes.

    Attributes:
        coef_: ``(K, D)`` float32, for features at the scale of the fit.
        intercept_: ``(K,)`` float32.
    """

    coef_: NDArray[np.float32]
    intercept_: NDArray[np.float32]

    @classmethod
    def from_arrays(cls, coef: NDArray, intercept: NDArray) -> "ClassSVMs":
        """Fitted SVMs from given weights ``(K, D)`` and intercepts ``(K,)``."""
        svms = cls()
        svms.coef_ = np.ascontiguousarray(coef, dtype=np.float32)
        svms.intercept_ = np.asarray(intercept, dtype=np.float32)
        if svms.coef_.ndim != 2 or svms.intercept_.shape != svms.coef_.shape[:1]:
            raise ValueError(
                f"SVMs need weights (K, D) and intercepts (K,), "
                f"got {svms.coef_.shape} and {svms.intercept_.shape}"
            )
        return svms

    def decision_function(self, features: NDArray) -> NDArray[np.float32]:
        """Scores ``(n, K)`` float32 of features ``(n, D)``; higher is more certain, 0 the boundary.

        Raises:
            ValueError: the features have another length.
        """
        if features.ndim != 2 or features.shape[1] != self.coef_.shape[1]:
            raise ValueError(
                f"these SVMs score features of shape (n, {self.coef_.shape[1]}), "
                f"got {features.shape}"
            )
        return linear_scores(features, self.coef_, self.intercept_)
