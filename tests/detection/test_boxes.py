import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from detection.boxes import boxes_of, clip_boxes, flip_boxes, from_voc, iou, to_voc


def random_boxes(rng: np.random.Generator, count: int, dtype: type = np.float32) -> np.ndarray:
    first = rng.integers(0, 30, (count, 2))
    return np.concatenate([first, first + rng.integers(1, 20, (count, 2))], axis=1).astype(dtype)


def devkit_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return two boxes' overlap as the devkit computes it, from VOC's inclusive corners."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (one, other)]
    return width * height / (sum(area) - width * height)


def test_from_voc_by_hand() -> None:
    # The 148 columns 48 to 195 become 47 to 195, where the end is exclusive.
    assert_array_equal(from_voc(np.array([[48, 240, 195, 371]])), [[47, 239, 195, 371]])
    assert from_voc(np.array([[1, 1, 1, 1]])).dtype == np.float32
    assert from_voc(np.zeros((0, 4)), np.float64).dtype == np.float64


def test_voc_round_trip(rng: np.random.Generator) -> None:
    boxes = random_boxes(rng, 50)
    assert_array_equal(from_voc(to_voc(boxes)), boxes)
    assert to_voc(boxes).dtype == np.float64


def test_conversions_leave_their_input_alone(rng: np.random.Generator) -> None:
    boxes = random_boxes(rng, 3)
    before = boxes.copy()
    for changed in (
        from_voc(boxes),
        to_voc(boxes),
        clip_boxes(boxes, (5, 5)),
        flip_boxes(boxes, 60),
    ):
        assert not np.shares_memory(changed, boxes)
    assert_array_equal(boxes, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_iou_is_the_devkits_overlap(rng: np.random.Generator, dtype: type) -> None:
    boxes, others = random_boxes(rng, 30, dtype), random_boxes(rng, 20, dtype)
    expected = [[devkit_overlap(a, b) for b in to_voc(others)] for a in to_voc(boxes)]
    found = iou(boxes, others)
    assert found.dtype == dtype
    assert_allclose(found, expected, rtol=1e-6 if dtype is np.float32 else 1e-14)
    assert_array_equal(found.T, iou(others, boxes))


def test_iou_by_hand() -> None:
    box = np.array([[0, 0, 10, 10]], np.float32)
    others = np.array(
        [
            [0, 0, 10, 10],  # itself
            [0, 0, 10, 5],  # 50 / 100
            [5, 5, 15, 15],  # 25 / (200 - 25) = 1/7
            [10, 0, 20, 10],  # they touch: nothing shared
            [3, 3, 3, 3],  # no area
        ],
        np.float32,
    )
    assert_allclose(iou(box, others), [[1, 0.5, 1 / 7, 0, 0]], rtol=1e-6)
    assert iou(others[4:], others[4:]) == 0  # 0/0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_iou_of_nothing(n: int, m: int) -> None:
    assert iou(np.zeros((n, 4), np.float32), np.zeros((m, 4), np.float32)).shape == (n, m)


def test_clip() -> None:
    boxes = np.array([[-3, -2, 5, 6], [1, 2, 50, 60], [70, 1, 80, 2], [1, 2, 3, 4]], np.float32)
    clipped = clip_boxes(boxes, (20, 40))  # height 20, width 40
    assert_array_equal(clipped, [[0, 0, 5, 6], [1, 2, 40, 20], [40, 1, 40, 2], [1, 2, 3, 4]])
    assert_array_equal(clip_boxes(clipped, (20, 40)), clipped)
    assert_array_equal(clip_boxes(boxes.reshape(2, 2, 4), (20, 40)).reshape(4, 4), clipped)
    assert clip_boxes(np.zeros((0, 4), np.float32), (20, 40)).shape == (0, 4)


def test_flip_moves_boxes_as_it_moves_pixels(rng: np.random.Generator) -> None:
    boxes = random_boxes(rng, 10)
    width = 60
    for box, flipped in zip(boxes.astype(int), flip_boxes(boxes, width).astype(int), strict=True):
        image = np.zeros((60, width), bool)
        image[box[1] : box[3], box[0] : box[2]] = True
        inside = image[:, ::-1][flipped[1] : flipped[3], flipped[0] : flipped[2]]
        assert inside.all()
        assert inside.size == image.sum()
    assert_array_equal(flip_boxes(flip_boxes(boxes, width), width), boxes)


def test_boxes_of_whatever_holds_rows():
    for rows in ([[1, 2, 3, 4]], ((1, 2, 3, 4),), np.array([[1, 2, 3, 4]]), torch.ones(1, 4)):
        found = boxes_of(rows, "windows")
        assert (found.dtype, found.shape) == (np.float32, (1, 4))
    for rows in ([], np.zeros((0, 4))):
        assert boxes_of(rows, "windows").shape == (0, 4)
    for rows in ([1, 2, 3, 4], [[1, 2, 3]], [[1, 2, 3, 4], [1, 2]], [["a"] * 4], None, "street"):
        with pytest.raises(ValueError, match="windows must be rows of four numbers x1, y1, x2, y2"):
            boxes_of(rows, "windows")
