"""Stores maps on disk, for training with networks whose convolutions take long.

Training uses every image three times: for fine-tuning, for box regression and for the SVMs. Reading
maps takes milliseconds. Computing them takes half a second of one core with AlexNet at five scales,
and a second with VGG-16 at one.

After a ReLU most numbers are 0: about nine in ten in AlexNet's conv5. So a file contains one bit
for each number, and the numbers that are not 0.
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

# Other processes fill the folder too, so its size is measured again after this many missing maps.
COUNT_EVERY = 100
# Part of every key: raise it when the layout of the files changes.
FORMAT = 2

logger = logging.getLogger(__name__)


class MapStore:
    """Maps of images, stored bit for bit.

    Args:
        folder: of the store: one subfolder per trunk, one file per image and scale.
        limit: largest number of bytes of one trunk's maps. Further maps are computed each time, so
            a full store is not an error.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self._bytes: dict[Path, int] = {}
        self._missed = 0

    def get(
        self, trunk: str, image: NDArray[np.uint8], scale: int, compute: Callable[[], Tensor]
    ) -> Tensor:
        """The map ``(C, H, W)`` of an image at a scale, channels last; a stored map is on the CPU.

        Args:
            trunk: key of everything that determines maps, except the image and the scale.
            image: ``(H, W, 3)``, identified by its content: a mirrored image is another image.
            scale: shorter side in pixels.
            compute: computes the map if it is not stored.
        """
        name = f"{scale}_{_digest(image)}"
        path, key = self.folder / trunk / f"{name}.safetensors", f"{trunk} {name} {FORMAT}"
        try:
            return _unpacked(read_artefact(path, key).arrays)
        except FileNotFoundError:
            pass
        except DamagedArtefact as error:
            logger.warning("%s; it is computed again", error)
        map = compute()
        arrays = _packed(map.cpu())
        if self._has_room(path.parent, sum(array.nbytes for array in arrays.values())):
            write_artefact(path, key, arrays)
        return map

    def _has_room(self, folder: Path, more: int) -> bool:
        """Whether ``more`` bytes fit below the limit; if so, they are counted as written."""
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

    ``places`` has a bit for each number, channels last: 1 if the number is not 0. ``values`` are
    the numbers that are not 0; -0 is one of them. The bits of bfloat16, which numpy does not have,
    are stored as uint16.
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
    """The map from the arrays of ``_packed``."""
    shape, values = arrays["shape"], arrays["values"]
    numbers = np.zeros(math.prod(shape), values.dtype)
    numbers[np.unpackbits(arrays["places"], count=len(numbers)).view(np.bool_)] = values
    map = torch.from_numpy(numbers.reshape(shape))
    return (map.view(torch.bfloat16) if map.dtype == torch.uint16 else map).permute(2, 0, 1)
