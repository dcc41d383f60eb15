"""Images of every kind are read correctly."""

import struct

import numpy as np
import pytest
from image_files import png, refusal
from PIL import Image, features

from files.image_folders import image_suffixes
from files.images import cut_short, image_size, read_image

HEIGHT, WIDTH = 20, 30
ORIENTATION = 0x0112


def test_an_image_comes_back_as_written(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        image = read_image(path)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, pixels)
        assert image_size(path) == (HEIGHT, WIDTH)
        assert not cut_short(path)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *((mode, "png") for mode in ("1", "L", "P", "LA", "RGBA")),
        *((mode, "tif") for mode in ("CMYK", "YCbCr")),
        *((mode, "jpg") for mode in ("CMYK", "YCbCr")),
        ("P", "gif"),
        ("RGBA", "webp"),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, large, mode, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(large).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (200, 300, 3)
    assert image.dtype == np.uint8
    grey = mode in ("1", "L", "LA")
    expected = np.asarray(Image.fromarray(large).convert("L").convert("RGB")) if grey else large
    if mode == "1":
        assert set(np.unique(image)) == {0, 255}
    else:
        assert np.abs(image.astype(int) - expected).mean() < (32 if mode == "P" else 6)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_deep_greys_are_scaled(tmp_path, rng, mode):
    shallow = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    deep = Image.fromarray(shallow.astype(np.uint16) * 257).convert("I").convert(mode)
    for ending in ("png", "tif") if mode == "I;16" else ("tif",):
        deep.save(tmp_path / f"a.{ending}")
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}")[:, :, 1], shallow)
    deep.convert("I").save(tmp_path / "a.pgm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.pgm")[:, :, 1], shallow)


def test_a_dark_16_bit_image_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 5), 514, np.uint16)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 2).all()


@pytest.mark.parametrize("factor", [1 / 255, 1, 257, 1000])
def test_floats_are_scaled_from_the_range_that_holds_them(tmp_path, rng, factor):
    shallow = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    shallow[0, 0] = 255
    for name in ("a.tif", "a.pfm"):
        Image.fromarray(shallow.astype(np.float32) * factor).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name)[:, :, 0], shallow)


def test_negative_floats_span_the_range_and_nan_is_refused(tmp_path):
    values = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[:, :, 0].ravel().tolist() == [0, 51, 102, 153, 204, 255]
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert "not finite" in refusal(tmp_path / "a.tif")


def test_16_bit_colours(tmp_path, pixels):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels.astype(np.uint16) * 257)
    (tmp_path / "a.png").write_bytes(png(WIDTH, HEIGHT, rows, bits=16))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_transparency_lies_on_white(tmp_path):
    """The hidden colour of a transparent pixel is not part of the image."""
    red = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    red.putpixel((0, 0), (0, 200, 0, 0))
    red.save(tmp_path / "rgba.png")
    red.save(tmp_path / "rgba.webp", lossless=True)
    Image.new("LA", (2, 1), (0, 0)).save(tmp_path / "la.png")
    paletted = Image.new("P", (2, 1), 0)
    paletted.putpalette([0, 0, 0, 200, 0, 0])
    paletted.putpixel((1, 0), 1)
    paletted.save(tmp_path / "p.png", transparency=0)
    paletted.save(tmp_path / "p.gif", transparency=0)
    Image.new("RGB", (2, 1), (1, 2, 3)).save(tmp_path / "rgb.png", transparency=(1, 2, 3))
    Image.new("L", (2, 1), 5).save(tmp_path / "l.png", transparency=5)
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "deep.png", transparency=0)
    for path in tmp_path.iterdir():
        assert (read_image(path)[0, 0] == 255).all(), path
    for name in ("rgba.png", "rgba.webp", "p.png", "p.gif"):
        assert read_image(tmp_path / name)[0, 1].tolist() == [200, 0, 0]


