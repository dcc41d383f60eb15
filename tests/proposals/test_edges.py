"""Edge maps against a slow twin, and orientation and thinning against OpenCV's own."""

import cv2
import numpy as np
import pytest

from proposals.edges import ForestEdges, GradientEdges, orientation, thin

# The smallest structured forest that OpenCV reads: one tree of one leaf, which finds no edge.
LEAF = """%YAML:1.0
---
options:
   stride: 2
   shrinkNumber: 2
   patchSize: 32
   patchInnerSize: 16
   numberOfGradientOrientations: 4
   gradientSmoothingRadius: 0
   regFeatureSmoothingRadius: 2
   ssFeatureSmoothingRadius: 8
   gradientNormalizationRadius: 4
   selfsimilarityGridSize: 5
   numberOfTrees: 1
   numberOfTreesToEvaluate: 1
childs:
   - [ 0 ]
featureIds:
   - [ 0 ]
thresholds:
   - [ 0. ]
edgeBoundaries:
   - [ 0, 0 ]
edgeBins:
   - [ 0 ]
"""


@pytest.fixture
def leaf(tmp_path):
    path = tmp_path / "leaf.yml"
    path.write_text(LEAF)
    return path


def made_map(rng, shape, width=2):
    map = cv2.GaussianBlur(rng.random(shape).astype(np.float32), (0, 0), width)
    return (map - map.min()) / (map.max() - map.min())


@pytest.mark.parametrize("shape", [(40, 60), (61, 33), (120, 160)])
@pytest.mark.parametrize("width", [0.7, 3])
def test_orientation_and_thinning_are_opencvs(rng, leaf, shape, width):
    own = cv2.ximgproc.createStructuredEdgeDetection(str(leaf))
    edges = made_map(rng, shape, width)
    directions = own.computeOrientation(edges)
    apart = np.abs(orientation(edges) - directions)
    assert np.minimum(apart, np.pi - apart).max() < 1e-5
    expected = own.edgesNms(edges, directions, r=2, s=0, m=1, isParallel=False)
    np.testing.assert_array_equal(thin(edges, directions), expected)
    assert 0 < np.count_nonzero(expected) < edges.size / 2


def test_weak_pixels_are_not_looked_at(rng):
    edges = made_map(rng, (50, 70))
    directions = orientation(edges)
    whole = thin(edges, directions)
    np.testing.assert_array_equal(thin(edges, directions, 0.5), whole * (whole > 0.5))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 2)])
def test_small_maps(rng, shape):
    edges = rng.random(shape).astype(np.float32)
    directions = orientation(edges)
    assert directions.shape == shape
    thinned = thin(edges, directions)
    assert thinned.shape == shape
    assert ((thinned == 0) | (thinned == edges)).all()


def test_a_step_is_one_pixel_wide():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    edges = GradientEdges()(image)
    assert edges[:, 29:31].min() > 0.9
    assert edges[:, :20].max() == 0
    directions = orientation(edges)
    across = directions[5:-5, 27:33]
    assert np.minimum(across, np.pi - across).max() < 1e-3
    thinned = thin(edges, directions, 0.1)
    assert (np.count_nonzero(thinned, axis=1) <= 2).all()
    assert np.count_nonzero(thinned[:, 29:31]) == np.count_nonzero(thinned)


def slow_gradient(image, sigma):
    """Return the largest gradient of the channels, by loops over pixels."""
    strength = np.zeros(image.shape[:2])
    for channel in range(3):
        smooth = cv2.GaussianBlur(image[:, :, channel].astype(np.float64), (0, 0), sigma)
        around = np.pad(smooth, 1, mode="reflect")
        for row in range(image.shape[0]):
            for column in range(image.shape[1]):
                part = around[row : row + 3, column : column + 3]
                across = (part[:, 2] - part[:, 0]) @ [1, 2, 1]
                down = [1, 2, 1] @ (part[2] - part[0])
                strength[row, column] = max(strength[row, column], np.hypot(across, down))
    return np.minimum(strength / np.percentile(strength, 99), 1)


def test_gradient_by_hand(rng):
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    edges = GradientEdges()(image)
    assert edges.dtype == np.float32
    np.testing.assert_allclose(edges, slow_gradient(image, 1.5), atol=1e-4)


def test_an_even_image_has_no_edges():
    edges = GradientEdges()(np.full((12, 15, 3), 90, np.uint8))
    assert edges.shape == (12, 15)
    assert edges.max() < 1e-3


def test_forest(rng, leaf, tmp_path):
    image = rng.integers(0, 256, (40, 50, 3), np.uint8)
    source = ForestEdges(str(leaf))
    assert source(image).shape == (40, 50)
    again = tmp_path / "copy.yml"
    again.write_bytes(leaf.read_bytes())
    assert ForestEdges(str(again)).key == source.key
    again.write_text(LEAF.replace("stride: 2", "stride: 4"))
    assert ForestEdges(str(again)).key != source.key


def test_a_missing_forest_is_explained(tmp_path):
    path = tmp_path / "model.yml.gz"
    for use in (lambda: ForestEdges(str(path)).key, lambda: ForestEdges(str(path))(np.zeros(1))):
        with pytest.raises((FileNotFoundError, ValueError)):
            use()
    with pytest.raises(FileNotFoundError, match=r"model\.yml\.gz; OpenCV's is testdata"):
        ForestEdges(str(path))(np.zeros((4, 4, 3), np.uint8))


def test_what_is_no_forest_is_refused(tmp_path):
    path = tmp_path / "model.yml"
    path.write_text("not a forest")
    with pytest.raises(ValueError, match=r"model\.yml is not a structured forest"):
        ForestEdges(str(path))(np.zeros((40, 40, 3), np.uint8))


def test_keys_follow_the_width():
    assert GradientEdges().key == GradientEdges().key != GradientEdges(2.0).key


def test_a_changed_forest_is_read_again(leaf):
    image = np.zeros((40, 40, 3), np.uint8)
    ForestEdges(str(leaf))(image)
    leaf.write_text("not a forest")
    with pytest.raises(ValueError, match="is not a structured forest"):
        ForestEdges(str(leaf))(image)
