"""Overlaps computed slowly: the twin of the fast functions."""

from fractions import Fraction


def overlap(one, other):
    """Return the exact intersection over union of boxes with whole numbers."""
    one, other = ([int(value) for value in box] for box in (one, other))
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return Fraction(shared, sum(areas) - shared)
