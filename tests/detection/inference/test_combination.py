import numpy as np
import pytest
from numpy.typing import NDArray

from detection.detections import Detections
from detection.inference.combination import averaged, combine, same_classes
from detection.inference.postprocess import Candidates, Suppression, postprocess, select_candidates

CLASSES = ("cat", "dog", "sheep")
SIZE = (120, 160)


def draw_model(seed: int, windows: NDArray) -> Candidates:
    rng = np.random.default_rng(seed)
    scores = rng.normal(-0.5, 1, (len(windows), len(CLASSES))).astype(np.float32)
    boxes = windows[:, None] + rng.normal(0, 4, (len(windows), len(CLASSES), 4))
    return select_candidates(windows, scores, boxes.astype(np.float32))


def draw_windows(count: int = 80) -> NDArray[np.float32]:
    rng = np.random.default_rng(7)
    corners = rng.uniform(0, 100, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 50, (count, 2))], 1).astype(np.float32)


def assert_same(one: Detections, other: Detections) -> None:
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("top_k", [100, 3])
def test_one_model_alone_or_with_itself_gives_its_own_detections(seed: int, top_k: int) -> None:
    model = draw_model(seed, draw_windows())
    own = postprocess(model, SIZE, CLASSES, Suppression(top_k=top_k))
    assert len(own) > 5
    assert_same(combine([model], SIZE, CLASSES, Suppression(top_k=top_k)), own)
    assert_same(combine([model, model, model], SIZE, CLASSES, Suppression(top_k=top_k)), own)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_boxes_of_all_models_vote(seed: int) -> None:
    models = [draw_model(5 * seed + i, draw_windows()) for i in range(2)]
    alone = postprocess(models[0], SIZE, CLASSES, Suppression(vote_iou=0.5))
    for same in (models[:1], [models[0]] * 3):
        found = combine(same, SIZE, CLASSES, Suppression(vote_iou=0.5))
        np.testing.assert_array_equal(found.scores, alone.scores)
        np.testing.assert_allclose(found.boxes, alone.boxes, rtol=1e-4)
    found = combine(models, SIZE, CLASSES, Suppression(vote_iou=0.5))
    back = combine(models[::-1], SIZE, CLASSES, Suppression(vote_iou=0.5))
    np.testing.assert_allclose(found.boxes, back.boxes, rtol=1e-4)
    # The result is that of one model that scored twice as many windows.
    union = [
        np.concatenate([getattr(model, name) for model in models])
        for name in ("windows", "boxes", "scores", "labels")
    ]
    order = sorted(range(len(union[2])), key=lambda row: (union[3][row], -union[2][row]))
    one = Candidates(*(part[order] for part in union), 3)
    assert_same(found, postprocess(one, SIZE, CLASSES, Suppression(vote_iou=0.5)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_of_models_does_not_matter(seed: int) -> None:
    models = [draw_model(3 * seed + i, draw_windows()) for i in range(3)]
    assert_same(combine(models, SIZE, CLASSES), combine(models[::-1], SIZE, CLASSES))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_combination_equals_slow_twin(seed: int) -> None:
    """The twin is paper 4.4: suppression, best first, in the union of each class's boxes."""
    models = [draw_model(10 * seed + i, draw_windows()) for i in range(2)]
    union = [
        (float(score), int(label), box.astype(float).tolist())
        for model in models
        for found in [postprocess(model, SIZE, CLASSES)]
        for score, label, box in zip(found.scores, found.labels, found.boxes, strict=True)
    ]
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, (x1, y1, x2, y2) in sorted(union, reverse=True):
        area = (x2 - x1) * (y2 - y1)
        falls = False
        for _, other_label, (u1, v1, u2, v2) in kept:
            width, height = min(x2, u2) - max(x1, u1), min(y2, v2) - max(y1, v1)
            shared = max(width, 0) * max(height, 0)
            if label == other_label and shared > 0.3 * (area + (u2 - u1) * (v2 - v1) - shared):
                falls = True
        if not falls:
            kept.append((score, label, [x1, y1, x2, y2]))
    found = combine(models, SIZE, CLASSES)
    assert len(union) > len(kept)
    assert found.scores.tolist() == [score for score, _, _ in kept]
    assert found.labels.tolist() == [label for _, label, _ in kept]
    assert found.boxes.tolist() == [box for _, _, box in kept]


def test_the_better_model_wins_a_place() -> None:
    # Both models put a box at one place (IoU 18 * 20 / (800 - 360) = 0.82): the better stays,
    # with its own regressed box. The first model's lone dog stays too.
    windows = np.array([[0, 0, 20, 20], [60, 60, 90, 90]], np.float32)
    first = Candidates(
        windows,
        np.array([[20, 20, 40, 40], [60, 60, 80, 80]], np.float32),
        np.array([0.5, 0.2], np.float32),
        np.array([0, 1]),
        3,
    )
    second = Candidates(
        windows[:1],
        np.array([[22, 20, 42, 40]], np.float32),
        np.array([0.9], np.float32),
        np.array([0]),
        3,
    )
    found = combine([first, second], SIZE, CLASSES)
    assert found.boxes.tolist() == [[22, 20, 42, 40], [60, 60, 80, 80]]
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("vote_iou", [None, 0.5])
def test_a_mean_of_one_model_is_that_model(seed: int, vote_iou: float | None) -> None:
    model = draw_model(seed, draw_windows())
    own = postprocess(model, SIZE, CLASSES, Suppression(vote_iou=vote_iou))
    for weights in ([1.0], [0.3]):
        found = combine([model], SIZE, CLASSES, Suppression(vote_iou=vote_iou), weights=weights)
        np.testing.assert_allclose(found.boxes, own.boxes, atol=1e-4)
        np.testing.assert_allclose(found.scores, own.scores, atol=1e-6)
    found = combine([model] * 2, SIZE, CLASSES, Suppression(vote_iou=vote_iou), weights=[1, 2])
    np.testing.assert_allclose(found.boxes, own.boxes, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mean_equals_slow_twin(seed: int) -> None:
    weights = (1.0, 3.0, 0.5)
    models = [draw_model(20 * seed + i, draw_windows()) for i in range(3)]
    # The second model has windows of its own, one of them twice.
    other = draw_model(20 * seed + 9, draw_windows() + np.float32(1))
    twice = Candidates(
        *(
            np.concatenate([part[:1], part])
            for part in (other.windows, other.boxes, other.scores, other.labels)
        ),
        3,
    )
    models[1] = twice
    expected = {}
    for model in models:
        for label, window in zip(model.labels, map(tuple, model.windows.tolist()), strict=True):
            total, boxes, voters = 0.0, np.zeros(4), 0.0
            for voter, weight in zip(models, weights, strict=True):
                same = (voter.labels == label) & (voter.windows == window).all(axis=1)
                total += weight * (voter.scores[same][0] if same.any() else -1.5)
                if same.any():
                    boxes += weight * voter.boxes[same][0]
                    voters += weight
            expected[int(label), window] = (total / sum(weights), boxes / voters)
    found = averaged(models, weights, -1.5)
    assert len(found) == len(expected)
    keys = list(zip(found.labels.tolist(), map(tuple, found.windows.tolist()), strict=True))
    np.testing.assert_allclose(found.scores, [expected[key][0] for key in keys], atol=1e-5)
    np.testing.assert_allclose(found.boxes, [expected[key][1] for key in keys], atol=1e-4)
    ranked = list(zip(found.labels, -found.scores, strict=True))
    assert ranked == sorted(ranked)
    back = averaged(models[::-1], weights[::-1], -1.5)
    np.testing.assert_allclose(back.scores, found.scores, atol=1e-5)
    assert len(averaged([draw_model(0, draw_windows(0))] * 2, [1, 1], -1.5)) == 0
    assert averaged(models, weights, 0.5).scores.min() == 0.5


def test_no_candidates_no_detections() -> None:
    empty = draw_model(0, draw_windows(0))
    assert len(combine([empty, empty], SIZE, CLASSES)) == 0
    model = draw_model(0, draw_windows())
    assert_same(combine([empty, model], SIZE, CLASSES), postprocess(model, SIZE, CLASSES))


def test_models_that_do_not_fit_are_refused() -> None:
    model = draw_model(0, draw_windows())
    with pytest.raises(ValueError, match="at least one model"):
        combine([], SIZE, CLASSES)
    with pytest.raises(ValueError, match="3 classes, but there are 2 class names"):
        combine([model], SIZE, CLASSES[:2])
    fewer = Candidates(model.windows[:0], model.boxes[:0], model.scores[:0], model.labels[:0], 2)
    with pytest.raises(ValueError, match="classes cannot be combined"):
        combine([model, fewer], SIZE, CLASSES, Suppression(vote_iou=0.5))
    for weights in ([1.0], [1.0, 0.0], []):
        with pytest.raises(ValueError, match="needs one weight above 0 for each"):
            combine([model, model], SIZE, CLASSES, weights=weights)
    with pytest.raises(ValueError, match="runs/b has dog, cat"):
        same_classes({"runs/a": ["cat", "dog"], "runs/b": ["dog", "cat"]})
    with pytest.raises(ValueError, match="at least one run"):
        same_classes({})
    assert same_classes({"runs/a": ["cat", "dog"], "runs/b": ("cat", "dog")}) == ("cat", "dog")
