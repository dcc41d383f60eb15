"""Reads images of all formats that Pillow opens, in one place.

An image is returned as RGB uint8, upright according to its EXIF tag; other metadata are ignored.
16-bit and float grey values are scaled to 8 bits, and transparency becomes white. Like in image
viewers, an image without its last bytes is read if nearly all of it is there
(``files/cut_images.py``); ``cut_short`` detects such images. WebP, AVIF, JPEG 2000 and GIF must be
complete.
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

# Pillow refuses images with more than twice its own limit; this is the same number.
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
# Marks of a PNG's orientation. It may come after the pixels, which Pillow decodes to find it.
PNG_ORIENTATIONS = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif")
# Pillow recognises these formats but cannot decode them by itself.
NO_IMAGES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")

# All threads share Python's warning filters.
_filters = threading.Lock()


class UnreadableImage(ValueError):
    """An image that cannot be read; the message names the file and the reason."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image as RGB uint8 ``(H, W, 3)``, upright; see the module's docstring.

    Of several frames or pages, the first is read.

    Raises:
        FileNotFoundError: no such file.
        OSError: the system failed to read the file, which may be intact.
        UnreadableImage: the file is not an image, is damaged, or has more than MAX_PIXELS.
    """
    return _read(Path(path))[0]


def cut_short(path: str | Path) -> bool:
    """Whether a readable image's last bytes are missing.

    A JPEG or PNG with its end marker is not decoded; other files are.

    Raises:
        FileNotFoundError, UnreadableImage: see ``read_image``.
    """
    path = Path(path)
    with _errors_named(path), path.open("rb") as file:
        begin = file.read(2)
        file.seek(max(path.stat().st_size - 64, 0))
        end = file.read()
    whole = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}.get(begin)
    return (whole is None or whole not in end) and _read(path)[1]


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright image, from its header if possible.

    Raises:
        FileNotFoundError, UnreadableImage: see ``read_image``; damage after the header may be
            missed.
    """
    path = Path(path)
    with _errors_named(path), _opened(path) as image:
        if image.format == "PNG":
            content = path.read_bytes()
            orientation, unsure = 1, any(mark in content for mark in PNG_ORIENTATIONS)
        else:
            orientation = _orientation(image)
            # Some versions of Pillow rotate a TIFF themselves.
            unsure = image.format == "TIFF" and orientation != 1
        if unsure:
            height, width = _upright(image, path)[0].shape[:2]
            return height, width
        width, height = image.size
    return (width, height) if orientation in QUARTER_TURNS else (height, width)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn any error of an image library into one sentence that names the file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the system cannot read the file now: its disk fails, or too many files are open.
        UnreadableImage: for any other exception.
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
    """Suppress Pillow's warnings about odd tags, and about more than half of MAX_PIXELS."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """``read_image``, and whether the file is cut short."""
    with _errors_named(path), _opened(path) as image:
        return _upright(image, path)


def _opened(path: Path) -> Image.Image:
    """The image, not yet decoded.

    Raises:
        UnreadableImage: it has no pixels, more than MAX_PIXELS, or a format in NO_IMAGES.
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
    """The pixels of an array (returned as it is), of a Pillow image (made upright), or of a path.

    Raises:
        FileNotFoundError, UnreadableImage: see ``read_image``.
        TypeError: ``image`` is something else, such as a list.
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
    """A Pillow image as RGB uint8 ``(H, W, 3)``, rotated according to its EXIF tag."""
    pixels = to_rgb(image)
    orientation = _orientation(image)  # if Pillow rotated the image, it removed the tag
    if orientation in UPRIGHT:
        pixels = pixels.transpose(UPRIGHT[orientation])
    return np.asarray(pixels)


def _orientation(image: Image.Image) -> int:
    """The orientation in the EXIF tag; 1, upright, if it cannot be read."""
    try:
        with _quiet():
            return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception as error:  # the image is usable despite a damaged tag
        if not_given(error):
            raise
        return 1


def _decoded(image: Image.Image, path: Path) -> tuple[Image.Image, bool]:
    """The image with its pixels, and whether its file is cut short.

    Raises:
        OSError: more than the last few rows are missing.
        Exception: Pillow's error, if nothing of the file can be read.
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
