"""Records of images, and of mirrored images."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from detection.data.records import Dataset, ImageRecord, copies
from detection.training.feature_cache import image_key


@pytest.fixture
def record(tmp_path):
    """Return an image of 7 x 4 pixels, no two alike, with two objects."""
    path = tmp_path / "one.png"
    pixels = np.arange(7 * 4 * 3, dtype=np.uint8).reshape(4, 7, 3)
    Image.fromarray(pixels).save(path)
    boxes = np.array([[0, 1, 3, 4], [2, 0, 7, 2]], np.float32)
    return ImageRecord("one", path, (4, 7), boxes, np.array([0, 1]), np.array([False, True]))


def test_a_mirrored_image_shows_the_same_in_its_boxes(record):
    mirrored = record.mirror()
    image, other = record.read(), mirrored.read()
    assert other.flags.c_contiguous
    for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(
        record.boxes.astype(int), mirrored.boxes.astype(int), strict=True
    ):
        assert (y1, y2) == (v1, v2)
        np.testing.assert_array_equal(image[y1:y2, x1:x2], other[v1:v2, u1:u2][:, ::-1])
    np.testing.assert_array_equal(mirrored.turned(record.boxes), mirrored.boxes)
    np.testing.assert_array_equal(record.turned(record.boxes), record.boxes)
    twice = mirrored.mirror()
    np.testing.assert_array_equal(twice.boxes, record.boxes)
    np.testing.assert_array_equal(twice.read(), image)
    assert not twice.mirrored


def test_mirrored_images_have_their_own_keys(record):
    empty = replace(record, boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
    keys = {image_key(each) for one in (record, empty) for each in (one, one.mirror())}
    assert len(keys) == 4
    assert image_key(record.mirror().mirror()) == image_key(record)


def test_copies_and_versions_of_an_image(tmp_path):
    names = {
        "one": "a_jpg.rf.0123456789abcdef0123456789abcdef.jpg",
        "two": "a_jpg.rf.fedcba9876543210fedcba9876543210.jpg",
        "three": "b_jpg.rf.0123456789abcdef0123456789abcdef.jpg",
        "four": "street.rf.01.jpg",
        "five": "street.rf.02.jpg",
    }
    paths = [tmp_path / folder / name for folder in ("x", "y") for name in names.values()]
    for path, content in zip(paths, [*names, "six", *list(names)[1:]], strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    found = copies(paths)
    groups = {word: {place for place, each in enumerate(found) if each == word} for word in found}
    assert sorted(map(sorted, groups.values())) == [[0, 1, 5, 6], [2, 7], [3, 8], [4, 9]]
    assert copies(paths[::-1]) == found[::-1]


def test_a_data_set_with_its_mirror_images(record):
    other = replace(record, image_id="two")
    both = Dataset((record, other), ("a", "b")).with_mirrored()
    assert [(each.image_id, each.mirrored) for each in both.records] == [
        *(("one", False), ("two", False), ("one", True), ("two", True))
    ]
