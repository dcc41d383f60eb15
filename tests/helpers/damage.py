"""Damage to a file, as a full disk, a bad cable or a wrong copy leaves it."""

WAYS = ("half", "zeros", "one bit", "empty", "garbled")


def damaged(content, way):
    """Bytes of a file after damage of one of WAYS."""
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
