"""Pooled training windows on disk: what each row is, and that it is always the same."""

import gc
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detection.boxes import iou
from detection.data.records import ImageRecord
from detection.features.extractor import WindowFeatures
from detection.training.labels import label_windows
from detection.training.window_bank import (
    RANDOM_WINDOWS,
    REGRESSION_WINDOWS,
    RowFile,
    Sampling,
    StackedRows,
    WindowBank,
    draw_rows,
    regression_rows,
)
from proposals.disk import save_array

HEIGHT, WIDTH = 64, 96
CLASSES = ("cat", "dog", "sheep")
SAMPLING = Sampling(positives=6, negatives=9)
DAMAGE = r"\.npy/\.npz is damaged \(.*\); delete both and run the same command again"


class FakeExtractor:
    """A window's feature says where it came from: scale (-1 the best fit), corners, two pixels.

    The pictures' red grows by 2 a column, so the pixels in the window's first and last column tell
    its place in the picture that was not mirrored.
    """

    scales = (100, 200, 300)

    def maps(self, image):
        return image

    def pool(self, maps, windows, scale_index=None):
        scale = np.full(len(windows), -1) if scale_index is None else scale_index
        rows = np.zeros((len(windows), 7), np.float32)
        for row, number, (x1, y1, x2, y2) in zip(rows, scale, windows.astype(int), strict=True):
            row[:] = number, x1, y1, x2, y2, maps[y1, x1, 0], maps[y1, x2 - 1, 0]
        # Equal windows have one row, and the rows are in no order of the windows.
        unique, index = np.unique(rows, axis=0, return_inverse=True)
        return WindowFeatures(torch.from_numpy(unique), index.reshape(-1))


def made_record(folder, image_id="000001", boxes=((10, 10, 50, 50), (60, 20, 90, 60)), **given):
    labels = given.get("labels", np.arange(len(boxes)) % len(CLASSES))
    difficult = given.get("difficult", np.zeros(len(boxes), bool))
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, :, 0] = 2 * np.arange(WIDTH)
    picture[:, :, 1] = given.get("shade", 0)
    path = folder / f"{image_id}.png"
    Image.fromarray(picture).save(path)
    return ImageRecord(
        image_id,
        path,
        (HEIGHT, WIDTH),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, bool),
    )


def made_proposals(seed=0, count=150):
    rng = np.random.default_rng(seed)
    near = np.array([(10, 10, 50, 50), (60, 20, 90, 60)])[rng.integers(2, size=count)]
    boxes = near + rng.integers(-18, 19, (count, 4))
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, WIDTH)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, HEIGHT)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)]
    return np.unique(boxes, axis=0).astype(np.float32)


def made_bank(cache, sampling=SAMPLING, extractor_key="features", windows_key="windows"):
    return WindowBank(cache, FakeExtractor(), extractor_key, windows_key, CLASSES, sampling)


def added(cache, record, proposals, sampling=SAMPLING):
    bank = made_bank(cache, sampling)
    bank.add(record, proposals)
    return bank.load(record)


def contents(bank):
    return {path.name: path.read_bytes() for path in sorted(bank.folder.iterdir())}


def by_window(labels):
    """Label of each fine-tuning window, K for background, by its corners."""
    known = {}
    for place, window in enumerate(labels.windows.astype(int).tolist()):
        if labels.positive[place]:
            known[tuple(window)] = labels.labels[labels.nearest[place]]
        elif labels.background[place]:
            known[tuple(window)] = len(CLASSES)
    return known


def test_fine_tuning_rows_of_both_views(tmp_path):
    record, proposals = made_record(tmp_path, difficult=[False, True]), made_proposals()
    entry = added(tmp_path, record, proposals)
    labels = label_windows(record, proposals, len(CLASSES))
    known = by_window(labels)
    assert len(entry.finetune_rows) == len(entry.labels) == 2 * (6 + 9)
    seen = [[], []]
    for place, row in enumerate(entry.finetune_rows.read()):
        scale, x1, y1, x2, y2, first, last = row.astype(int)
        assert scale in (0, 1, 2)
        mirrored = place >= 15
        if mirrored:
            x1, x2 = WIDTH - x2, WIDTH - x1
            first, last = last, first
        assert (first, last) == (2 * x1, 2 * (x2 - 1))
        assert entry.labels[place] == known[x1, y1, x2, y2]
        seen[mirrored].append((x1, y1, x2, y2))
    for view in seen:
        assert len(set(view)) == 15
    assert seen[0] != seen[1]
    for half in (entry.labels[:15], entry.labels[15:]):
        assert (half[:6] == 0).all()  # the second object is difficult
        assert (half[6:] == len(CLASSES)).all()
    assert len(np.unique(entry.finetune_rows.read()[:, 0])) == 3


