import numpy as np
import pytest

from detection.detections import Detections

CLASSES = ("cat", "dog")


@pytest.fixture
def three() -> Detections:
    boxes = np.array([[0, 0, 4, 4], [1, 1, 5, 9], [2, 0, 3, 1]], np.float32)
    scores, labels = np.array([0.5, -1, 2], np.float32), np.array([1, 0, 1])
    return Detections(boxes, scores, labels, CLASSES)


def test_iterates_over_box_name_score(three: Detections) -> None:
    assert len(three) == 3
    found = list(three)
    assert [name for _, name, _ in found] == ["dog", "cat", "dog"]
    assert [score for _, _, score in found] == [0.5, -1.0, 2.0]
    assert found[1][0].tolist() == [1, 1, 5, 9]


def test_indexing_keeps_rows_together(three: Detections) -> None:
    for index in (slice(1, 3), np.array([False, True, True]), np.array([1, 2])):
        part = three[index]
        assert part.scores.tolist() == [-1, 2]
        assert part.labels.tolist() == [0, 1]
        assert part.boxes.shape == (2, 4)
        assert part.classes == CLASSES
    assert three[np.argsort(-three.scores)].scores.tolist() == [2, 0.5, -1]
    assert len(three[np.zeros(3, bool)]) == 0


def test_empty() -> None:
    none = Detections.empty(CLASSES)
    assert len(none) == 0
    assert list(none) == []
    assert none.boxes.shape == (0, 4)
    assert len(none[slice(None)]) == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("boxes", np.zeros((2, 4), np.float32), r"boxes must be float32 of shape \(3, 4\), got"),
        ("boxes", np.zeros((3, 4)), r"boxes must be float32 .* got float64 of shape \(3, 4\)"),
        ("scores", np.zeros(3), "scores must be float32 .* got float64"),
        ("labels", np.zeros(2, np.int64), r"labels must be int64 of shape \(3,\), got .*\(2,\)"),
        ("labels", np.zeros(3, np.int32), "labels must be int64 .* got int32"),
    ],
)
def test_wrong_arrays_are_refused(
    field: str, value: np.ndarray, message: str, three: Detections
) -> None:
    fields = {name: getattr(three, name) for name in ("boxes", "scores", "labels")}
    with pytest.raises(ValueError, match=message):
        Detections(**(fields | {field: value}), classes=CLASSES)
