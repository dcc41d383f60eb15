from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.boxes import clip_boxes, iou
from detection.inference.postprocess import (
    Candidates,
    Suppression,
    postprocess,
    select_candidates,
    suppress,
)
from files.artefacts import DamagedArtefact

CLASSES = ("cat", "dog", "sheep")
SIZE = (120, 160)


def draw_scored(seed: int, count: int = 60) -> tuple[NDArray, NDArray, NDArray]:
    """Return windows, scores with ties, and regressed boxes that may leave the image."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 110, (count, 2))
    windows = np.concatenate([corners, corners + rng.integers(5, 60, (count, 2))], 1)
    scores = rng.integers(-20, 10, (count, len(CLASSES))) / 10
    boxes = windows[:, None] + rng.integers(-15, 16, (count, len(CLASSES), 4))
    return windows.astype(np.float32), scores.astype(np.float32), boxes.astype(np.float32)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height) if width * height else 0.0


def slow_nms(ordered: list[tuple[float, ...]], limit: float) -> list[int]:
    """Return the places of boxes that no better kept box overlaps by more than ``limit``."""
    kept: list[int] = []
    for place, box in enumerate(ordered):
        if all(overlap(box, ordered[other]) <= limit for other in kept):
            kept.append(place)
    return kept


def slow_postprocess(
    windows: NDArray, scores: NDArray, boxes: NDArray, threshold: float, limit: float, top_k: int
) -> list[tuple[tuple[float, ...], float, int]]:
    found = []
    for k in range(scores.shape[1]):
        order = [p for p in range(len(windows)) if scores[p, k] > threshold]
        order.sort(key=lambda p, k=k: (-scores[p, k], p))  # type: ignore[misc]
        kept = slow_nms([tuple(windows[p].tolist()) for p in order], limit)[:top_k]
        order = [order[place] for place in kept]
        clipped = [
            (
                min(max(x1, 0), SIZE[1]),
                min(max(y1, 0), SIZE[0]),
                min(max(x2, 0), SIZE[1]),
                min(max(y2, 0), SIZE[0]),
            )
            for x1, y1, x2, y2 in (boxes[p, k].tolist() for p in order)
        ]
        for place in slow_nms(clipped, limit):
            x1, y1, x2, y2 = clipped[place]
            if x2 > x1 and y2 > y1:
                found.append((clipped[place], float(scores[order[place], k]), k))
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("threshold", "limit", "top_k"), [(-1.5, 0.3, 100), (-0.5, 0.5, 4), (-9.0, 0.0, 100)]
)
def test_postprocess_equals_slow_twin(
    seed: int, threshold: float, limit: float, top_k: int
) -> None:
    windows, scores, boxes = draw_scored(seed)
    candidates = select_candidates(windows, scores, boxes, score_threshold=threshold)
    found = postprocess(
        candidates,
        SIZE,
        CLASSES,
        Suppression(score_threshold=threshold, nms_iou=limit, top_k=top_k),
    )
    twin = slow_postprocess(windows, scores, boxes, threshold, limit, top_k)
    assert [
        (tuple(box.tolist()), float(score), int(label))
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ] == twin


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("vote_iou", [0.3, 0.5, 1.0])
def test_votes_equal_slow_twin(seed: int, vote_iou: float) -> None:
    """A kept box is the mean of its class's boxes around it, weighted by score - lowest."""
    windows, scores, boxes = draw_scored(seed)
    candidates = select_candidates(windows, scores, boxes)
    found = postprocess(candidates, SIZE, CLASSES, Suppression(vote_iou=vote_iou))
    expected = []
    for label in range(len(CLASSES)):
        of_class = candidates.labels == label
        clipped = clip_boxes(candidates.boxes[of_class], SIZE)
        own = candidates.scores[of_class]
        listed = [tuple(box.tolist()) for box in clipped]
        for place in slow_nms(listed, 0.3)[:100]:
            total, mean = 0.0, np.zeros(4)
            for other, score in zip(listed, own.tolist(), strict=True):
                if overlap(listed[place], other) >= vote_iou:
                    total += score - own.min()
                    mean += (score - own.min()) * np.array(other)
            box = mean / total if total else np.array(listed[place])
            if box[2] > box[0] and box[3] > box[1]:
                expected.append((float(own[place]), label, box))
    expected.sort(key=lambda one: -one[0])
    assert found.labels.tolist() == [label for _, label, _ in expected]
    np.testing.assert_allclose(found.scores, [score for score, _, _ in expected])
    np.testing.assert_allclose(found.boxes, [box for _, _, box in expected], rtol=1e-5, atol=1e-3)


