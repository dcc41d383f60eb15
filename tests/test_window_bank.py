"""Pooled training windows on disk: what each row is, and that it is always the same."""

import gc
import re
import resource
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

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
    picture_key,
    regression_rows,
)
from proposals.disk import save_array

HEIGHT, WIDTH = 64, 96
CLASSES = ("cat", "dog", "sheep")
SAMPLING = Sampling()
DAMAGE = r"\.npy/\.npz is damaged \(.*\); delete both and run the same command again"


class FakeExtractor:
    """A window's feature says where it came from: corners, and two pixels.

    The pictures' red grows by 2 a column, so the pixels in the window's first and last column tell
    its place.
    """

    facts: ClassVar = {"features": "fake"}

    def features(self, image, windows):
        rows = np.zeros((len(windows), 6), np.float32)
        for row, (x1, y1, x2, y2) in zip(rows, windows.astype(int), strict=True):
            row[:] = x1, y1, x2, y2, image[y1, x1, 0], image[y1, x2 - 1, 0]
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


def made_bank(cache, sampling=SAMPLING, windows_key="windows", classes=CLASSES, **facts):
    extractor = FakeExtractor()
    extractor.facts = FakeExtractor.facts | facts
    return WindowBank(cache, extractor, windows_key, classes, sampling)


def added(cache, record, proposals, sampling=SAMPLING):
    bank = made_bank(cache, sampling)
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
    # The file has these rows and the random ones, and no other.
    assert len(entry.rows) == len(entry.windows) + RANDOM_WINDOWS
    at_seven = added(tmp_path, record, proposals, Sampling(regression_iou=0.7))
    assert iou(at_seven.windows, record.boxes).max(axis=1).min() >= 0.7
    assert 2 < len(at_seven.windows) < len(entry.windows)


def test_without_box_regression_only_its_objects_are_kept(tmp_path):
    record, proposals = made_record(tmp_path, labels=[2, 1]), made_proposals()
    entry = added(tmp_path, record, proposals)
    fewer = added(tmp_path, record, proposals, Sampling(regression_iou=None))
    assert len(fewer.windows) == len(fewer.classes) == fewer.objects == 2
    assert len(fewer.rows) == 2 + RANDOM_WINDOWS
    np.testing.assert_array_equal(fewer.object_rows.read(), entry.object_rows.read())
    np.testing.assert_array_equal(fewer.random_rows.read(), entry.random_rows.read())


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


def test_every_window_can_be_drawn_at_random(tmp_path):
    record, proposals = made_record(tmp_path), made_proposals(count=30)
    found = set()
    for seed in range(40):
        rows = added(tmp_path, record, proposals, Sampling(seed=seed)).random_rows.read()
        found |= {tuple(row) for row in rows[:, :4].astype(int)}
    assert found == {tuple(window) for window in proposals.astype(int)}


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
    rows = [forward.load(record).random_rows.read() for record in records]
    assert not np.array_equal(rows[0], rows[1])


def test_keys(tmp_path):
    changes = {"difficult": True, "regression_iou": 0.6, "seed": 1}
    assert changes.keys() == vars(SAMPLING).keys()
    banks = [made_bank(tmp_path)]
    banks += [made_bank(tmp_path, replace(SAMPLING, **{n: v})) for n, v in changes.items()]
    banks += [
        made_bank(tmp_path, features="other"),
        made_bank(tmp_path, more=1),
        made_bank(tmp_path, windows_key="x"),
        made_bank(tmp_path, classes=CLASSES[:2]),
        made_bank(tmp_path, classes=CLASSES[::-1]),
    ]
    assert len({bank.key for bank in banks}) == len(banks)
    assert all(bank.folder == tmp_path / "bank" / bank.key for bank in banks)
    assert made_bank(tmp_path / "elsewhere").key == banks[0].key


def test_a_pictures_key_is_its_id_bytes_and_annotation(tmp_path):
    record = made_record(tmp_path)
    assert re.fullmatch("000001_[0-9a-f]{16}", picture_key(record))
    moved = record.path.with_name("moved.png")
    moved.write_bytes(record.path.read_bytes())
    assert picture_key(replace(record, path=moved)) == picture_key(record)
    changed = (
        replace(record, image_id="000002"),
        replace(record, boxes=record.boxes + 1),
        replace(record, labels=record.labels[::-1]),
        replace(record, difficult=~record.difficult),
    )
    keys = {picture_key(each) for each in (record, *changed)}
    keys.add(picture_key(made_record(tmp_path, shade=9)))
    assert len(keys) == 6
    with pytest.raises(FileNotFoundError):
        picture_key(replace(record, path=tmp_path / "none.png"))


def test_what_is_there_is_found(tmp_path):
    record, bank = made_record(tmp_path), made_bank(tmp_path)
    assert not bank.has(record)
    bank.add(record, made_proposals())
    assert made_bank(tmp_path).has(record)
    # Killed between its two files, a picture is not there.
    (bank.folder / f"{picture_key(record)}.npz").unlink()
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
    assert len(entry.regression_rows) == len(entry.object_classes) == entry.objects == 0
    assert entry.windows.shape == entry.targets.shape == (0, 4)
    assert entry.classes.shape == (0,)
    assert entry.regression_rows.read().shape == entry.object_rows.read().shape == (0, 6)
    assert entry.random_rows.read().shape == (min(count, RANDOM_WINDOWS), 6)


def test_a_picture_with_one_window(tmp_path):
    whole = np.array([[0, 0, WIDTH, HEIGHT]], np.float32)
    entry = added(tmp_path, made_record(tmp_path, boxes=[(0, 0, 90, 60)]), whole)
    # The object and the window (0.88) are there for regression, and one at random.
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
    bank = WindowBank(tmp_path, Half(), "windows", CLASSES, SAMPLING)
    bank.add(record, made_proposals())
    entry = bank.load(record)
    expected = torch.from_numpy(entry.windows / 7).bfloat16().half().numpy()
    np.testing.assert_array_equal(entry.regression_rows.read()[:, :4], expected)


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
        (".npy", lambda path: save_array(path, np.zeros((3, 6), np.float32))),
        (".npy", lambda path: save_array(path, np.zeros(6, np.float16))),
        (".npz", cut),
        (".npz", empty),
        (".npz", garble),
        (".npz", Path.unlink),
    ],
)
def test_damaged_files_are_refused(tmp_path, kind, damage):
    record, bank = made_record(tmp_path), made_bank(tmp_path)
    bank.add(record, made_proposals())
    damage(bank.folder / f"{picture_key(record)}{kind}")
    try:
        bank.load(record)
    except Exception as error:
        found = error
    gc.collect()
    assert type(found) is ValueError
    assert found.args[0].startswith(f"{bank.folder / picture_key(record)}.npy/.npz")
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
