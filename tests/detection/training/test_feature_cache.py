"""Pooled training windows on disk: what each row is, and that it is always the same."""

import numpy as np
import pytest
import torch
from made_feature_cache import (
    CLASSES,
    HEIGHT,
    SAMPLING,
    WIDTH,
    FakeExtractor,
    made_feature_cache,
    made_proposals,
    made_record,
)

from detection.boxes import flip_boxes, iou
from detection.features.extractor import WindowFeatures
from detection.training.feature_cache import (
    RANDOM_WINDOWS,
    REGRESSION_WINDOWS,
    FeatureCache,
    Sampling,
    regression_rows,
)
from detection.training.labels import label_windows


def added(cache, record, proposals, sampling=SAMPLING):
    bank = made_feature_cache(cache, sampling)
    bank.add(record, proposals)
    return bank.load(record)


def contents(bank):
    return {path.name: path.read_bytes() for path in sorted(bank.folder.iterdir())}


def test_box_regression_rows(tmp_path):
    record, proposals = made_record(tmp_path, labels=[2, 1]), made_proposals()
    entry = added(tmp_path, record, proposals)
    rows = entry.regression_rows.read()
    assert rows.dtype == np.float16
    np.testing.assert_array_equal(rows[:, :4], entry.windows)
    np.testing.assert_array_equal(rows[:, 4:], 2 * entry.windows[:, [0, 2]] - [0, 2])
    np.testing.assert_array_equal(entry.windows[:2], record.boxes)
    assert entry.objects == 2
    assert entry.object_classes.tolist() == [2, 1]
    np.testing.assert_array_equal(entry.object_rows.read(), rows[:2])
    overlaps = iou(entry.windows, record.boxes)
    nearest = overlaps.argmax(axis=1)
    assert (overlaps.max(axis=1) >= 0.5).all()
    np.testing.assert_array_equal(entry.targets, record.boxes[nearest])
    np.testing.assert_array_equal(entry.classes, record.labels[nearest])
    enough = (iou(proposals, record.boxes).max(axis=1) >= 0.5).sum()
    assert len(entry.windows) == 2 + enough > 10
    # The file has these rows and the random ones, and no others.
    assert len(entry.rows) == len(entry.windows) + RANDOM_WINDOWS
    at_seven = added(tmp_path, record, proposals, Sampling(regression_iou=0.7))
    assert iou(at_seven.windows, record.boxes).max(axis=1).min() >= 0.7
    assert 2 < len(at_seven.windows) < len(entry.windows)


def test_box_regression_windows_are_spread_over_a_long_list(tmp_path):
    record = made_record(tmp_path, boxes=[(0, 0, 64, 64)])
    grid = [(x, y, x + 60, y + 60) for x in range(0, 16) for y in range(0, 4)] * 5
    labels = label_windows(record, np.array(grid, np.float32), len(CLASSES))
    enough = np.flatnonzero(labels.overlap >= 0.7)
    assert len(enough) > 1.5 * REGRESSION_WINDOWS
    rows = regression_rows(labels, 0.7)
    assert len(rows) == REGRESSION_WINDOWS
    assert rows[:2].tolist() == enough[:2].tolist() == [0, 1]
    assert rows[-1] == enough[-1]
    assert set(rows) <= set(enough)
    steps = np.diff(np.searchsorted(enough, rows[1:]))
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1


def test_more_objects_than_windows_are_kept_are_all_kept(tmp_path):
    boxes = [(x, y, x + 20, y + 20) for x in range(0, 44, 4) for y in range(0, 40, 4)]
    record = made_record(tmp_path, boxes=boxes)
    assert len(boxes) > REGRESSION_WINDOWS
    labels = label_windows(record, made_proposals(), len(CLASSES))
    assert regression_rows(labels, 0.5).tolist() == list(range(len(boxes)))


def test_random_rows(tmp_path):
    record, proposals = made_record(tmp_path), made_proposals()
    rows = added(tmp_path, record, proposals).random_rows.read()
    assert rows.shape == (RANDOM_WINDOWS, 6)
    found = {tuple(row) for row in rows[:, :4].astype(int)}
    assert len(found) == RANDOM_WINDOWS
    assert found <= {tuple(window) for window in proposals.astype(int)}
    other = added(tmp_path, record, proposals, Sampling(seed=1)).random_rows.read()
    assert not np.array_equal(rows, other)


