"""Result files: exact round trips, order kept, and errors that name file and line."""

import numpy as np
import pytest

from detection.detections import Detections
from detection.evaluation.comp4 import (
    classes_found,
    comp4_path,
    from_images,
    read_comp4,
    write_comp4,
)

CLASSES = ("cat", "dog")


def random_detections(rng, count):
    corner = rng.uniform(0, 300, (count, 2))
    corner[rng.random(count) < 0.2] = 0
    boxes = np.hstack([corner, corner + rng.uniform(0.1, 200, (count, 2))]).astype(np.float32)
    scores = rng.normal(0, 1, count).astype(np.float32)
    return Detections(boxes, scores, rng.integers(0, len(CLASSES), count), CLASSES)


def assert_same(one, other):
    assert list(one) == list(other)
    for name in one:
        assert list(one[name].image_ids) == list(other[name].image_ids)
        np.testing.assert_array_equal(one[name].boxes, other[name].boxes)


def test_round_trip_is_exact(rng, tmp_path):
    found = {f"{i:06d}": random_detections(rng, int(rng.integers(0, 12))) for i in range(20)}
    write_comp4(tmp_path / "new" / "folder", "test", found, CLASSES)
    read = read_comp4(tmp_path / "new" / "folder", "test", CLASSES)
    direct = from_images(found, CLASSES)
    assert_same(read, direct)
    for name in CLASSES:
        scores = read[name].scores.astype(np.float32)
        np.testing.assert_array_equal(scores, direct[name].scores.astype(np.float32))
    assert sum(len(one) for one in read.values()) == sum(len(one) for one in found.values())
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "comp4_det_test_cat.txt",
        "comp4_det_test_dog.txt",
    ]


def test_small_coordinates_and_large_scores_survive(tmp_path):
    boxes = np.array([[0.1, 1e-3, 1e4 + 1 / 1024, 123.456]], np.float32)
    scores = np.array([-1234.56789], np.float32)
    found = {"a": Detections(boxes, scores, np.array([0]), CLASSES)}
    write_comp4(tmp_path, "test", found, CLASSES)
    read = read_comp4(tmp_path, "test", CLASSES)["cat"]
    np.testing.assert_array_equal(read.boxes.astype(np.float32), boxes)
    np.testing.assert_array_equal(read.scores.astype(np.float32), scores)


def test_lines_are_the_devkits(tmp_path):
    # Half-open (0, 4, 10, 20) holds the pixels 1..10 and 5..20 of VOC's counting from 1.
    boxes = np.array([[0, 4, 10, 20], [1.5, 2, 3, 4]], np.float32)
    found = {"2008_000001": Detections(boxes, np.float32([0.5, -1]), np.array([0, 0]), CLASSES)}
    write_comp4(tmp_path, "val", found, CLASSES)
    assert comp4_path(tmp_path, "val", "cat").read_text() == (
        "2008_000001 0.5 1 5 10 20\n2008_000001 -1 2.5 3 3 4\n"
    )
    assert comp4_path(tmp_path, "val", "dog").read_text() == ""


def test_reading_keeps_the_order_of_the_file(tmp_path):
    comp4_path(tmp_path, "test", "cat").write_text(
        "b 0.1 1 1 2 2\na 0.9 1 1 2 2\nb 0.9 3 3 4 4\n\n"
    )
    read = read_comp4(tmp_path, "test", ["cat"])["cat"]
    assert list(read.image_ids) == ["b", "a", "b"]
    assert read.scores.tolist() == [0.1, 0.9, 0.9]
    assert read.boxes.tolist() == [[0, 0, 2, 2], [0, 0, 2, 2], [2, 2, 4, 4]]


def test_nothing_found(tmp_path):
    write_comp4(tmp_path, "test", {"a": Detections.empty(CLASSES)}, CLASSES)
    for found in (read_comp4(tmp_path, "test", CLASSES), from_images({}, CLASSES)):
        assert [len(found[name]) for name in CLASSES] == [0, 0]
        assert found["cat"].boxes.shape == (0, 4)


