"""Paired tests: intervals and p-values against McNemar's exact test and a plain bootstrap."""

import numpy as np
import pytest
from scipy.stats import binomtest

from classification.comparison import compare, compare_tests, shares_right
from classification.testing import Predictions


def rights(both, first, second, neither):
    pairs = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    return np.array(pairs).T


@pytest.mark.parametrize(("first", "second"), [(30, 12), (12, 30), (9, 9), (5, 0), (0, 0), (1, 0)])
def test_chance_is_that_of_mcnemars_exact_test(first, second):
    found = compare(*rights(100, first, second, 58))
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p == pytest.approx(expected, abs=0.012)
    assert found.difference == pytest.approx((first - second) / found.images)
    assert (found.better, found.worse) == (first, second)


def test_interval_is_that_of_a_bootstrap_over_images():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 300)) / 3
    found = compare(first, second)
    draws = [(first - second)[rng.integers(0, 300, 300)].mean() for _ in range(4000)]
    low, high = np.quantile(draws, (0.025, 0.975))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)
    assert found.low <= found.difference <= found.high


def test_turned_round_only_the_sign_changes():
    one, other = rights(50, 20, 5, 25)
    found, turned = compare(one, other), compare(other, one)
    assert turned.difference == -found.difference
    assert turned.p == pytest.approx(found.p, abs=0.005)
    assert turned.low == pytest.approx(-found.high, abs=0.01)


def test_equal_classifiers_do_not_differ():
    found = compare(np.ones(7), np.ones(7))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("other", [np.ones(3), np.ones((2, 2)), np.ones(0)])
def test_other_numbers_of_images_are_refused(other):
    with pytest.raises(ValueError, match="two rows of the same images"):
        compare(np.ones(0 if not other.size else 2), other)


def saved(path, images, predicted):
    probabilities = np.full((len(images), 3), 0.1, np.float32)
    probabilities[np.arange(len(images)), predicted] = 0.8
    labels = np.zeros(len(images), np.int64)
    Predictions(("a", "b", "c"), tuple(images), labels, probabilities).save(path)
    return path


def test_groups_of_tests_are_compared_by_the_share_that_is_right(tmp_path):
    one = saved(tmp_path / "1.csv", ["x", "y", "z"], [0, 1, 0])
    two = saved(tmp_path / "2.csv", ["z", "y", "x"], [0, 0, 0])
    three = saved(tmp_path / "3.csv", ["x", "y", "z"], [1, 1, 1])
    assert shares_right([one, two]).tolist() == [1, 0.5, 1]
    found = compare_tests([one, two], [three])
    assert found.difference == pytest.approx(2.5 / 3)
    assert (found.better, found.worse) == (3, 0)


def test_tests_of_other_images_are_not_compared(tmp_path):
    one = saved(tmp_path / "1.csv", ["x", "y"], [0, 1])
    two = saved(tmp_path / "2.csv", ["x", "z", "w"], [0, 1, 1])
    with pytest.raises(ValueError, match="are tests of different images: 3 are only in one"):
        compare_tests([one], [two])
