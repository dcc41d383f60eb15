"""The files of the window bank: their keys, damage to them, and rows read from many."""

import os
import re
import resource
from dataclasses import replace

import numpy as np
import pytest
from made_feature_cache import CLASSES, SAMPLING, made_feature_cache, made_proposals, made_record

from detection.training.feature_cache import image_key
from detection.training.row_files import RowFile, StackedRows
from files.artefacts import DamagedArtefact, write_artefact


def test_keys(tmp_path):
    changes = {"difficult": True, "regression_iou": 0.6, "seed": 1}
    assert changes.keys() == vars(SAMPLING).keys()
    banks = [made_feature_cache(tmp_path)]
    banks += [made_feature_cache(tmp_path, replace(SAMPLING, **{n: v})) for n, v in changes.items()]
    banks += [
        made_feature_cache(tmp_path, features="other"),
        made_feature_cache(tmp_path, more=1),
        made_feature_cache(tmp_path, windows_key="x"),
        made_feature_cache(tmp_path, classes=CLASSES[:2]),
        made_feature_cache(tmp_path, classes=CLASSES[::-1]),
    ]
    assert len({bank.key for bank in banks}) == len(banks)
    assert all(bank.folder == tmp_path / "bank" / bank.key for bank in banks)
    assert made_feature_cache(tmp_path / "elsewhere").key == banks[0].key


def test_an_images_key_is_its_id_bytes_and_annotation(tmp_path):
    record = made_record(tmp_path)
    assert re.fullmatch("000001_[0-9a-f]{16}", image_key(record))
    moved = record.path.with_name("moved.png")
    moved.write_bytes(record.path.read_bytes())
    assert image_key(replace(record, path=moved)) == image_key(record)
    changed = (
        replace(record, image_id="000002"),
        replace(record, boxes=record.boxes + 1),
        replace(record, labels=record.labels[::-1]),
        replace(record, difficult=~record.difficult),
    )
    keys = {image_key(each) for each in (record, *changed)}
    keys.add(image_key(made_record(tmp_path, shade=9)))
    assert len(keys) == 6
    with pytest.raises(FileNotFoundError):
        image_key(replace(record, path=tmp_path / "none.png"))


def test_what_is_there_is_found(tmp_path):
    record, bank = made_record(tmp_path), made_feature_cache(tmp_path)
    assert not bank.has(record)
    bank.add(record, made_proposals())
    assert made_feature_cache(tmp_path).has(record)
    changed = (
        replace(record, boxes=record.boxes + 1),
        replace(record, labels=record.labels[::-1]),
        replace(record, difficult=~record.difficult),
        made_record(tmp_path, shade=9),
    )
    for other in changed:
        assert not bank.has(other)


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        zeros,
        flip,
    ],
)
def test_damaged_files_are_refused(tmp_path, damage):
    record, bank = made_record(tmp_path), made_feature_cache(tmp_path)
    bank.add(record, made_proposals())
    (file,) = bank.folder.iterdir()
    damage(file)
    with pytest.raises(DamagedArtefact, match=f"{file} is damaged .*; delete it and run the same"):
        bank.load(record)


def test_another_images_file_is_refused(tmp_path):
    bank = made_feature_cache(tmp_path)
    one, other = made_record(tmp_path, "1"), made_record(tmp_path, "2", shade=9)
    for record in (one, other):
        bank.add(record, made_proposals())
    first, second = sorted(bank.folder.iterdir())
    second.replace(first)
    with pytest.raises(DamagedArtefact, match=r"1-.* has another key"):
        bank.load(one)


def test_ids_with_dots_and_folders_have_files_of_their_own(tmp_path):
    bank = made_feature_cache(tmp_path)
    for image_id in ("a.rf.1", "a.rf.2", "a", "day/a", "day.a"):
        record = replace(made_record(tmp_path), image_id=image_id)
        assert not bank.has(record)
        bank.add(record, made_proposals())
        assert bank.load(record).objects == 2
    assert len(list(bank.folder.iterdir())) == 5
    assert all(path.is_file() for path in bank.folder.iterdir())


def test_a_bank_that_was_sent_is_given_an_extractor(tmp_path):
    record, bank = made_record(tmp_path), made_feature_cache(tmp_path)
    sent = bank.served_by(None)
    with pytest.raises(RuntimeError, match="sent without its extractor"):
        sent.add(record, made_proposals())
    sent.served_by(bank.extractor).add(record, made_proposals())
    assert bank.load(record).objects == 2


def row_files(folder, counts, length=5):
    """Write files of random rows; return their parts, and all rows in one array."""
    rng = np.random.default_rng(0)
    parts, rows = [], [np.zeros((0, length), np.float16)]
    for number, count in enumerate(counts):
        rows.append(rng.random((count, length)).astype(np.float16))
        file = folder / f"{number}.safetensors"
        write_artefact(file, "key", {"before": np.ones(number), "rows": rows[-1]})
        parts.append(RowFile.of(file, "rows", rows[-1]))
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


def test_rows_that_the_disk_no_longer_gives(tmp_path):
    (whole,), _ = row_files(tmp_path, [12])
    os.truncate(whole.path, whole.path.stat().st_size - 1)
    whole.read(0, 11)
    with pytest.raises(OSError, match=r"0\.safetensors could not be read .*: keep it, "):
        whole.read()


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
