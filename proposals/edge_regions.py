"""Windows around the regions into which an edge map divides an image, from small to large.

EdgeBoxes tries windows on a grid and stops a few pixels from an outline. Windows of regions end
exactly on outlines, so although they are few, more of them fit closely (docs/decisions.md).

The smallest regions are the basins of the edge map; their borders are its ridges. Then two
neighbours at a time are merged until one region is left, as in selective search (Uijlings et al.,
IJCV 2013, section 3). Selective search compares textures; here the strength of the edges between
the two regions is used instead (Arbelaez et al., PAMI 2011). Each of several measures of difference
makes its own hierarchy.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proposals.opencv import opencv
from proposals.soft_order import first_of_equals

# Width in pixels of the Gaussian that smooths the map: a wider one makes fewer and larger basins.
SIGMA = 2.0
# SLOPE times the map smoothed by SLOPE_SIGMA is added, so that areas without edges slope towards
# their middle. Otherwise noise would divide them.
SLOPE, SLOPE_SIGMA = 0.1, 8.0


@dataclass(frozen=True)
class MergeCost:
    """Weights in the difference of two neighbours; the pair that differs least is merged next.

    Attributes:
        edge: weight of the mean strength of the edges along their common border.
        colour: weight of the summed absolute differences of their mean Lab colours, each 0 to 1.
        size: weight of the share of the image that both cover, so that small regions merge first.
        fill: weight of the share of the image that is in their common window but in neither region.
    """

    edge: float = 0.0
    colour: float = 0.0
    size: float = 0.0
    fill: float = 0.0


HIERARCHIES = (
    MergeCost(edge=1),
    MergeCost(edge=1, size=1, fill=1),
    MergeCost(colour=1, size=1, fill=1),
)


@dataclass(frozen=True)
class Regions:
    """R regions of an image, and which of them touch.

    Attributes:
        windows: ``(R, 4)`` half-open pixels.
        areas: ``(R,)`` pixels.
        colours: ``(R, 3)`` mean Lab, 0 to 1.
        pairs: ``(E, 2)`` touching regions, the lower number first, sorted.
        strengths: ``(E,)`` summed edge strength along their border. Each pair of touching pixels
            adds the stronger of its two values.
        lengths: ``(E,)`` number of such pairs of pixels.
        pixels: number of pixels of the image.
    """

    windows: NDArray[np.float64]
    areas: NDArray[np.float64]
    colours: NDArray[np.float64]
    pairs: NDArray[np.int64]
    strengths: NDArray[np.float64]
    lengths: NDArray[np.float64]
    pixels: int


def region_windows(
    edges: NDArray[np.float32], image: NDArray[np.uint8], min_area: float
) -> NDArray[np.float64]:
    """Windows of the regions of all hierarchies; deterministic.

    Args:
        edges: ``(H, W)`` strength in [0, 1].
        image: ``(H, W, 3)`` RGB uint8, from which the edges were computed.
        min_area: smallest window in square pixels.

    Returns:
        ``(P, 4)`` half-open pixels without duplicates. The regions merged last come first,
        alternating between the hierarchies; so the first window is the whole image.
    """
    regions = regions_of(basins(edges), edges, image)
    found = [merged(regions, likeness)[::-1] for likeness in HIERARCHIES]
    windows = np.stack(found, axis=1).reshape(-1, 4)
    areas = np.prod(windows[:, 2:] - windows[:, :2], axis=1)
    windows = windows[areas >= min_area]
    return windows[first_of_equals(windows)]


def basins(edges: NDArray[np.float32]) -> NDArray[np.int64]:
    """The 0-based number ``(H, W)`` of the basin in which each pixel's steepest descent ends.

    A pixel is a bottom if none of its eight neighbours is lower, so in a flat patch all are.
    """
    cv2 = opencv()
    height = cv2.GaussianBlur(edges, (0, 0), SIGMA)
    height += np.float32(SLOPE) * cv2.GaussianBlur(edges, (0, 0), SLOPE_SIGMA)
    rows, columns = height.shape
    beside = np.pad(height, 1, constant_values=np.inf)
    lowest, step = height.copy(), np.zeros(height.shape, np.int64)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            there = beside[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
            lower = there < lowest
            np.copyto(lowest, there, where=lower)
            np.copyto(step, down * columns + right, where=lower)
    # Components are numbered from 1. Bottoms that touch have the same height.
    bottoms = cv2.connectedComponents((step == 0).astype(np.uint8), connectivity=8)[1]
    to = (np.arange(height.size).reshape(height.shape) + step).ravel()
    while not np.array_equal(further := to[to], to):
        to = further
    return np.asarray(bottoms.ravel()[to].reshape(height.shape) - 1, np.int64)


def regions_of(
    labels: NDArray[np.int64], edges: NDArray[np.float32], image: NDArray[np.uint8]
) -> Regions:
    """``Regions`` from labels ``(H, W)``, numbered from 0; every number must have a pixel."""
    windows = label_windows(labels)
    areas = np.bincount(labels.ravel()).astype(np.float64)
    cv2 = opencv()
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    sums = [np.bincount(labels.ravel(), pixels[:, channel]) for channel in range(3)]
    colours = np.stack(sums, axis=1) / areas[:, None] / 255
    numbers, strength = [], []
    for here, there in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
    ):
        one, other = labels[here], labels[there]
        border = one != other
        low, high = np.minimum(one, other)[border], np.maximum(one, other)[border]
        numbers.append(low * len(areas) + high)
        strength.append(np.maximum(edges[here], edges[there])[border])
    pairs, index = np.unique(np.concatenate(numbers), return_inverse=True)
    return Regions(
        windows.astype(np.float64),
        areas,
        colours,
        np.stack(np.divmod(pairs, len(areas)), axis=1),
        np.bincount(index.ravel(), np.concatenate(strength), len(pairs)).astype(np.float64),
        np.bincount(index.ravel(), minlength=len(pairs)).astype(np.float64),
        labels.size,
    )


def label_windows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Windows ``(R, 4)``, half-open pixels, of regions given as labels ``(H, W)`` from 0.

    scipy's ``find_objects`` does the same, but its import takes longer than this function.
    """
    height, width = labels.shape
    rows, columns = np.repeat(np.arange(height), width), np.tile(np.arange(width), height)
    lowest = np.full((labels.max() + 1, 2), max(height, width))
    highest = np.zeros_like(lowest)
    for axis, along in enumerate((columns, rows)):
        np.minimum.at(lowest[:, axis], labels.ravel(), along)
        np.maximum.at(highest[:, axis], labels.ravel(), along)
    return np.concatenate([lowest, highest + 1], axis=1)