def test_best_fit_scale_of_fine_tuning_rows(tmp_path):
    sampling = replace(SAMPLING, scale="best_fit")
    entry = added(tmp_path, made_record(tmp_path), made_proposals(), sampling)
    assert (entry.finetune_rows.read()[:, 0] == -1).all()


def test_box_regression_rows(tmp_path):
    record, proposals = made_record(tmp_path, labels=[2, 1]), made_proposals()
    entry = added(tmp_path, record, proposals)
    rows = entry.regression_rows.read()
    assert (rows[:, 0] == -1).all()
    np.testing.assert_array_equal(rows[:, 1:5], entry.windows)
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


def test_random_rows(tmp_path):
    proposals = made_proposals()
    rows = added(tmp_path, made_record(tmp_path), proposals).random_rows.read()
    assert len(rows) == RANDOM_WINDOWS
    assert (rows[:, 0] == -1).all()
    found = {tuple(row) for row in rows[:, 1:5].astype(int)}
    assert len(found) == RANDOM_WINDOWS
    assert found <= {tuple(window) for window in proposals.astype(int)}


def test_draws_hold_to_the_numbers(tmp_path, rng):
    labels = label_windows(made_record(tmp_path), made_proposals(), len(CLASSES))
    positives, backgrounds = labels.positive.sum(), labels.background.sum()
    index, drawn = draw_rows(labels, Sampling(positives=4, negatives=5), 3, rng)
    assert len(index) == len(set(index)) == len(drawn) == 9
    assert labels.positive[index[:4]].all()
    assert labels.background[index[4:]].all()
    index, drawn = draw_rows(labels, Sampling(positives=999, negatives=999), 3, rng)
    assert (drawn < 3).sum() == positives
    assert (drawn == 3).sum() == backgrounds


def test_every_window_can_be_drawn(tmp_path, rng):
    labels = label_windows(made_record(tmp_path), made_proposals(), len(CLASSES))
    drawn = [draw_rows(labels, Sampling(positives=4, negatives=5), 3, rng)[0] for _ in range(400)]
    expected = np.flatnonzero(labels.positive | labels.background)
    np.testing.assert_array_equal(np.unique(np.concatenate(drawn)), expected)


def test_rows_depend_on_seed_and_picture_only(tmp_path):
    records = [made_record(tmp_path, f"{n:06}", shade=n) for n in range(4)]
    proposals = made_proposals()
    forward, backward, apart = (made_bank(tmp_path / name) for name in "abc")
    for record in records:
        forward.add(record, proposals)
    for record in reversed(records):
        backward.add(record, proposals)
    assert contents(forward) == contents(backward)
    apart.add(records[2], proposals)
    assert contents(apart).items() <= contents(forward).items()
    # The same windows on another picture are drawn anew.
    rows = [forward.load(record).finetune_rows.read() for record in records]
    assert not np.array_equal(rows[0], rows[1])
    other = added(tmp_path / "d", records[0], proposals, replace(SAMPLING, seed=1))
    assert not np.array_equal(other.finetune_rows.read(), rows[0])


def test_keys(tmp_path):
    changes = {
        "positives": 7,
        "negatives": 8,
        "scale": "best_fit",
        "difficult": True,
        "regression_iou": 0.6,
        "seed": 1,
    }
    assert changes.keys() == vars(SAMPLING).keys()
    banks = [made_bank(tmp_path)]
    banks += [made_bank(tmp_path, replace(SAMPLING, **{n: v})) for n, v in changes.items()]
    banks += [made_bank(tmp_path, extractor_key="x"), made_bank(tmp_path, windows_key="x")]
    banks += [WindowBank(tmp_path, FakeExtractor(), "features", "windows", CLASSES[:2], SAMPLING)]
    assert len({bank.key for bank in banks}) == len(banks)
    assert made_bank(tmp_path / "elsewhere").key == banks[0].key


def test_what_is_there_is_found(tmp_path):
    record, bank = made_record(tmp_path), made_bank(tmp_path)
    assert not bank.has(record)
    bank.add(record, made_proposals())
    assert made_bank(tmp_path).has(record)
    # Killed between its two files, a picture is not there.
    (bank.folder / f"{bank.name_of(record)}.npz").unlink()
    assert not bank.has(record)
    bank.add(record, made_proposals())
    assert bank.has(record)
    changed = (
        replace(record, boxes=record.boxes + 1),
        replace(record, labels=record.labels[::-1]),
        replace(record, difficult=~record.difficult),
        made_record(tmp_path, shade=9),
    )
    for other in changed:
        assert not bank.has(other)


