import ctypes
import subprocess
import sys
import threading
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

from files.images import read_image
from proposals import SelectiveSearch
from proposals.opencv import shrink_to_working_size
from proposals.selective_search import DISTURBING, _seed_of


def propose(image, method=None):
    return (method or SelectiveSearch())(image)


def draw(height=96, width=128, seed=0):
    """Return an RGB image of coloured rectangles on noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 120, (height, width, 3))
    for _ in range(6):
        x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
        image[y : y + 35, x : x + 30] = rng.integers(0, 256, 3)
    return image.astype(np.uint8)


@pytest.fixture(scope="module")
def image():
    return draw()


def slow_windows(image, method):
    """Return OpenCV's windows for the same seed in reversed order, without small or equal ones."""
    kept = []
    for x, y, width, height in reversed(agreed_regions(image, method)):
        window = (x, y, x + width, y + height)
        if min(width, height) >= method.min_side and window not in kept:
            kept.append(window)
    return np.array(kept, np.float32)


def agreed_regions(image, method):
    """Return what two searches in a row give: other tests import onnxruntime, which may disturb."""
    before, regions = None, regions_of(image, method)
    while regions != before:
        before, regions = regions, regions_of(image, method)
    return regions


def regions_of(image, method):
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    switch = {
        "fast": search.switchToSelectiveSearchFast,
        "quality": search.switchToSelectiveSearchQuality,
    }[method.mode]
    switch(method.base_k, method.inc_k, method.sigma)
    ctypes.CDLL(None).srand(_seed_of(image))
    return search.process().tolist()


@pytest.mark.parametrize("mode", ["fast", "quality"])
@pytest.mark.parametrize("min_side", [1, 20])
def test_equals_the_slow_twin(image, mode, min_side):
    method = SelectiveSearch(mode=mode, min_side=min_side)
    np.testing.assert_array_equal(propose(image, method), slow_windows(image, method))


def test_windows_keep_the_contract(image):
    windows = propose(image)
    assert windows.dtype == np.float32
    assert windows.shape[1] == 4
    assert len(np.unique(windows, axis=0)) == len(windows)
    np.testing.assert_array_equal(windows, np.round(windows))
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2] <= 128).all()
    assert (windows[:, 3] <= 96).all()
    assert (windows[:, 2:] - windows[:, :2] >= 20).all()


def test_same_pixels_same_windows_whatever_went_before(image):
    first = propose(image)
    propose(draw(seed=1))
    np.testing.assert_array_equal(propose(image), first)
    np.testing.assert_array_equal(propose(np.asfortranarray(image)), first)
    np.testing.assert_array_equal(propose(image[:, ::-1].copy()[:, ::-1]), first)


def test_another_process_gives_the_same_order(image, tmp_path):
    np.save(tmp_path / "image.npy", image)
    program = (
        "import sys, numpy as np; from proposals import SelectiveSearch\n"
        "np.save(sys.argv[2], SelectiveSearch()(np.load(sys.argv[1])))\n"
    )
    files = [tmp_path / "image.npy", tmp_path / "windows.npy"]
    subprocess.run([sys.executable, "-c", program, *files], check=True)
    np.testing.assert_array_equal(np.load(files[1]), propose(image))


def test_threads_do_not_disturb_each_other(image):
    expected = [propose(image), propose(draw(seed=1))]
    got = {}

    def work(index, each):
        got[index] = [propose(each) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(i, draw(seed=i))) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 1):
        for windows in got[index]:
            np.testing.assert_array_equal(windows, expected[index])


@pytest.mark.parametrize("library", DISTURBING)
def test_a_library_that_uses_the_generator_disturbs_nothing(image, monkeypatch, library):
    """Threads of Ray and of onnxruntime call ``rand()``; the order of windows differed."""
    alone, ended = propose(image), threading.Event()
    monkeypatch.setitem(sys.modules, library, ModuleType(library))

    def disturb():
        while not ended.is_set():
            ctypes.CDLL(None).rand()

    other = threading.Thread(target=disturb)
    other.start()
    try:
        beside = [propose(image) for _ in range(2)]
    finally:
        ended.set()
        other.join()
    for windows in beside:
        np.testing.assert_array_equal(windows, alone)


def test_large_windows_come_first(image):
    windows = propose(image, SelectiveSearch(min_side=1))
    area = (windows[:, 2:] - windows[:, :2]).prod(axis=1)
    third = len(area) // 3
    assert np.median(area[:third]) > 2 * np.median(area[-third:])


def test_max_windows_keeps_the_head(image):
    windows = propose(image)
    assert len(windows) > 10
    np.testing.assert_array_equal(propose(image, SelectiveSearch(max_windows=10)), windows[:10])
    many = SelectiveSearch(max_windows=len(windows) + 1)
    np.testing.assert_array_equal(propose(image, many), windows)


def test_min_side_is_inclusive(image):
    everything = propose(image, SelectiveSearch(min_side=1))
    sides = everything[:, 2:] - everything[:, :2]
    side = int(np.sort(sides.min(axis=1))[len(sides) // 2])  # a side that occurs
    kept = propose(image, SelectiveSearch(min_side=side))
    np.testing.assert_array_equal(kept, everything[(sides >= side).all(axis=1)])
    assert ((kept[:, 2:] - kept[:, :2]).min(axis=1) == side).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3), (19, 200), (64, 64)])
def test_tiny_or_constant_image_is_one_window(shape):
    windows = propose(np.full((*shape, 3), 7, np.uint8))
    np.testing.assert_array_equal(windows, np.array([[0, 0, shape[1], shape[0]]], np.float32))


def test_elongated_image():
    windows = propose(draw(60, 400))
    assert len(windows) > 1
    assert (windows[:, 2:] <= (400, 60)).all()


