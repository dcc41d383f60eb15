"""Artefacts: named arrays in a safetensors file that says what it is of, and notices damage.

The header holds the key of what determines the content, facts as strings, and a SHA-256 of all
that. A file that is cut short, changed by one bit or another's in its place is refused by name.
The file is written array by array, as those of a training are gigabytes; safetensors' own writer
holds everything several times.
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

# One entry of the header's metadata, which safetensors' own writer would not keep in order.
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
    """An artefact that is not whole, or of something else; the message names it and the remedy."""


@dataclass(frozen=True)
class Artefact:
    """What a file holds.

    Attributes:
        arrays: by name.
        facts: what else was written, JSON's types.
    """

    arrays: dict[str, NDArray]
    facts: dict[str, Any]


def write_artefact(
    path: str | Path,
    key: str,
    arrays: Mapping[str, NDArray],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write an artefact, whole or not at all; the same content gives the same bytes.

    Args:
        path: of the file.
        key: of what the content is determined by; ``read_artefact`` asks for it.
        arrays: of the types in TYPES.
        facts: anything JSON can write.

    Raises:
        TypeError: an array of another type.
        OSError: the file cannot be written.
    """
    made = {name: _contiguous(name, arrays[name]) for name in sorted(arrays)}
    # Wide numbers first, so that each begins at a multiple of its own width.
    ordered = dict(sorted(made.items(), key=lambda each: -each[1].itemsize))
    # The facts as they are read again: JSON makes lists of tuples and words of numbers.
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
    """What ``write_artefact`` wrote under this key.

    Raises:
        FileNotFoundError: no such file.
        OSError: the system did not give the file, which may be whole.
        DamagedArtefact: the file is not whole, was changed, or is of another key.
    """
    with _damage_named(path):
        with safe_open(path, "np") as file:
            entry = _entry(path, file.metadata(), key)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _digest(entry, arrays) != entry["digest"]:
            raise ValueError("its digest is not that of its content")
    return Artefact(arrays, entry["facts"])


def key_in(path: str | Path) -> str | None:
    """The key that an artefact was written under; its content is not looked at.

    Raises:
        DamagedArtefact: the file has no readable header.
    """
    with _damage_named(path), safe_open(path, "np") as file:
        return str(_entry(path, file.metadata(), None)["key"])


def read_checkpoint(path: str | Path, key: str) -> Artefact | None:
    """What a killed program left under this key; None where there is nothing of that key.

    Raises:
        DamagedArtefact: the file is not whole.
    """
    if not Path(path).exists():
        return None
    if key_in(path) != key:
        logger.info("%s has other settings or data and is not resumed", path)
        return None
    return read_artefact(path, key)


def data_offset(path: str | Path, name: str) -> int:
    """The byte at which an array's numbers begin in an artefact, for who reads parts of it.

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
    """What the header says of the content; of this key, unless none is asked for.

    Raises:
        DamagedArtefact: nothing, or that it is of another key.
    """
    entry = json.loads((metadata or {}).get(ENTRY, "{}"))
    if not isinstance(entry, dict) or not {"key", "facts", "digest"} <= entry.keys():
        raise DamagedArtefact(
            f"{path} is from another version or program; delete it and run the same command again "
            "to make it anew"
        )
    if key is not None and entry["key"] != key:
        raise DamagedArtefact(
            f"{path} has another key ({entry['key']}, expected {key}); delete it and run the same "
            "command again to make it anew"
        )
    return entry


@contextmanager
def _damage_named(path: str | Path) -> Iterator[None]:
    """A file that cannot be read as an artefact is refused by name.

    Raises:
        FileNotFoundError, PermissionError: it is missing or locked.
        OSError: another reason of the system's, such as too many open files.
        DamagedArtefact: in place of whatever else was raised.
    """
    try:
        Path(path).open("rb").close()  # safetensors calls whatever it cannot open missing
        yield
    except (FileNotFoundError, PermissionError, DamagedArtefact):
        raise
    except (SafetensorError, IsADirectoryError, ValueError, KeyError, TypeError) as error:
        raise DamagedArtefact(
            f"{path} is damaged ({error}); delete it and run the same command again to make it anew"
        ) from error
    except OSError as error:
        raise unread(path, error) from error


def _digest(entry: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> str:
    """SHA-256 of key, facts, and names, types, shapes and bytes of arrays."""
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
    """The numbers of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
