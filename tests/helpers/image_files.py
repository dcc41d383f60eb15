"""Images as files: a PNG with any header, and the message for an unreadable image."""

import struct
import zlib

import pytest
from PIL import Image

from files.images import UnreadableImage, read_image


def png(width, height, rows, *, bits=8, kind=2):
    """Return a PNG whose header need not fit its rows."""

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def refusal(path):
    """Return the message with which an image is refused: one line that names the file."""
    with pytest.raises(UnreadableImage) as refused:
        read_image(path)
    said = str(refused.value)
    assert str(path) in said
    assert "\n" not in said
    return said


def saved(tmp_path, large, name, **options):
    path = tmp_path / name
    Image.fromarray(large).save(path, **options)
    return path, path.read_bytes(), read_image(path).astype(int)
