"""Worker processes that end with the process that started them, however it ends.

A process that is killed ends no others: joblib's workers would wait for work for five minutes, each
with about 1 GB of memory, while the same command is started again.
"""

import os
import threading
import time

# Seconds between two looks at the parent.
INTERVAL = 1.0
# In a worker: the process that it ends with.
_watched: int | None = None


def end_with(parent: int) -> None:
    """End this process within a second after its parent, if ``parent`` is that.

    Otherwise nothing happens: joblib also does jobs in the process that gave them. Calls after the
    first cost nothing.
    """
    global _watched
    if _watched is None and os.getppid() == parent:
        _watched = parent
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    os._exit(1)
