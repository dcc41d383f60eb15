"""The files of the window bank: their keys, damage to them, and rows read from many."""

import gc
import re
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_bank import CLASSES, SAMPLING, made_bank, made_proposals, made_record

from detection.training.window_bank import RowFile, StackedRows, picture_key
from proposals.disk import save_array

DAMAGE = r"\.npy/\.npz is damaged \(.*\); delete both and run the same command again"


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
