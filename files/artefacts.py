"""Artefacts: named arrays in a safetensors file with a key and a check for damage.

The header has the key of everything that determines the content, facts as JSON, and a SHA-256 of
key, facts and arrays. A file that is cut short, changed by one bit or written under another key is
refused, with an error that names it. Files are written array by array, because a training's arrays
have gigabytes and safetensors' own writer needs their memory several times.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from files.reading import unread
from files.writing import write_atomic

# All metadata are in one entry of the header: safetensors does not keep the order of entries.
ENTRY = "artefact"
TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "uint16": "U16",
    "uint8": "U8",
    "int8": "I8",
    "bool": "BOOL",
}


T = TypeVar("T")

logger = logging.getLogger(__name__)


class DamagedArtefact(ValueError):
    """An artefact that is damaged or has another key; the message gives the file and the remedy."""


@dataclass(frozen=True)
class Artefact:
    """The content of a file.

    Attributes:
        arrays: by name.
        facts: further facts, of JSON's types.
    """

    arrays: dict[str, NDArray]
    facts: dict[str, Any]


def write_artefact(
    path: str | Path,
    key: str,
    arrays: Mapping[str, NDArray],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write an artefact atomically; the same content gives the same bytes.

    Args:
        path: of the file.
        key: of everything that determines the content; ``read_artefact`` needs the same key.
        arrays: of the types in TYPES.
        facts: anything that JSON can represent.

    Raises:
        TypeError: an array has another type.
        OSError: the file cannot be written.
    """
    made = {name: _contiguous(name, arrays[name]) for name in sorted(arrays)}
    # Wide numbers first, so that each array begins at a multiple of its numbers' width.
    ordered = dict(sorted(made.items(), key=lambda each: -each[1].itemsize))
    # Facts in the form in which they are read: JSON turns tuples into lists, and keys into strings.
    entry = {"key": key, "facts": json.loads(json.dumps(dict(facts or {}))), "digest": ""}
    entry["digest"] = _digest(entry, ordered)
    header: dict[str, Any] = {"__metadata__": {ENTRY: json.dumps(entry, sort_keys=True)}}
    end = 0
    for name, array in ordered.items():
        begin, end = end, end + array.nbytes
        kind = TYPES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with write_atomic(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in ordered.values():
            file.write(_bytes(array))


def read_artefact(path: str | Path, key: str) -> Artefact:
    """Read the artefact that ``write_artefact`` wrote under this key.

    Raises:
        FileNotFoundError: no such file.
        OSError: the system failed to read the file, which may be intact.
        DamagedArtefact: the file is incomplete, was changed, or has another key.
    """
    with _damage_named(path):
        with safe_open(path, "np") as file:
            entry = _entry(path, file.metadata(), key)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _digest(entry, arrays) != entry["digest"]:
            raise ValueError("its digest is not that of its content")
    return Artefact(arrays, entry["facts"])


def key_in(path: str | Path) -> str | None:
    """The key of an artefact, whose content is not read.

    Raises:
        DamagedArtefact: the file has no readable header.
    """
    with _damage_named(path), safe_open(path, "np") as file:
        return str(_entry(path, file.metadata(), None)["key"])


def read_checkpoint(path: str | Path, key: str) -> Artefact | None:
    """Read the checkpoint of a killed program; None if there is none with this key.

    Raises:
        DamagedArtefact: the file is damaged.
    """
    if not Path(path).exists():
        return None
    if key_in(path) != key:
        logger.info("%s has other settings or data and is not resumed", path)
        return None
    return read_artefact(path, key)


def data_offset(path: str | Path, name: str) -> int:
    """The byte at which an array's numbers begin in an artefact, for reading parts of the array.

    Raises:
        KeyError: the artefact has no such array.
    """
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return 8 + length + int(header[name]["data_offsets"][0])


def strip_prefix(named: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The arrays or tensors whose names start with a prefix, under their names without it."""
    return {n.removeprefix(prefix): value for n, value in named.items() if n.startswith(prefix)}


def _entry(path: str | Path, metadata: Mapping[str, str] | None, key: str | None) -> dict[str, Any]:
    """The header's key, facts and digest; ``key`` is checked unless it is None.

    Raises:
        DamagedArtefact: the header lacks them, or has another key.
    """
    entry = json.loads((metadata or {}).get(ENTRY, "{}"))
    if not isinstance(entry, dict) or not {"key", "facts", "digest"} <= entry.keys():
        raise DamagedArtefact(
            f"{path} is from another version or program; delete it and run the same command again "
            "to make a new one"
        )
    if key is not None and entry["key"] != key:
        raise DamagedArtefact(
            f"{path} has another key ({entry['key']}, expected {key}); delete it and run the same "
            "command again to make a new one"
        )
    return entry


@contextmanager
def _damage_named(path: str | Path) -> Iterator[None]:
    """Turn errors of reading an artefact into errors that name the file.

    Raises:
        FileNotFoundError, PermissionError: the file is missing or locked.
        OSError: another error of the system, such as too many open files.
        DamagedArtefact: for other errors.
    """
    try:
        Path(path).open("rb").close()  # safetensors reports any file it cannot open as missing
        yield
    except (FileNotFoundError, PermissionError, DamagedArtefact):
        raise
    except (SafetensorError, IsADirectoryError, ValueError, KeyError, TypeError) as error:
        raise DamagedArtefact(
            f"{path} is damaged ({error}); delete it and run the same command again to make a new "
            "one"
        ) from error
    except OSError as error:
        raise unread(path, error) from error


def _digest(entry: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> str:
    """SHA-256 of key, facts, and the arrays' names, types, shapes and bytes."""
    said = [entry["key"], entry["facts"]]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.name} {array.shape};".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()


def _contiguous(name: str, array: NDArray) -> NDArray:
    if array.dtype.name not in TYPES or array.dtype.byteorder == ">":
        raise TypeError(f"an artefact's arrays are of {', '.join(TYPES)}; {name} is {array.dtype}")
    return np.asarray(array, order="C")


def _bytes(array: NDArray) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
