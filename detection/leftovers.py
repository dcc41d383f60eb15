"""What killed programs left, deleted as a tool starts; the size of a cache that has grown large."""

import logging
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from files.writing import remove_leftovers

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
# What joblib and its semaphores leave there, with the id of the process that made it.
NAMES = re.compile(r"(?:sem\.loky-|joblib_memmapping_folder_)(\d+)[-_]")

# The size of a cache above this is logged: it grows with every set of images and of settings.
LARGE_CACHE_BYTES = 10**9


def sweep(run: Path, cache: Path) -> None:
    """Delete what killed programs left: half-written files in two folders, and names in memory.

    The files may be gigabytes. What was written to within the last hour stays. The size of a large
    cache is logged.
    """
    (of_run, _), (of_cache, size) = remove_leftovers(run), remove_leftovers(cache)
    for path in of_run + of_cache:
        logger.info("deleted %s, a leftover of a killed program", path)
    remove_dead_names()
    if size >= LARGE_CACHE_BYTES:
        logger.info(
            "the cache %s holds %.1f GB, %.1f GB of its disk are free; it can be deleted while "
            "nothing runs",
            *(cache, size / 1e9, shutil.disk_usage(cache).free / 1e9),
        )


def remove_dead_names(older_than: float = 3600.0) -> list[Path]:
    """Delete what killed processes of this user left in Linux's shared memory; returns it.

    Args:
        older_than: seconds since a name was made; a younger one stays.
    """
    deleted = []
    newest = time.time() - older_than
    for path in SHARED_MEMORY.glob("*"):
        maker = NAMES.match(path.name)
        if maker is None or Path("/proc", maker[1]).exists():
            continue
        with suppress(OSError):  # another program may be deleting it
            status = path.lstat()
            if status.st_uid == os.getuid() and status.st_mtime < newest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                deleted.append(path)
    return deleted
