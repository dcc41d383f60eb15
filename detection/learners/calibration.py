"""Calibration: the probability that a detection is correct, from its score (Platt 1999).

SVM scores only order detections; their values mean nothing to a user. Here each class gets a
sigmoid ``1 / (1 + exp(-(a s + b)))``, fitted to detections in images that the SVMs did not learn
from. A few images have few objects of each class, so all classes are fitted together: ``a`` and
``b`` are common values plus a difference per class, which the penalty keeps small if the class has
little data.
"""

import numpy as np
from numpy.typing import NDArray

# Expected deviation of a class's slope and offset from the common ones (the penalty's scale).
SPREAD = 1.0
# Factor on the column of the common slope, which makes the penalty on this slope negligible.
FREE = 10.0
# Smallest number of correct, and of wrong, detections for a fit.
LEAST = 10


class Calibration:
    """Sigmoids of K classes, with scikit-learn's interface.

    Attributes:
        slope_: ``(K,)`` float64, above 0, so that the order of a class's detections is kept.
        offset_: ``(K,)`` float64.
    """

    slope_: NDArray[np.float64]
    offset_: NDArray[np.float64]

    @classmethod
    def from_arrays(cls, slope: NDArray, offset: NDArray) -> "Calibration":
        """A fitted calibration from given slopes ``(K,)`` and offsets ``(K,)``.

        Raises:
            ValueError: shapes differ, or a slope is not above 0.
        """
        if slope.ndim != 1 or slope.shape != offset.shape or not (slope > 0).all():
            raise ValueError(
                f"a calibration needs slopes above 0 and offsets, (K,) each, "
                f"got {slope.shape} and {offset.shape}"
            )
        calibration = cls()
        calibration.slope_ = np.asarray(slope, np.float64)
        calibration.offset_ = np.asarray(offset, np.float64)
        return calibration

    def fit(
        self,
        scores: NDArray,
        labels: NDArray[np.int64],
        correct: NDArray[np.bool_],
        num_classes: int,
    ) -> "Calibration":
        """Fit every class.

        Args:
            scores: ``(n,)`` of detections.
            labels: ``(n,)`` their classes, 0..K-1.
            correct: ``(n,)`` whether the detection is correct.
            num_classes: K.

        Raises:
            ValueError: fewer than ``LEAST`` correct or wrong detections, or detections with higher
                scores are not correct more often.
        """
        # These imports take a second, and detection does not need them.
        from scipy.sparse import csr_array, hstack
        from sklearn.linear_model import LogisticRegression

        right, wrong = int(correct.sum()), int((~correct).sum())
        if min(right, wrong) < LEAST:
            raise ValueError(
                f"{right} right and {wrong} wrong detections are too few to calibrate scores; "
                f"expected {LEAST} of each"
            )
        count = len(scores)
        rows = np.arange(count)
        shape = (count, num_classes)
        own_slope = csr_array((SPREAD * scores, (rows, labels)), shape)
        own_offset = csr_array((np.full(count, SPREAD), (rows, labels)), shape)
        columns = hstack([csr_array(FREE * scores[:, None]), own_slope, own_offset]).tocsr()
        model = LogisticRegression(C=1.0, max_iter=1000).fit(columns, correct)
        common, own, offsets = np.split(model.coef_[0], [1, 1 + num_classes])
        slope = FREE * common[0]
        if not slope > 0:
            raise ValueError("higher scores are not right more often")
        # At least a tenth of the common slope, even if a class's few detections suggest less.
        self.slope_ = np.maximum(slope + SPREAD * own, slope / 10)
        self.offset_ = model.intercept_[0] + SPREAD * offsets
        return self

    def predict(self, scores: NDArray, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Probabilities ``(n,)`` of detections of scores ``(n,)`` and classes ``(n,)``."""
        logits = self.slope_[labels] * scores.astype(np.float64) + self.offset_[labels]
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
