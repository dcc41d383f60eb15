"""Files that cannot be read though nothing may be wrong with them."""

import errno
from pathlib import Path

REMEDIES = {
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ESTALE: "see that its network file system is there",
    errno.EIO: "look at its disk",
}
# What the system lacks, whatever file is asked for.
OF_THE_SYSTEM = (errno.EMFILE, errno.ENFILE, errno.ESTALE)


def unread(path: str | Path, error: OSError) -> OSError:
    """The error of a file that the system did not give: it may be whole, so it must be kept."""
    remedy = REMEDIES.get(error.errno or 0, "look at its disk and folder")
    return OSError(
        f"{path} could not be read ({error.strerror or error}), which need not be its fault: "
        f"keep it, {remedy} and run the same command again"
    )
