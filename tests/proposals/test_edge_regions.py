"""Regions of an edge map against slow twins, one pixel and one pair at a time."""

import numpy as np
import pytest
from scipy.ndimage import find_objects

from proposals.edge_regions import (
    HIERARCHIES,
    SIGMA,
    SLOPE,
    SLOPE_SIGMA,
    MergeCost,
    basins,
    label_windows,
    merged,
    region_windows,
    regions_of,
)
from proposals.opencv import opencv
from proposals.recall import best_overlaps


@pytest.fixture
def scene(rng):
    """Return an image of two flat rectangles, and edges of their outlines, 2 pixels wide."""
    image = rng.integers(100, 104, (80, 100, 3), np.uint8)
    edges = np.zeros((80, 100), np.float32)
    for x1, y1, x2, y2 in ((10, 8, 45, 40), (55, 30, 90, 70)):
        image[y1:y2, x1:x2] = (200, x1, 40)
        edges[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1] = 0.9
        edges[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = 0
    return image, edges


def neighbours(place, shape):
    y, x = place
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            there = y + down, x + right
            if (down or right) and 0 <= there[0] < shape[0] and 0 <= there[1] < shape[1]:
                yield there


def slow_basins(edges):
    """Follow every pixel down to a bottom; bottoms that touch are one basin."""
    blur = opencv().GaussianBlur
    height = blur(edges, (0, 0), SIGMA)
    height += np.float32(SLOPE) * blur(edges, (0, 0), SLOPE_SIGMA)

    def bottom_of(place):
        lowest = min(neighbours(place, edges.shape), key=lambda there: height[there], default=place)
        return place if height[lowest] >= height[place] else bottom_of(lowest)

    bottoms = {place: bottom_of(place) for place in np.ndindex(edges.shape)}
    group = {}
    for start in sorted(set(bottoms.values())):
        pending = [] if start in group else [start]
        number = len(set(group.values()))
        while pending:
            place = pending.pop()
            group[place] = number
            beside = neighbours(place, edges.shape)
            pending += [each for each in beside if bottoms[each] == each and each not in group]
    return np.array([group[bottoms[place]] for place in np.ndindex(edges.shape)]).reshape(
        edges.shape
    )


def same_parts(one, other):
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len(set(one.ravel().tolist())) == len(set(other.ravel().tolist()))


@pytest.mark.parametrize("shape", [(30, 24), (1, 17), (12, 1), (1, 1)])
def test_basins_beside_the_twin(rng, shape):
    edges = rng.uniform(size=shape).astype(np.float32)
    assert same_parts(basins(edges), slow_basins(edges))


def test_basins_of_an_even_patch_are_one(scene):
    assert basins(np.zeros((20, 30), np.float32)).max() == 0
    labels = basins(scene[1])
    assert sorted(set(labels.ravel().tolist())) == list(range(labels.max() + 1))
    # Ridges separate inside from outside: no basin reaches far across an outline.
    inside = np.zeros(labels.shape, bool)
    inside[8:40, 10:45] = True
    for number in range(labels.max() + 1):
        part = labels == number
        share = (part & inside).sum() / part.sum()
        assert share < 0.15 or share > 0.85


def slow_merged(labels, edges, image, likeness):
    """Return windows of merged regions; each pair is measured again from its masks at each step."""
    lab = opencv().cvtColor(image, opencv().COLOR_RGB2LAB) / 255.0
    names = {number: labels == number for number in range(labels.max() + 1)}

    def window(mask):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1

    def border(one, other):
        strengths = []
        for y, x in zip(*np.nonzero(one), strict=True):
            for there in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                within = 0 <= there[0] < labels.shape[0] and 0 <= there[1] < labels.shape[1]
                if within and other[there]:
                    strengths.append(max(edges[y, x], edges[there]))
        return strengths

    def difference(one, other):
        strengths = border(one, other)
        if not strengths:
            return np.inf
        x1, y1, x2, y2 = window(one | other)
        both = (one | other).sum()
        return (
            likeness.edge * np.mean(strengths, dtype=np.float64)
            + likeness.colour * np.abs(lab[one].mean(axis=0) - lab[other].mean(axis=0)).sum()
            + likeness.size * both / labels.size
            + likeness.fill * ((x2 - x1) * (y2 - y1) - both) / labels.size
        )

    windows = [window(mask) for mask in names.values()]
    while len(names) > 1:
        pairs = [(one, other) for one in names for other in names if one < other]
        one, other = min(pairs, key=lambda pair: (difference(*(names[n] for n in pair)), pair))
        mask = names.pop(one) | names.pop(other)
        names[len(windows)] = mask
        windows.append(window(mask))
    return windows


@pytest.mark.parametrize("likeness", [*HIERARCHIES, MergeCost(0.5, 0.25, 2, 0.125)])
def test_merging_beside_the_twin(rng, likeness):
    labels = basins(rng.uniform(size=(24, 30)).astype(np.float32))
    edges = rng.uniform(size=labels.shape).astype(np.float32)
    image = rng.integers(0, 256, (*labels.shape, 3), np.uint8)
    assert labels.max() > 5
    found = merged(regions_of(labels, edges, image), likeness)
    np.testing.assert_array_equal(found, slow_merged(labels, edges, image, likeness))


def test_measures_of_regions_by_hand():
    labels = np.array([[0, 0, 1], [2, 1, 1]])
    edges = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)
    image = np.zeros((2, 3, 3), np.uint8)
    image[labels == 2] = 255
    found = regions_of(labels, edges, image)
    np.testing.assert_array_equal(found.windows, [[0, 0, 2, 1], [1, 0, 3, 2], [0, 1, 1, 2]])
    np.testing.assert_array_equal(found.areas, [2, 3, 1])
    # Lab of black is (0, 128, 128) and of white (255, 128, 128).
    np.testing.assert_allclose(found.colours[:, 0], [0, 0, 1])
    np.testing.assert_allclose(found.colours[:, 1:], 128 / 255)
    np.testing.assert_array_equal(found.pairs, [[0, 1], [0, 2], [1, 2]])
    # 0 and 1 touch at columns 1 and 2 of row 0, and at rows 0 and 1 of column 1.
    np.testing.assert_allclose(found.strengths, [0.3 + 0.5, 0.4, 0.5])
    np.testing.assert_array_equal(found.lengths, [2, 1, 1])
    assert found.pixels == 6


