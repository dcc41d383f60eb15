from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from detection.data.voc_xml import CLIPPED, DROPPED, SWAPPED, mend_boxes, read_annotation

WIDTH, HEIGHT = 60, 40
OBJECT = """<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>48.5</xmin><ymin> 3 </ymin><xmax>1e1</xmax><ymax>7</ymax></bndbox></object>"""


def annotation(folder: Path, text: str) -> Path:
    path = folder / "a.xml"
    path.write_text(f"<annotation>{text}</annotation>")
    return path


def test_reads_what_it_says(tmp_path: Path) -> None:
    size = "<size><width>500</width><height>375</height></size>"
    found = read_annotation(annotation(tmp_path, size + OBJECT))
    assert found.size == (375, 500)
    assert found.names == ("dog",)
    assert found.corners.tolist() == [[48.5, 3, 10, 7]]  # nothing mended
    assert found.corners.dtype == np.float64
    assert found.difficult.tolist() == [True]

    empty = read_annotation(annotation(tmp_path, ""))
    assert empty.size is None
    assert empty.names == ()
    assert empty.corners.shape == (0, 4)
    assert empty.difficult.dtype == np.bool_


@pytest.mark.parametrize(
    ("corners", "box", "kind"),
    [
        ((20, 15, 11, 6), [10, 5, 20, 15], SWAPPED),
        ((20, 6, 11, 15), [10, 5, 20, 15], SWAPPED),
        ((0, 0, 10, 10), [0, 0, 10, 10], CLIPPED),
        ((51, 31, 75, 55), [50, 30, WIDTH, HEIGHT], CLIPPED),
        ((0, 0, 0, 0), None, DROPPED),
        ((61, 5, 70, 10), None, DROPPED),
        ((-9, -9, -2, -2), None, DROPPED),
        ((7, 9, 7, 9), [6, 8, 7, 9], None),  # one pixel
        ((60, 40, 60, 40), [59, 39, 60, 40], None),  # the last pixel
        ((48.5, 3.25, 50, 10), [47.5, 2.25, 50, 10], None),
    ],
)
def test_repairs(corners: tuple, box: list | None, kind: str | None) -> None:
    boxes, kept, repairs = mend_boxes(np.array([corners], np.float64), (HEIGHT, WIDTH))
    assert boxes.tolist() == ([] if box is None else [box])
    assert boxes.dtype == np.float32
    assert kept.tolist() == [box is not None]
    assert repairs == (Counter() if kind is None else Counter({kind: 1}))


def test_mended_boxes_equal_a_loop(rng: np.random.Generator) -> None:
    """The twin counts, pixel by pixel, what a box of inclusive corners covers of the picture."""
    corners = rng.integers(-5, 20, (200, 4)).astype(np.float64)
    boxes, kept, repairs = mend_boxes(corners, (9, 13))
    expected, mended = [], Counter()
    for xmin, ymin, xmax, ymax in corners.tolist():
        columns = range(int(min(xmin, xmax)), int(max(xmin, xmax)) + 1)
        rows = range(int(min(ymin, ymax)), int(max(ymin, ymax)) + 1)
        x, y = [c for c in columns if 1 <= c <= 13], [r for r in rows if 1 <= r <= 9]
        if not x or not y:
            mended[DROPPED] += 1
            continue
        mended[SWAPPED] += xmin > xmax or ymin > ymax
        mended[CLIPPED] += len(x) < len(columns) or len(y) < len(rows)
        expected.append([x[0] - 1, y[0] - 1, x[-1], y[-1]])
    np.testing.assert_array_equal(boxes, expected)
    assert repairs == mended
    assert kept.sum() == len(expected)


def test_no_boxes_to_mend() -> None:
    boxes, kept, repairs = mend_boxes(np.zeros((0, 4)), (9, 13))
    assert boxes.shape == (0, 4)
    assert kept.shape == (0,)
    assert repairs == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("48.5", "x", r"a\.xml has 'x' for <xmin>; expected a number"),
        ("1e1", "nan", r"a\.xml has 'nan' for <xmax>; expected a number"),
        ("ymax", "y", r"a\.xml has '' for <ymax>; expected a number"),
        ("1</diff", "yes</diff", r"a\.xml has 'yes' for <difficult>; expected 0 or 1"),
        ("dog", " ", r"a\.xml has an object without a <name>"),
        ("bndbox", "box", r"a\.xml has an object 'dog' without a <bndbox>"),
        ("</object>", "", r"a\.xml is not valid XML"),
        ("<object>", "<size><width>a</width></size><object>", r"a\.xml has 'a' for <size>"),
    ],
)
def test_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in OBJECT
    path = annotation(tmp_path, OBJECT.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_annotation(path)


@pytest.mark.parametrize(
    "content", [b"", b'<?xml version="1.0" encoding="foo"?><a/>', b"\xff\xfe\0"]
)
def test_unreadable_annotation(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.xml is not valid XML"):
        read_annotation(tmp_path / "a.xml")
