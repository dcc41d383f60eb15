"""Files that cannot be read though nothing may be wrong with them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard

REMEDIES = {
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ESTALE: "see that its network file system is there",
    errno.ENOTCONN: "see that its network file system is there",
    errno.ETIMEDOUT: "see that its network file system is there",
    errno.EIO: "look at its disk",
}


def not_given(error: Exception) -> TypeGuard[OSError]:
    """Whether the system did not give a file, whatever the file is."""
    return isinstance(error, OSError) and error.errno in REMEDIES


def unread(path: str | Path, error: OSError) -> OSError:
    """The error of a file that the system did not give: it may be whole, so it must be kept."""
    remedy = REMEDIES.get(error.errno or 0, "look at its disk and folder")
    return OSError(
        f"{path} could not be read ({error.strerror or error}), which need not be its fault: "
        f"keep it, {remedy} and run the same command again"
    )


@contextmanager
def path_in_read_errors(path: str | Path) -> Iterator[None]:
    """Where the system fails in the middle of a file, and names none, the error names it.

    Raises:
        OSError: in place of one that names no file, or that a disk or network gave.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and error.errno not in REMEDIES:
            raise
        raise unread(path, error) from error
