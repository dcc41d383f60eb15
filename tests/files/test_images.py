"""Images of every kind, whole and damaged: read as they are meant, or refused in one sentence."""

import errno
import os
import struct
import threading
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from files import images
from files.image_folders import image_suffixes
from files.images import UnreadableImage, cut_short, image_size, read_image

HEIGHT, WIDTH = 20, 30
ORIENTATION = 0x0112


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def large(rng):
    """(200, 300, 3): smooth, so that it is a few kilobytes in any format."""
    small = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8))
    return np.asarray(small.resize((300, 200), Image.Resampling.BICUBIC))


def png(width, height, rows, *, bits=8, kind=2):
    """A PNG with a header that claims anything."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def refusal(path):
    """What an image is refused with: one line that names the file, everywhere."""
    with pytest.raises(UnreadableImage) as refused:
        read_image(path)
    said = str(refused.value)
    assert str(path) in said
    assert "\n" not in said
    return said


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
    """The colour below a clear pixel, which nobody saw, is not the image's."""
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
    """The pixels that a reader of the tag turns into these."""
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
    """Its twin, stored upright, is the same; so is the size that the header tells."""
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
    """An EXIF block with the orientation as another type, or as nonsense."""
    entry = struct.pack("<HHHI4s", 1, ORIENTATION, kind, count, value)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry + struct.pack("<I", 0)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",  # 65,535 entries, of which none is there
        b"Exif\0\0 no block",
        exif_block(2, 4, b"abc\0"),  # text
        exif_block(3, 1, struct.pack("<HH", 99, 0)),  # no orientation
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
    """Pillow's own way to turn an image upright writes its EXIF anew, which some is not fit for."""

    def fail(*_):
        raise struct.error("short format requires (-32768) <= number <= 32767")

    exif = Image.Exif()
    exif[ORIENTATION] = 3
    Image.fromarray(large).save(tmp_path / "a.jpg", exif=exif, quality=95)
    monkeypatch.setattr(Image.Exif, "tobytes", fail)
    difference = np.abs(read_image(tmp_path / "a.jpg").astype(int) - large[::-1, ::-1])
    assert difference.mean() < 2


def test_formats(tmp_path, large):
    """Whatever Pillow opens, by its content: a wrong ending harms nothing."""
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


def saved(tmp_path, large, name, **options):
    path = tmp_path / name
    Image.fromarray(large).save(path, **options)
    return path, path.read_bytes(), read_image(path).astype(int)


@pytest.mark.parametrize("lost", [1, 2, 20])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("p.jpg", {"progressive": True}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.ppm", {}),
    ],
)
def test_an_image_whose_last_bytes_are_missing_is_read(tmp_path, large, name, options, lost):
    path, content, whole = saved(tmp_path, large, name, **options)
    assert not cut_short(path)
    path.write_bytes(content[:-lost])
    image = read_image(path)
    assert cut_short(path)
    assert image.shape == whole.shape == (*image_size(path), 3)
    assert np.abs(image - whole).mean() < 2
    if lost == 1 and "JPEG" in str(Image.open(BytesIO(content)).format):
        np.testing.assert_array_equal(image, whole)


def test_a_png_without_its_last_chunk_is_whole(tmp_path, large):
    path, content, whole = saved(tmp_path, large, "a.png")
    path.write_bytes(content[:-12])
    np.testing.assert_array_equal(read_image(path), whole)


def test_how_many_rows_may_be_missing(tmp_path, rng):
    """Up to 32 or 5 %, and never more than a quarter; in a BMP the last bytes are the first row."""
    for height, allowed in ((1000, 50), (400, 32), (80, 20)):
        path = tmp_path / "a.bmp"
        Image.fromarray(rng.integers(1, 256, (height, 12, 3), dtype=np.uint8)).save(path)
        content, row = path.read_bytes(), 36
        path.write_bytes(content[: len(content) - allowed * row])
        assert (read_image(path)[:allowed] == 0).all()
        assert (read_image(path)[allowed:] != 0).all()
        assert cut_short(path)
        path.write_bytes(content[: len(content) - allowed * row - 1])
        assert f"{allowed + 1} of its {height} rows are missing" in refusal(path)


