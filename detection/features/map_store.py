"""Maps kept on disk, for training with a network whose convolutions take long.

Training visits every image three times: for fine-tuning, for the windows that box regression
learns from, and for the SVMs. Reading maps takes milliseconds. Making them takes half a second of a
core with AlexNet at five scales (8 MB an image), and a second with VGG-16 at one (2.5 MB).
"""

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from files.artefacts import DamagedArtefact, read_artefact, write_artefact

# Maps that this process misses until the folder, which others fill too, is counted again.
COUNT_EVERY = 100

logger = logging.getLogger(__name__)


class MapStore:
    """Maps of images, bit for bit as they were made.

    Args:
        folder: where they lie: a folder a trunk, a file an image and scale.
        limit: bytes of one trunk's maps. Those past them are computed anew each time, so nothing
            fails when it is full.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self._bytes: dict[Path, int] = {}
        self._missed = 0

    def get(
        self, trunk: str, image: NDArray[np.uint8], scale: int, compute: Callable[[], Tensor]
    ) -> Tensor:
        """The map ``(C, H, W)`` of an image at a scale, channels last; on the CPU where kept.

        Args:
            trunk: key of all that determines maps beside the image and the scale.
            image: ``(H, W, 3)``; by its content, so that a mirrored image is another one.
            scale: shorter side in pixels.
            compute: makes the map where it is not kept.
        """
        name = f"{scale}_{_digest(image)}"
        path, key = self.folder / trunk / f"{name}.safetensors", f"{trunk} {name}"
        try:
            return _from_array(read_artefact(path, key).arrays["map"])
        except FileNotFoundError:
            pass
        except DamagedArtefact as error:
            logger.warning("%s; it is made anew", error)
        map = compute()
        array = _to_array(map.cpu())
        if self._has_room(path.parent, array.nbytes):
            write_artefact(path, key, {"map": array})
        return map

    def _has_room(self, folder: Path, more: int) -> bool:
        """Whether so many bytes more fit below the limit; they count as written then."""
        if self._missed % COUNT_EVERY == 0 or folder not in self._bytes:
            self._bytes[folder] = _bytes_in(folder)
        self._missed += 1
        if self._bytes[folder] + more > self.limit:
            return False
        self._bytes[folder] += more
        return True


def _bytes_in(folder: Path) -> int:
    """Bytes of the files in a folder."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries)
    return 0


def _digest(image: NDArray[np.uint8]) -> str:
    """32 hex digits of an image's shape and pixels."""
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