def test_a_mirrored_image_gives_what_is_learned_from(tmp_path):
    """Random windows need the maps of all scales, objects and windows on them those of a few."""
    record, proposals = made_record(tmp_path), made_proposals()
    plain = added(tmp_path, record, proposals)
    mirrored = added(tmp_path, record.mirror(), record.mirror().turned(proposals))
    assert len(mirrored.random_rows) == 0
    assert len(mirrored.regression_rows) == len(plain.regression_rows)
    assert mirrored.objects == plain.objects
    turned = flip_boxes(plain.windows, record.size[1])
    np.testing.assert_array_equal(mirrored.windows, turned)


def test_every_window_can_be_drawn_at_random(tmp_path):
    record, proposals = made_record(tmp_path), made_proposals(count=30)
    found = set()
    for seed in range(40):
        rows = added(tmp_path, record, proposals, Sampling(seed=seed)).random_rows.read()
        found |= {tuple(row) for row in rows[:, :4].astype(int)}
    assert found == {tuple(window) for window in proposals.astype(int)}


def test_rows_depend_on_seed_and_image_only(tmp_path):
    records = [made_record(tmp_path, f"{n:06}", shade=n) for n in range(4)]
    proposals = made_proposals()
    forward, backward, apart = (made_feature_cache(tmp_path / name) for name in "abc")
    for record in records:
        forward.add(record, proposals)
    for record in reversed(records):
        backward.add(record, proposals)
    assert contents(forward) == contents(backward)
    apart.add(records[2], proposals)
    assert contents(apart).items() <= contents(forward).items()
    # Another image with the same windows has other random rows.
    rows = [forward.load(record).random_rows.read() for record in records]
    assert not np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("count", [1, 150])
def test_an_image_without_objects(tmp_path, count):
    record = made_record(tmp_path, boxes=())
    entry = added(tmp_path, record, made_proposals(count=count))
    assert len(entry.regression_rows) == len(entry.object_classes) == entry.objects == 0
    assert entry.windows.shape == entry.targets.shape == (0, 4)
    assert entry.classes.shape == (0,)
    assert entry.regression_rows.read().shape == entry.object_rows.read().shape == (0, 6)
    assert entry.random_rows.read().shape == (min(count, RANDOM_WINDOWS), 6)


def test_an_image_with_one_window(tmp_path):
    whole = np.array([[0, 0, WIDTH, HEIGHT]], np.float32)
    entry = added(tmp_path, made_record(tmp_path, boxes=[(0, 0, 90, 60)]), whole)
    # Regression has the object and the window (overlap 0.88); the random row is the window.
    assert entry.regression_rows.read()[:, :4].tolist() == [[0, 0, 90, 60], *whole.tolist()]
    assert entry.object_rows.read()[:, :4].tolist() == [[0, 0, 90, 60]]
    assert entry.random_rows.read()[:, :4].tolist() == whole.tolist()


def test_difficult_objects_are_trained_on_when_asked(tmp_path):
    record, proposals = made_record(tmp_path, difficult=[False, True]), made_proposals()
    entry = added(tmp_path, record, proposals)
    assert entry.object_classes.tolist() == [0]
    np.testing.assert_array_equal(entry.windows[0], record.boxes[0])
    assert (entry.classes == 0).all()
    np.testing.assert_array_equal(np.unique(entry.targets, axis=0), record.boxes[:1])
    entry = added(tmp_path, record, proposals, Sampling(difficult=True))
    assert entry.object_classes.tolist() == [0, 1]
    assert set(entry.classes) == {0, 1}


def test_bfloat16_features_become_float16(tmp_path):
    class Half(FakeExtractor):
        def features(self, image, windows):
            found = super().features(image, windows)
            return WindowFeatures((found.pooled / 7).bfloat16(), found.index)

    record = made_record(tmp_path)
    bank = FeatureCache(tmp_path, Half(), "windows", CLASSES, SAMPLING)
    bank.add(record, made_proposals())
    entry = bank.load(record)
    expected = torch.from_numpy(entry.windows / 7).bfloat16().half().numpy()
    np.testing.assert_array_equal(entry.regression_rows.read()[:, :4], expected)


def test_objects_in_one_place_keep_their_classes(tmp_path):
    record = made_record(tmp_path, boxes=[(10, 10, 50, 50), (10, 10, 50, 50)], labels=[2, 1])
    assert added(tmp_path, record, made_proposals()).object_classes.tolist() == [2, 1]
