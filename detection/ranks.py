"""The processes of a training, one or those that ``torchrun`` started."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from joblib import cpu_count
from torch import Tensor, distributed

# The others wait while the first does work that cannot be shared, such as windows. If one dies, all
# end.
PATIENCE = timedelta(days=7)

T = TypeVar("T")


def rank_of_process() -> int:
    """This process's number among torchrun's processes; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        rank: its number, from 0; that of 0 writes.
        count: of all.
        device: where it computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def beside(self) -> int:
        """How many of them are on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes of a tensor on the device."""
        if self.count > 1:
            distributed.all_reduce(numbers)
        return numbers

    def of_first(self, value: T) -> T:
        """What the first process has, for all."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values)
        return values[0]

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Let the first process run, then the others, which find its files."""
        if self.rank:
            self.of_first(None)
        yield
        if not self.rank:
            self.of_first(None)

    @contextmanager
    def parted_cores(self) -> Iterator[None]:
        """This machine's cores shared out to its processes, while they compute side by side."""
        before = torch.get_num_threads()
        if self.count > 1:
            torch.set_num_threads(max(1, cpu_count(only_physical_cores=True) // self.beside))
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def united(self, named: dict[str, str]) -> dict[str, str]:
        """The entries of all processes, by name."""
        parts = [named]
        if self.count > 1:
            parts = [{} for _ in range(self.count)]
            distributed.all_gather_object(parts, named)
        return dict(sorted(entry for part in parts for entry in part.items()))


ALONE = Ranks(0, 1, torch.device("cpu"))


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The ranks, on this kind of device, until the block ends.

    Raises:
        RuntimeError: the other processes cannot be reached.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    kind = "nccl" if device.type == "cuda" else "gloo"
    # If one fails before it is here, torchrun ends the others by a signal. They wait in C++, where
    # no handler of Python's runs: it would kill them half a minute later.
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    distributed.init_process_group(kind, timeout=PATIENCE)
    signal.signal(signal.SIGTERM, handler)
    try:
        yield Ranks(distributed.get_rank(), count, device)
    finally:
        distributed.destroy_process_group()
