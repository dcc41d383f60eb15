"""The windows that given SVMs find hard."""

import numpy as np
import pytest

from detection.training.mining.models import Model


def test_hard_rows_by_hand() -> None:
    model = Model(
        np.array([[1, 0], [0, 1], [0, 0]], np.float32),
        np.array([0, -2, -5], np.float32),
        np.array([-1, -0.75, -np.inf], np.float32),
    )
    rows = np.array([[0, 1], [-1, 1.5], [-1.5, 0.5]], np.float16)
    # The scores are 0, -1, -1.5 for cat and -1, -0.5, -1.5 for dog. A score at the threshold is not
    # hard; dog has a higher threshold. Sheep has no SVM yet, so all rows are hard.
    expected = [[True, False, True], [False, True, True], [False, False, True]]
    assert model.hard(rows).tolist() == expected
    assert model.hard(rows.astype(np.float32)).tolist() == expected
    assert model.hard(rows[:0]).shape == (0, 3)
    for value in (np.nan, np.inf, -np.inf):
        refused = pytest.raises(ValueError, match="features are not finite")
        with refused, np.errstate(invalid="ignore"):
            model.hard(np.array([[0, 0], [value, 0]], np.float16))
