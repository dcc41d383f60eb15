"""Statistics of annotated images: counts, copies, objects too small for windows, a sample."""

from pathlib import Path

import numpy as np
import pytest
from made_formats import CLASSES, draw, write_coco

from detection.data.overview import (
    count_classes,
    duplicates,
    out_of_reach,
    repeated_boxes,
    sample_of,
)
from detection.data.reading import read_dataset
from detection.data.records import Dataset, ImageRecord
from detection.evaluation.contact_sheet import GAP, TILE, draw_contact_sheet
from detection.settings.data import Data
from files.images import read_image
from proposals.edge_boxes import EdgeBoxes
from proposals.methods import Proposals
from proposals.selective_search import SelectiveSearch


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    write_coco(tmp_path, draw(12))
    return read_dataset(Data(str(tmp_path)), "all")


def record(boxes: list, size: tuple[int, int] = (400, 500)) -> ImageRecord:
    count = len(boxes)
    arrays = np.array(boxes, np.float32).reshape(-1, 4), np.zeros(count, np.int64)
    return ImageRecord("a", Path("a.jpg"), size, *arrays, np.zeros(count, np.bool_))


def test_counts_equal_what_was_drawn(dataset: Dataset) -> None:
    drawn = draw(12)
    for each, name in zip(count_classes(dataset), CLASSES, strict=True):
        boxes = [box for one in drawn for label, box in one.objects if label == name]
        assert (each.name, each.objects, each.difficult) == (name, len(boxes), 0)
        assert each.images == sum(name in dict(one.objects) for one in drawn)
        assert each.size[1] == pytest.approx(np.median([box[2] - box[0] for box in boxes]), abs=0.5)
    nothing = Dataset((record([]),), ("dog",))
    assert count_classes(nothing)[0].size == (0, 0)


def test_copies(dataset: Dataset) -> None:
    assert duplicates(dataset.records) == []
    first, second = dataset.records[:2]
    second.path.write_bytes(first.path.read_bytes())
    assert duplicates(dataset.records) == [[first.image_id, second.image_id]]
    assert repeated_boxes([record([[1, 2, 3, 4]] * 3 + [[1, 2, 3, 5]])]) == 2


def test_out_of_reach() -> None:
    """The twin tries windows of all sizes from the smallest, and takes the best overlap."""
    boxes = [[0, 0, 20, 20], [0, 0, 9, 20], [0, 0, 10, 20], [0, 0, 14, 14], [0, 0, 5, 100]]
    searched = Proposals("selective_search", SelectiveSearch(min_side=20))
    expected = []
    for box in np.array(boxes):
        sides = [(w, h) for w in range(20, 120) for h in range(20, 120)]
        inner = [min(w, box[2]) * min(h, box[3]) for w, h in sides]
        union = [w * h + box[2] * box[3] - one for (w, h), one in zip(sides, inner, strict=True)]
        expected.append(max(np.divide(inner, union)) < 0.5)
    assert out_of_reach(record(boxes), searched).tolist() == expected
    large = record([[0, 0, 40, 40], [0, 0, 80, 80]], (1500, 2000))  # searched at a quarter
    assert out_of_reach(large, searched).tolist() == [True, False]
    edges = Proposals("edge_boxes", edge_boxes=EdgeBoxes(min_box_area=400))
    assert out_of_reach(record(boxes), edges).tolist() == [False, True, False, True, False]


def test_a_sample_has_every_class() -> None:
    labels = [0] * 20 + [1] + [0] * 20
    records = [record([[1, 1, 9, 9]]) for _ in labels]
    for each, label in zip(records, labels, strict=True):
        each.labels[:] = label
    some = sample_of(records, 5)
    assert len(some) == 5
    assert {int(each.labels[0]) for each in some} == {0, 1}
    assert sample_of(records, 100) == records
    assert len(sample_of(records, 1)) == 1
    assert sample_of([], 3) == []


def test_contact_sheet(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "new/sheet.png"
    draw_contact_sheet(dataset.records[:7], dataset.classes, path, columns=3)
    height, width, _ = read_image(path).shape
    assert width == 3 * (TILE + GAP) + GAP
    assert height > 3 * TILE
    before = path.read_bytes()
    draw_contact_sheet(dataset.records[:7], dataset.classes, path, columns=3)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"a contact sheet needs a name in \.png"):
        draw_contact_sheet([], dataset.classes, path)
    with pytest.raises(ValueError, match=r"got .*sheet\.jpg"):
        draw_contact_sheet(dataset.records, dataset.classes, tmp_path / "sheet.jpg")