LARGE = pytest.mark.parametrize(
    ("size", "searched"),
    # 240 * 500 / 1200 = 100; 100 * 500 / 3000 = 16.7, rounded 17; 3 * 500 / 3000 = 0.5, rounded 0
    # and made 1; 130 * 500 / 502 = 129.5
    [
        ((240, 1200), (100, 500)),
        ((100, 3000), (17, 500)),
        ((3000, 100), (500, 17)),
        ((3, 3000), (1, 500)),
        ((130, 502), (129, 500)),
    ],
)


def draw_large(size):
    """Return blocks of colour, which are fast to search at any size."""
    blocks = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)


@LARGE
def test_a_large_image_is_shrunk_before_the_search(size, searched):
    large = draw_large(size)
    shrunk = cv2.resize(large, searched[::-1], interpolation=cv2.INTER_AREA)
    assert shrunk.shape[:2] == searched
    method = SelectiveSearch(base_k=300, inc_k=300, min_side=10)
    windows = propose(large, method)
    expected = slow_windows(shrunk, method)
    if not len(expected):
        expected = np.array([[0, 0, searched[1], searched[0]]], np.float32)
    factor = np.array([size[1] / searched[1], size[0] / searched[0]] * 2)
    np.testing.assert_array_equal(windows, (expected * factor).astype(np.float32))
    assert windows.dtype == np.float32
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= size[::-1]).all()
    # Each side of the image is the side of some window.
    assert (windows == np.array([0, 0, size[1], size[0]])).any(axis=0).all()


def test_an_image_of_500_pixels_is_searched_as_it_is():
    image = draw_large((60, 500))
    assert shrink_to_working_size(image) is image
    method = SelectiveSearch(base_k=300, inc_k=300)
    np.testing.assert_array_equal(propose(image, method), slow_windows(image, method))
    assert shrink_to_working_size(draw_large((60, 501))).shape == (60, 500, 3)


def test_a_large_image_in_any_layout():
    large = draw_large((100, 800))
    large.setflags(write=False)
    method = SelectiveSearch(base_k=300, inc_k=300)
    windows = propose(large, method)
    np.testing.assert_array_equal(propose(np.asfortranarray(large), method), windows)
    np.testing.assert_array_equal(propose(large[:, ::-1].copy()[:, ::-1], method), windows)


def test_a_drawn_object_is_found():
    image = np.full((100, 140, 3), 200, np.uint8)
    image[30:70, 40:100] = (180, 20, 20)
    windows = propose(image)
    # the smoothing may move a side by a pixel or two
    assert (np.abs(windows - (40, 30, 100, 70)).max(axis=1) <= 3).any()


def test_threads_of_opencv_are_left_as_they_were(image):
    before = cv2.getNumThreads()
    propose(image)
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (np.zeros((5, 5), np.uint8), r"uint8 of shape \(5, 5\)"),
        (np.zeros((5, 5, 1), np.uint8), r"uint8 of shape \(5, 5, 1\)"),
        (np.zeros((5, 5, 4), np.uint8), r"uint8 of shape \(5, 5, 4\)"),
        (np.zeros((5, 5, 3), np.float32), r"float32 of shape \(5, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 of shape \(0, 5, 3\)"),
    ],
)
def test_what_is_no_rgb_image_is_refused(bad, found):
    with pytest.raises(ValueError, match=rf"RGB image \(H, W, 3\) of uint8 .*, got {found}"):
        propose(bad)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mode", "slow", "mode must be 'fast' or 'quality', got 'slow'"),
        ("base_k", 0, "base_k must be 1 or more, got 0"),
        ("inc_k", 0, "inc_k must be 1 or more, got 0"),
        ("min_side", 0, "min_side must be 1 or more, got 0"),
        ("sigma", 0.0, "sigma must be a number above 0, got 0.0"),
        ("sigma", float("nan"), "sigma must be a number above 0, got nan"),
        ("max_windows", 0, "max_windows must be None or 1 or more, got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        SelectiveSearch(**{name: value})


def test_key_changes_with_every_parameter_and_with_opencv(monkeypatch):
    base = SelectiveSearch()
    changes = [
        {"mode": "quality"},
        {"base_k": 51},
        {"inc_k": 51},
        {"sigma": 0.9},
        {"min_side": 21},
        {"max_windows": 2000},
    ]
    keys = [base.key, *(replace(base, **change).key for change in changes)]
    monkeypatch.setattr(cv2, "__version__", "0.0")
    keys.append(base.key)
    monkeypatch.setattr("proposals.selective_search.VERSION", 0)
    keys.append(base.key)
    assert len(set(keys)) == len(keys)
    assert base.key == SelectiveSearch().key
    assert base.name == "selective_search"


@pytest.mark.parametrize(
    "module",
    [
        SimpleNamespace(__version__="4.12.0"),
        SimpleNamespace(__version__="4.12.0", ximgproc=SimpleNamespace()),
    ],
)
def test_opencv_without_contrib_is_explained(monkeypatch, image, module):
    monkeypatch.setitem(sys.modules, "cv2", module)
    expected = r"OpenCV 4\.12\.0 has no ximgproc .*pip install opencv-contrib-python"
    with pytest.raises(RuntimeError, match=expected):
        propose(image)


def test_missing_opencv_is_explained(monkeypatch, image):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(RuntimeError, match=r"OpenCV cannot be imported .*pip install"):
        propose(image)


@pytest.mark.data
def test_a_real_image(voc07_root):
    path = sorted((voc07_root / "JPEGImages").glob("*.jpg"))[0]
    windows = propose(read_image(path))
    assert 500 < len(windows) < 8000