def merged(regions: Regions, likeness: MergeCost) -> NDArray[np.float64]:
    """Windows ``(2R - 1, 4)`` of the regions, then of each merged region, in the order of merging.

    The two neighbours that differ least are merged; on ties, those with the lower numbers. A merged
    region has the next number. Images are connected, so one region is left at the end.
    """
    nodes = _Nodes(regions, likeness)
    heap = [
        (nodes.difference(one, other), one, other)
        for one, near in enumerate(nodes.near)
        for other in near
        if one < other
    ]
    heapq.heapify(heap)
    while heap:
        _, one, other = heapq.heappop(heap)
        if nodes.alive[one] and nodes.alive[other]:
            new = nodes.merge(one, other)
            for each in nodes.near[new]:
                heapq.heappush(heap, (nodes.difference(each, new), each, new))
    return np.array(nodes.windows)


class _Nodes:
    """Regions during merging, as lists: reading single numbers from arrays is slow."""

    def __init__(self, regions: Regions, likeness: MergeCost) -> None:
        self.likeness = likeness
        self.pixels = regions.pixels
        self.windows = regions.windows.tolist()
        self.areas = regions.areas.tolist()
        self.colours = regions.colours.tolist()
        self.alive = [True] * len(self.areas)
        # The neighbours of each region, with strength and length of the common border.
        self.near: list[dict[int, tuple[float, float]]] = [{} for _ in self.areas]
        borders = zip(regions.strengths.tolist(), regions.lengths.tolist(), strict=True)
        for (one, other), border in zip(regions.pairs.tolist(), borders, strict=True):
            self.near[one][other] = self.near[other][one] = border

    def difference(self, one: int, other: int) -> float:
        """The weighted difference of two neighbours."""
        likeness, total = self.likeness, 0.0
        if likeness.edge:
            strength, length = self.near[one][other]
            total += likeness.edge * strength / length
        if likeness.colour:
            between = zip(self.colours[one], self.colours[other], strict=True)
            total += likeness.colour * sum(abs(a - b) for a, b in between)
        if likeness.size or likeness.fill:
            both = self.areas[one] + self.areas[other]
            x1, y1, x2, y2 = self._window(one, other)
            empty = (x2 - x1) * (y2 - y1) - both
            total += (likeness.size * both + likeness.fill * empty) / self.pixels
        return total

    def merge(self, one: int, other: int) -> int:
        """Merge two neighbours; returns the number of the merged region."""
        new = len(self.areas)
        area, beside = self.areas[one], self.areas[other]
        self.windows.append(self._window(one, other))
        self.areas.append(area + beside)
        colours = zip(self.colours[one], self.colours[other], strict=True)
        self.colours.append([(a * area + b * beside) / (area + beside) for a, b in colours])
        near = self.near[one]
        del near[other], self.near[other][one]
        for each, (strength, length) in self.near[other].items():
            before = near.get(each, (0.0, 0.0))
            near[each] = before[0] + strength, before[1] + length
        for each, border in near.items():
            self.near[each].pop(one, None)
            self.near[each].pop(other, None)
            self.near[each][new] = border
        self.near.append(near)
        self.alive[one] = self.alive[other] = False
        self.alive.append(True)
        return new

    def _window(self, one: int, other: int) -> list[float]:
        left, top, right, bottom = self.windows[one]
        x1, y1, x2, y2 = self.windows[other]
        return [min(left, x1), min(top, y1), max(right, x2), max(bottom, y2)]
