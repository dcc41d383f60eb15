"""A page's counts at a threshold, against counting one by one."""

import base64
from collections import Counter

import numpy as np
import pytest
from counted_page import confusion_at, kinds_at
from made_page import made_test

from detection.evaluation.error_kinds import ERRORS, Kind
from detection.pages import outcomes
from detection.pages.gallery import gallery_data, mistakes, worst_images
from detection.pages.outcomes import FATES, Shown

THRESHOLDS = (-1.0, 0.0, 0.125, 0.5, 0.9, 2.0)
CLASSES = ("cat", "dog", "fox")


@pytest.fixture
def made(tmp_path):
    return made_test(tmp_path, CLASSES, drawn=False)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_detections_are_counted_as_the_metric_counts_them(made, threshold):
    _, shown, result = made
    kinds = kinds_at(shown, threshold).sum(axis=1)
    for row, one in zip(kinds, result.per_class.values(), strict=True):
        above = int((one.scores > threshold).sum())
        assert row[Kind.FOUND] == (one.tp[above - 1] if above else 0)
        assert row[list(ERRORS)].sum() == (one.fp[above - 1] if above else 0)
        assert row.sum() == above


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_fates_and_confusions_one_by_one(made, threshold):
    _, shown, result = made
    explained, objects = shown.explained, shown.explained.objects
    table, fates = confusion_at(shown, threshold), shown.fates_at(threshold)
    told = Counter()
    for place, (label, hard) in enumerate(zip(objects.labels, objects.difficult, strict=True)):
        on = [
            (shown.scores[row], Kind(explained.kind[row]), explained.labels[row])
            for row in range(len(explained.kind))
            if explained.on[row] == place and shown.scores[row] > threshold
        ]
        by_kind = {kind: [one for one in on if one[1] == kind] for kind in Kind}
        if by_kind[Kind.FOUND]:
            fate, column = "found", label
        elif by_kind[Kind.CLASS]:
            fate, column = "class", max(by_kind[Kind.CLASS])[2]
        elif by_kind[Kind.PLACE]:
            fate, column = "place", 3
        else:
            fate, column = "missed", 4
        assert FATES[fates[place]] == fate
        if fate == "class":  # any class with the best score is right
            best = max(one[0] for one in by_kind[Kind.CLASS])
            column = shown.taken_for()[place]
            assert column in [one[2] for one in by_kind[Kind.CLASS] if one[0] == best]
        if not hard:
            told[int(label), int(column)] += 1
    assert {(row, column): table[row, column] for row, column in told} == told
    assert table[:3].sum(axis=1).tolist() == [one.npos for one in result.per_class.values()]
    nothing = kinds_at(shown, threshold).sum(axis=1)[:, [Kind.BOTH, Kind.BACKGROUND]].sum(axis=1)
    assert table[3].tolist() == [*nothing, 0, 0]


def test_a_third_of_the_objects_is_small(made):
    _, shown, _ = made
    counted = ~shown.explained.objects.difficult
    numbers = np.bincount(shown.object_sizes[counted], minlength=3)
    assert numbers.sum() == counted.sum()
    assert numbers.max() - numbers.min() <= 2


def test_the_best_threshold_has_the_highest_f1(made):
    records, shown, result = made
    objects = sum(one.npos for one in result.per_class.values())

    def f1(threshold):
        kinds = kinds_at(shown, threshold).sum(axis=(0, 1))
        false = kinds[list(ERRORS)].sum()
        return 2 * kinds[Kind.FOUND] / (kinds[Kind.FOUND] + false + objects)

    best = Shown.of(shown.explained, records, shown.scores).threshold
    assert best == shown.best_threshold()
    assert f1(best) == max(f1(hundredth / 100) for hundredth in range(-10, 110))


def test_of_very_many_detections_the_surest_are_in_the_page(made, monkeypatch):
    _, shown, _ = made
    assert (shown.lowest, shown.start) == (0, 0.5)
    monkeypatch.setattr(outcomes, "MOST_DETECTIONS", 20)
    assert shown.start == shown.lowest > 0.5
    kept = np.frombuffer(base64.b64decode(shown.script_data()["detections"]["scores"]), "<f4")
    assert 0 < len(kept) <= 20
    assert sorted(kept) == sorted(shown.scores[shown.scores > shown.lowest])


def test_the_range_of_raw_scores(tmp_path):
    _, shown, _ = made_test(tmp_path, CLASSES, probable=False, drawn=False)
    assert shown.lowest <= shown.scores.min()
    assert shown.highest >= shown.scores.max()


def test_worst_images_come_first(tmp_path):
    records, shown, _ = made_test(tmp_path, CLASSES)
    explained = shown.explained
    told = []
    for number in range(len(records)):
        rows = (explained.image == number) & (shown.scores > 0.5)
        wrong = np.isin(explained.kind[rows], ERRORS).sum()
        found = (explained.kind[rows] == Kind.FOUND).sum()
        told.append(int(wrong + (~records[number].difficult).sum() - found))
    assert mistakes(shown, len(records)).tolist() == told
    order = worst_images(shown, records)
    assert sorted(order) == list(range(len(records)))
    assert [told[place] for place in order] == sorted(told, reverse=True)
    images = gallery_data(shown, records)
    assert [image["id"] for image in images] == [records[place].image_id for place in order]
    assert all(image["image"].startswith("data:image/jpeg;base64,") for image in images)
    records[order[1]].path.write_bytes(b"no image")
    assert [image["id"] for image in gallery_data(shown, records)] == [
        records[place].image_id for place in np.delete(order, 1)
    ]
    records[order[0]].path.unlink()
    assert worst_images(shown, records).tolist() == order[1:].tolist()
