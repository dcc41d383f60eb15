"""Batches for fine-tuning: which images and windows, mirrored or not, at what scale."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from made_batches import (
    CLASSES,
    HEIGHT,
    SCALES,
    SETTINGS,
    WIDTH,
    Windows,
    made_batches,
    made_record,
    made_records,
    same_views,
)
from overlaps import overlap

from detection.features.scales import choose_scale_paper
from detection.settings.training import Finetune
from detection.training.finetuning import chips
from detection.training.finetuning.batches import draw_rows
from detection.training.labels import label_windows
from files.images import read_image


def is_mirrored(view, record):
    image = read_image(record.path)
    mirrored = np.array_equal(view.image, image[:, ::-1])
    assert mirrored or np.array_equal(view.image, image)
    return mirrored


def drawn(batches, steps):
    """Yield every view of some steps, its image's record, and whether it is mirrored."""
    for step in steps:
        views, images = batches.draw(step), batches.images(step)
        for view, image in zip(views, images, strict=True):
            record = batches.records[image]
            yield view, record, is_mirrored(view, record)


def slow_label(window, record):
    """Return a window's class, K for background, or None for neither."""
    overlaps = [overlap(window, box) for box in record.boxes]
    best = max(overlaps)
    if best >= Fraction(1, 2):
        return record.labels[overlaps.index(best)]
    return CLASSES if best >= Fraction(1, 10) else None


def everywhere(labels):
    return np.ones(len(labels.windows), bool)


def test_windows_and_labels_of_views(tmp_path):
    for view, record, mirrored in drawn(made_batches(made_records(tmp_path)), range(20)):
        known = {tuple(each) for each in [*record.boxes, *Windows().load(record.path)]}
        assert view.windows.shape == (12, 4)
        assert view.labels.dtype == np.int64
        assert (view.labels[:3] < CLASSES).all()
        assert (view.labels[3:] == CLASSES).all()
        assert len({tuple(window) for window in view.windows}) == 12
        for each, label in zip(view.windows, view.labels, strict=True):
            window = (seen_from_behind if mirrored else tuple)(each)
            assert window in known
            assert label == slow_label(window, record)


def seen_from_behind(box):
    x1, y1, x2, y2 = box
    return WIDTH - x2, y1, WIDTH - x1, y2


def test_windows_lie_on_their_objects_in_both_views(tmp_path):
    seen = set()
    for view, _, mirrored in drawn(made_batches(made_records(tmp_path)), range(20)):
        for window, label in zip(view.windows.astype(int), view.labels, strict=True):
            if label < CLASSES:
                x1, y1, x2, y2 = window
                assert view.image[y1:y2, x1:x2].mean(axis=(0, 1)).argmax() == label
                seen.add((bool(mirrored), int(label)))
    assert len(seen) == 2 * CLASSES


def test_half_of_the_views_are_mirrored(tmp_path):
    batches = made_batches(made_records(tmp_path, 1))
    mirrored = [mirrored for _, _, mirrored in drawn(batches, range(100))]
    assert 70 <= sum(mirrored) <= 130  # of 200


@pytest.mark.parametrize(
    ("batch", "images", "share", "positives", "count"),
    [
        (128, 4, 0.25, 8, 32),
        (64, 1, 0.25, 16, 64),
        (16, 4, 0.25, 1, 4),
        (4, 1, 0.01, 1, 4),
        (12, 2, 0.5, 3, 6),
        (8, 4, 0.25, 1, 2),
    ],
)
def test_share_of_positives(tmp_path, batch, images, share, positives, count):
    settings = replace(SETTINGS, batch=batch, images=images, positive_share=share)
    batches = made_batches(made_records(tmp_path), settings, store=Windows(800))
    for step in range(3):
        views = batches.draw(step)
        assert len(views) == images
        for view in views:
            assert len(view.windows) == len(view.labels) == count
            assert (view.labels < CLASSES).sum() == positives


def test_draws_hold_to_the_numbers(tmp_path, rng):
    record = made_record(tmp_path, 1)
    labels = label_windows(record, Windows().load(record.path), CLASSES)
    positives, backgrounds = int(labels.positive.sum()), int(labels.background.sum())
    assert min(positives, backgrounds) > 12
    for most, count in ((4, 9), (1, 1), (5, 5), (positives + 3, positives + 8), (999, 9999)):
        rows, classes = draw_rows(labels, everywhere(labels), (most, count), CLASSES, rng)
        objects = min(most, positives)
        others = min(count - objects, backgrounds)
        assert len(rows) == len(set(rows.tolist())) == len(classes) == objects + others
        assert rows.dtype == classes.dtype == np.int64
        assert labels.positive[rows[:objects]].all()
        assert labels.background[rows[objects:]].all()
        expected = [slow_label(window, record) for window in labels.windows[rows]]
        assert classes.tolist() == expected


