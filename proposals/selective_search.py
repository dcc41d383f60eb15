"""Selective search (Uijlings et al., IJCV 2013) by opencv-contrib, made reproducible.

OpenCV multiplies the rank of a region by libc's ``rand()``, so the order changes from run to run.
Here libc's generator is seeded from the image's pixels. OpenCV also returns small regions, low in
the hierarchy, first. Keeping only the beginning of its list would lose the large windows (about 20
points of recall at IoU 0.7), so the order is reversed here.

The paper's "fast" mode has three graph segmentations, two colour spaces (HSV and Lab) and two
similarities. The default parameters were chosen with the table
``docs/results/selective_search.csv``.
"""

import ctypes
import math
import os
import sys
import zlib
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor
from numpy.typing import NDArray

from files.names import content_key
from proposals.opencv import check_image, one_thread, opencv, shrink_to_working_size

# Part of every key: raise it when the same parameters start to give other windows.
VERSION = 1
# Libraries whose threads call ``rand()`` at any time. Beside them the search has its own process.
DISTURBING = ("ray", "onnxruntime")
# It ends after so many idle seconds, also if this process is killed.
IDLE_S = 60


@dataclass(frozen=True)
class SelectiveSearch:
    """Selective search with its parameters; call it with an image, get its windows.

    Attributes:
        mode: "fast" (12 groupings an image) or "quality" (100 groupings: four to five times as
            many windows, three times the time).
        base_k: k of the first graph segmentation, 1 or more; a smaller k gives more and smaller
            regions.
        inc_k: step to the next segmentation's k, 1 or more; fast takes three values of k, quality
            five.
        sigma: width in pixels of the Gaussian smoothing before segmentation, above 0.
        min_side: windows with a side of fewer pixels are dropped; 1 keeps all.
        max_windows: keep at most this many windows, from the head of the order, where the large
            regions are; None keeps all.

    Raises:
        ValueError: a value is outside the ranges above.
    """

    mode: Literal["fast", "quality"] = "fast"
    base_k: int = 50
    inc_k: int = 50
    sigma: float = 0.8
    min_side: int = 20
    max_windows: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("fast", "quality"):
            raise ValueError(f"mode must be 'fast' or 'quality', got {self.mode!r}")
        # With inc_k 0, OpenCV never returns: it counts k up to base_k + 2 * inc_k.
        for name in ("base_k", "inc_k", "min_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"sigma must be a number above 0, got {self.sigma}")
        if self.max_windows is not None and self.max_windows < 1:
            raise ValueError(f"max_windows must be None or 1 or more, got {self.max_windows}")

    @property
    def name(self) -> str:
        """Name of the method, for folders and tables."""
        return "selective_search"

    @property
    def key(self) -> str:
        """16 digits that change with the parameters, the OpenCV version and this code's version."""
        version = opencv().__version__
        return content_key(
            {"method": self.name, "version": VERSION, "opencv": version, "parameters": asdict(self)}
        )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Windows of an image, the same in every process and on every run.

        The order is the reverse of OpenCV's: large regions, high in the hierarchy, come first. This
        is the paper's order of decreasing significance (random within a level of the hierarchy,
        seeded from the pixels). Of duplicates, the first is kept.

        An image with a side over 500 pixels is shrunk to that size for the search, and ``min_side``
        refers to the shrunk image.

        Args:
            image: ``(H, W, 3)`` uint8 RGB, at least one pixel.

        Returns:
            ``(P, 4)`` float32 windows ``(x1, y1, x2, y2)``, half-open pixels inside the image, both
            sides ``min_side`` or more in the searched image, P at most ``max_windows``. P is never
            0: if no window is large enough, for example in a tiny image, the whole image is the
            only window.

        Raises:
            ValueError: the image is not ``(H, W, 3)`` uint8 or has no pixel.
            RuntimeError: OpenCV is missing or has no ``ximgproc`` module.
        """
        check_image(image, "selective search")
        with one_thread():
            searched = shrink_to_working_size(image)
        corners = self._undisturbed_regions(searched)[::-1]
        corners[:, 2:] += corners[:, :2]
        sides = corners[:, 2:] - corners[:, :2]
        corners = corners[(sides >= self.min_side).all(axis=1)]
        first = np.unique(corners, axis=0, return_index=True)[1]
        corners = corners[np.sort(first)][: self.max_windows]
        height, width = searched.shape[:2]
        if not len(corners):
            corners = np.array([[0, 0, width, height]])
        factor = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        return (corners * factor).astype(np.float32)

    def _undisturbed_regions(self, image: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The regions, found in a process where no other code uses libc's generator."""
        if any(name in sys.modules for name in DISTURBING):
            return _own_process(os.getpid()).submit(self._regions, image).result()
        return self._regions(image)

    def _regions(self, image: NDArray[np.uint8]) -> NDArray[np.int32]:
        """OpenCV's ``(R, 4)`` x, y, width, height in its own order: small regions first.

        The whole process shares libc's generator, so no other code may use it meanwhile.
        """
        cv2 = opencv()
        with one_thread():
            search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
            search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))  # OpenCV reads BGR
            if self.mode == "fast":
                search.switchToSelectiveSearchFast(self.base_k, self.inc_k, self.sigma)
            else:
                search.switchToSelectiveSearchQuality(self.base_k, self.inc_k, self.sigma)
            _libc().srand(_seed_of(image))
            regions = search.process()
        return np.array(regions, dtype=np.int32).reshape(-1, 4)


def _seed_of(image: NDArray[np.uint8]) -> int:
    """32-bit seed from an image's shape and pixels."""
    return zlib.crc32(image.tobytes(), zlib.crc32(repr(image.shape).encode()))


@cache
def _own_process(parent: int) -> ProcessPoolExecutor:
    """A process beside this one, which is ``parent``; a fork of it needs another."""
    return ProcessPoolExecutor(max_workers=1, timeout=IDLE_S)


def _libc() -> ctypes.CDLL:
    """The C library whose ``rand`` OpenCV calls."""
    return ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
