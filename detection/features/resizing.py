"""The size of an image at a scale, which is its shorter side, except in very long images."""

# Largest longer side of a resized image, in pixels. An image of 12,000 x 40 pixels, resized to 1200
# at the shorter side, would take 10 GB. The longest in VOC 2007, 500 x 96 pixels, becomes 6250.
LONGEST_SIDE = 7000
# An image bounded by LONGEST_SIDE is padded with the mean to this side in pixels, because a deep
# map of a thinner image has no cells.
THINNEST_SIDE = 224


def resized_size(image_size: tuple[int, int], scale: int) -> tuple[int, int]:
    """(height, width) with ``scale`` as the shorter side; the longer side is rounded, halves up.

    If the longer side would exceed LONGEST_SIDE, it has this size, and the shorter side is rounded.
    """
    short, long = min(image_size), max(image_size)
    target, source = (LONGEST_SIDE, long) if is_bounded(image_size, scale) else (scale, short)
    height, width = (max((2 * side * target + source) // (2 * source), 1) for side in image_size)
    return height, width


def is_bounded(image_size: tuple[int, int], scale: int) -> bool:
    """Whether an image is so long and thin that its shorter side stays below ``scale``."""
    return max(image_size) * scale > LONGEST_SIDE * min(image_size)


def mapped_scale(image_size: tuple[int, int], scale: int) -> float:
    """The shorter side in pixels, to be passed to ``window_to_cells``.

    It is ``scale``. For a bounded image, it is the number with which the ends of the longer side of
    the original image are mapped to the ends of the resized one.
    """
    if not is_bounded(image_size, scale):
        return scale
    return 1 + max(min(image_size) - 1, 1) * (LONGEST_SIDE - 1) / (max(image_size) - 1)
