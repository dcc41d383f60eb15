"""How a tool is stopped: Ctrl-C, a kill or a closed terminal end it in one line, at any moment.

``quit_when_stopped`` serves from the start of a tool on, while its imports take seconds, and
``stoppable`` while it is at work.
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
    """A signal raises Stopped in this block; worker processes do not outlive it then.

    Raises:
        SystemExit: in place of Stopped and of what followed from it, with 128 and the signal's
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
        if not stopped:  # else it is of something that was torn down half-way
            raise
    finally:
        if stopped:
            _handle(signal.SIG_IGN)
            end_processes()
            print("stopped; the same command resumes here", file=sys.stderr)
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped:
        sys.exit(128 + stopped[0])


def end_processes() -> None:
    """Kill the processes that this one started, whatever they are doing."""
    for child in active_children():
        with suppress(OSError):  # it may just have ended
            if child.pid:
                os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def quit_when_stopped() -> None:
    """From now on a signal ends this process at once: one line, status 128 and its number."""
    _handle(_quit)


def _quit(number: int, _: FrameType | None) -> None:
    """End at once: nothing is at work, and whatever is being imported may catch exceptions."""
    end_processes()
    os.write(2, b"stopped\n")
    os._exit(128 + number)


def _handle(handler: Handler) -> dict[int, Handler]:
    """Install a handler; returns those before it. A signal that is ignored, as by nohup, stays so.

    Python allows it in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    known = {number: signal.getsignal(number) for number in SIGNALS}
    known = {n: each for n, each in known.items() if each not in (signal.SIG_IGN, None)}
    for number in known:
        signal.signal(number, handler)
    return known
