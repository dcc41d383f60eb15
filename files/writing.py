"""Writes files atomically, and removes the temporary files of killed writers."""

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, wraps
from pathlib import Path
from typing import IO, TypeVar

from files.reading import path_in_read_errors

T = TypeVar("T")

LEFTOVER = ".sppnet-*.part"
REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room within your quota",
    errno.EACCES: "allow writing there",
    errno.EPERM: "allow writing there",
    errno.EROFS: "name a folder on a disk that can be written to",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ENOTDIR: "name another folder: one of its folders is a file",
    errno.EEXIST: "name another folder: one of its folders is a file",
    errno.EISDIR: "name another file: there is a folder of this name",
}


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path_in_read_errors(path), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: str | Path) -> str:
    """``file_digest``, cached until the file changes: its inode, size or modification time."""
    now = Path(path).stat()
    return _digest_at(str(path), now.st_ino, now.st_size, now.st_mtime_ns)


@lru_cache(maxsize=200_000)
def _digest_at(path: str, *_: int) -> str:
    return file_digest(path)


def kept_by_content(read: Callable[[str], T]) -> Callable[[str], T]:
    """Cache a function that reads a file until the file's bytes change.

    The results for the last two files are kept.
    """

    @lru_cache(maxsize=2)
    def kept(path: str, _: str) -> T:
        return read(path)

    @wraps(read)
    def current(path: str) -> T:
        return kept(path, content_digest(path))

    return current


@contextmanager
def path_in_errors(path: str | Path) -> Iterator[None]:
    """Name the file, and a remedy, in errors of writing, for example to a full disk.

    Raises:
        OSError: for any OSError.
    """
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check its disk and folder")
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}); {remedy} and run the same "
            "command again: finished work is kept"
        ) from error


@contextmanager
def write_atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """Write ``path`` atomically: the binary file appears when the block ends, or never.

    The bytes go to a temporary file in the same folder (created if missing), which then replaces
    ``path``. A full disk, an exception or a kill leaves no partial ``path``.

    Raises:
        OSError: the file cannot be written; the message gives the file and a remedy.
    """
    path = Path(path)
    begin, end = LEFTOVER.split("*")
    with path_in_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The temporary name does not include the file's name, which may have maximum length.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=begin, suffix=end)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):  # the disk may be gone; the first error is reported
                Path(temporary).unlink()
            raise


def refuse_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Check that no file or folder to be written or deleted is an input.

    Args:
        outputs: files, or folders whose content is replaced.
        inputs: files.

    Raises:
        ValueError: an output is an input or a folder that contains one, also through links or with
            another case of the name.
    """
    places: set[Path] = set()
    folders: dict[Path, Path] = {}
    for path in map(Path, inputs):
        folder = folders.setdefault(path.parent, path.parent.resolve())
        places |= {folder / path.name, (folder / path.name).resolve()}
    places |= {parent for place in places for parent in place.parents}
    known = {_identity(place) for place in places} - {None}
    for output in outputs:
        if _identity(Path(output)) in known:
            raise ValueError(
                f"{output} would be overwritten, but it is or holds an input image; name another "
                "folder"
            )


def refuse_folders(files: Iterable[str | Path | None]) -> None:
    """Check, before any work, that no file to be written is a folder; None is ignored.

    Raises:
        ValueError: a path is a folder.
    """
    for path in files:
        if path is not None and Path(path).is_dir():
            raise ValueError(f"{path} is a folder; name a file")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, which do not depend on its name; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove_leftovers(folder: str | Path) -> tuple[list[Path], int]:
    """Delete temporary files that killed ``write_atomic`` calls left in and below a folder.

    Temporary files changed within the last hour are kept, because another process may still write
    to them.

    Returns:
        The deleted files, and the bytes of all other files; no files and 0 if there is no such
        folder.
    """
    newest = time.time() - 3600
    deleted, size = [], 0
    for path in Path(folder).rglob("*"):
        with suppress(OSError):  # deleted meanwhile, or another user's
            status = path.lstat()
            if path.match(LEFTOVER) and status.st_mtime < newest:
                path.unlink()
                deleted.append(path)
            else:
                size += status.st_size
    return deleted, size


def save_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; bytes in file names that are not valid UTF-8 are escaped."""
    with write_atomic(path) as file:
        file.write(text.encode(errors="backslashreplace"))
