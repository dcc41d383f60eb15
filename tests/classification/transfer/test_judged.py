"""Classes predicted for an image, against slow twins."""

import numpy as np
import pytest

from classification.transfer.judged import JudgedImages, named_by_best, named_by_rank


@pytest.fixture
def scores(rng):
    return rng.normal(size=(40, 5)).round(1)  # some are equal


@pytest.fixture
def labels(rng):
    return rng.choice([-1, 0, 1], size=(40, 5), p=[0.6, 0.1, 0.3])


def test_as_many_are_named_as_have_the_class(scores, labels):
    named = named_by_rank(scores, labels)
    for label in range(5):
        counted = [row for row in range(40) if labels[row, label] != 0]
        best = sorted(counted, key=lambda row: (-scores[row, label], row))
        positives = sum(labels[row, label] > 0 for row in counted)
        assert np.flatnonzero(named[:, label]).tolist() == sorted(best[:positives])


def test_precision_is_recall_there(scores, labels):
    judged = JudgedImages(np.arange(40), scores, labels, named_by_rank(scores, labels))
    assert judged.wrong.sum(axis=0).tolist() == judged.missed.sum(axis=0).tolist()


def test_the_best_class_is_named(scores):
    named = named_by_best(scores)
    assert named.sum(axis=1).tolist() == [1] * 40
    assert [scores[row][named[row]][0] for row in range(40)] == scores.max(axis=1).tolist()


def test_confusions(scores, labels):
    judged = JudgedImages(np.arange(40), scores, labels, named_by_rank(scores, labels))
    expected = np.zeros((5, 5), int)
    for row in range(40):
        for own in range(5):
            for other in range(5):
                wrong = judged.named[row, other] and labels[row, other] == -1
                expected[own, other] += labels[row, own] == 1 and wrong
    assert judged.confusion().tolist() == expected.tolist()


def test_worst_images_come_first(scores, labels):
    judged = JudgedImages(np.arange(40), scores, labels, named_by_rank(scores, labels))
    mistakes = (judged.wrong | judged.missed).sum(axis=1)[judged.worst_first()]
    assert mistakes.tolist() == sorted(mistakes, reverse=True)


def test_no_images():
    empty = np.empty((0, 3))
    judged = JudgedImages(np.empty(0, int), empty, empty.astype(int), named_by_best(empty))
    assert judged.confusion().sum() == 0
    assert judged.worst_first().tolist() == []
    assert named_by_rank(empty, empty.astype(int)).shape == (0, 3)