def test_a_box_without_others_stays() -> None:
    windows = np.array([[0, 0, 10, 10], [50, 50, 90, 80]], np.float32)
    candidates = select_candidates(
        windows, np.array([[1.0], [0.5]], np.float32), windows[:, None], score_threshold=-1.5
    )
    found = postprocess(candidates, SIZE, ("cat",), Suppression(vote_iou=0.5))
    np.testing.assert_array_equal(found.boxes, windows)
    assert (
        len(postprocess(candidates, SIZE, ("cat",), Suppression(vote_iou=0.5, score_threshold=2)))
        == 0
    )


def test_a_class_keeps_its_best_windows() -> None:
    windows, scores, boxes = draw_scored(0)
    chosen = select_candidates(windows, scores, boxes, per_class=7, score_threshold=-1.5)
    assert np.bincount(chosen.labels).tolist() == [7, 7, 7]
    for label in range(3):
        order = sorted(range(60), key=lambda p, k=label: (-scores[p, k], p))[:7]  # type: ignore[misc]
        own = chosen.labels == label
        np.testing.assert_array_equal(chosen.windows[own], windows[order])
        np.testing.assert_array_equal(chosen.boxes[own], boxes[order, label])
        np.testing.assert_array_equal(chosen.scores[own], scores[order, label])


def test_thresholds_are_strict() -> None:
    windows = np.array([[0, 0, 10, 10]] * 2, np.float32)
    scores = np.array([[-1.5], [-1.4]], np.float32)
    chosen = select_candidates(windows, scores, windows[:, None], score_threshold=-1.5)
    assert chosen.scores.tolist() == [np.float32(-1.4)]
    # 10x13 boxes moved by 7 in 13: inter 10*6 = 60, union 260 - 60 = 200, IoU exactly 0.3.
    boxes = np.array([[0, 0, 10, 13], [0, 7, 10, 20]], np.float32)
    best = np.array([2, 1], np.float32)
    assert suppress(boxes, best, 0.3).tolist() == [0, 1]
    assert suppress(boxes, best, 0.2999).tolist() == [0]


def test_suppression_by_hand() -> None:
    # IoU of 10-wide neighbours moved by 3: 7/13 = 0.54; by 6: 4/16 = 0.25.
    boxes = np.array([[x, 0, x + 10, 1] for x in (0, 3, 6, 40)], np.float32)
    # The first suppresses the second, which then cannot suppress the third; the fourth is alone.
    assert suppress(boxes, np.array([3, 2, 1, 4], np.float32), 0.3).tolist() == [3, 0, 2]
    # The second is the best, and suppresses both neighbours.
    assert suppress(boxes, np.array([1, 3, 2, 4], np.float32), 0.3).tolist() == [3, 1]
    # Between equal scores the earlier row wins.
    assert suppress(boxes[:2], np.zeros(2, np.float32), 0.3).tolist() == [0]


def test_second_suppression_is_among_regressed_boxes() -> None:
    # Two windows that are apart regress to one place: the better stays.
    windows = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    boxes = np.array([[[20, 20, 40, 40]], [[21, 20, 41, 40]]], np.float32)
    scores = np.array([[0.5], [1.0]], np.float32)
    found = postprocess(select_candidates(windows, scores, boxes), SIZE, ("cat",))
    assert found.boxes.tolist() == [[21, 20, 41, 40]]