def test_an_object_without_windows_gives_itself(tmp_path, rng):
    record = made_record(tmp_path, 1, labels=[2, 0])
    far = np.array([[0, 44, 3, 48]], np.float32)
    for proposals in (far, far[:0]):
        labels = label_windows(record, proposals, CLASSES)
        rows, classes = draw_rows(labels, everywhere(labels), (3, 12), CLASSES, rng)
        assert dict(zip(rows.tolist(), classes.tolist(), strict=True)) == {0: 2, 1: 0}


def test_every_window_can_be_drawn(tmp_path, rng):
    record = made_record(tmp_path, 1)
    labels = label_windows(record, Windows().load(record.path), CLASSES)
    shown = everywhere(labels)
    rows = [draw_rows(labels, shown, (4, 9), CLASSES, rng)[0] for _ in range(400)]
    expected = np.flatnonzero(labels.positive | labels.background)
    np.testing.assert_array_equal(np.unique(np.concatenate(rows)), expected)


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    records = made_records(tmp_path)
    one, other = made_batches(records), made_batches(records)
    forward = [one.draw(step) for step in range(5)]
    backward = [other.draw(step) for step in reversed(range(5))][::-1]
    assert all(map(same_views, forward, backward))
    assert not any(same_views(forward[0], each) for each in forward[1:])
    assert not same_views(forward[0], made_batches(records, seed=1).draw(0))


def test_an_image_is_drawn_anew_every_time(tmp_path):
    batches = made_batches(made_records(tmp_path, 1))
    assert batches.images(0) == [0, 0]
    views = [view for step in range(3) for view in batches.draw(step)]
    found = {tuple(sorted(map(tuple, view.windows.tolist()))) for view in views}
    assert len(found) == 6


def images_in_order(count, seed, epochs):
    """Return a permutation of all images for each epoch, one after the other."""
    return np.concatenate(
        [np.random.default_rng([seed, 1, epoch]).permutation(count) for epoch in range(epochs)]
    ).tolist()


@pytest.mark.parametrize(("count", "at_once"), [(7, 3), (7, 6), (8, 1), (8, 4), (3, 8), (1, 2)])
def test_images_of_a_step(tmp_path, count, at_once):
    records = [made_record(tmp_path, 1)] * count
    settings = Finetune(batch=2 * at_once, images=at_once)
    batches = made_batches(records, settings, seed=5)
    steps = range(4 * count)
    found = [batches.images(step) for step in steps]
    order = images_in_order(count, 5, 4 * at_once)
    assert [image for images in found for image in images] == order
    # Every image comes once an epoch.
    for epoch in range(4 * at_once):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))
    other = made_batches(records, settings, seed=5)
    assert [other.images(step) for step in reversed(steps)][::-1] == found
    if count > 1:
        other = made_batches(records, settings, seed=6)
        assert [other.images(step) for step in steps] != found


def test_images_without_trainable_objects_are_never_drawn(tmp_path):
    records = [
        made_record(tmp_path, 0, boxes=()),
        made_record(tmp_path, 1, labels=[0, 1], difficult=[True, False]),
        made_record(tmp_path, 2, difficult=[True, True]),
        made_record(tmp_path, 3),
    ]
    batches = made_batches(records)
    assert [record.image_id for record in batches.records] == ["000001", "000003"]
    assert {record.image_id for _, record, _ in drawn(batches, range(6))} == {"000001", "000003"}
    # Windows of a difficult object are not positives if it is not trained on.
    easy = made_batches(records[1:2])
    assert {label for view, _, _ in drawn(easy, range(6)) for label in view.labels} == {1, CLASSES}
    hard = made_batches(records, difficult=True)
    assert [record.image_id for record in hard.records] == ["000001", "000002", "000003"]
    hard = made_batches(records[1:2], difficult=True)
    labels = {label for view, _, _ in drawn(hard, range(6)) for label in view.labels}
    assert labels == {0, 1, CLASSES}


def test_no_objects_at_all(tmp_path):
    records = [
        made_record(tmp_path, 0, boxes=()),
        made_record(tmp_path, 1, difficult=[True, True]),
    ]
    message = "found no objects in 2 images; .*annotations, or set --data.difficult true"
    with pytest.raises(ValueError, match=message):
        made_batches(records)
    made_batches(records, difficult=True)
    with pytest.raises(ValueError, match=message):
        made_batches(records[:1] * 2, difficult=True)


