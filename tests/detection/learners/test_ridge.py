"""Ridge regression on samples read in blocks equals the textbook's formula."""

import numpy as np
import pytest

from detection.learners import ridge as module
from detection.learners.ridge import Samples, ridge


def made_samples(count, length, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count + 5, length)).astype(np.float16)
    rows = rng.permutation(count + 5)[:count]
    return Samples(features, rows, 0.5), rng.standard_normal((count, 4)).astype(np.float32)


def slow_ridge(samples, targets, alpha):
    """Return ``(X'X + alpha I)^-1 X'Y``, computed in float64."""
    x = np.array([[*(0.5 * number for number in row), 1] for row in samples.features.astype(float)])
    x = x[samples.rows]
    return np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ targets)


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize(("count", "length"), [(90, 20), (21, 20), (20, 20), (1, 20)])
def test_it_equals_the_formula(monkeypatch, count, length, block):
    monkeypatch.setattr(module, "BLOCK", block)
    samples, targets = made_samples(count, length)
    expected = slow_ridge(samples, targets, 3.0)
    np.testing.assert_allclose(ridge(samples, targets, 3.0), expected, atol=1e-5)


def test_blocks_are_the_samples_in_order(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    samples, _ = made_samples(10, 3)
    places, blocks = zip(*samples.blocks(), strict=True)
    assert [place.indices(10) for place in places] == [(0, 4, 1), (4, 8, 1), (8, 10, 1)]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    stacked = np.concatenate(blocks)
    np.testing.assert_array_equal(stacked, samples.matrix())
    np.testing.assert_array_equal(stacked[:, :-1], samples.features[samples.rows] / 2)
    assert (stacked[:, -1] == 1).all()


def test_a_feature_that_is_not_finite():
    samples, targets = made_samples(30, 5)
    samples.features[samples.rows[3], 2] = np.inf
    with pytest.raises(ValueError, match="infs or NaNs"):
        ridge(samples, targets, 1.0)
