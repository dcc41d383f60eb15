"""The size of an image at a scale: the scale is its shorter side, but in very long images."""

# Pixels of a resized image's longer side at most: one of 12,000 x 40, resized to 1200 at the
# shorter side, would take 10 GB. VOC 2007's longest, 500 x 96 pixels, has 6250.
LONGEST_SIDE = 7000
# Such an image is filled up to this with the mean, as thinner ones have no cell in a deep map.
THINNEST_SIDE = 224


def resized_size(image_size: tuple[int, int], scale: int) -> tuple[int, int]:
    """(height, width) with ``scale`` as the shorter side; the longer rounded, halves up.

    Where the longer side would exceed LONGEST_SIDE it has this, and the shorter follows.
    """
    short, long = min(image_size), max(image_size)
    target, source = (LONGEST_SIDE, long) if is_bounded(image_size, scale) else (scale, short)
    height, width = (max((2 * side * target + source) // (2 * source), 1) for side in image_size)
    return height, width


def is_bounded(image_size: tuple[int, int], scale: int) -> bool:
    """Whether an image is so long and thin that its shorter side stays below ``scale``."""
    return max(image_size) * scale > LONGEST_SIDE * min(image_size)


def mapped_scale(image_size: tuple[int, int], scale: int) -> float:
    """The shorter side that ``window_to_cells`` should reckon with.

    It is ``scale``; of a bounded image the number that makes the longer side's ends meet.
    """
    if not is_bounded(image_size, scale):
        return scale
    return 1 + max(min(image_size) - 1, 1) * (LONGEST_SIDE - 1) / (max(image_size) - 1)