def test_objects_have_close_windows(scene):
    image, edges = scene
    windows = region_windows(edges, image, 16)
    boxes = np.array([[10, 8, 45, 40], [55, 30, 90, 70]], np.float32)
    assert best_overlaps(windows, boxes).min() > 0.95
    assert len(windows) < 30
    np.testing.assert_array_equal(windows[0], [0, 0, 100, 80])
    assert len(np.unique(windows, axis=0)) == len(windows)
    assert np.prod(windows[:, 2:] - windows[:, :2], axis=1).min() >= 16
    np.testing.assert_array_equal(windows, region_windows(edges.copy(), image.copy(), 16))


def test_no_window_is_large_enough(scene):
    image, edges = scene
    assert region_windows(edges, image, 80 * 100 + 1).shape == (0, 4)
    np.testing.assert_array_equal(region_windows(edges, image, 80 * 100), [[0, 0, 100, 80]])
    one = region_windows(np.zeros((1, 1), np.float32), np.zeros((1, 1, 3), np.uint8), 1)
    np.testing.assert_array_equal(one, [[0, 0, 1, 1]])


def test_windows_of_regions_are_those_of_find_objects(rng):
    labels = rng.permutation(np.arange(400) % 37).reshape(16, 25)
    slices = find_objects(labels + 1)
    expected = [[x.start, y.start, x.stop, y.stop] for y, x in slices]
    assert label_windows(labels).tolist() == expected