def test_random_scales(tmp_path):
    batches = made_batches(made_records(tmp_path))
    counts = Counter(view.side for view, _, _ in drawn(batches, range(45)))
    assert counts.keys() == set(SCALES)
    assert min(counts.values()) > 15  # of 90


def test_best_fit_is_that_of_an_object(tmp_path):
    boxes = ((0, 0, 6, 7), (20, 2, 64, 46), (8, 30, 18, 40))
    record = made_record(tmp_path, 1, boxes=boxes, difficult=[True, False, False])
    settings = replace(SETTINGS, scale="best_fit")
    # The box of 44 x 44 pixels suits 200, as 200^2 * 44 * 44 / 48^2 = 183^2 is near 224^2;
    # the small boxes suit the largest scale.
    assert choose_scale_paper(np.array(boxes), (HEIGHT, WIDTH), SCALES).tolist() == [2, 1, 2]
    sides = [view.side for view, _, _ in drawn(made_batches([record], settings), range(40))]
    assert set(sides) == {200, 300}
    assert 20 <= sides.count(200) <= 60  # of 80
    record = made_record(tmp_path, 2, boxes=boxes, difficult=[True, False, True])
    views = [view for view, _, _ in drawn(made_batches([record], settings), range(10))]
    assert {view.side for view in views} == {200}
    assert all(type(view.side) is int for view in views)


def test_near_is_the_best_fit_or_a_scale_beside_it(tmp_path):
    settings = replace(SETTINGS, scale="near")
    # The first box suits 200; the second suits 300, and no scale is above 300.
    for number, box, expected in (
        (1, (20, 2, 64, 46), {100, 200, 300}),
        (2, (8, 30, 18, 40), {200, 300}),
    ):
        batches = made_batches([made_record(tmp_path, number, boxes=(box,))], settings)
        counts = Counter(view.side for view, _, _ in drawn(batches, range(100)))
        assert counts.keys() == expected
        assert 30 <= counts[200] <= 130  # a half or a quarter of 200
        assert all(type(view.side) is int for view in batches.draw(0))


def test_fine_scales_show_a_chip_and_its_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(chips, "CHIP_SIDE", 200)
    settings = replace(SETTINGS, scale="best_fit", jitter=0.01)
    boxes = ((0, 0, 6, 7), (20, 2, 64, 46), (8, 30, 18, 40))  # whose scales are 300, 200 and 300
    batches = made_batches([made_record(tmp_path, 1, boxes, [0, 1, 2])], settings)
    shapes = Counter()
    for step in range(30):
        for view in batches.draw(step):
            shapes[view.image.shape[:2]] += 1
            assert view.side == 200
            assert (view.windows >= 0).all()
            assert (view.windows <= view.image.shape[1::-1] * 2).all()
            for (x1, y1, x2, y2), label in zip(view.windows.astype(int), view.labels, strict=True):
                if label < CLASSES and (x2 - x1, y2 - y1) in ((6, 7), (10, 10)):
                    assert view.image[y1:y2, x1:x2].mean(axis=(0, 1)).argmax() == label
    # At 300 a chip of side 200 is two thirds of the image: 32 x 43 of its 48 x 64 pixels.
    assert shapes.keys() == {(HEIGHT, WIDTH), (32, 43)}
    assert 20 <= shapes[32, 43] <= 55  # two thirds of 60
    # Without jitter there are no chips, because the map of the whole image may be kept.
    plain = made_batches(batches.records, replace(settings, jitter=0)).draw(0)
    assert {view.image.shape[:2] for view in plain} == {(HEIGHT, WIDTH)}


def test_jitter_changes_light_and_nothing_else(tmp_path):
    records = made_records(tmp_path)
    plain, jittered = made_batches(records), made_batches(records, replace(SETTINGS, jitter=0.4))
    for step in range(5):
        for one, other in zip(plain.draw(step), jittered.draw(step), strict=True):
            assert other.image.shape == one.image.shape
            assert not np.array_equal(other.image, one.image)
    assert all(map(same_views, [jittered.draw(3)], [jittered.draw(3)]))


@pytest.mark.parametrize("batch", [4, 7, 9])
def test_batches_that_images_do_not_share_evenly_are_refused(batch):
    with pytest.raises(ValueError, match=r"Finetune\.batch must be"):
        Finetune(batch=batch, images=4)
