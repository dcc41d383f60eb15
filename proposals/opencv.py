"""OpenCV with its contributed modules, on one thread, and the images that it is given."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

# A larger image is searched at this longer side, the size of VOC's and of R-CNN's own search:
# a 12-megapixel photograph would take minutes and give ten times the windows.
WORKING_SIDE = 500

# Of what one process has once: OpenCV's number of threads, and libc's random numbers.
_ALONE = threading.Lock()


def check_image(image: NDArray, what: str) -> None:
    """Refuse anything but ``(H, W, 3)`` uint8 with at least one pixel.

    Args:
        image: what was given.
        what: needs it; begins the message.

    Raises:
        ValueError: another type or shape.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"{what} needs an RGB image (H, W, 3) of uint8 with at least one pixel, "
            f"got {image.dtype} of shape {image.shape}"
        )


def opencv() -> ModuleType:
    """The cv2 module, once it is sure to have ``ximgproc``.

    Raises:
        RuntimeError: OpenCV is missing, or without its contributed modules.
    """
    command = (
        "pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python && "
        "pip install opencv-contrib-python"
    )
    try:
        import cv2
    except ImportError as error:
        raise RuntimeError(f"OpenCV cannot be imported ({error}); run: {command}") from error
    if not hasattr(getattr(cv2, "ximgproc", None), "segmentation"):
        raise RuntimeError(
            f"OpenCV {cv2.__version__} has no ximgproc module: opencv-python was installed alone, "
            f"or over opencv-contrib-python; run: {command}"
        )
    return cv2


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV works on one thread, and for one caller at a time.

    Windows are the same whatever the number of threads is set to; images run side by side in
    processes, so threads would gain nothing.
    """
    cv2 = opencv()
    with _ALONE:
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield
        finally:
            cv2.setNumThreads(before)


def shrink_to_working_size(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with its longer side cut to WORKING_SIDE pixels by area averaging."""
    height, width = image.shape[:2]
    if max(height, width) <= WORKING_SIDE:
        return image
    factor = WORKING_SIDE / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    cv2 = opencv()
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
