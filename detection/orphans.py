"""Worker processes that end with the process that started them, however it ends.

A process that is killed ends no others: joblib's workers would wait for work for five minutes, each
with about 1 GB of memory, while the same command is started again.
"""

import os
import sys
import threading
import time

# Seconds between two looks at the parent.
INTERVAL = 1.0
# In a worker: the process that it ends with.
_watched: int | None = None


def end_with(parent: int) -> None:
    """End this process within a second after its parent, or now if the parent has ended already.

    Nothing happens in ``parent`` itself, because joblib also does jobs in the process that gave
    them, and on Windows, where a process keeps the parent that has ended. Calls after the first
    cost nothing.
    """
    global _watched
    if parent in (_watched, os.getpid()) or sys.platform == "win32":
        return
    _watched = parent
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os._exit(1)
