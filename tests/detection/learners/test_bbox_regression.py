import logging
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detection.learners.bbox_regression import (
    MAX_LOG_SIZE,
    BoxRegressor,
    decode,
    encode,
    whitening_of,
)


def draw_boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    corners = rng.uniform(0, 300, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 200, (count, 2))], 1).astype(
        np.float32
    )


def problem(
    seed: int, count: int, dimension: int, num_classes: int = 3
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return features of mean norm 20, windows, boxes that depend on the features, and classes."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((count, dimension)), 0)
    features *= 20 / np.linalg.norm(features, axis=1).mean()
    windows = draw_boxes(rng, count)
    moves = 0.02 * features @ rng.standard_normal((dimension, 4)) / dimension**0.5
    targets = decode(windows, (moves + rng.normal(0, 0.05, (count, 4))).astype(np.float32))
    labels = rng.integers(0, num_classes, count)
    return features.astype(np.float32), windows, targets, labels


def slow_predict(
    features: NDArray,
    windows: NDArray,
    targets: NDArray,
    queries: NDArray,
    query_windows: NDArray,
    alpha: float,
) -> NDArray:
    """Predict a class's boxes as the released code does: whiten, ridge, unwhiten, add the mean."""
    rows = []
    for (px1, py1, px2, py2), (gx1, gy1, gx2, gy2) in zip(
        windows.astype(float), targets.astype(float), strict=True
    ):
        pw, ph, gw, gh = px2 - px1, py2 - py1, gx2 - gx1, gy2 - gy1
        shift = ((gx1 + gw / 2) - (px1 + pw / 2)) / pw, ((gy1 + gh / 2) - (py1 + ph / 2)) / ph
        rows.append((*shift, math.log(gw / pw), math.log(gh / ph)))
    t = np.array(rows)
    mean = t.mean(axis=0)
    y = t - mean
    values, v = np.linalg.eigh(y.T @ y / len(y))
    whiten = v @ np.diag(1 / np.sqrt(values + 0.001)) @ v.T
    x = np.hstack([features.astype(float), np.ones((len(features), 1))])
    w = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ (y @ whiten))
    q = np.hstack([queries.astype(float), np.ones((len(queries), 1))])
    moves = (q @ w) @ np.linalg.inv(whiten) + mean
    boxes = []
    for (x1, y1, x2, y2), (dx, dy, dw, dh) in zip(query_windows.astype(float), moves, strict=True):
        cx, cy = x1 + (x2 - x1) / 2 + dx * (x2 - x1), y1 + (y2 - y1) / 2 + dy * (y2 - y1)
        width, height = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
        boxes.append((cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2))
    return np.array(boxes)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("alpha", [4000.0, 1000.0])
