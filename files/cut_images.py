"""Reads images whose files end early.

Most formats store an image row by row, so a file that is cut short lacks rows. A progressive JPEG
stores scans, each of which covers all rows, so a file that is cut short is complete but blurred.
"""

import io
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

# Rows that may be missing: two rows of a JPEG's blocks or a share, but never more than a quarter.
MISSING_ROWS, MISSING_SHARE, MISSING_AT_MOST = 32, 0.05, 0.25
# Any marker that ends a JPEG's scan. Inside a scan, 0xff is stored as ff 00, and markers are d0-d7.
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
PROGRESSIVE_FRAME, SCAN = b"\xff\xc2", b"\xff\xda"
END_OF_IMAGE = b"\xff\xd9"


class TooMuchMissing(ValueError):
    """More than the last few rows are missing; the message gives the number."""


def read_cut(path: Path) -> Image.Image:
    """The image in an incomplete file, if nearly all of it is there.

    At most 32 rows or 5 % may be missing, whichever is more, but never more than a quarter. Missing
    rows are black or, in a JPEG, have its last colour. A progressive JPEG must have the colour of
    every block, which is stored first: with half of its bytes it is read, slightly blurred; with a
    tenth it usually is not.

    Raises:
        TooMuchMissing: more is missing.
        Exception: any error that Pillow raises for the file.
    """
    content = path.read_bytes()
    header = Image.open(io.BytesIO(content))
    if "progressive" in header.info:
        return _decoded(_closed(content))
    if header.format == "GIF":  # its decoder fills missing pixels with the transparent colour
        raise TooMuchMissing("parts of a GIF are not read")
    # Missing pixels keep the value with which the image was filled.
    image, other = (_decoded_over(content, value) for value in (0, 255))
    differs = np.asarray(image) != np.asarray(other)
    missing = int(differs.reshape(len(differs), -1).any(axis=1).sum())
    allowed = min(max(MISSING_ROWS, MISSING_SHARE * image.height), MISSING_AT_MOST * image.height)
    if missing > allowed:
        raise TooMuchMissing(f"{missing} of its {image.height} rows are missing")
    # Without an end marker, Pillow does not return a JPEG's last blocks, although they are there.
    return _decoded(content + END_OF_IMAGE) if header.format in ("JPEG", "MPO") else image


def _decoded(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def _decoded_over(content: bytes, value: int) -> Image.Image:
    """An image filled with a value, then decoded as far as possible."""
    image = Image.open(io.BytesIO(content))
    image.im = Image.new(image.mode, image.size, value).im
    with suppress(Exception):
        image.load()
    image.tile = []  # nothing is left to decode
    return image


def _closed(jpeg: bytes) -> bytes:
    """A progressive JPEG that is cut short, completed by an end marker.

    Raises:
        TooMuchMissing: no complete scan has the means of the blocks of a component.
    """
    wanted: set[int] = set()
    scan: set[int] | None = None
    at = end = 2
    while found := MARKER.search(jpeg, at):
        wanted, scan, end = wanted - (scan or set()), None, found.start()
        length = int.from_bytes(jpeg[end + 2 : end + 4], "big")
        segment = jpeg[end + 4 : end + 2 + length]
        at = end + 2 + max(length, 2)
        if at > len(jpeg) or found[0] == END_OF_IMAGE:
            break
        if found[0] == PROGRESSIVE_FRAME:
            wanted = set(segment[6 : 6 + 3 * segment[5] : 3])
        elif found[0] == SCAN:
            components, first = segment[1 : 1 + 2 * segment[0] : 2], segment[1 + 2 * segment[0]]
            scan = set(components) if first == 0 else set()
    if wanted or end == 2:
        raise TooMuchMissing("not all of its blocks have a colour yet")
    return (jpeg[:end] if scan is None else jpeg) + END_OF_IMAGE
