"""Unreadable images give one sentence; errors of the system are not blamed on the image."""

import errno
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from image_files import png, refusal, saved
from PIL import Image, ImageFile

from files import images
from files.images import UnreadableImage, cut_short, image_size, read_image

HEIGHT, WIDTH = 20, 30


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    assert "a.jpg is not a readable image (cannot identify image file)" in refusal(
        tmp_path / "a.jpg"
    )
    with pytest.raises(UnreadableImage, match=r"a\.jpg is not a readable image"):
        image_size(tmp_path / "a.jpg")


def test_what_needs_another_program_is_refused(tmp_path):
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    (tmp_path / "a.jpg").write_bytes(head)
    assert "is EPS, which Pillow does not decode" in refusal(tmp_path / "a.jpg")


def test_places_without_a_file(tmp_path):
    for read in (read_image, image_size, cut_short):
        with pytest.raises(FileNotFoundError, match=r"^no image at .*none\.jpg$"):
            read(tmp_path / "none.jpg")
        with pytest.raises(UnreadableImage, match="is a folder or a special file"):
            read(tmp_path)
    assert os.strerror(errno.ENAMETOOLONG) in refusal(tmp_path / ("a" * 300))


@pytest.mark.parametrize("size", [(30000, 30000), (178_956_971, 1)])
def test_the_error_names_the_limit(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png(*size, b""))
    for read in (read_image, image_size):
        with pytest.raises(UnreadableImage, match=r"a\.png has more than the 178 megapixels that"):
            read(tmp_path / "a.png")


def test_the_limit_is_ours_whatever_pillows_is(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "a.png").write_bytes(png(30000, 30000, b""))
    assert "more than the 178 megapixels" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(tmp_path, size, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(*size, b""))
    refusal(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", lambda _: Image.new("RGB", size))
    assert "has no pixels" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize(
    "error", [struct.error, MemoryError, IndexError, RecursionError, SyntaxError, zlib.error]
)
def test_whatever_pillow_raises_names_the_file(tmp_path, pixels, monkeypatch, error):
    def fail(*_, **__):
        raise error("a sentence\nof two lines")

    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    for name in ("open", "load", "convert"):
        with monkeypatch.context() as broken:
            broken.setattr(Image if name == "open" else Image.Image, name, fail)
            assert "is not a readable image (a sentence of two lines)" in refusal(path)


def test_a_long_thin_image_is_read(tmp_path, rng):
    pixels = rng.integers(0, 256, (40, 12000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_warnings_of_pillow_are_its_own_affair(tmp_path, pixels, monkeypatch):
    """Pillow's warning about a large image does not matter, even where warnings are errors."""
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_threads_read_at_once(tmp_path, large):
    """Threads read images beside a GPU; a cut image in one of them does not affect the others."""
    path, content, whole = saved(tmp_path, large, "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    wrong = []

    def read():
        for _ in range(10):
            if not (read_image(path) == whole).all():
                wrong.append("whole")
            try:
                read_image(tmp_path / "cut.jpg")
                wrong.append("cut")
            except UnreadableImage:
                pass

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_formats_that_pillow_cannot_decode_by_itself_are_known_to_it():
    """A name that Pillow no longer has would be a useless entry."""
    Image.init()
    assert set(images.NO_IMAGES) <= set(Image.OPEN)


NOT_GIVEN = ("EMFILE", "ENFILE", "ESTALE", "EIO", "ENOTCONN", "ETIMEDOUT")


@pytest.mark.parametrize("number", [getattr(errno, name) for name in NOT_GIVEN])
def test_what_the_system_did_not_give_is_no_unreadable_image(tmp_path, monkeypatch, number):
    """Leaving out such an image would change what is trained."""

    def fails(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(Image, "open", fails)
    for read in (read_image, image_size):
        with pytest.raises(OSError, match=r"a\.png could not be read \(.*: keep it, "):
            read(path)


def test_a_disk_that_fails_in_the_middle_of_an_image(tmp_path, monkeypatch):
    """A second reading may give the whole image, so it is not read as an image cut short."""
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    load = ImageFile.ImageFile.load
    calls = []

    def fails_once(image):
        calls.append(image)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails_once)
    with pytest.raises(OSError, match=r"a\.png could not be read .*: keep it, check its disk"):
        read_image(path)
    assert read_image(path).shape == (4, 4, 3)
