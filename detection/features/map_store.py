"""Maps kept on disk, for training with a network whose convolutions take long.

Training visits every picture three times: for fine-tuning, for the windows that box regression
learns from, and for the SVMs. With AlexNet, computing its maps again costs less than reading them;
with VGG-16 a picture's maps take a second of a core and 2.5 MB, which are read in milliseconds.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from proposals.disk import save_array


class MapStore:
    """Maps of pictures, bit for bit as they were made.

    Args:
        folder: where they lie: a folder a trunk, a file a picture and scale.
        limit: bytes of one trunk's maps. Those past them are computed anew each time, so nothing
            fails when it is full.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit

    def get(
        self, trunk: str, image: NDArray[np.uint8], scale: int, compute: Callable[[], Tensor]
    ) -> Tensor:
        """The map ``(C, H, W)`` of a picture at a scale, channels last; on the CPU where kept.

        Args:
            trunk: key of all that determines maps beside the picture and the scale.
            image: ``(H, W, 3)``; by its content, so that a mirrored picture is another one.
            scale: shorter side in pixels.
            compute: makes the map where it is not kept.
        """
        path = self.folder / trunk / f"{scale}_{_digest(image)}.npy"
        with suppress(OSError, ValueError, EOFError):  # not there, or cut short: made again
            return _from_array(np.load(path))
        map = compute()
        array = _to_array(map.cpu())
        if _bytes_in(path.parent) + array.nbytes <= self.limit:
            save_array(path, array)
        return map


def _bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder; counted anew for every map, as several processes write."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)
    return 0


def _digest(image: NDArray[np.uint8]) -> str:
    """32 hex digits of a picture's shape and pixels."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:32]


def _to_array(map: Tensor) -> NDArray:
    """``(H, W, C)``; numpy has no bfloat16, whose bits are kept as uint16."""
    bits = map.permute(1, 2, 0).contiguous()
    return (bits.view(torch.uint16) if map.dtype == torch.bfloat16 else bits).numpy()


def _from_array(array: NDArray) -> Tensor:
    """The map of ``_to_array``."""
    bits = torch.from_numpy(array)
    return (bits.view(torch.bfloat16) if bits.dtype == torch.uint16 else bits).permute(2, 0, 1)
