"""The images of annotations: found, measured, cut short, unreadable."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_voc import HEIGHT, WIDTH, add_images, object_xml
from PIL import Image

from detection.data.assembly import CUT_SHORT
from detection.data.records import Dataset
from detection.data.voc import read_voc
from files.images import UnreadableImage


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    return partial(add_images, tmp_path)


def cut_image(path: Path, share: float) -> None:
    """Write a JPEG and keep only this share of its bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def test_images_of_any_ending(write: Callable[..., Path]) -> None:
    names = ("a.JPG", "b.jpeg", "c.png", "d.1/e.rf.2.webp", "f.bmp", "g.h.gif")
    root = write(**{name.rpartition(".")[0]: object_xml() for name in names})
    for name in names:
        path = root / "JPEGImages" / name
        jpeg = path.with_name(name.rpartition("/")[2].rpartition(".")[0] + ".jpg")
        Image.open(jpeg).convert("L").save(path)
        if path != jpeg:
            jpeg.unlink()
    records = read_voc(root, "train").records
    assert [str(record.path.relative_to(root / "JPEGImages")) for record in records] == list(names)


def test_missing_image(write: Callable[..., Path]) -> None:
    root = write(a=object_xml(), b=object_xml())
    (root / "JPEGImages/b.jpg").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_voc(root, "train")
    message = str(caught.value)
    assert f"no image of 'b' at {root / 'JPEGImages/b.jpg'}" in message
    assert "or remove 'b' from" in message
    assert "get_data" not in message


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_missing_size_is_the_images(size: str, write: Callable[..., Path]) -> None:
    assert read_voc(write(size, a=object_xml()), "train").records[0].size == (HEIGHT, WIDTH)


def test_size_of_another_image(write: Callable[..., Path]) -> None:
    root = write("<size><width>600</width><height>400</height></size>", a=object_xml())
    expected = r"a\.xml says height 400, width 600, but .*a\.jpg has height 40, width 60; the boxes"
    with pytest.raises(ValueError, match=expected + " were drawn on another version of the image"):
        read_voc(root, "train")


def test_image_turned_by_its_exif_tag(write: Callable[..., Path]) -> None:
    turned = f"<size><width>{HEIGHT}</width><height>{WIDTH}</height></size>"
    root = write(turned, a=object_xml())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages/a.jpg", exif=exif)
    assert read_voc(root, "train").records[0].size == (WIDTH, HEIGHT)
    write(b="")  # has the size before the EXIF tag turns the image
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages/b.jpg", exif=exif)
    with pytest.raises(
        ValueError, match=r"b\.xml says .* before it was turned, as by its EXIF.* remove"
    ):
        read_voc(root, "train")


def test_image_cut_short_is_used_and_counted(
    write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = write(a=object_xml(), b=object_xml())
    cut_image(root / "JPEGImages/b.jpg", 0.99)
    dataset = read_voc(root, "train")
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    assert dataset.repairs == {CUT_SHORT: 1}
    assert not dataset.unreadable
    (line,) = caplog.messages
    assert line == f"{CUT_SHORT}: 1 in train, first in {root / 'JPEGImages/b.jpg'}"


@pytest.mark.parametrize("content", [b"", b"no image", b"half"])
def test_unreadable_image_is_left_out(
    content: bytes, write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = write(**{"a": object_xml(), "b.1": object_xml("cat"), "c": object_xml("cat")})
    path = root / "JPEGImages/b.1.jpg"
    if content == b"half":
        cut_image(path, 0.3)
    else:
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        dataset = read_voc(root, "train")
    assert [record.image_id for record in dataset.records] == ["a", "c"]
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.unreadable) == ["b.1"]
    assert dataset.unreadable["b.1"].startswith(f"{path} is not a readable image")
    assert caplog.messages == [f"left out: {dataset.unreadable['b.1']}"]
    with pytest.raises(UnreadableImage, match=r"b\.1\.jpg is not a readable image"):
        read_voc(root, "train", strict=True)


def test_no_readable_image(write: Callable[..., Path]) -> None:
    root = write(a=object_xml(), b=object_xml())
    for path in (root / "JPEGImages").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of 2 images can be read; the first: .*a\.jpg is"):
        read_voc(root, "train")


def test_leaving_more_images_out(write: Callable[..., Path]) -> None:
    root = write(**{name: object_xml() for name in "abcd"})
    (root / "JPEGImages/a.jpg").write_bytes(b"no image")
    whole = read_voc(root, "train")
    fewer = whole.without({"c": "c.jpg is broken"})
    assert [record.image_id for record in fewer.records] == ["b", "d"]
    assert list(fewer.unreadable) == ["a", "c"]
    assert fewer.unreadable["c"] == "c.jpg is broken"
    assert fewer.classes == whole.classes
    assert [record.image_id for record in whole.records] == ["b", "c", "d"]  # unchanged
    assert whole.without({}) == whole
    with pytest.raises(ValueError, match=r"none of 4 images can be read; the first: .*a\.jpg"):
        fewer.without({"b": "broken", "d": "broken"})


def test_an_empty_dataset_lacks_nothing() -> None:
    assert Dataset((), ("dog",)).without({}).records == ()
