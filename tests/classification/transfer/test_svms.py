"""Linear SVMs from a Gram matrix."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from classification.transfer.svms import best_C, svm_scores

CLASSES = ("dog", "cat")


def images(rng, count=60, length=100):
    """Return features of norm 1, and targets that depend on two of them."""
    features = np.abs(rng.normal(size=(count, length)))
    targets = np.where(features[:, :2] > np.median(features[:, :2], axis=0), 1, -1)
    return features / np.linalg.norm(features, axis=1, keepdims=True), targets


@pytest.mark.parametrize("C", [0.1, 3.0])
def test_scores_are_those_of_liblinear(rng, C):
    features, targets = images(rng)
    train, test = np.arange(40), np.arange(40, 60)
    found = svm_scores(features @ features.T, train, test, targets, C, CLASSES)
    for number in range(2):
        # liblinear regularises the intercept; a larger constant feature weakens that.
        solver = LinearSVC(
            C=C, loss="hinge", dual=True, intercept_scaling=30, tol=1e-6, max_iter=1_000_000
        )
        solver.fit(features[train], targets[train, number])
        slow = solver.decision_function(features[test])
        np.testing.assert_allclose(found[:, number], slow, atol=0.01)


def test_an_image_left_out_of_a_class_changes_nothing_there(rng):
    features, targets = images(rng)
    train, test = np.arange(40), np.arange(40, 60)
    targets[:5, 0] = 0
    whole = svm_scores(features @ features.T, train, test, targets, 1.0, CLASSES)
    part = svm_scores(features @ features.T, train[5:], test, targets, 1.0, CLASSES)
    np.testing.assert_allclose(whole[:, 0], part[:, 0], atol=1e-9)
    assert np.abs(whole[:, 1] - part[:, 1]).max() > 1e-3


def test_rows_may_come_in_any_order(rng):
    features, targets = images(rng)
    train, test = rng.permutation(40), np.arange(40, 60)
    gram = features @ features.T
    one = svm_scores(gram, train, test, targets, 1.0, CLASSES)
    other = svm_scores(gram, np.sort(train), test, targets, 1.0, CLASSES)
    np.testing.assert_allclose(one, other, atol=5e-3)


def test_a_class_without_images_is_named(rng):
    features, targets = images(rng)
    targets[:40, 1] = -1
    with pytest.raises(ValueError, match="class cat has 0 images to train on and 40 others"):
        svm_scores(features @ features.T, np.arange(40), np.arange(40, 60), targets, 1.0, CLASSES)


def test_best_C():
    assert best_C({1.0: 0.2, 2.0: 0.5, 4.0: 0.5}.__getitem__, (1.0, 2.0, 4.0)) == (2.0, 0.5)
