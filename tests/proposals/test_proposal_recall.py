import numpy as np
import pytest

from proposals import proposal_recall
from proposals.recall import best_overlaps


def slow_best(windows, boxes):
    """Return the best overlap of each box, one pair at a time, in Python's own numbers."""
    best = []
    for x1, y1, x2, y2 in np.asarray(boxes).tolist():
        found = 0.0
        for u1, v1, u2, v2 in np.asarray(windows).tolist():
            width = max(0.0, min(x2, u2) - max(x1, u1))
            height = max(0.0, min(y2, v2) - max(y1, v1))
            both = width * height
            union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - both
            found = max(found, both / union)
        best.append(found)
    return np.array(best)


def random_boxes(rng, count):
    corner = rng.integers(0, 80, (count, 2))
    return np.concatenate([corner, corner + rng.integers(1, 60, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize(("windows", "boxes"), [(50, 7), (1, 1), (1, 9), (30, 1), (0, 3), (4, 0)])
def test_best_overlaps_equal_the_slow_twin(rng, windows, boxes):
    windows, boxes = random_boxes(rng, windows), random_boxes(rng, boxes)
    result = best_overlaps(windows, boxes)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, slow_best(windows, boxes), rtol=0, atol=1e-12)


def test_order_in_memory_does_not_matter(rng):
    windows, boxes = random_boxes(rng, 30), random_boxes(rng, 7)
    expected = slow_best(windows, boxes)
    wide = windows.repeat(2, axis=1)
    for ordered in (np.asfortranarray, lambda a: a[::-1].copy()[::-1], lambda a: a.T.copy().T):
        found = best_overlaps(ordered(windows), ordered(boxes))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(best_overlaps(wide[:, ::2], boxes), expected, atol=1e-12)


def test_worked_case():
    # image 0: object A (0,0,10,10) of class 0; its windows share 5x10 of 10x10: 50/100 = 0.5
    #          object B (20,20,30,30) of class 1; the same box is a window: 1
    # image 1: object C (0,0,10,10) of class 0, windows (0,0,8,10): 0.8 and a distant one: 0
    # image 2: object D of class 1, no windows: 0
    windows = [
        np.array([[0, 0, 5, 10], [20, 20, 30, 30]], np.float32),
        np.array([[0, 0, 8, 10], [50, 50, 60, 60]], np.float32),
        np.zeros((0, 4), np.float32),
    ]
    boxes = [
        np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32),
        np.array([[0, 0, 10, 10]], np.float32),
        np.array([[1, 1, 2, 2]], np.float32),
    ]
    labels = [np.array([0, 1]), np.array([0]), np.array([1])]
    result = proposal_recall(windows, boxes, labels, 3)
    # overlaps 0.5, 1, 0.8, 0; all thresholds are inclusive
    assert result.recall == {0.5: 0.75, 0.7: 0.5, 0.8: 0.5, 0.9: 0.25}
    np.testing.assert_allclose(result.abo, [(0.5 + 0.8) / 2, (1 + 0) / 2, np.nan])
    assert result.mabo == pytest.approx((0.65 + 0.5) / 2)
    assert result.abo_all == pytest.approx((0.5 + 1 + 0.8 + 0) / 4)
    assert result.windows.tolist() == [2, 2, 0]
    assert result.count == 4


def test_windows_equal_to_the_boxes_cover_everything(rng):
    boxes = [random_boxes(rng, count) for count in (3, 0, 5)]
    labels = [rng.integers(0, 4, len(each)) for each in boxes]
    result = proposal_recall(boxes, boxes, labels, 4)
    assert set(result.recall.values()) == {1.0}
    assert result.mabo == result.abo_all == 1


def test_order_of_windows_and_of_images_does_not_matter(rng):
    windows = [random_boxes(rng, 20) for _ in range(5)]
    boxes = [random_boxes(rng, 3) for _ in range(5)]
    labels = [rng.integers(0, 4, 3) for _ in range(5)]
    expected = proposal_recall(windows, boxes, labels, 4)
    order = rng.permutation(5)
    result = proposal_recall(
        [windows[i][rng.permutation(20)] for i in order],
        [boxes[i] for i in order],
        [labels[i] for i in order],
        4,
    )
    assert result.recall == expected.recall
    np.testing.assert_allclose(result.abo, expected.abo, rtol=1e-12)
    np.testing.assert_array_equal(result.windows, expected.windows[order])


def test_more_windows_never_cover_less(rng):
    windows, boxes = random_boxes(rng, 40), random_boxes(rng, 10)
    assert (best_overlaps(windows, boxes) >= best_overlaps(windows[:15], boxes)).all()


BOX = np.array([[0, 0, 9, 9]], np.float32)
NONE = np.zeros((0, 4), np.float32)


@pytest.mark.parametrize(
    ("windows", "boxes", "labels", "message"),
    [
        ([BOX], [BOX, BOX], [np.array([0])], "the same number of images, got 1, 2 and 1"),
        ([BOX], [BOX], [np.array([0, 1])], "image 0 has 1 boxes and 2 labels"),
        ([BOX], [BOX], [np.array([3])], "labels from 3 to 3; expected 0 to 2"),
        ([BOX], [BOX], [np.array([-1])], "labels from -1 to -1; expected 0 to 2"),
        ([BOX], [NONE], [np.zeros(0, np.int64)], "none of the 1 images has an object"),
        ([], [], [], "none of the 0 images has an object"),
    ],
)
def test_what_does_not_fit_is_refused(windows, boxes, labels, message):
    with pytest.raises(ValueError, match=message):
        proposal_recall(windows, boxes, labels, 3)
