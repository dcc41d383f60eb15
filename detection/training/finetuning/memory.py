"""Freed memory kept for the next tensor, while a training loop runs."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
DEFAULTS = {M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_MAX: 65536}


def hand_back() -> None:
    """Give freed memory back to the system now; elsewhere than on glibc nothing happens.

    Small blocks of a stage, freed at its end, otherwise count towards the next one's peak.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    trim = getattr(library, "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[Callable[[], None]]:
    """Make glibc keep large freed blocks inside the block, and hand them back after it.

    By default every large tensor's pages go back to the system when it is freed and are got
    again, one by one, for the next: a fine-tuning batch took 0.47 s instead of 0.21
    (docs/decisions.md). Where sizes vary from step to step kept blocks pile up: call what the
    manager yields now and then, and they are handed back. Elsewhere than on glibc all this does
    nothing.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    mallopt = getattr(library, "mallopt", None)
    if library is None or mallopt is None:
        yield lambda: None
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield hand_back
    finally:
        for option, value in DEFAULTS.items():
            mallopt(option, value)
        hand_back()
