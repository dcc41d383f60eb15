"""EdgeBoxes: windows of synthetic scenes, order, limits, odd images, keys."""

import itertools
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from detection.data.voc import read_voc
from files.images import read_image
from proposals import edge_boxes
from proposals.edge_boxes import EdgeBoxes
from proposals.edge_regions import region_windows
from proposals.edges import LearnedEdges
from proposals.recall import best_overlaps

BOXES = np.array([[20, 15, 80, 60], [100, 70, 150, 130]], np.float32)


@pytest.fixture
def image(rng):
    """Return an image of two flat rectangles on a ground with little noise."""
    made = rng.integers(100, 110, (150, 180, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(BOXES.astype(int)):
        made[y1:y2, x1:x2] = (220, 30 + 100 * number, 60)
    return made


@pytest.mark.parametrize(("edges", "covered"), [("gradient", 0.8), ("learned", 0.65)])
def test_objects_are_covered_by_the_first_windows(image, edges, covered):
    windows, scores = EdgeBoxes(edges=edges).scored(image)
    assert windows.dtype == scores.dtype == np.float32
    assert len(windows) == len(scores)
    assert best_overlaps(windows[:20], BOXES).min() > covered
    assert (np.diff(scores) <= 0).all()
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= [180, 150]).all()
    assert (windows[:, :2] < windows[:, 2:]).all()
    assert len(np.unique(windows, axis=0)) == len(windows)
    np.testing.assert_array_equal(EdgeBoxes(edges=edges)(image), windows)


def test_the_same_every_time(image):
    first, second = EdgeBoxes().scored(image), EdgeBoxes().scored(image.copy())
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_order_in_memory_does_not_matter(image):
    for edges in ("gradient", "learned"):
        method = EdgeBoxes(edges=edges)
        expected = method(image)
        np.testing.assert_array_equal(method(np.asfortranarray(image)), expected)
        np.testing.assert_array_equal(method(image[:, ::-1].copy()[:, ::-1]), expected)


@pytest.fixture
def threads():
    """Return a function to set PyTorch's and OpenCV's numbers of threads, and restore them."""
    before = torch.get_num_threads(), cv2.getNumThreads()

    def put(of_torch, of_opencv):
        torch.set_num_threads(of_torch)
        cv2.setNumThreads(of_opencv)

    yield put
    put(*before)


def same_by_any_number_of_threads(image, threads):
    found = []
    for numbers in itertools.product((1, 2), repeat=2):
        threads(*numbers)
        found.append(EdgeBoxes().scored(image))
        assert (torch.get_num_threads(), cv2.getNumThreads()) == numbers
    for windows, scores in found[1:]:
        np.testing.assert_array_equal(windows, found[0][0])
        np.testing.assert_array_equal(scores, found[0][1])


def test_the_number_of_threads_does_not_matter(rng, threads):
    ground = cv2.resize(rng.integers(60, 200, (40, 50, 3), np.uint8), (500, 375))
    for _ in range(12):
        x, y = (int(each) for each in rng.integers(0, (400, 300)))
        cv2.ellipse(
            ground, (x + 40, y + 30), (45, 30), 30, 0, 360, rng.integers(256, size=3).tolist(), -1
        )
    same_by_any_number_of_threads(ground, threads)


def test_the_environments_number_of_threads_does_not_matter(image, tmp_path):
    np.save(tmp_path / "image.npy", image)
    program = (
        "import sys, numpy as np; from proposals import EdgeBoxes\n"
        "np.save(sys.argv[2], EdgeBoxes()(np.load(sys.argv[1])))\n"
    )
    for number in ("1", "2"):
        files = [tmp_path / "image.npy", tmp_path / "windows.npy"]
        environment = os.environ | {"OMP_NUM_THREADS": number}
        subprocess.run([sys.executable, "-c", program, *files], check=True, env=environment)
        np.testing.assert_array_equal(np.load(files[1]), EdgeBoxes()(image))


def test_limits(image):
    whole = EdgeBoxes()(image)
    fewer = EdgeBoxes(max_windows=7)(image)
    np.testing.assert_array_equal(fewer, whole[:7])
    large = EdgeBoxes(min_box_area=3000, regions=0)(image)
    areas = np.prod(large[:, 2:] - large[:, :2], axis=1)
    # Areas can fall below the limit, because sides are refined afterwards.
    assert areas.min() > 0.5 * 3000
    assert np.prod(whole[:, 2:] - whole[:, :2], axis=1).min() < 600


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 7), (3, 3), (4, 200)])
def test_the_whole_of_a_small_image(rng, shape):
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    windows, scores = EdgeBoxes(regions=0).scored(image)
    np.testing.assert_array_equal(windows, [[0, 0, shape[1], shape[0]]])
    np.testing.assert_array_equal(scores, [0])
    windows, scores = EdgeBoxes().scored(image)
    np.testing.assert_array_equal(windows[0], [0, 0, shape[1], shape[0]])
    assert not scores.any()


def test_the_whole_of_an_even_image():
    windows = EdgeBoxes(edges="gradient")(np.full((90, 70, 3), 7, np.uint8))
    np.testing.assert_array_equal(windows, [[0, 0, 70, 90]])


def test_a_large_image_is_searched_shrunk(image):
    large = image.repeat(4, axis=0).repeat(4, axis=1)
    windows = EdgeBoxes()(large)
    assert best_overlaps(windows[:20], 4 * BOXES).min() > 0.8
    assert windows.max() <= 4 * 180


