"""Images of other people: one way to read them, whatever Pillow opens.

An image comes back as RGB uint8, upright. Its EXIF tag is read, never written again: what else a
telephone put beside it is of no interest. 16-bit and float greys are scaled to 8 bits and
transparency lies on white. An image whose last bytes are missing is read if nearly all of it is
there (``files/cut_images.py``), as every viewer does; ``cut_short`` tells of it. WebP, AVIF, JPEG
2000 and GIF are read whole or not at all.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from files.cut_images import TooMuchMissing, read_cut
from files.reading import not_given, unread
from files.rgb import to_rgb

# Pillow refuses twice its own limit; this one is the same, stated here.
MAX_PIXELS = 178_956_970
EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = (5, 6, 7, 8)
# Where a PNG tells how it lies: it may be after the pixels, and Pillow decodes them to look for it.
PNG_ORIENTATIONS = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
# Pillow knows these by name and cannot decode them by itself.
NO_IMAGES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")

# Python's filters of warnings are one for all threads.
_filters = threading.Lock()


class UnreadableImage(ValueError):
    """An image that cannot be read; the message names the file and the reason."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image as RGB uint8 ``(H, W, 3)``, upright; see the module's head.

    Of several frames or pages the first is read.

    Raises:
        FileNotFoundError: no such file.
        OSError: the system did not give the file, which may be whole.
        UnreadableImage: the file is no image, is damaged, or has more than MAX_PIXELS.
    """
    return _read(Path(path))[0]


def cut_short(path: str | Path) -> bool:
    """Whether an image's last bytes are missing, while it can be read.

    The file's end is looked at first, so that a whole JPEG or PNG is not decoded; others are.

    Raises:
        FileNotFoundError, UnreadableImage: as ``read_image``.
    """
    path = Path(path)
    with _errors_named(path), path.open("rb") as file:
        begin = file.read(2)
        file.seek(max(path.stat().st_size - 64, 0))
        end = file.read()
    whole = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}.get(begin)
    return (whole is None or whole not in end) and _read(path)[1]


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright image, from its header where that tells it.

    Raises:
        FileNotFoundError, UnreadableImage: as ``read_image``, as far as the header tells.
    """
    path = Path(path)
    with _errors_named(path), _opened(path) as image:
        if image.format == "PNG":
            content = path.read_bytes()
            orientation, unsure = 1, any(mark in content for mark in PNG_ORIENTATIONS)
        else:
            orientation = _orientation(image)
            # Some versions of Pillow turn a TIFF themselves.
            unsure = image.format == "TIFF" and orientation != 1
        if unsure:
            height, width = _upright(image, path)[0].shape[:2]
            return height, width
        width, height = image.size
    return (width, height) if orientation in QUARTER_TURNS else (height, width)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Whatever an image library raises becomes one sentence with the file's name.

    Raises:
        FileNotFoundError: there is no file.
        OSError: the system gives no file now, as where its disk fails or too many are open.
        UnreadableImage: in place of any other exception.
    """
    try:
        if not path.is_file():
            if path.exists():
                raise UnreadableImage(f"{path} is a folder or a special file; name an image")
            raise FileNotFoundError(f"no image at {path}")
        yield
    except (UnreadableImage, FileNotFoundError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(_too_large(path)) from error
    except Exception as error:
        if not_given(error):
            raise unread(path, error) from error
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(said.replace(repr(str(path)), "").split())
        raise UnreadableImage(
            f"{path} is not a readable image ({reason}); expected a whole JPEG, PNG or another "
            "format that Pillow opens"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd tags, and of half of the pixels that it refuses: not here."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """``read_image``, and whether the file is cut short."""
    with _errors_named(path), _opened(path) as image:
        return _upright(image, path)


def _opened(path: Path) -> Image.Image:
    """The image, not decoded yet.

    Raises:
        UnreadableImage: it has no pixels, more than MAX_PIXELS, or a format of NO_IMAGES.
    """
    with _quiet():
        image = Image.open(path)
    refusal = None
    if image.format in NO_IMAGES:
        refusal = f"{path} is {image.format}, which Pillow does not decode; save it as JPEG or PNG"
    elif image.width * image.height > MAX_PIXELS:
        refusal = _too_large(path)
    elif not image.width * image.height:
        refusal = f"{path} is not a readable image: it has no pixels"
    if refusal is not None:
        image.close()
        raise UnreadableImage(refusal)
    return image


def _too_large(path: Path) -> str:
    return (
        f"{path} has more than the {MAX_PIXELS // 10**6} megapixels that are read; make it smaller"
    )


def _upright(image: Image.Image, path: Path) -> tuple[NDArray[np.uint8], bool]:
    """The decoded image, upright, and whether it is cut short."""
    image, cut = _decoded(image, path)
    return upright_rgb(image), cut


def given_image(image: NDArray[np.uint8] | Image.Image | str | Path) -> NDArray[np.uint8]:
    """One image as a caller has it: an array as it is, one of Pillow's upright, or a path's.

    Raises:
        FileNotFoundError, UnreadableImage: as ``read_image``.
        TypeError: it is something else, such as a list.
    """
    if isinstance(image, np.ndarray):
        return image
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    if isinstance(image, str | Path):
        return read_image(image)
    raise TypeError(
        "an image is an array (H, W, 3), a Pillow image or a path, one at a time; got "
        f"{type(image).__name__}"
    )


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An image of Pillow's as RGB uint8 ``(H, W, 3)``, turned as its EXIF tag says."""
    pixels = to_rgb(image)
    orientation = _orientation(image)  # where Pillow turned it, it took the tag away
    if orientation in UPRIGHT:
        pixels = pixels.transpose(UPRIGHT[orientation])
    return np.asarray(pixels)


def _orientation(image: Image.Image) -> int:
    """The EXIF tag; 1, upright, where it cannot be read."""
    try:
        with _quiet():
            return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception as error:  # a damaged tag is no reason to lose the image
        if not_given(error):
            raise
        return 1


def _decoded(image: Image.Image, path: Path) -> tuple[Image.Image, bool]:
    """The image with its pixels, and whether its file is cut short.

    Raises:
        OSError: more is missing than the last few rows.
        Exception: what Pillow raised, where there is nothing to be had of the file.
    """
    try:
        image.load()
        return image, False
    except MemoryError:
        raise
    except Exception as error:
        if not_given(error):
            raise
        try:
            return read_cut(path), True
        except TooMuchMissing as reason:
            raise OSError(f"{error}; {reason}") from error
        except Exception as other:
            raise (other if not_given(other) else error) from None