def test_a_missing_file_is_named(tmp_path):
    comp4_path(tmp_path, "test", "cat").write_text("")
    with pytest.raises(FileNotFoundError, match=r"comp4_det_test_dog\.txt.*empty one"):
        read_comp4(tmp_path, "test", CLASSES)


@pytest.mark.parametrize(
    "line", ["a 0.5 1 1 2", "0.5 1 1 2 2", "a 0.5 1 1 2 x", "a nan 1 1 2 2", "a 0.5 1 1 inf 2"]
)
def test_a_malformed_line_is_named(tmp_path, line):
    comp4_path(tmp_path, "test", "cat").write_text(f"a 0.5 1 1 2 2\n\n{line}\n")
    with pytest.raises(ValueError, match=r"comp4_det_test_cat\.txt, line 3: expected an image id"):
        read_comp4(tmp_path, "test", ["cat"])


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path):
    one = Detections(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.array([1]), CLASSES)
    nan = Detections(one.boxes, np.float32([np.nan]), one.labels, CLASSES)
    for image_id in ("", " a", "a ", "a\nb", "a\rb", "a\0b"):
        with pytest.raises(ValueError, match="a line of a result file names the image"):
            write_comp4(tmp_path, "test", {image_id: one}, CLASSES)
    with pytest.raises(ValueError, match="class dog has a score or box that is not finite"):
        write_comp4(tmp_path, "test", {"a": nan}, CLASSES)
    with pytest.raises(ValueError, match="image a have the classes"):
        write_comp4(tmp_path, "test", {"a": one}, ("dog", "cat"))
    assert not list(tmp_path.iterdir())


NAMES = ("cat", "a/b", "50%", "%2F", "交通灯", "traffic light", "size: 1*?", "ü", "b_test_c")
IDS = ("a.rf.1", "day2/street", "Bild 1", "two  spaces", "图", "a 0.5 1 1 2 2", "100%", "x\u00a0y")


def test_round_trip_of_any_names(rng, tmp_path):
    found = {
        image_id: Detections(
            np.float32([[1, 2, 3, 4]] * len(NAMES)),
            rng.normal(0, 1, len(NAMES)).astype(np.float32),
            np.arange(len(NAMES)),
            NAMES,
        )
        for image_id in IDS
    }
    write_comp4(tmp_path / "new", "test", found, NAMES)
    assert len([*(tmp_path / "new").iterdir()]) == len(NAMES)
    assert classes_found(tmp_path / "new", "test") == sorted(NAMES)
    read = read_comp4(tmp_path / "new", "test", NAMES)
    assert_same(read, from_images(found, NAMES))
    assert all(tuple(read[name].image_ids) == IDS for name in NAMES)


def test_files_of_other_splits_and_kinds_are_not_found(tmp_path):
    for name in ("comp4_det_val_dog.txt", "comp4_det_test_cat.csv", "comp3_det_test_cow.txt"):
        (tmp_path / name).write_text("")
    comp4_path(tmp_path, "test", "cat").write_text("")
    assert classes_found(tmp_path, "test") == ["cat"]
    (tmp_path / "comp4_det_test_.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"comp4_det_test_\.txt names the class '', which is empty"
    ):
        classes_found(tmp_path, "test")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_byte_order_are_no_part_of_the_first_id(tmp_path, encoding):
    comp4_path(tmp_path, "test", "cat").write_bytes("é1 0.5 1 1 2 2\r\n".encode(encoding))
    assert list(read_comp4(tmp_path, "test", ["cat"])["cat"].image_ids) == ["é1"]
    comp4_path(tmp_path, "test", "cat").write_bytes("é1 0.5 1 1 2 2".encode("latin-1"))
    with pytest.raises(ValueError, match=r"comp4_det_test_cat\.txt is not readable as UTF-8 text"):
        read_comp4(tmp_path, "test", ["cat"])
