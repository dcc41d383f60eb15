"""How a tool is stopped: Ctrl-C, a kill or a closed terminal end it at any moment, with one line.

``quit_when_stopped`` is in force from a tool's start, while imports take seconds; ``stoppable``
while it works.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in dir(signal)]

Handler = Callable[[int, FrameType | None], Any] | int | None


class Stopped(KeyboardInterrupt):
    """A signal to stop came; its number is the argument."""


@contextmanager
def stoppable() -> Iterator[None]:
    """A signal raises Stopped in this block, and ends worker processes.

    Raises:
        SystemExit: in place of Stopped and of errors that it caused, with 128 plus the signal's
            number.
    """
    stopped: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        raise Stopped(number)

    before = _handle(stop)
    try:
        yield
    except KeyboardInterrupt:
        stopped.append(signal.SIGINT)
    except Exception:
        if not stopped:  # otherwise the stop caused it
            raise
    finally:
        if stopped:
            _handle(signal.SIG_IGN)
            end_processes()
            close_bars()
            print("stopped; the same command resumes here", file=sys.stderr)
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped:
        sys.exit(128 + stopped[0])


def end_processes() -> None:
    """Kill the processes that this one started."""
    for child in active_children():
        with suppress(OSError):  # it may just have ended
            if child.pid:
                os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def close_bars() -> None:
    """End the lines of progress bars that what was stopped has left open."""
    from tqdm import tqdm  # not while the handlers of a tool's start are still to be installed

    for bar in list(tqdm._instances):
        bar.close()


def quit_when_stopped() -> None:
    """From now on a signal ends this process at once: one line, status 128 plus its number."""
    _handle(_quit)


def _quit(number: int, _: FrameType | None) -> None:
    """End without an exception, which a module that is being imported might catch."""
    end_processes()
    os.write(2, b"stopped\n")
    os._exit(128 + number)


def _handle(handler: Handler) -> dict[int, Handler]:
    """Install a handler; returns the handlers before it. Signals ignored by nohup stay ignored.

    Python allows this in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    known = {number: signal.getsignal(number) for number in SIGNALS}
    known = {n: each for n, each in known.items() if each not in (signal.SIG_IGN, None)}
    for number in known:
        signal.signal(number, handler)
    return known
