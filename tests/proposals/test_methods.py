"""The choice of window methods: one method, the union of both, and the same from stores."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from proposals import EdgeBoxes, Proposals, SelectiveSearch, WindowStore, WindowUnion
from proposals.methods import union

BOTH = Proposals("both", SelectiveSearch(min_side=10), EdgeBoxes(max_windows=50))


@pytest.fixture
def image(rng):
    made = rng.integers(90, 120, (70, 90, 3), np.uint8)
    made[20:50, 10:60] = (200, 30, 30)
    return made


def rows(windows):
    return {tuple(window) for window in windows.tolist()}


def test_one_method_is_itself(image):
    for name, method in (
        ("selective_search", BOTH.selective_search),
        ("edge_boxes", BOTH.edge_boxes),
    ):
        chosen = replace(BOTH, method=name)
        assert chosen.parts == (method,)
        assert (chosen.name, chosen.key) == (method.name, method.key)
        np.testing.assert_array_equal(chosen(image), method(image))
    assert Proposals().parts == (SelectiveSearch(),)


def test_both_are_a_union(image):
    first, second = (part(image) for part in BOTH.parts)
    windows = BOTH(image)
    assert rows(windows) == rows(first) | rows(second)
    assert len(rows(windows)) == len(windows)
    np.testing.assert_array_equal(windows[: len(first)], first)
    assert BOTH.name == "selective_search+edge_boxes_learned_regions"
    changed = replace(BOTH, edge_boxes=EdgeBoxes(max_windows=49))
    assert len({BOTH.key, changed.key, *(part.key for part in BOTH.parts)}) == 4


def test_a_union_keeps_the_first_of_equals():
    one = np.array([[0, 0, 5, 5], [1, 1, 2, 2]], np.float32)
    other = np.array([[1, 1, 2, 2], [3, 3, 4, 4], [0, 0, 5, 5]], np.float32)
    np.testing.assert_array_equal(union([one, other]), [*one, [3, 3, 4, 4]])
    np.testing.assert_array_equal(union([other]), other)


def test_stores_together_load_what_the_methods_make(image, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    stores = [WindowStore(tmp_path / "cache", part) for part in BOTH.parts]
    for store in stores:
        assert list(store.compute([path])) == [(path, None)]
    together = WindowUnion(stores, BOTH)
    assert together.method.key == BOTH.key
    np.testing.assert_array_equal(together.load(path), BOTH(image))


def test_settings_come_back_from_a_dictionary():
    assert Proposals.from_dict(asdict(BOTH)) == BOTH


def test_windows_of_a_file(tmp_path, image):
    path = tmp_path / "mine.npz"
    np.savez(path, image=np.array([[1, 2, 30, 40]], np.float32))
    chosen = Proposals("file", file=str(path))
    assert chosen.name == "file_mine"
    assert chosen.key == chosen.parts[0].key
    assert Proposals.from_dict(asdict(chosen)) == chosen
    with pytest.raises(ValueError, match="for its own images only"):
        chosen(image)


@pytest.mark.parametrize("changes", [{"method": "file"}, {"file": "windows.mat"}])
def test_a_file_and_its_method_go_together(changes):
    with pytest.raises(ValueError, match="the method 'file' needs a file of windows in 'file'"):
        Proposals(**changes)