def test_regions_come_evenly_between(image):
    plain, scores = EdgeBoxes(regions=0).scored(image)
    edges = EdgeBoxes().source(image)
    of_regions = {tuple(each) for each in region_windows(edges, image, 400)}
    for share, every in ((0.25, 4), (0.5, 2)):
        windows, lowered = EdgeBoxes(regions=share).scored(image)
        assert {tuple(each) for each in windows} == of_regions | {tuple(each) for each in plain}
        region = np.array([tuple(each) in of_regions for each in windows[:40]])
        assert region.sum() >= 40 // every - 1
        own = ~region
        np.testing.assert_array_equal(windows[:40][own], plain[: own.sum()])
        np.testing.assert_array_equal(lowered[:40][own], scores[: own.sum()])
        # A region has the score of the window before it.
        inner = np.flatnonzero(region)
        np.testing.assert_array_equal(lowered[inner], lowered[inner - 1])
        np.testing.assert_array_equal(EdgeBoxes(regions=share, max_windows=9)(image), windows[:9])


def test_names():
    assert EdgeBoxes().name == "edge_boxes_learned_regions"
    assert EdgeBoxes(regions=0, edges="gradient").name == "edge_boxes_gradient"


def test_scores_of_either_opencv(image, monkeypatch):
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32)
    found = []
    for scores in (np.array([0.5, 0.25], np.float32), np.array([[0.5], [0.25]], np.float32)):
        search = SimpleNamespace(getBoundingBoxes=lambda *_, s=scores: (boxes, s))
        module = SimpleNamespace(ximgproc=SimpleNamespace(createEdgeBoxes=lambda s=search, **_: s))
        monkeypatch.setattr(edge_boxes, "opencv", lambda m=module: m)
        found.append(EdgeBoxes(regions=0).scored(image))
    for windows, scores in found:
        np.testing.assert_array_equal(windows, [[1, 2, 4, 6], [5, 6, 12, 14]])
        np.testing.assert_array_equal(scores, [0.5, 0.25])


def test_key_changes_with_every_parameter(monkeypatch):
    method = EdgeBoxes()
    keys = {method.key}
    for field in fields(method):
        if field.name not in ("edges", "model"):
            keys.add(
                replace(method, **{field.name: getattr(method, field.name) * 0.97 + 0.02}).key
                if field.name != "max_windows"
                else replace(method, max_windows=5).key
            )
    keys.add(EdgeBoxes(edges="gradient").key)
    assert len(keys) == len(fields(method))
    for name, value in edge_boxes.SEARCH.items():
        with monkeypatch.context() as patched:
            patched.setitem(edge_boxes.SEARCH, name, value * 0.97)
            keys.add(method.key)
    assert len(keys) == len(fields(method)) + len(edge_boxes.SEARCH)
    assert EdgeBoxes().key == method.key


def test_a_model_counts_by_its_bytes(tmp_path):
    shipped = LearnedEdges().model
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(Path(shipped).read_bytes())
    assert EdgeBoxes(model=str(copy)).key == EdgeBoxes().key
    copy.write_bytes(b"other")
    assert EdgeBoxes(model=str(copy)).key != EdgeBoxes().key
    with pytest.raises(FileNotFoundError, match="no edge network at"):
        _ = EdgeBoxes(model=str(tmp_path / "none")).key


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decay": 1}, "decay must be from 0 to 0.99, got 1"),
        ({"decay_iou": -0.1}, "decay_iou must be"),
        ({"max_windows": 0}, "max_windows must be from 1"),
        ({"regions": 1}, "regions must be from 0 to 0.9, got 1"),
        ({"min_box_area": float("nan")}, "min_box_area must be"),
        ({"min_box_area": 15}, "min_box_area must be from 16 to inf, got 15"),
        ({"edges": "forest"}, "needs the file of a structured forest"),
        ({"edges": "gradient", "model": "model.yml.gz"}, "edges 'gradient' has no model"),
    ],
)
def test_bad_parameters(changes, words):
    with pytest.raises(ValueError, match=words):
        EdgeBoxes(**changes)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_bad_images(image):
    with pytest.raises(ValueError, match="EdgeBoxes needs an RGB image"):
        EdgeBoxes()(image)


@pytest.mark.data
def test_the_number_of_threads_does_not_matter_on_real_images(voc07_root, threads):
    for record in read_voc(voc07_root.parent, "train", limit=4).records:
        same_by_any_number_of_threads(read_image(record.path), threads)


@pytest.mark.data
def test_regions_fit_real_objects_more_closely(voc07_root):
    records = read_voc(voc07_root.parent, "train", limit=10).records
    covered = {}
    for share in (0, 0.25):
        method = EdgeBoxes(regions=share, max_windows=1000)
        best = [best_overlaps(method(read_image(each.path)), each.boxes) for each in records]
        covered[share] = (np.concatenate(best) >= 0.8).mean()
    assert covered[0.25] > covered[0]


def test_windows_that_opencv_refined_to_a_pixel_or_none_are_dropped(image, monkeypatch):
    """Their IoU is NaN, and would make all later scores NaN."""
    search = EdgeBoxes._search
    wrong = np.array([[5.0, 5, 5, 9], [7, 7, 7, 7], [8, 8, 9, 9]])

    def with_wrong(method, *maps):
        corners, scores = search(method, *maps)
        return np.concatenate([wrong, corners]), np.append([np.inf, 0.9, np.inf], scores)

    method = EdgeBoxes(edges="gradient", min_box_area=16)
    expected = method.scored(image)
    monkeypatch.setattr(EdgeBoxes, "_search", with_wrong)
    for found, right in zip(method.scored(image), expected, strict=True):
        np.testing.assert_array_equal(found, right)


def test_the_smallest_windows_are_ordered(image):
    windows, scores = EdgeBoxes(edges="gradient", min_box_area=16, regions=0).scored(image)
    assert (windows[:, :2] < windows[:, 2:]).all()
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 0).all()
