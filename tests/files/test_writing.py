"""Atomic writing of files, errors with a remedy, and temporary files of killed writers."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from files.writing import (
    file_digest,
    kept_by_content,
    path_in_errors,
    refuse_inputs,
    remove_leftovers,
    save_text,
    write_atomic,
)


def test_digest_is_the_known_one_of_abc(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, example B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "a") == expected


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
@pytest.mark.parametrize("count", [1, 100_000])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, count):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    made = tempfile.mkstemp

    def on_a_full_disk(**settings):
        handle, name = made(**settings)
        os.close(handle)
        return os.open(FULL, os.O_WRONLY), name

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    with pytest.raises(OSError, match=f"^{re.escape(str(path))} cannot be written .* make room"):
        save_text(path, "word " * count)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def refused(path):
    with pytest.raises(OSError, match="cannot be written") as refusal:
        save_text(path, "words")
    assert str(refusal.value).startswith(f"{path} cannot be written (")
    return str(refusal.value)


def test_the_remedy_fits_the_cause(tmp_path):
    """The remedy asks for disk space only if the disk is full."""
    (tmp_path / "runs").write_text("")
    (tmp_path / "folder.txt").mkdir()
    assert "one of its folders is a file" in refused(tmp_path / "runs/a.txt")
    assert "one of its folders is a file" in refused(tmp_path / "runs/one/a.txt")
    assert "name a shorter path" in refused(tmp_path / ("a" * 300))
    assert "name a shorter path" in refused(tmp_path / ("a" * 300) / "a.txt")
    assert "there is a folder of this name" in refused(tmp_path / "folder.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "folder.txt"}


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room on its disk"),
        (errno.EDQUOT, "make room within your quota"),
        (errno.EROFS, "a disk that can be written to"),
        (errno.EACCES, "allow writing there"),
        (errno.EIO, "check its disk and folder"),
    ],
)
def test_remedies(number, remedy):
    with pytest.raises(OSError, match=f"^a cannot be written .*{remedy}"), path_in_errors("a"):
        raise OSError(number, os.strerror(number))


def test_a_disk_that_is_gone_reports_the_first_error(tmp_path, monkeypatch):
    """The error is the first one, not that the half-written file cannot be deleted."""

    def fails(number):
        def call(*_, **__):
            raise OSError(number, os.strerror(number))

        return call

    monkeypatch.setattr(Path, "unlink", fails(errno.EROFS))
    for number in (errno.ESTALE, errno.EIO, errno.ENOSPC):
        monkeypatch.setattr(Path, "replace", fails(number))
        with pytest.raises(OSError, match=rf"cannot be written \({os.strerror(number)}\)"):
            save_text(tmp_path / "a", "words")
    with pytest.raises(KeyboardInterrupt), write_atomic(tmp_path / "a"):
        raise KeyboardInterrupt


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    """The temporary name does not exceed the length of the file's own."""
    path = tmp_path / ("a" * 255)
    save_text(path, "words")
    assert path.read_text() == "words"


def test_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys\n"
        "from files.writing import write_atomic\n"
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
    """The leftovers have names as write_atomic gives them."""
    left = {}
    for name, age in (("old", 4000), ("young", 3000), ("below/deep/old", 9999)):
        path = tmp_path / name
        with write_atomic(path) as file:
            file.write(b"whole")
            (temporary,) = set(path.parent.glob(".*.part")) - set(left.values())
            left[name] = temporary.with_name(f".sppnet-{age}.part")
            assert temporary.name[:8] == left[name].name[:8]
        left[name].write_bytes(b"half")
        for each in (path, left[name]):
            os.utime(each, (time.time() - age,) * 2)
    other = tmp_path / "download.tar.part"  # a file of another program stays
    other.touch()
    os.utime(other, (0, 0))
    deleted, size = remove_leftovers(tmp_path)
    assert set(deleted) == {left["old"], left["below/deep/old"]}
    stays = sum(each.lstat().st_size for each in tmp_path.rglob("*"))
    assert size == stays >= 3 * len(b"whole") + len(b"half")
    assert left["young"].exists()
    assert other.exists()
    assert (tmp_path / "below/deep/old").read_bytes() == b"whole"
    assert remove_leftovers(tmp_path) == ([], size)
    assert remove_leftovers(tmp_path / "nowhere") == ([], 0)


@pytest.fixture
def inputs(tmp_path):
    """Return the images of a folder: a file, and a link to an image elsewhere."""
    for place in ("in/a.png", "store/b.png"):
        save_text(tmp_path / place, place)
    (tmp_path / "in/link.png").symlink_to(tmp_path / "store/b.png")
    return [tmp_path / "in/a.png", tmp_path / "in/link.png"]


def test_no_input_is_written_over(tmp_path, inputs, monkeypatch):
    (tmp_path / "other").symlink_to(tmp_path / "in")
    os.link(inputs[0], tmp_path / "twin.png")
    monkeypatch.chdir(tmp_path / "in")
    forbidden = [*inputs, tmp_path / "store/b.png", tmp_path / "store", tmp_path, Path("a.png")]
    # A hard link gives one file two names, as a file system that ignores case does.
    for output in (*forbidden, tmp_path / "other/a.png", tmp_path / "other", tmp_path / "twin.png"):
        with pytest.raises(ValueError, match="would be overwritten") as refusal:
            refuse_inputs([tmp_path / "fine.png", output], inputs)
        assert str(refusal.value).startswith(f"{output} would")
    refuse_inputs([tmp_path / "in/c.png", tmp_path / "none", tmp_path / "in/none/a.png"], inputs)
    refuse_inputs([tmp_path / "x.png"], [tmp_path / "x.png"])  # no file is there, so none is lost


def test_text_is_utf8(tmp_path):
    text = json.dumps({"größe": 1}, ensure_ascii=False)
    save_text(tmp_path / "a.json", text)
    assert (tmp_path / "a.json").read_bytes() == text.encode()


def test_what_is_made_of_a_file_follows_its_bytes(tmp_path):
    read = []

    @kept_by_content
    def text_of(path):
        read.append(path)
        return Path(path).read_text()

    path = tmp_path / "a.txt"
    for text in ("one", "two words"):
        path.write_text(text)
        assert [text_of(str(path)) for _ in range(3)] == [text] * 3
    save_text(path, "2 words !")  # replaces it, with as many bytes
    assert text_of(str(path)) == "2 words !"
    assert len(read) == 3
    path.unlink()
    with pytest.raises(FileNotFoundError):
        text_of(str(path))