def test_a_black_foot_is_not_taken_for_missing(tmp_path, large):
    """Films have black bars: black rows that are there are not counted."""
    barred = large.copy()
    barred[150:] = 0
    path, content, whole = saved(tmp_path, barred, "a.jpg")
    path.write_bytes(content[:-2])
    np.testing.assert_array_equal(read_image(path), whole)


def test_a_progressive_jpeg_is_read_when_every_block_has_a_colour(tmp_path, large):
    """With half of its bytes it is blurred a little; nothing of it is missing."""
    path, content, whole = saved(tmp_path, large, "a.jpg", progressive=True)
    for share, error in ((0.9, 1), (0.5, 4)):
        path.write_bytes(content[: int(share * len(content))])
        assert np.abs(read_image(path) - whole).mean() < error
        assert cut_short(path)
    path.write_bytes(content[: int(0.2 * len(content))])
    assert "not all of its blocks have a colour yet" in refusal(path)


def test_at_any_length_a_progressive_jpeg_is_read_or_refused(tmp_path, large):
    path, content, whole = saved(tmp_path, large, "a.jpg", progressive=True)
    errors = []
    for length in range(1, len(content), 37):
        path.write_bytes(content[:length])
        try:
            errors.append(np.abs(read_image(path) - whole).mean())
        except UnreadableImage:
            assert not errors
    assert errors[0] < 8
    assert errors[-1] < 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.gif", "a.tif", "l.tif"])
def test_what_is_cut_is_read_or_refused_and_nothing_else(tmp_path, rng, name, share):
    """Of noise, so that a share of the bytes is a share of the rows; 20 of 200 may be missing."""
    noise = rng.integers(0, 256, (200, 100, 3), dtype=np.uint8)
    options = {"compression": "tiff_lzw"} if name == "l.tif" else {}
    path, content, whole = saved(tmp_path, noise, name, **options)
    path.write_bytes(content[: int(share * len(content)) + 100])
    if share == 0.9 and name in ("a.jpg", "a.png", "a.bmp", "a.tif"):
        same = (read_image(path) == whole).all(axis=(1, 2))
        assert 168 <= same.sum() <= 185
        assert cut_short(path)
        return
    refusal(path)
    if name != "a.gif":
        with pytest.raises(UnreadableImage, match="is not a readable image"):
            cut_short(path)


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
def test_a_limit_is_told_as_a_limit(tmp_path, size):
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
    """Half of the largest image is warned of, which is an error where warnings are."""
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_threads_read_at_once(tmp_path, large):
    """As beside a GPU: a cut image read in one of them changes nothing in the others."""
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
    """A name that it no longer has would stand there for nothing."""
    Image.init()
    assert set(images.NO_IMAGES) <= set(Image.OPEN)


NOT_GIVEN = ("EMFILE", "ENFILE", "ESTALE", "EIO", "ENOTCONN", "ETIMEDOUT")


@pytest.mark.parametrize("number", [getattr(errno, name) for name in NOT_GIVEN])
def test_what_the_system_did_not_give_is_no_unreadable_image(tmp_path, monkeypatch, number):
    """An image that is left out would change what is trained."""

    def fails(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(Image, "open", fails)
    for read in (read_image, image_size):
        with pytest.raises(OSError, match=r"a\.png could not be read \(.*: keep it, "):
            read(path)


def test_a_disk_that_fails_in_the_middle_of_an_image(tmp_path, monkeypatch):
    """Reading it again may give all of it, which is no image cut short."""
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
    with pytest.raises(OSError, match=r"a\.png could not be read .*: keep it, look at its disk"):
        read_image(path)
    assert read_image(path).shape == (4, 4, 3)