def test_boxes_outside_the_image_are_dropped() -> None:
    windows = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    boxes = np.array([[[-20, 0, -5, 10]], [[150, 100, 200, 200]]], np.float32)
    scores = np.zeros((2, 1), np.float32)
    found = postprocess(select_candidates(windows, scores, boxes), SIZE, ("cat",))
    assert found.boxes.tolist() == [[150, 100, 160, 120]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_of_windows_matters_only_between_equal_scores(seed: int) -> None:
    windows, scores, boxes = draw_scored(seed)
    scores = scores + np.arange(scores.size, dtype=np.float32).reshape(scores.shape) * 1e-4
    order = np.random.default_rng(seed).permutation(len(windows))
    found = postprocess(select_candidates(windows, scores, boxes), SIZE, CLASSES)
    again = postprocess(
        select_candidates(windows[order], scores[order], boxes[order]), SIZE, CLASSES
    )
    np.testing.assert_array_equal(found.boxes, again.boxes)
    np.testing.assert_array_equal(found.labels, again.labels)


def test_no_windows_no_detections() -> None:
    windows, scores, boxes = draw_scored(0, count=0)
    chosen = select_candidates(windows, scores, boxes)
    assert len(chosen) == 0
    assert len(postprocess(chosen, SIZE, CLASSES)) == 0


def test_candidates_round_trip_through_a_file(tmp_path: Path) -> None:
    chosen = select_candidates(*draw_scored(0))
    one, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    chosen.save(one, "key")
    chosen.save(other, "key")
    assert one.read_bytes() == other.read_bytes()
    again = Candidates.load(one, "key")
    for name in ("windows", "boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(chosen, name))
    assert again.num_classes == 3
    select_candidates(*draw_scored(0, count=0)).save(other, "key")
    assert len(Candidates.load(other, "key")) == 0


def test_damaged_candidates_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    select_candidates(*draw_scored(0)).save(path, "key")
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = bytes([whole[middle] ^ 1])
    for content in (
        whole[:middle],
        bytes(len(whole)),
        whole[:middle] + flipped + whole[middle + 1 :],
        b"",
        b"not an artefact",
    ):
        path.write_bytes(content)
        with pytest.raises(DamagedArtefact, match=r"a\.safetensors is damaged"):
            Candidates.load(path, "key")
    path.write_bytes(whole)
    with pytest.raises(DamagedArtefact, match=r"a\.safetensors has another key"):
        Candidates.load(path, "another's")
    with pytest.raises(FileNotFoundError, match=r"no candidates at .*none\.safetensors"):
        Candidates.load(tmp_path / "none.safetensors", "key")


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_arrays_in_memory_does_not_matter(seed: int) -> None:
    arrays = draw_scored(seed)
    turned = [
        np.asfortranarray(arrays[0]),
        arrays[1][::-1, ::-1].copy()[::-1, ::-1],
        arrays[2][..., ::-1].copy()[..., ::-1],
    ]
    locked = [array.astype(array.dtype.newbyteorder(">")) for array in arrays]
    for array in locked:
        array.flags.writeable = False
    found = postprocess(select_candidates(*arrays), SIZE, CLASSES, Suppression(vote_iou=0.5))
    for others in (turned, locked):
        again = postprocess(select_candidates(*others), SIZE, CLASSES, Suppression(vote_iou=0.5))
        np.testing.assert_array_equal(found.boxes, again.boxes)
    kept = suppress(arrays[0], arrays[1][:, 0], 0.3)
    for others in (turned, locked):
        np.testing.assert_array_equal(suppress(others[0], others[1][:, 0], 0.3), kept)
        np.testing.assert_array_equal(iou(others[0], others[0]), iou(arrays[0], arrays[0]))


def test_bad_input_is_refused() -> None:
    windows, scores, boxes = draw_scored(0)
    with pytest.raises(ValueError, match="must be finite"):
        select_candidates(windows, np.full_like(scores, np.nan), boxes)
    chosen = select_candidates(windows, scores, boxes)
    with pytest.raises(ValueError, match="3 classes, but there are 1 class names"):
        postprocess(chosen, SIZE, ("cat",))
    with pytest.raises(ValueError, match=r"Candidates\.labels must be int64"):
        Candidates(chosen.windows, chosen.boxes, chosen.scores, chosen.scores, 3)  # type: ignore[arg-type]
