"""Which image a file is of, or a name is for, as far as their folders tell."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from detection.data.split_names import KINDS

_DRIVE = re.compile(r"[A-Za-z]:")


def is_kind(folder: str) -> bool:
    """Whether a folder's name says only what kind of files it holds, as ``labels`` does."""
    return folder.lower() in KINDS


def unlike(ours: Iterable[str], theirs: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is left of two rows of folders without KINDS and what they share at either end."""
    mine = [name for name in ours if not is_kind(name)]
    other = [name for name in theirs if not is_kind(name)]
    for _ in range(2):
        shared = shared_start(mine, other)
        mine, other = mine[shared:][::-1], other[shared:][::-1]
    return mine, other


def may_belong(ours: Sequence[str], theirs: Sequence[str], *, beside: bool, unique: bool) -> bool:
    """Whether the folders of an annotation and of an image let the one be of the other.

    Each may have one folder of its own that says its kind: a known word, or any name where there
    is no known one. Other folders that differ contradict: ``labels/video1`` and ``images/video2``.

    Args:
        ours: the annotation's folders, without those of splits.
        theirs: the image's.
        beside: such annotations lie beside their images, so that no folder says a kind.
        unique: no other image has this name. Then folders may be missing on one side.
    """
    mine, other = unlike(ours, theirs)
    left = len(mine) > (0 if beside or any(map(is_kind, ours)) else 1)
    right = len(other) > (0 if beside or any(map(is_kind, theirs)) else 1)
    return not (left and right) if unique else not left


def below(place: PurePath, written: str) -> Path | None:
    """A relative path seen from a folder, without ``..``; None where it leads outside the root."""
    parts = list(place.parts)
    for part in PurePosixPath(written).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return Path(*parts)


def is_foreign(written: str) -> bool:
    """Whether a path is one of another machine or folder: absolute, with ``..``, or a URL."""
    parts = written.split("/")
    return parts[0] == "" or ".." in parts or "://" in written or bool(_DRIVE.match(written))


def plain_parts(written: str) -> list[str]:
    """The names in a path, without what makes it absolute and without ``..``."""
    parts = [part for part in written.split("/") if part not in ("", ".", "..")]
    return parts[1:] if parts and parts[0].endswith(":") else parts


def match_length(written: str, image: PurePath, shared: int, above: Sequence[str]) -> int:
    """How many names at the end of a path of another place are those of an image; 0: it is none.

    The image's other folders must be KINDS; so must those of a path that is not foreign, or
    numbers, as of Label Studio's uploads, or the last of ``above``.

    Args:
        written: the path.
        image: relative to the root.
        shared: so many of the image's folders are passed over, as all images are in them.
        above: the folders that lead to the root, which a name may begin with.
    """
    parts = plain_parts(written)
    count = shared_start(reversed(parts), reversed(image.parts))
    ours, theirs = parts[:-count], image.parts[shared:-count]
    named = is_foreign(written) or all(is_kind(part) or part.isdigit() for part in ours)
    named = named or ours == [*above[-len(ours) :]]
    return count if count and len(parts) > 1 and named and all(map(is_kind, theirs)) else 0


def shared_start(ours: Iterable[str], theirs: Iterable[str]) -> int:
    """How many names two rows share from their beginning."""
    count = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        count += 1
    return count
