"""OpenCV with its contributed modules: import, one thread, and the size of its images."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

# A larger image is shrunk to this longer side, the size of VOC's images and of R-CNN's search.
# Otherwise a 12-megapixel photograph would take minutes and give ten times as many windows.
WORKING_SIDE = 500

# Protects what exists once per process: OpenCV's number of threads, and libc's random numbers.
_ALONE = threading.Lock()


def check_image(image: NDArray, what: str) -> None:
    """Check that an image is ``(H, W, 3)`` uint8 with at least one pixel.

    Args:
        image: the image.
        what: name of the function that needs it; begins the message.

    Raises:
        ValueError: the image has another type or shape.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"{what} needs an RGB image (H, W, 3) of uint8 with at least one pixel, "
            f"got {image.dtype} of shape {image.shape}"
        )


def opencv() -> ModuleType:
    """The cv2 module, after checking that it has ``ximgproc``.

    Raises:
        RuntimeError: OpenCV is missing, or has no contributed modules.
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
    """Make OpenCV use one thread and serve one caller at a time.

    So windows do not depend on the number of threads. Processes work on several images at once, so
    threads would save no time.
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
    """The image, shrunk by area averaging if its longer side exceeds WORKING_SIDE pixels."""
    height, width = image.shape[:2]
    if max(height, width) <= WORKING_SIDE:
        return image
    factor = WORKING_SIDE / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    cv2 = opencv()
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