@pytest.mark.parametrize(("count", "dimension"), [(150, 40), (45, 60)])  # primal, dual
def test_boxes_equal_slow_twin(seed: int, alpha: float, count: int, dimension: int) -> None:
    features, windows, targets, labels = problem(seed, count, dimension)
    regressor = BoxRegressor(alpha).fit(features, windows, targets, labels)
    queries, query_windows, _, _ = problem(seed + 10, 25, dimension)
    boxes = regressor.predict(queries, query_windows)
    assert boxes.shape == (25, 3, 4)
    assert boxes.dtype == np.float32
    for label in range(3):
        own = labels == label
        twin = slow_predict(
            features[own], windows[own], targets[own], queries, query_windows, alpha
        )
        np.testing.assert_allclose(boxes[:, label], twin, atol=2e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_regression_brings_windows_nearer(seed: int) -> None:
    features, windows, targets, labels = problem(seed, 600, 30, num_classes=1)
    train, held = slice(0, 500), slice(500, None)
    regressor = BoxRegressor(alpha=10.0).fit(
        features[train], windows[train], targets[train], labels[train]
    )
    moved = regressor.predict(features[held], windows[held])[:, 0]
    before = np.abs(windows[held] - targets[held]).mean()
    assert np.abs(moved - targets[held]).mean() < 0.8 * before


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_decode_undoes_encode(seed: int) -> None:
    rng = np.random.default_rng(seed)
    windows, boxes = draw_boxes(rng, 100), draw_boxes(rng, 100)
    np.testing.assert_allclose(decode(windows.astype(float), encode(windows, boxes)), boxes)
    np.testing.assert_allclose(encode(windows, windows), 0)


def test_targets_by_hand() -> None:
    # p: centre (10, 20), 20 wide, 40 high; g: centre (15, 10), 40 wide, 40 high:
    # (15 - 10) / 20, (10 - 20) / 40, log 2, log 1.
    windows = np.array([[0, 0, 20, 40]], np.float32)
    boxes = np.array([[-5, -10, 35, 30]], np.float32)
    np.testing.assert_allclose(encode(windows, boxes), [[0.25, -0.25, math.log(2), 0]])


def test_sizes_stay_finite() -> None:
    # A side of 16 pixels grows to 1000 at most, and the centre stays.
    grown = decode(np.array([[0, 0, 16, 16]], np.float32), np.array([[0, 0, 500, MAX_LOG_SIZE]]))
    np.testing.assert_allclose(grown, [[-492, -492, 508, 508]], rtol=1e-6)


def test_whitened_targets_are_uncorrelated(rng: np.random.Generator) -> None:
    centred = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 4)) * 3
    centred -= centred.mean(axis=0)
    whiten, unwhiten = whitening_of(centred)
    np.testing.assert_allclose(whiten @ unwhiten, np.eye(4), atol=1e-10)
    white = centred @ whiten
    np.testing.assert_allclose(white.T @ white / 500, np.eye(4), atol=0.05)


def test_a_class_without_samples_leaves_windows(caplog: pytest.LogCaptureFixture) -> None:
    features, windows, targets, labels = problem(0, 40, 10, num_classes=1)
    with caplog.at_level(logging.INFO):
        regressor = BoxRegressor().fit(features, windows, targets, labels, num_classes=2)
    assert "class 1 has no samples" in caplog.text
    assert not regressor.weights_[1].any()
    np.testing.assert_allclose(regressor.predict(features, windows)[:, 1], windows, rtol=1e-6)


@pytest.mark.parametrize("count", [150, 20])  # primal, dual
def test_a_prior_equals_a_fit_of_what_it_leaves(count: int) -> None:
    features, windows, targets, labels = problem(0, count, 40, num_classes=1)
    prior = np.random.default_rng(1).normal(0, 0.01, (41, 4)).astype(np.float32)
    by_prior = BoxRegressor().fit(
        features, windows, targets, labels, num_classes=2, scale=2.0, prior=prior
    )
    moves = features.astype(float) @ prior[:-1] + prior[-1]
    left = decode(windows.astype(float), encode(windows, targets) - moves)
    plain = BoxRegressor().fit(features, windows, left, labels, scale=2.0)
    queries, asked, _, _ = problem(2, 30, 40)
    got = by_prior.predict(2 * queries, asked)
    # The moves of the prior and of the plain fit add up: both are relative to the same window.
    moves = queries.astype(float) @ prior[:-1] + prior[-1]
    rest = encode(asked, plain.predict(2 * queries, asked)[:, 0])
    np.testing.assert_allclose(got[:, 0], decode(asked.astype(float), rest + moves), atol=5e-3)
    # A class without samples moves its boxes by the prior alone.
    np.testing.assert_allclose(got[:, 1], decode(asked.astype(float), moves), atol=5e-3)


def test_a_strong_penalty_leaves_the_prior() -> None:
    features, windows, targets, labels = problem(0, 60, 10, num_classes=1)
    prior = np.random.default_rng(1).normal(0, 0.01, (11, 4)).astype(np.float32)
    strong = BoxRegressor(alpha=1e12).fit(features, windows, targets, labels, prior=prior)
    np.testing.assert_allclose(strong.weights_[0, :-1], prior[:-1], atol=1e-6)


