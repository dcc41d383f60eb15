"""Comparison of two detectors: APs of resampled images against a slow twin, and verdicts."""

from dataclasses import replace

import numpy as np
import pytest
from made_page import made_test

from detection.evaluation import comparison
from detection.evaluation.comparison import Difference, compare, drawn_precisions, format_comparison
from detection.evaluation.error_kinds import Kind, explain
from detection.evaluation.voc_ap import ClassDetections, evaluate_voc

CLASSES = ("cat", "dog", "fox")


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch):
    monkeypatch.setattr(comparison, "DRAWS", 1000)


def drawn_one_by_one(explained, records, numbers):
    """Return the APs on resampled images; each copy of an image is an image of its own."""
    copies = [
        replace(records[place], image_id=f"{place} {copy}")
        for place, times in enumerate(numbers)
        for copy in range(times)
    ]
    found = {}
    for label, name in enumerate(explained.classes):
        rows = [
            (f"{explained.image[row]} {copy}", explained.scores[row], explained.boxes[row])
            for row in np.flatnonzero(explained.labels == label)
            for copy in range(numbers[explained.image[row]])
        ]
        found[name] = ClassDetections(
            [row[0] for row in rows],
            np.array([row[1] for row in rows], np.float64),
            np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        )
    result = evaluate_voc(found, copies, explained.classes)
    return [np.nan if one.ap is None else one.ap for one in result.per_class.values()]


@pytest.mark.parametrize("seed", range(5))
def test_drawn_images_one_by_one(tmp_path, seed, rng):
    records, shown, _ = made_test(tmp_path, CLASSES, 8, seed, drawn=False)
    # All scores differ: between equal ones, the order of copies would matter.
    explained = shown.explained
    scores = explained.scores + np.linspace(0, 1e-3, len(explained.scores))[::-1]
    order = np.lexsort((-scores, explained.labels))
    assert order.tolist() == list(range(len(order)))
    explained = replace(explained, scores=scores)
    weights = rng.multinomial(8, np.full(8, 1 / 8), 6)
    expected = [drawn_one_by_one(explained, records, numbers) for numbers in weights]
    np.testing.assert_allclose(drawn_precisions(explained, weights), expected, atol=1e-12)


def worse(explained, share, rng):
    """Turn a share of the correct detections into detections of background."""
    kind = explained.kind.copy()
    found = np.flatnonzero(kind == Kind.FOUND)
    kind[rng.choice(found, int(share * len(found)), replace=False)] = Kind.BACKGROUND
    return replace(explained, kind=kind)


def test_verdicts(tmp_path, rng):
    _, shown, _ = made_test(tmp_path, CLASSES, 150, drawn=False)
    one = shown.explained
    same = compare(one, one, 150)
    assert {each.verdict for each in (same.mean, *same.per_class.values())} == {"no difference"}
    assert (same.mean.gain, same.mean.low, same.mean.high) == (0, 0, 0)
    alike = compare(worse(one, 0.1, rng), worse(one, 0.1, rng), 150)
    assert alike.mean.low < 0 < alike.mean.high
    assert {each.verdict for each in alike.per_class.values()} == {"no difference"}
    lower = compare(one, worse(one, 0.6, rng), 150)
    assert lower.mean.verdict == "worse"
    higher = compare(worse(one, 0.6, np.random.default_rng(0)), one, 150)
    assert higher.mean.verdict == "better"
    assert higher.mean.low < higher.mean.gain < higher.mean.high


def test_intervals_of_classes_hold_together(tmp_path, rng):
    """The same change of one class has a wider interval if other classes are compared too."""
    _, shown, _ = made_test(tmp_path, CLASSES, 60, drawn=False)
    one = shown.explained
    objects = replace(one.objects, difficult=one.objects.difficult | (one.objects.labels != 0))
    kind = np.where(one.labels == 0, one.kind, Kind.IGNORED).astype(np.uint8)
    alone = replace(one, kind=kind, objects=objects)
    changed = worse(alone, 0.2, rng)
    single = compare(alone, changed, 60)
    assert list(single.per_class) == ["cat"]
    assert single.mean == single.per_class["cat"]
    both = np.where(one.labels == 0, changed.kind, one.kind).astype(np.uint8)
    whole = compare(one, replace(one, kind=both), 60)
    assert list(whole.per_class) == list(CLASSES)
    narrow, wide = single.per_class["cat"], whole.per_class["cat"]
    assert wide.gain == narrow.gain
    assert wide.low < narrow.low
    assert narrow.high <= wide.high


def test_other_images_are_refused(tmp_path):
    _, one, _ = made_test(tmp_path, CLASSES, 5, drawn=False)
    _, other, _ = made_test(tmp_path, CLASSES, 5, 1, drawn=False)
    with pytest.raises(ValueError, match="two tests of the same images and classes"):
        compare(one.explained, other.explained, 5)


def test_nothing_found(tmp_path):
    records, shown, _ = made_test(tmp_path, CLASSES, 20, drawn=False)
    none = ClassDetections([], np.zeros(0), np.zeros((0, 4)))
    empty = explain(dict.fromkeys(CLASSES, none), records, CLASSES)
    found = compare(empty, shown.explained, 20)
    assert found.mean.first == 0
    assert found.mean.gain == found.mean.second


def test_table():
    one = Difference(0.5, 0.25, -0.3, -0.2)
    both = comparison.Comparison(9, Difference(0.5, 0.51, -0.1, 0.2), {"红绿灯": one})
    assert format_comparison(both).splitlines() == [
        "class     first   second     gain  interval",
        "红绿灯   0.5000   0.2500  -0.2500  -0.3000 to -0.2000  worse",
        "mAP      0.5000   0.5100  +0.0100  -0.1000 to +0.2000  no difference",
    ]
