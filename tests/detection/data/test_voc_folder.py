"""VOC folders: finding data, reading lists, and hints that fit the cause."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from made_voc import add_images, object_xml

from detection.data.voc import read_voc
from detection.data.voc_folder import find_voc_folder, read_split


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    return partial(add_images, tmp_path)


def ids_of(root: Path, lines: str | bytes) -> list[str]:
    path = root / "ImageSets/Main/some.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    return read_split(root, "some")


def test_root_may_be_the_devkit(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(a=object_xml())
    devkit = tmp_path / "VOCdevkit"
    devkit.mkdir()
    (devkit / "VOC2007").symlink_to(root)
    assert len(read_voc(str(devkit), "train").records) == 1


def test_download_is_offered_where_the_folder_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        find_voc_folder("no/data")
    message = str(caught.value)
    assert "data folder no/data does not exist" in message
    assert str(tmp_path / "no/data") in message
    assert "is of the working directory" in message
    assert "get_data.py voc07" in message
    with pytest.raises(FileNotFoundError, match=r"does not exist; .*get_data\.py voc07"):
        find_voc_folder(tmp_path / "no")
    root = add_images(tmp_path / "export/mine", a=object_xml())
    with pytest.raises(FileNotFoundError, match=r"holds neither Annotations nor .*--data\.root"):
        find_voc_folder(root / "JPEGImages")
    with pytest.raises(FileNotFoundError) as caught:
        find_voc_folder(root.parent)
    assert f"such as {root}" in str(caught.value)
    assert "get_data" not in str(caught.value)


@pytest.mark.parametrize(
    "image_id",
    [
        "a.rf.0f3e",
        "p1.jpg.rf.1",
        "day 2/street.1/x",
        "my photo.v2",
        "IMG (1)",
        "路口 3.b",
        "a'b\"c",
    ],
)
def test_ids_are_read_whole(image_id: str, write: Callable[..., Path]) -> None:
    root = write(**{image_id: object_xml()})
    (record,) = read_voc(root, "train").records
    assert record.image_id == image_id
    assert record.path == root / f"JPEGImages/{image_id}.jpg"
    assert record.path.is_file()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_in_any_marked_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    lines = end.join(["b.1", "", "  straße ", "路口", ""])
    assert ids_of(tmp_path, lines.encode(encoding)) == ["b.1", "straße", "路口"]


def test_lists_of_one_class(tmp_path: Path) -> None:
    assert ids_of(tmp_path, "b -1\na  1\n\nc\t0\n") == ["b", "a", "c"]
    # This is no such list: a line has three fields, or a number other than -1, 0 and 1.
    assert ids_of(tmp_path, "my photo 1\nIMG 2\n") == ["my photo 1", "IMG 2"]


@pytest.mark.parametrize("other", [{}, {"IMG": object_xml()}])
def test_a_space_and_a_flag(other: dict[str, str], write: Callable[..., Path]) -> None:
    root = write(**{"IMG 1": object_xml()}, **other)
    with pytest.raises(ValueError, match=r"train\.txt line 1 is 'IMG 1', .*; rename it") as caught:
        read_voc(root, "train")
    assert "which is read as the id 'IMG' and the flag 1" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("C:\\images\\a", "is an absolute path"),
        ("../a", r"leaves its folder by '\.\.'"),
        ("a/../../b", r"leaves its folder by '\.\.'"),
        ("../a 1", r"leaves its folder by '\.\.'"),
        ("./a", "holds an empty name of a folder"),
        ("a//b", "holds an empty name of a folder"),
        ("x" * 300, "is too long"),
        ("x" * 300 + " 1", "is too long"),
        ("a\tb", "control character"),
        ("a\x00", "control character"),
        ("\ufeffa", "control character"),
    ],
)
def test_ids_that_are_no_names_below_a_folder(line: str, reason: str, tmp_path: Path) -> None:
    # A NUL refuses the whole file, as it may be UTF-16 without a byte order mark.
    expected = r"some\.txt holds zero bytes" if "\0" in line else rf"some\.txt line 2 .*{reason}"
    with pytest.raises(ValueError, match=expected):
        ids_of(tmp_path, f"good\n{line}\n")


def test_twice_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"some\.txt names 'a' twice, in lines 1 and 3"):
        ids_of(tmp_path, "a\nb\na\n")
    with pytest.raises(ValueError, match="names no image"):
        ids_of(tmp_path, "\n")


@pytest.mark.parametrize("split", ["../train", "/train", "a/b", "", "x\ny"])
def test_split_names(split: str, write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"the split .*; expected the name of one file"):
        read_voc(write(a=object_xml()), split)


def test_missing_split(write: Callable[..., Path]) -> None:
    root = write(a=object_xml())
    main = root / "ImageSets/Main"
    for name in ("dog_train", "my_test", "other"):
        (main / f"{name}.txt").write_text("a\n")
    with pytest.raises(FileNotFoundError) as caught:
        read_voc(root, "val")
    # dog_train is train's list of one class; my_test is a split
    assert str(caught.value).endswith("val.txt; splits there: my_test, other, train")
    with pytest.raises(FileNotFoundError, match=r"write it without '\.txt': 'other'$"):
        read_voc(root, "other.txt")
    for path in main.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no split 'val' at .*; write that list, one"):
        read_voc(root, "val")


@pytest.mark.parametrize(
    ("listed", "there", "helps"),
    [
        ("p1.jpg", "p1", "write 'p1', without '.jpg'"),
        ("p1.PNG", "p1", "write 'p1', without '.PNG'"),
        ("p.1.xml", "p.1", "write 'p.1', without '.xml'"),
        ("my photo 1", "my photo", "write 'my photo', without '1'"),
        ("day\\p1", "day/p1", "write it as 'day/p1'"),
        ("JPEGImages/p1.jpg", "p1", "write it as 'p1'"),
        ("p1", "P1", "there is 'P1.xml', spelled differently: rename it"),
        ("caf\u00e9", "cafe\u0301", "spelled differently: rename it"),
        ("p1", "p2", "take 'p1' out of"),
        ("p1.rf.2", "p1", "take 'p1.rf.2' out of"),  # no part of an id is cut off
    ],
)
def test_missing_annotation(
    listed: str, there: str, helps: str, write: Callable[..., Path]
) -> None:
    root = write(**{there: object_xml()})
    (root / "ImageSets/Main/train.txt").write_text(f"{listed}\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError) as caught:
        read_voc(root, "train")
    message = str(caught.value)
    assert f"no annotation at {root / 'Annotations' / listed}.xml; " in message
    assert helps in message
    assert "get_data" not in message
