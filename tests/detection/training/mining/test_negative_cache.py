"""The windows that the hard-negative pass holds."""

import numpy as np

from detection.training.mining.negative_cache import NegativeCache


def test_a_window_of_several_classes_is_held_once(rng: np.random.Generator) -> None:
    cache = NegativeCache(3, 4)
    features = rng.random((5, 4)).astype(np.float16)
    members = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]], bool)
    cache.add(features).members[:] = members
    cache.add(features[:0])
    assert len(cache.state()["features.0"]) == 5
    cache.compact()
    assert len(cache.state()["features.0"]) == 4
    assert [len(cache.gather(label)) for label in range(3)] == [2, 2, 2]
    np.testing.assert_array_equal(cache.gather(1), features[[0, 3]])
    cache.keep(0, np.array([False, False]))
    cache.keep(1, np.array([True, False]))
    cache.compact()
    assert len(cache.state()["features.0"]) == 2
    assert [len(cache.gather(label)) for label in range(3)] == [0, 1, 2]
    np.testing.assert_array_equal(cache.gather(2), features[[0, 4]])
    again = NegativeCache(3, 4)
    again.load(cache.state())
    # The features, which may be gigabytes, are not copied.
    assert cache.state()["features.0"] is again.state()["features.0"]
    np.testing.assert_array_equal(again.gather(2), features[[0, 4]])
    assert again.gather(2).dtype == NegativeCache(3, 4).gather(0).dtype == np.float16
    assert NegativeCache(3, 4).gather(0).shape == (0, 4)


def test_only_new_windows_are_looked_at_if_none_was_dropped(rng: np.random.Generator) -> None:
    cache = NegativeCache(1, 2)
    for members in ([True, True], [True, False]):
        cache.add(rng.random((2, 2)).astype(np.float16)).members[:, 0] = members
        cache.compact(dropped=False)
    assert [len(rows) for name, rows in cache.state().items() if "features" in name] == [2, 1]
    cache.keep(0, np.array([False, True, True]))
    cache.compact(dropped=False)
    assert len(cache.state()["features.0"]) == 2
    cache.compact()
    assert len(cache.state()["features.0"]) == 1
    assert len(cache.gather(0)) == 2
