import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proposals.disk import (
    file_digest,
    key_of,
    read_picture,
    remove_leftovers,
    save_array,
    save_text,
    write_atomic,
)


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_picture_comes_back_as_written(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, pixels)
    np.testing.assert_array_equal(read_picture(str(tmp_path / "a.png")), pixels)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, pixels, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(pixels).convert(mode).save(path)
    picture = read_picture(path)
    assert picture.shape == (20, 30, 3)
    assert picture.dtype == np.uint8


def test_grey_becomes_three_equal_channels(tmp_path, pixels):
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "a.png")
    expected = np.repeat(pixels[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), expected)


def test_exif_turn_is_undone(tmp_path, pixels):
    # orientation 6: the stored picture is shown turned by 90 degrees clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.rot90(pixels, -1))


def test_missing_picture_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no picture at .*none\.jpg"):
        read_picture(tmp_path / "none.jpg")


def test_folder_is_no_picture(tmp_path):
    with pytest.raises(FileNotFoundError, match="no picture at"):
        read_picture(tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_picture_cut_short_is_refused(tmp_path, pixels, name):
    path = tmp_path / name
    Image.fromarray(np.kron(pixels, np.ones((4, 4, 1), np.uint8))).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name} is not a readable picture .*whole JPEG or PNG"):
        read_picture(path)


@pytest.mark.parametrize("content", [b"", b"no picture at all"])
def test_what_is_no_picture_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg is not a readable picture"):
        read_picture(tmp_path / "a.jpg")


def test_digest_is_the_known_one_of_abc(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, example B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "a") == expected


def test_key_depends_on_values_and_not_on_order():
    assert key_of({"a": 1, "b": [2, None]}) == key_of({"b": [2, None], "a": 1})
    keys = [key_of({"a": value}) for value in (1, 2, "1", 1.5, None, True, [1], {"b": 1})]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)


def test_key_refuses_what_has_no_json():
    with pytest.raises(TypeError, match="not JSON serializable"):
        key_of({"a": object()})


def test_file_appears_only_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    with write_atomic(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail():
        with write_atomic(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


@needs_full
@pytest.mark.parametrize("rows", [1, 100_000])
def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, rows):
    """NumPy itself says how many bytes it wrote, and nothing of the file or the disk."""
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")
    made = tempfile.mkstemp

    def on_a_full_disk(**settings):
        handle, name = made(**settings)
        os.close(handle)
        return os.open(FULL, os.O_WRONLY), name

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    with pytest.raises(OSError, match=f"^{re.escape(str(path))} cannot be written .* make room"):
        save_array(path, np.zeros(rows))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match=r"runs/a.txt cannot be written \(.*\); make room"):
        save_text(tmp_path / "runs/a.txt", "words")


def test_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys\n"
        "from proposals.disk import write_atomic\n"
        "with write_atomic(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert ended.returncode == -9
    assert path.read_bytes() == b"old"
    leftover = [each for each in tmp_path.iterdir() if each != path]
    assert [each.suffix for each in leftover] == [".part"]
    save_text(path, "next")
    assert path.read_text() == "next"


def test_only_what_was_left_long_ago_is_deleted(tmp_path):
    """Made by write_atomic itself, so that the names are the ones it gives."""
    left = {}
    for name, age in (("old", 4000), ("young", 3000)):
        with write_atomic(tmp_path / name) as file:
            (temporary,) = (path for path in tmp_path.glob(".*") if path not in left.values())
            left[name] = temporary.with_name(f".{name}.left.part")
            left[name].write_bytes(b"half")
            file.write(b"whole")
        os.utime(left[name], (time.time() - age,) * 2)
        os.utime(tmp_path / name, (time.time() - 9999,) * 2)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / left["old"].name).write_bytes(b"")
    os.utime(tmp_path / "below" / left["old"].name, (0, 0))
    assert remove_leftovers(tmp_path) == [left["old"]]
    assert {path.name for path in tmp_path.iterdir()} == {
        "old",
        "young",
        left["young"].name,
        "below",
    }
    assert len(list((tmp_path / "below").iterdir())) == 1
    assert remove_leftovers(tmp_path) == remove_leftovers(tmp_path / "nowhere") == []


@pytest.mark.parametrize("shape", [(0, 4), (3, 4), ()])
def test_array_round_trip(tmp_path, rng, shape):
    array = np.asarray(rng.normal(size=shape), np.float32)
    save_array(tmp_path / "a.npy", array)
    read = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_array_of_objects_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        save_array(tmp_path / "a.npy", np.array([{}], dtype=object))
    assert not list(tmp_path.iterdir())


def test_text_is_utf8(tmp_path):
    text = json.dumps({"größe": 1}, ensure_ascii=False)
    save_text(tmp_path / "a.json", text)
    assert (tmp_path / "a.json").read_bytes() == text.encode()
