"""Image ids and class names from users' data, and the file names made from them.

An image id may have dots, spaces and subfolders; a class name may have anything but line breaks.
Neither may lead out of a folder. Both are checked when data are read, so later code can use them
safely. ``file_part`` and ``short_name`` make file names from them.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# File names have up to 255 bytes; an extension such as ".jpg" is added to an id.
MAX_COMPONENT_BYTES = 240
MAX_ID_BYTES = 1000
MAX_CLASS_NAME = 100
# A file name with a class's part also has a split's name and more.
MAX_PART_BYTES = 200
READABLE_BYTES = 60

_DRIVE = re.compile(r"[A-Za-z]:")
_NOT_IN_FILE_NAMES = re.compile(r'[%/\\:*?"<>|\x00-\x1f\x7f]')


def check_image_id(image_id: str, where: str) -> str:
    """Return the id if it names a file below a folder on every system.

    Args:
        image_id: ``/`` separates folders; no extension is removed, because ids may have dots.
        where: the file and line of the id, for the message.

    Raises:
        ValueError: the id is empty or too long, has a control character, begins or ends with white
            space, is an absolute path, or has ``..``.
    """
    reason = _fault_of(image_id) or _fault_of_path(image_id)
    if reason is not None:
        raise ValueError(
            f"{where} names the image {_shown(image_id)}, which {reason}; expected a name below "
            "the folder of images, such as 'street.rf.01' or 'day2/street'"
        )
    return image_id


def check_class_name(name: str, where: str) -> str:
    """Return the class name if it can be used in tables and, by ``file_part``, in file names.

    Raises:
        ValueError: the name is empty or too long, has a control character, begins or ends with
            white space, is an absolute path, or has ``..``.
    """
    reason = _fault_of(name) or _fault_of_path(name, allow_empty=True)
    if reason is None and (len(name) > MAX_CLASS_NAME or _bytes(file_part(name)) > MAX_PART_BYTES):
        reason = f"is too long, with {len(name)} characters"
    if reason is not None:
        raise ValueError(
            f"{where} names the class {_shown(name)}, which {reason}; expected a short name of one "
            f"line, of at most {MAX_CLASS_NAME} characters"
        )
    return name


def check_file_name(name: str, where: str) -> str:
    """Return the name if it is that of one file in a folder, as the name of a split must be.

    Raises:
        ValueError: the name is not a valid image id, or has a separator of folders.
    """
    reason = _fault_of(name) or _fault_of_path(name)
    if reason is None and re.search(r"[/\\]", name):
        reason = "names a folder"
    if reason is not None:
        raise ValueError(f"{where} {_shown(name)} {reason}; expected the name of one file")
    return name


def file_part(name: str) -> str:
    """A class name as part of a file name: characters that file names cannot have become ``%XX``.

    Different names give different parts; most names do not change.
    """
    return _NOT_IN_FILE_NAMES.sub(lambda found: f"%{ord(found[0]):02X}", name)


def name_of_file_part(part: str) -> str:
    """The class name from the result of ``file_part``."""
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), part)


def folded(name: str) -> str:
    """The name without differences easily overlooked: case, amount of white space, Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def short_name(image_id: str, digest: str) -> str:
    """A file name for a result of an image: a readable beginning, made unique by the digest.

    Args:
        image_id: its first READABLE_BYTES are used.
        digest: hex digits of the image and of everything else that the file depends on.
    """
    words = re.sub(r"[^\w.-]", "_", image_id).encode()[:READABLE_BYTES].decode(errors="ignore")
    return f"{words.lstrip('.')}-{digest}"


def content_key(parts: Mapping[str, Any]) -> str:
    """The 16-digit key of everything that determines an artefact; equal parts give equal keys.

    Args:
        parts: anything that JSON can represent; the order of its keys does not matter.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fault_of(name: str) -> str | None:
    """Why a name is invalid in a line of text; None if it is valid."""
    if not name:
        return "is empty"
    categories = {unicodedata.category(letter) for letter in name}
    if categories & {"Cc", "Cs", "Zl", "Zp"} or "\ufeff" in name:
        return "holds a line break, a byte-order mark or another control character"
    return "begins or ends with white space" if name != name.strip() else None


def _fault_of_path(name: str, *, allow_empty: bool = False) -> str | None:
    """Why a name is invalid as a path below a folder; None if it is valid."""
    components = re.split(r"[/\\]", name)
    if ".." in components:
        return "leaves its folder by '..'"
    if components[0] == "" or _DRIVE.match(name):
        return "is an absolute path"
    if not allow_empty and {"", "."} & set(components):
        return "holds an empty name of a folder"
    if len(name.encode()) > MAX_ID_BYTES or max(map(_bytes, components)) > MAX_COMPONENT_BYTES:
        return f"is too long for a file, with {len(name)} characters"
    return None


def _bytes(component: str) -> int:
    return len(component.encode())


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