def stored_for(pixels, orientation):
    """Return the stored pixels that the orientation tag turns into ``pixels``."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp"])
def test_an_image_is_upright(tmp_path, large, orientation, ending):
    """A rotated image equals its upright twin, also in the size read from its header."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(stored_for(large, orientation)))
    lossless = {"quality": 95} if ending == "jpg" else {"lossless": True}
    stored.save(tmp_path / f"a.{ending}", exif=exif, **({} if ending == "tif" else lossless))
    image = read_image(tmp_path / f"a.{ending}")
    assert image_size(tmp_path / f"a.{ending}") == (200, 300) == image.shape[:2]
    difference = np.abs(image.astype(int) - large)
    assert difference.max() <= (30 if ending == "jpg" else 0)
    assert difference.mean() < 2


def test_a_png_may_tell_how_it_lies_after_its_pixels(tmp_path, pixels):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    begin = content.index(b"eXIf") - 4
    end = begin + 12 + int.from_bytes(content[begin : begin + 4], "big")
    tail = content.index(b"IEND") - 4
    late = content[:begin] + content[end:tail] + content[begin:end] + content[tail:]
    (tmp_path / "late.png").write_bytes(late)
    for name in ("a.png", "late.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.rot90(pixels, -1))
        assert image_size(tmp_path / name) == (WIDTH, HEIGHT)


def exif_block(kind, count, value):
    """Return an EXIF block whose orientation has any type and value."""
    entry = struct.pack("<HHHI4s", 1, ORIENTATION, kind, count, value)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry + struct.pack("<I", 0)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",  # 65,535 entries are announced, none follows
        b"Exif\0\0 no block",
        exif_block(2, 4, b"abc\0"),  # text
        exif_block(3, 1, struct.pack("<HH", 99, 0)),  # 99 is no orientation
        exif_block(5, 1, struct.pack("<I", 10**6)),  # a fraction beyond the end
        exif_block(4, 10**9, b"\0\0\0\0"),
    ],
    ids=["cut", "no block", "text", "99", "fraction", "many"],
)
def test_a_broken_exif_block_loses_no_image(tmp_path, large, exif):
    Image.fromarray(large).save(tmp_path / "whole.jpg")
    Image.fromarray(large).save(tmp_path / "a.jpg", exif=exif)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.jpg"), read_image(tmp_path / "whole.jpg")
    )
    assert image_size(tmp_path / "a.jpg") == (200, 300)


def test_exif_that_cannot_be_written_again_loses_no_image(tmp_path, large, monkeypatch):
    """Pillow's own function to turn an image upright writes its EXIF again, which may fail."""

    def fail(*_):
        raise struct.error("short format requires (-32768) <= number <= 32767")

    exif = Image.Exif()
    exif[ORIENTATION] = 3
    Image.fromarray(large).save(tmp_path / "a.jpg", exif=exif, quality=95)
    monkeypatch.setattr(Image.Exif, "tobytes", fail)
    difference = np.abs(read_image(tmp_path / "a.jpg").astype(int) - large[::-1, ::-1])
    assert difference.mean() < 2


def test_formats(tmp_path, large):
    """A format is recognised by its content, so a wrong ending does no harm."""
    endings = ["jpg", "png", "bmp", "webp", "gif", "tiff", "ppm", "tga", "ico"]
    endings += [ending for ending, name in (("avif", "avif"), ("jp2", "jpg_2000")) if have(name)]
    small = Image.fromarray(large[:100, :150])
    for ending in endings:
        path = tmp_path / f"a.{ending}"
        small.save(path, **({"sizes": [(150, 100)]} if ending == "ico" else {}))
        path.rename(path.with_suffix(".img"))
        image = read_image(path.with_suffix(".img"))
        assert image.shape == (100, 150, 3)
        assert image_size(path.with_suffix(".img")) == (100, 150)
        assert np.abs(image.astype(int) - large[:100, :150]).mean() < 12
        assert f".{ending}" in image_suffixes()
    assert not {".pdf", ".eps", ".txt", ".h5", ".mpg"} & image_suffixes()


def have(feature):
    return feature in features.get_supported()


def test_the_first_frame_is_read(tmp_path, pixels):
    first, second = Image.fromarray(pixels), Image.fromarray(255 - pixels)
    for name in ("a.tif", "a.png"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        np.testing.assert_array_equal(read_image(tmp_path / name), pixels)
