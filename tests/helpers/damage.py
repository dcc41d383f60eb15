"""Damage to a file, as a full disk, a bad cable or a wrong copy leaves it; a disk that fails."""

import errno
import os

from PIL import Image

WAYS = ("half", "zeros", "one bit", "empty", "garbled")


def damaged(content, way):
    """Return the bytes of a file after damage of a kind in WAYS."""
    half = len(content) // 2
    flipped = bytearray(content)
    flipped[-9] ^= 16
    return {
        "half": content[:half],
        "zeros": content[:half] + bytes(len(content) - half),
        "one bit": bytes(flipped),
        "empty": b"",
        "garbled": b"x" * len(content),
    }[way]


def fail_to_open(monkeypatch, ending):
    """Make images whose names end in ``ending`` fail to open, as on a bad disk."""
    opened = Image.open

    def fails(path, *words):
        if str(path).endswith(ending):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *words)

    monkeypatch.setattr(Image, "open", fails)
