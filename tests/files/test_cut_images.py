"""Images whose end is missing: read as far as they go, or refused."""

from io import BytesIO

import numpy as np
import pytest
from image_files import refusal, saved
from PIL import Image

from files.images import UnreadableImage, cut_short, image_size, read_image


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
    """5 %, or 32 rows if they are more, but at most a quarter; a BMP ends with its first rows."""
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
    """Black rows that are in the file, such as the bars of a film, do not count as missing."""
    barred = large.copy()
    barred[150:] = 0
    path, content, whole = saved(tmp_path, barred, "a.jpg")
    path.write_bytes(content[:-2])
    np.testing.assert_array_equal(read_image(path), whole)


def test_a_progressive_jpeg_is_read_when_every_block_has_a_colour(tmp_path, large):
    """With half of its bytes the image is slightly blurred, but no part of it is missing."""
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
    """In noise, a share of the bytes is a share of the rows; 20 of the 200 rows may be missing."""
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
