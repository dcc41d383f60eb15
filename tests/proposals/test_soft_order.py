"""The order of windows against a slow twin, one pair at a time."""

import numpy as np
import pytest

from proposals.soft_order import soft_order


def random_windows(rng, count):
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 50, (count, 2))], axis=1)


def iou_of(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    overlap = max(width, 0) * max(height, 0)
    area, beside = ((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other))
    return overlap / (area + beside - overlap)


def twin(windows, scores, count, decay, from_iou):
    """Return order and scores; each window taken multiplies the other scores by a factor."""
    order, taken = [], []
    while len(order) < min(count, len(windows)):
        now = {}
        for row in range(len(windows)):
            if row in order:
                continue
            now[row] = scores[row]
            for before in order:
                above = iou_of(windows[row], windows[before]) - from_iou
                now[row] *= 1 - decay * max(above, 0)
        best = max(now, key=now.get)
        order.append(best)
        taken.append(now[best])
    return order, taken


@pytest.mark.parametrize(("decay", "from_iou"), [(0.4, 0.5), (0.99, 0.0), (0.2, 0.45), (0.0, 0.5)])
def test_beside_the_twin(rng, decay, from_iou):
    windows, scores = random_windows(rng, 40), rng.uniform(0.1, 1, 40)
    order, taken = soft_order(windows, scores, 30, decay, from_iou)
    expected = twin(windows, scores, 30, decay, from_iou)
    assert order.tolist() == expected[0]
    np.testing.assert_allclose(taken, expected[1], rtol=1e-5)


def test_without_decay_the_order_is_that_of_the_scores(rng):
    windows, scores = random_windows(rng, 50), rng.uniform(size=50)
    order, taken = soft_order(windows, scores, 50, 0, 0.5)
    np.testing.assert_array_equal(order, np.argsort(-scores, kind="stable"))
    np.testing.assert_array_equal(taken, scores[order].astype(np.float32))


def test_every_window_is_taken_once_and_fewer_are_the_beginning(rng):
    windows, scores = random_windows(rng, 60), rng.uniform(size=60)
    # Some windows are equal, so that their scores fall to almost 0; other scores are 0.
    windows[20:40] = windows[20]
    scores[50:] = 0
    order, taken = soft_order(windows, scores, 100, 0.99, 0.0)
    assert sorted(order) == list(range(60))
    assert (np.diff(taken) <= 0).all()
    np.testing.assert_array_equal(soft_order(windows, scores, 7, 0.99, 0.0)[0], order[:7])


def test_another_object_comes_before_more_of_the_same():
    windows = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]])
    scores = np.array([0.9, 0.89, 0.8])
    assert soft_order(windows, scores, 3, 0.4, 0.5)[0].tolist() == [0, 2, 1]
    assert soft_order(windows, scores, 3, 0, 0.5)[0].tolist() == [0, 1, 2]


def test_no_windows():
    order, taken = soft_order(np.zeros((0, 4)), np.zeros(0), 5, 0.4, 0.5)
    assert (order.shape, taken.shape) == ((0,), (0,))
