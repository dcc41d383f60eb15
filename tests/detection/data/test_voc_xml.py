import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made_voc import object_xml

from detection.data.annotations import (
    CLIPPED,
    DROPPED,
    MOSTLY_OUTSIDE,
    NO_FLAG,
    SWAPPED,
    mend_boxes,
)
from detection.data.voc_xml import read_annotation

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
    assert found.corners.tolist() == [[48.5, 3, 10, 7]]  # corners are mended later
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
        ((51, 31, 62, 43), [50, 30, WIDTH, HEIGHT], CLIPPED),
        ((41, 6, 80, 15), [40, 5, WIDTH, 15], CLIPPED),  # exactly half is outside
        ((41, 6, 81, 15), None, MOSTLY_OUTSIDE),
        ((51, 31, 75, 55), None, MOSTLY_OUTSIDE),
        ((1, 1, 10 * WIDTH, 10 * HEIGHT), None, MOSTLY_OUTSIDE),
        ((81, 15, 41, 6), None, MOSTLY_OUTSIDE),
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
    """The twin lists the columns and rows of the image in each box of inclusive corners."""
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
        if 2 * len(x) * len(y) < len(columns) * len(rows):
            mended[MOSTLY_OUTSIDE] += 1
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
    "opening", ['annotation xmlns="http://x.y/voc"', 'v:annotation xmlns:v="http://x.y/voc"']
)
def test_objects_whatever_the_namespace(opening: str, tmp_path: Path) -> None:
    plain = read_annotation(annotation(tmp_path, "<size><width>9</width></size>" + OBJECT))
    prefix = "v:" if opening.startswith("v:") else ""
    text = re.sub("<(/?)(?=[a-z])", rf"<\g<1>{prefix}", OBJECT)
    path = tmp_path / "b.xml"
    path.write_text(f"<{opening}>{text}</{opening.split()[0]}>")
    found = read_annotation(path)
    assert found.names == plain.names == ("dog",)
    assert found.corners.tolist() == plain.corners.tolist()
    assert found.difficult.tolist() == plain.difficult.tolist()


@pytest.mark.parametrize("root", ["annotations", "object", "Annotation", "{http://x}html"])
def test_another_root(root: str, tmp_path: Path) -> None:
    tree = ET.ElementTree(ET.Element(root))
    tree.write(tmp_path / "a.xml")
    with pytest.raises(ValueError, match=r"a\.xml begins with <\w+>; expected VOC's <annotation>"):
        read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("corners", "relative"),
    [
        ([(0.1, 0.2, 0.5, 0.9)], True),
        ([(0, 0, 1, 1), (0.25, 0, 0.5, 1)], True),
        ([(0.5, 0.5, 0.25, 0.25)], True),
        ([(1, 1, 1, 1)], False),  # the first pixel
        ([(0, 0, 1, 1)], False),
        ([(0.5, 0.5, 30, 20)], False),
        ([(0.1, 0.2, 0.5, 0.9), (3, 4, 5, 6)], False),
        ([(0.1, 0.2, 1.000001, 0.9)], True),
        ([(-0.004, 0.2, 0.5, 1.004), (0.1, 0.2, 0.5, 0.9), (3, 4, 5, 6)], True),
        ([(0, 0, 1, 1), (0, 1, 1, 1), (3.5, 4, 5, 6)], False),
        ([], False),
    ],
)
def test_relative_corners(corners: list[tuple], relative: bool, tmp_path: Path) -> None:
    path = annotation(tmp_path, "".join(object_xml(corners=each) for each in corners))
    if not relative:
        assert len(read_annotation(path).corners) == len(corners)
        return
    with pytest.raises(ValueError, match=r"a\.xml .* relative coordinates .*; expected pixels"):
        read_annotation(path)


@pytest.mark.parametrize(
    ("text", "difficult", "mended"),
    [
        *(("0", False, ()), ("1", True, ()), ("true", True, ()), ("False", False, ())),
        *(("", False, ()), ("Unspecified", False, (NO_FLAG,)), ("unspecified ", False, (NO_FLAG,))),
    ],
)
def test_difficult(text: str, difficult: bool, mended: tuple, tmp_path: Path) -> None:
    path = annotation(tmp_path, OBJECT.replace("1</diff", f"{text}</diff"))
    found = read_annotation(path)
    assert found.difficult.tolist() == [difficult]
    assert found.mended == mended


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
        ("dog", "../dog", r"a\.xml names the class '\.\./dog', which leaves"),
        (
            "object>",
            "Object>",
            r"a\.xml has <Object> where VOC's format has none; expected <object>",
        ),
        (
            OBJECT,
            f"<objects>{OBJECT}</objects>",
            r"a\.xml has <object> where VOC's format has none",
        ),
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
