"""Errors of the system when a file, which may be intact, cannot be read."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

REMEDIES = {
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ESTALE: "check its network file system",
    errno.ENOTCONN: "check its network file system",
    errno.ETIMEDOUT: "check its network file system",
    errno.EIO: "check its disk",
}


def not_given(error: Exception) -> TypeGuard[OSError]:
    """Whether the system, not the file, caused the error."""
    return isinstance(error, OSError) and error.errno in REMEDIES


def unread(path: str | Path, error: OSError) -> OSError:
    """The error for a file that the system failed to read; it says to keep the file."""
    remedy = REMEDIES.get(error.errno or 0, "check its disk and folder")
    return OSError(
        f"{path} could not be read ({error.strerror or error}), but the file may be fine: "
        f"keep it, {remedy} and run the same command again"
    )


@contextmanager
def path_in_read_errors(path: str | Path) -> Iterator[None]:
    """Name the file in the system's errors, which do not name it in the middle of reading.

    Raises:
        OSError: for an OSError without a file name, or from a disk or network.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and error.errno not in REMEDIES:
            raise
        raise unread(path, error) from error