def test_index_shares_features_between_windows() -> None:
    features, windows, targets, labels = problem(0, 60, 10)
    regressor = BoxRegressor().fit(features, windows, targets, labels)
    index = np.array([3, 3, 0, 7])
    shared = regressor.predict(features, windows[:4], index)
    single = regressor.predict(features[index], windows[:4])
    np.testing.assert_allclose(shared, single, atol=1e-3)
    assert regressor.predict(features[:0], windows[:0]).shape == (0, 3, 4)
    again = BoxRegressor.from_arrays(regressor.weights_)
    np.testing.assert_array_equal(again.predict(features, windows[:4], index), shared)


@pytest.mark.parametrize(("dtype", "pixels"), [(torch.float32, 1e-3), (torch.bfloat16, 2.0)])
def test_tensors_are_multiplied_in_their_own_type(dtype: torch.dtype, pixels: float) -> None:
    features, windows, targets, labels = problem(0, 60, 10)
    regressor = BoxRegressor().fit(features, windows, targets, labels)
    tensor = torch.from_numpy(features.astype(np.float32)).to(dtype)
    found = regressor.predict(tensor, windows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, regressor.predict(features, windows), atol=pixels)
    assert regressor.predict(tensor[:0], windows[:0]).shape == (0, *found.shape[1:])


def test_samples_are_bounded_and_evenly_spaced() -> None:
    features, windows, targets, labels = problem(0, 100, 10, num_classes=1)
    bounded = BoxRegressor(max_numbers=409).fit(features, windows, targets, labels)
    # Row floor(i * 100 / 40) for i = 0..39: 0, 2, 5, 7, 10, ...
    rows = np.array([i * 100 // 40 for i in range(40)])
    assert rows[:5].tolist() == [0, 2, 5, 7, 10]
    chosen = BoxRegressor().fit(features[rows], windows[rows], targets[rows], labels[rows])
    np.testing.assert_array_equal(bounded.weights_, chosen.weights_)


def test_features_may_be_scaled_half_precision() -> None:
    features, windows, targets, labels = problem(0, 100, 10)
    half = (features / 4).astype(np.float16)
    scaled = BoxRegressor().fit(half, windows, targets, labels, scale=4.0)
    plain = BoxRegressor().fit(half.astype(np.float32) * 4, windows, targets, labels)
    np.testing.assert_array_equal(scaled.weights_, plain.weights_)


def test_a_penalty_too_small_for_float32() -> None:
    features, windows, targets, labels = problem(0, 60, 10, num_classes=1)
    features[:, 1] = features[:, 0]
    with pytest.raises(ValueError, match="penalty of 1e-06; a larger one"):
        BoxRegressor(alpha=1e-6).fit(features * 100, windows, targets, labels)


def test_bad_input_is_refused() -> None:
    features, windows, targets, labels = problem(0, 10, 5)
    regressor = BoxRegressor()
    with pytest.raises(RuntimeError, match="not fitted"):
        regressor.predict(features, windows)
    with pytest.raises(ValueError, match="got 10, 9, 10, 10"):
        regressor.fit(features, windows[:9], targets, labels)
    with pytest.raises(ValueError, match="labels must be from 0 to 0, got 0 to 2"):
        regressor.fit(features, windows, targets, labels, num_classes=1)
    with pytest.raises(ValueError, match="area above 0"):
        regressor.fit(features, windows * 0, targets, labels)
    with pytest.raises(ValueError, match=r"weights \(K, D \+ 1, 4\), got \(3, 4\)"):
        BoxRegressor.from_arrays(np.zeros((3, 4)))
    regressor.fit(features, windows, targets, labels)
    with pytest.raises(ValueError, match=r"shape \(n, 5\), got \(10, 4\)"):
        regressor.predict(features[:, :4], windows)
