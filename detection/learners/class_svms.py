"""The SVMs of all classes as one estimator, with scikit-learn's contract."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.learners.scores import linear_scores
from detection.learners.svm import fit_svm


class ClassSVMs:
    """The SVMs of K classes.

    Args:
        C: weight of the loss.
        bias: constant feature; higher regularises the intercepts less.
        positive_weight: factor on the loss of positives.
        seed: of the solver.

    Attributes:
        coef_: ``(K, D)`` float32, for features at the scale they were fitted at.
        intercept_: ``(K,)`` float32.
    """

    coef_: NDArray[np.float32]
    intercept_: NDArray[np.float32]

    def __init__(
        self,
        C: float = 1e-3,
        bias: float = 10.0,
        positive_weight: float = 2.0,
        seed: int = 0,
    ) -> None:
        self.C = C
        self.bias = bias
        self.positive_weight = positive_weight
        self.seed = seed

    @classmethod
    def from_arrays(cls, coef: NDArray, intercept: NDArray) -> "ClassSVMs":
        """Fitted SVMs of weights ``(K, D)`` and intercepts ``(K,)`` made before."""
        svms = cls()
        svms.coef_ = np.ascontiguousarray(coef, dtype=np.float32)
        svms.intercept_ = np.asarray(intercept, dtype=np.float32)
        if svms.coef_.ndim != 2 or svms.intercept_.shape != svms.coef_.shape[:1]:
            raise ValueError(
                f"SVMs need weights (K, D) and intercepts (K,), "
                f"got {svms.coef_.shape} and {svms.intercept_.shape}"
            )
        return svms

    def fit(self, positives: Sequence[NDArray], negatives: Sequence[NDArray]) -> "ClassSVMs":
        """Fit every class on all its samples at once, without mining.

        Args:
            positives: K arrays ``(n_k, D)`` float32.
            negatives: K arrays ``(m_k, D)`` float32.
        """
        fitted = [
            fit_svm(
                *samples,
                C=self.C,
                bias=self.bias,
                positive_weight=self.positive_weight,
                seed=self.seed,
            )
            for samples in zip(positives, negatives, strict=True)
        ]
        self.coef_ = np.stack([svm.weights for svm in fitted]).astype(np.float32)
        self.intercept_ = np.array([svm.bias for svm in fitted], dtype=np.float32)
        return self

    def decision_function(self, features: NDArray) -> NDArray[np.float32]:
        """Scores ``(n, K)`` float32 of features ``(n, D)``; higher is surer, 0 the boundary.

        Raises:
            RuntimeError: not fitted.
            ValueError: features of another length.
        """
        if not hasattr(self, "coef_"):
            raise RuntimeError("these SVMs are not fitted: call fit or from_arrays first")
        if features.ndim != 2 or features.shape[1] != self.coef_.shape[1]:
            raise ValueError(
                f"these SVMs score features of shape (n, {self.coef_.shape[1]}), "
                f"got {features.shape}"
            )
        return linear_scores(features, self.coef_, self.intercept_)
