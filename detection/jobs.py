"""Work on one image, as joblib's ``delayed`` gives it, wherever it is done."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from detection.machine import one_thread

# A function, its positional and its named arguments.
Job = tuple[Callable, tuple, dict]


def with_one_thread(job: Callable, words: tuple, named: dict) -> Any:
    """Do a job in this process, with one thread."""
    with one_thread():
        return job(*words, **named)


def elsewhere(job: Job) -> Job:
    """The job as another machine does it, where relative paths are those of this process."""
    # In one object: joblib would put larger arguments into one worker's memory, and lose the job
    # with that worker.
    return _in_folder, (str(Path.cwd()), partial(with_one_thread, *job)), {}


def _in_folder(folder: str, job: Callable[[], Any]) -> Any:
    """Do a job with relative paths from a folder.

    Raises:
        RuntimeError: the folder is not there.
    """
    try:
        os.chdir(folder)  # whether or not the one before is still there
    except OSError as error:
        raise RuntimeError(
            f"a worker on {os.uname().nodename} does not see {folder} ({error.strerror}); images, "
            "cache and runs must be on a file system that all machines have at the same paths"
        ) from error
    return job()
