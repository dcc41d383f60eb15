"""Pictures and artefacts on disk: read whole or refused, written whole or not at all."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """A picture as RGB uint8 ``(H, W, 3)``, turned upright by its EXIF tag.

    Grey, palette, CMYK and transparent pictures are converted.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a picture, or is cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no picture at {path}")
    try:
        with Image.open(path) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is not a readable picture ({error}); expected a whole JPEG or PNG"
        ) from error


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(parts: Mapping[str, Any]) -> str:
    """A 16-digit name for what determines an artefact; equal parts give equal names.

    Args:
        parts: anything JSON can write; the order of keys does not matter.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def named_if_refused(path: str | Path) -> Iterator[None]:
    """Where what is written to a file is refused, as by a full disk, the error names the file.

    Raises:
        OSError: with a sentence that says what helps.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}); make room on its disk, or "
            "allow writing there, and run the same command again: what was done before is kept"
        ) from error


@contextmanager
def write_atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file to write ``path`` through: it appears when the block ends, or never.

    The bytes go to a temporary name in the same folder (made if missing) and are moved into place
    by ``os.replace``. A full disk, an exception or a kill leaves no partial ``path``.

    Raises:
        OSError: the disk is full or the folder read-only; the message names the file.
    """
    path = Path(path)
    with named_if_refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def remove_leftovers(folder: str | Path, older_than: float = 3600.0) -> list[Path]:
    """Delete what killed writers left in a folder, not below it; returns what was deleted.

    Args:
        folder: where ``write_atomic`` wrote; need not exist.
        older_than: seconds since a temporary file was last written to. A younger one may still be
            in another process's hands and stays.
    """
    newest = time.time() - older_than
    deleted = []
    for path in Path(folder).glob(".*.part"):
        with suppress(FileNotFoundError):  # its writer may just be done
            if path.stat().st_mtime < newest:
                path.unlink()
                deleted.append(path)
    return deleted


def save_array(path: str | Path, array: NDArray) -> None:
    """Write an array as ``.npy``, whole or not at all."""
    with write_atomic(path) as file:
        np.save(file, array, allow_pickle=False)


def save_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with write_atomic(path) as file:
        file.write(text.encode())
