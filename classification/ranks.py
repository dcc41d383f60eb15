"""The processes of a training, one or those that ``torchrun`` started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


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

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes of a tensor on the device."""
        if self.count > 1:
            distributed.all_reduce(numbers)
        return numbers

    def united(self, named: dict[str, str]) -> dict[str, str]:
        """The entries of all processes, by name."""
        parts = [named]
        if self.count > 1:
            parts = [{} for _ in range(self.count)]
            distributed.all_gather_object(parts, named)
        return dict(sorted(entry for part in parts for entry in part.items()))


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
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), count, device)
    finally:
        distributed.destroy_process_group()
