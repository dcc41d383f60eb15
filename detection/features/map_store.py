"""Maps kept on disk, for training with a network whose convolutions take long.

Training visits every image three times: for fine-tuning, for the windows that box regression
learns from, and for the SVMs. Reading maps takes milliseconds. Making them takes half a second of a
core with AlexNet at five scales, and a second with VGG-16 at one.

After a ReLU most numbers are 0: of AlexNet's conv5 about nine in ten. A file holds a bit for each
number, and the numbers that are not 0.
"""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from files.artefacts import DamagedArtefact, read_artefact, write_artefact

# Maps that this process misses until the folder, which others fill too, is counted again.
COUNT_EVERY = 100
# Part of every key: raise it when files are laid out in another way.
FORMAT = 2

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
        path, key = self.folder / trunk / f"{name}.safetensors", f"{trunk} {name} {FORMAT}"
        try:
            return _unpacked(read_artefact(path, key).arrays)
        except FileNotFoundError:
            pass
        except DamagedArtefact as error:
            logger.warning("%s; it is made anew", error)
        map = compute()
        arrays = _packed(map.cpu())
        if self._has_room(path.parent, sum(array.nbytes for array in arrays.values())):
            write_artefact(path, key, arrays)
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


def _packed(map: Tensor) -> dict[str, NDArray]:
    """A map ``(C, H, W)`` as arrays: ``shape`` (H, W, C), ``places`` and ``values``.

    ``places`` has a bit for each number, channels last, 1 where it is not 0; ``values`` are these
    numbers. Numpy has no bfloat16, whose bits are kept as uint16. A zero with a sign is a value.
    """
    numbers = map.permute(1, 2, 0).contiguous()
    array = (numbers.view(torch.uint16) if map.dtype == torch.bfloat16 else numbers).numpy()
    row = array.ravel()
    places = row.view(f"u{row.itemsize}") != 0
    return {
        "shape": np.array(array.shape),
        "places": np.packbits(places),
        "values": row[places],
    }


def _unpacked(arrays: Mapping[str, NDArray]) -> Tensor:
    """The map of ``_packed``."""
    shape, values = arrays["shape"], arrays["values"]
    numbers = np.zeros(math.prod(shape), values.dtype)
    numbers[np.unpackbits(arrays["places"], count=len(numbers)).view(np.bool_)] = values
    map = torch.from_numpy(numbers.reshape(shape))
    return (map.view(torch.bfloat16) if map.dtype == torch.uint16 else map).permute(2, 0, 1)
