"""Artefacts: exact round trips, the same bytes every time, and no undetected damage."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from files.artefacts import (
    TYPES,
    DamagedArtefact,
    data_offset,
    key_in,
    read_artefact,
    write_artefact,
)

KEY = "0123456789abcdef"
FACTS = {"made": "by hand", "numbers": [1, 2.5, None], "Größe": {"10": True, "9": False}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made.safetensors"


def made_arrays(rng):
    return {name: rng.integers(0, 2, (3, 2)).astype(name) for name in TYPES}


def written(path, arrays=None, facts=FACTS):
    write_artefact(path, KEY, {"a": np.arange(3.0)} if arrays is None else arrays, facts)
    return path.read_bytes()


def refused(path, key=KEY):
    """Return the message with which a damaged file is refused."""
    with pytest.raises(DamagedArtefact) as error:
        read_artefact(path, key)
    sentence = str(error.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert "delete it and run the same command again" in sentence
    return sentence


def test_all_types_come_back(path, rng):
    arrays = made_arrays(rng)
    written(path, arrays)
    found = read_artefact(path, KEY)
    assert found.facts == FACTS
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert key_in(path) == KEY


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (4, 0), (1,), (2, 3, 4), (1, 1, 1, 1)])
def test_shapes_come_back(path, rng, shape):
    arrays = {"one": rng.random(shape), "other": np.arange(5, dtype=np.uint8)}
    written(path, arrays)
    found = read_artefact(path, KEY).arrays
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_nothing_is_something(path):
    write_artefact(path, KEY, {})
    assert read_artefact(path, KEY).arrays == {}
    assert read_artefact(path, KEY).facts == {}


def test_odd_numbers_come_back(path):
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7e308])
    written(path, {"a": array}, {"low": 1e-300, "many": 0.1 + 0.2, "none": None})
    found = read_artefact(path, KEY)
    assert found.arrays["a"].tobytes() == array.tobytes()
    assert found.facts["many"] == 0.1 + 0.2


def test_order_in_memory_does_not_matter(tmp_path, rng):
    array = rng.random((5, 4)).astype(np.float32)
    made = []
    for number, each in enumerate(
        (array, np.asfortranarray(array), array.repeat(2, 1)[:, ::2], array[::-1].copy()[::-1])
    ):
        made.append(written(tmp_path / str(number), {"a": each}))
        np.testing.assert_array_equal(read_artefact(tmp_path / str(number), KEY).arrays["a"], array)
    assert len(set(made)) == 1


def test_the_same_content_gives_the_same_bytes(path, rng):
    arrays = made_arrays(rng)
    first = written(path, arrays)
    assert written(path, dict(reversed(arrays.items())), dict(reversed(FACTS.items()))) == first
    found = read_artefact(path, KEY)
    assert written(path, found.arrays, found.facts) == first


def test_facts_are_jsons(path):
    written(path, facts={"pair": (1, 2), 10: "ten", 9: "nine"})
    assert read_artefact(path, KEY).facts == {"pair": [1, 2], "10": "ten", "9": "nine"}


def test_safetensors_reads_it(path, rng):
    arrays = made_arrays(rng)
    written(path, arrays)
    found = load_file(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_where_an_array_begins(path, rng):
    arrays = made_arrays(rng)
    content = written(path, arrays)
    for name, array in arrays.items():
        begin = data_offset(path, name)
        assert content[begin : begin + array.nbytes] == array.tobytes()
        assert begin % array.itemsize == 0
    with pytest.raises(KeyError):
        data_offset(path, "none")


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([{}]), np.ones(2, ">f4"), np.ones(1, complex)]
)
def test_other_types_are_refused(path, array):
    with pytest.raises(TypeError, match=r"an artefact's arrays are of float64, .*; a is "):
        write_artefact(path, KEY, {"a": array})
    assert not path.exists()


@pytest.mark.parametrize("change", [0x01, 0x02, 0x20, 0x80, 0xFF])
def test_every_byte_matters(path, change):
    content = written(path, facts={"n": 1})
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= change
        path.write_bytes(changed)
        refused(path)
    path.write_bytes(content)
    read_artefact(path, KEY)


def test_every_length_matters(path):
    content = written(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(path)
    for more in (b"\0", b" ", content):
        path.write_bytes(content + more)
        refused(path)


def test_zeros_anywhere_are_noticed(path, rng):
    content = written(path, {"a": rng.random(40) + 1})
    for begin in range(0, len(content), 16):
        path.write_bytes(content[:begin] + bytes(16) + content[begin + 16 :])
        refused(path)
    path.write_bytes(bytes(len(content)))
    refused(path)


def test_another_key_is_an_error(path):
    written(path)
    assert f"has another key ({KEY}, expected fedcba)" in refused(path, "fedcba")


def test_files_of_other_programs_are_an_error(path):
    path.write_bytes(save({"a": np.ones(3)}))
    assert "is from another version or program" in refused(path)
    path.write_bytes(save({"a": np.ones(3)}, {"artefact": "[1, 2]"}))
    assert "is from another version or program" in refused(path)
    entry = json.dumps({"key": KEY, "facts": {}, "digest": "0" * 64})
    path.write_bytes(save({"a": np.ones(3)}, {"artefact": entry}))
    assert "its digest is not that of its content" in refused(path)
    for content in (b"", b"\x93NUMPY", b"PK\x03\x04" * 9, b"{}", b"<html></html>" * 20):
        path.write_bytes(content)
        refused(path)
        with pytest.raises(DamagedArtefact):
            key_in(path)


def test_a_huge_header_is_not_believed(path):
    content = written(path)
    for length in (2**63, 2**40, 10**8, len(content) * 2):
        path.write_bytes(length.to_bytes(8, "little") + content[8:])
        refused(path)
    header = {"a": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 24]}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    refused(path)


def test_random_bytes_are_refused(path, rng):
    for length in (1, 7, 8, 9, 64, 500):
        for _ in range(20):
            path.write_bytes(rng.bytes(length))
            refused(path)


def test_a_missing_file_is_missing(path):
    for read in (lambda: read_artefact(path, KEY), lambda: key_in(path)):
        with pytest.raises(FileNotFoundError, match=r"made\.safetensors"):
            read()


def test_a_locked_file_is_not_called_damaged(path, monkeypatch):
    def locked(*_):
        raise PermissionError(13, "Permission denied", str(path))

    written(path)
    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(PermissionError, match=r"made\.safetensors"):
        read_artefact(path, KEY)


def test_a_folder_is_no_artefact(tmp_path):
    folder = tmp_path / "made.safetensors"
    folder.mkdir()
    refused(folder)


def test_what_was_there_stays_when_writing_fails(path):
    before = written(path)
    with pytest.raises(TypeError):
        write_artefact(path, KEY, {"a": np.arange(3.0), "b": np.array([{}])})
    with pytest.raises(TypeError):
        write_artefact(path, KEY, {"a": np.arange(3.0)}, {"a": {1, 2}})
    assert path.read_bytes() == before
    assert [each.name for each in Path(path.parent).iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, r"allow more open files \(ulimit -n\)"),
        (errno.EIO, "check its disk"),
        (errno.ESTALE, "check its network file system"),
        (errno.ENOMEM, "check its disk and folder"),
    ],
)
def test_what_the_system_did_not_give_is_not_called_damaged(path, monkeypatch, number, remedy):
    """The file may be whole, and the work of hours."""

    def fails(*_):
        raise OSError(number, os.strerror(number), str(path))

    written(path)
    monkeypatch.setattr(Path, "open", fails)
    said = rf"made\.safetensors could not be read \({os.strerror(number)}\), .*: keep it, {remedy}"
    for read in (lambda: read_artefact(path, KEY), lambda: key_in(path)):
        with pytest.raises(OSError, match=said):
            read()
