"""Names that data brings along: image ids and class names, and the file names made of them.

An image id may hold dots, spaces and subfolders; a class name may hold anything but line breaks.
Neither may lead out of a folder. Both are checked where data is read, so that whatever follows can
use them; ``file_part`` and ``short_name`` make file names of them.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# A file name has 255 bytes; ours add an ending, such as ".jpg", to an id.
MAX_COMPONENT_BYTES = 240
MAX_ID_BYTES = 1000
MAX_CLASS_NAME = 100
# A class's part of a file name stands beside a split's name and more.
MAX_PART_BYTES = 200
READABLE_BYTES = 60

_DRIVE = re.compile(r"[A-Za-z]:")
_NOT_IN_FILE_NAMES = re.compile(r'[%/\\:*?"<>|\x00-\x1f\x7f]')


def check_image_id(image_id: str, where: str) -> str:
    """The id itself, if it names a file below a folder on every system.

    Args:
        image_id: folders are parted by ``/``; no suffix is cut off, as ids may hold dots.
        where: the file and line that has it, for the message.

    Raises:
        ValueError: the id is empty or too long, holds a control character, begins or ends with
            white space, or is an absolute path or one with ``..``.
    """
    reason = _fault_of(image_id) or _fault_of_path(image_id)
    if reason is not None:
        raise ValueError(
            f"{where} names the image {_shown(image_id)}, which {reason}; expected a name below "
            "the folder of images, such as 'street.rf.01' or 'day2/street'"
        )
    return image_id


def check_class_name(name: str, where: str) -> str:
    """The class name itself, if it can stand in a table and, by ``file_part``, in a file name.

    Raises:
        ValueError: the name is empty, too long or holds a control character, begins or ends with
            white space, or is an absolute path or one with ``..``.
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
    """The name itself, if it is that of one file in a folder, as the name of a split must be.

    Raises:
        ValueError: the name is no image id, or has a separator of folders.
    """
    reason = _fault_of(name) or _fault_of_path(name)
    if reason is None and re.search(r"[/\\]", name):
        reason = "names a folder"
    if reason is not None:
        raise ValueError(f"{where} {_shown(name)} {reason}; expected the name of one file")
    return name


def file_part(name: str) -> str:
    """A class name as part of a file name: what no file name may hold becomes ``%XX``.

    Different names give different parts; most names stay as they are.
    """
    return _NOT_IN_FILE_NAMES.sub(lambda found: f"%{ord(found[0]):02X}", name)


def name_of_file_part(part: str) -> str:
    """The class name that ``file_part`` made a part of."""
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), part)


def folded(name: str) -> str:
    """The name without what is easily overlooked: case, width of white space, Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def short_name(image_id: str, digest: str) -> str:
    """A file name for what was made of an image: readable at its beginning, unique by the digest.

    Args:
        image_id: as much of it as READABLE_BYTES hold is used.
        digest: hex digits that stand for the image, and whatever else the file depends on.
    """
    words = re.sub(r"[^\w.-]", "_", image_id).encode()[:READABLE_BYTES].decode(errors="ignore")
    return f"{words.lstrip('.')}-{digest}"


def content_key(parts: Mapping[str, Any]) -> str:
    """A 16-digit name for what determines an artefact; equal parts give equal names.

    Args:
        parts: anything JSON can write; the order of keys does not matter.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fault_of(name: str) -> str | None:
    """What makes a name unfit for a line of text; None for a good one."""
    if not name:
        return "is empty"
    categories = {unicodedata.category(letter) for letter in name}
    if categories & {"Cc", "Cs", "Zl", "Zp"} or "\ufeff" in name:
        return "holds a line break, a byte-order mark or another control character"
    return "begins or ends with white space" if name != name.strip() else None


def _fault_of_path(name: str, *, allow_empty: bool = False) -> str | None:
    """What makes a name unfit for a path below a folder; None for a good one."""
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