@pytest.mark.parametrize("count", [1, 150])
def test_a_picture_without_objects(tmp_path, count):
    record = made_record(tmp_path, boxes=())
    entry = added(tmp_path, record, made_proposals(count=count))
    assert len(entry.labels) == len(entry.finetune_rows) == entry.objects == 0
    assert entry.windows.shape == entry.targets.shape == (0, 4)
    assert entry.classes.shape == (0,)
    assert entry.regression_rows.read().shape == entry.object_rows.read().shape == (0, 7)
    assert entry.random_rows.read().shape == (min(count, RANDOM_WINDOWS), 7)


def test_a_picture_with_one_window(tmp_path):
    whole = np.array([[0, 0, WIDTH, HEIGHT]], np.float32)
    entry = added(tmp_path, made_record(tmp_path, boxes=[(0, 0, 90, 60)]), whole)
    # The object and the window (0.88) are drawn in both views, for regression, and one at random.
    assert entry.labels.tolist() == [0, 0, 0, 0]
    assert len(entry.regression_rows) == 2
    assert entry.random_rows.read()[:, 1:5].tolist() == whole.tolist()


def test_difficult_objects_are_trained_on_when_asked(tmp_path):
    record = made_record(tmp_path, difficult=[False, True])
    sampling = replace(SAMPLING, difficult=True, positives=99)
    entry = added(tmp_path, record, made_proposals(), sampling)
    assert entry.objects == 2
    assert set(entry.labels) == {0, 1, len(CLASSES)}


def test_objects_in_one_place_keep_their_classes(tmp_path):
    record = made_record(tmp_path, boxes=[(10, 10, 50, 50), (10, 10, 50, 50)], labels=[2, 1])
    assert added(tmp_path, record, made_proposals()).object_classes.tolist() == [2, 1]


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def empty(path):
    path.write_bytes(b"")


def garble(path):
    path.write_bytes(b"no rows" * 20)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (".npy", cut),
        (".npy", empty),
        (".npy", garble),
        (".npy", Path.unlink),
        (".npy", lambda path: save_array(path, np.zeros((3, 7), np.float32))),
        (".npy", lambda path: save_array(path, np.zeros(7, np.float16))),
        (".npz", cut),
        (".npz", empty),
        (".npz", garble),
        (".npz", Path.unlink),
    ],
)
def test_damaged_files_are_refused(tmp_path, kind, damage):
    record, bank = made_record(tmp_path), made_bank(tmp_path)
    bank.add(record, made_proposals())
    damage(bank.folder / f"{bank.name_of(record)}{kind}")
    try:
        bank.load(record)
    except Exception as error:
        found = error
    gc.collect()
    assert type(found) is ValueError
    assert found.args[0].startswith(f"{bank.folder / bank.name_of(record)}.npy/.npz")
    with pytest.raises(ValueError, match=DAMAGE):
        raise found


def row_files(folder, counts, length=5):
    """Files of random rows, and the rows one below the other."""
    rng = np.random.default_rng(0)
    parts, rows = [], [np.zeros((0, length), np.float16)]
    for number, count in enumerate(counts):
        rows.append(rng.random((count, length)).astype(np.float16))
        save_array(folder / f"{number}.npy", rows[-1])
        parts.append(RowFile.open(folder / f"{number}.npy"))
    return parts, np.concatenate(rows)


def test_parts_of_a_file_are_its_slices(tmp_path):
    (whole,), rows = row_files(tmp_path, [12])
    assert len(whole) == 12
    np.testing.assert_array_equal(whole.read(), rows)
    part = whole.part(3, 6)
    assert len(part) == 6
    np.testing.assert_array_equal(part.read(), rows[3:9])
    np.testing.assert_array_equal(part.part(2, 3).read(), rows[5:8])
    np.testing.assert_array_equal(part.part(2, 3).read(1, 1), rows[6:7])
    assert part.part(4, 0).read().shape == (0, 5)


def test_stacked_rows_are_the_concatenation(tmp_path, rng):
    parts, rows = row_files(tmp_path, [3, 0, 7, 1, 0, 4])
    stacked = StackedRows(parts)
    assert len(stacked) == 15
    assert stacked.shape == rows.shape == (15, 5)
    np.testing.assert_array_equal(stacked[np.arange(15)], rows)
    some = rng.integers(15, size=40)
    np.testing.assert_array_equal(stacked[some], rows[some])
    assert stacked[some].dtype == np.float16
    assert stacked[some[:0]].shape == (0, 5)


def test_many_files_need_few_descriptors(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        parts, rows = row_files(tmp_path, [2] * 1000, length=3)
        found = StackedRows(parts)[np.arange(2000)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    np.testing.assert_array_equal(found, rows)
