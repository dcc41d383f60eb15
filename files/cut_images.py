"""What is there of an image whose file ends early.

Most formats come row by row, so that a file cut short lacks rows. A progressive JPEG comes scan by
scan, each over all rows: one cut short is all there, and blurred.
"""

import io
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

# Rows that may be missing: two rows of a JPEG's blocks or a share, and never more than a quarter.
MISSING_ROWS, MISSING_SHARE, MISSING_AT_MOST = 32, 0.05, 0.25
# Any marker of a JPEG that ends a scan, which holds 0xff as ff 00 and its own marks as d0 to d7.
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
PROGRESSIVE_FRAME, SCAN = b"\xff\xc2", b"\xff\xda"
END_OF_IMAGE = b"\xff\xd9"


class TooMuchMissing(ValueError):
    """What is missing is more than the last few rows; the message says how much."""


def read_cut(path: Path) -> Image.Image:
    """The image with what its file holds, if that is nearly all.

    At most 32 rows or 5 % may be missing, whichever is more, and never more than a quarter; they
    are black, or in a JPEG of its last colour. Of a progressive JPEG the colour of every block must
    be there, which comes first: with half of its bytes it is read, a little blurred, with a tenth
    mostly not.

    Raises:
        TooMuchMissing: more is missing.
        Exception: whatever Pillow raises of a file that it does not know.
    """
    content = path.read_bytes()
    header = Image.open(io.BytesIO(content))
    if "progressive" in header.info:
        return _decoded(_closed(content))
    if header.format == "GIF":  # it fills what is missing with its transparent colour
        raise TooMuchMissing("parts of a GIF are not read")
    # What is missing keeps the value that it had before.
    image, other = (_decoded_over(content, value) for value in (0, 255))
    differs = np.asarray(image) != np.asarray(other)
    missing = int(differs.reshape(len(differs), -1).any(axis=1).sum())
    allowed = min(max(MISSING_ROWS, MISSING_SHARE * image.height), MISSING_AT_MOST * image.height)
    if missing > allowed:
        raise TooMuchMissing(f"{missing} of its {image.height} rows are missing")
    # Without its end a JPEG's last blocks would not be given out, though they are there.
    return _decoded(content + END_OF_IMAGE) if header.format in ("JPEG", "MPO") else image


def _decoded(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def _decoded_over(content: bytes, value: int) -> Image.Image:
    """An image decoded as far as it goes into one that is filled with a value."""
    image = Image.open(io.BytesIO(content))
    image.im = Image.new(image.mode, image.size, value).im
    with suppress(Exception):
        image.load()
    image.tile = []  # nothing is left to decode
    return image


def _closed(jpeg: bytes) -> bytes:
    """A progressive JPEG that is cut short, ended as if the rest were not needed.

    Raises:
        TooMuchMissing: the mean of a component's blocks came in no whole scan.
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
