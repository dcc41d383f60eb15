"""Compares folders, to find the image that an annotation file or a name belongs to."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from detection.data.split_names import KINDS

_DRIVE = re.compile(r"[A-Za-z]:")


def is_kind(folder: str) -> bool:
    """Whether a folder's name, such as ``labels``, only describes the kind of its files."""
    return folder.lower() in KINDS


def unlike(ours: Iterable[str], theirs: Iterable[str]) -> tuple[list[str], list[str]]:
    """The rest of two lists of folders without KINDS and without what both share at either end."""
    mine = [name for name in ours if not is_kind(name)]
    other = [name for name in theirs if not is_kind(name)]
    for _ in range(2):
        shared = shared_start(mine, other)
        mine, other = mine[shared:][::-1], other[shared:][::-1]
    return mine, other


def may_belong(ours: Sequence[str], theirs: Sequence[str], *, beside: bool, unique: bool) -> bool:
    """Whether an annotation may belong to an image, by their folders.

    Each may have one folder for its kind of files: one of KINDS or, without one of KINDS, any name.
    Other folders must agree: ``labels/video1`` does not belong to ``images/video2``.

    Args:
        ours: the annotation's folders, without those of splits.
        theirs: the image's folders, likewise.
        beside: annotations are in the same folders as their images, so no folder is for a kind.
        unique: no other image has this name; one side may then lack folders.
    """
    mine, other = unlike(ours, theirs)
    left = len(mine) > (0 if beside or any(map(is_kind, ours)) else 1)
    right = len(other) > (0 if beside or any(map(is_kind, theirs)) else 1)
    return not (left and right) if unique else not left


def below(place: PurePath, written: str) -> Path | None:
    """A path relative to a folder, with ``..`` resolved; None if it leads outside the root."""
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
    """Whether a path leads to another machine or folder: absolute, with ``..``, or a URL."""
    parts = written.split("/")
    return parts[0] == "" or ".." in parts or "://" in written or bool(_DRIVE.match(written))


def plain_parts(written: str) -> list[str]:
    """The names in a path, without a drive, a URL's scheme, ``.`` and ``..``."""
    parts = [part for part in written.split("/") if part not in ("", ".", "..")]
    return parts[1:] if parts and parts[0].endswith(":") else parts


def match_length(written: str, image: PurePath, shared: int, above: Sequence[str]) -> int:
    """How many names a path on another machine shares with an image at the end; 0: no match.

    The image's other folders must be KINDS. If the path is not foreign, its other folders must be
    KINDS, numbers (as in Label Studio's uploads), or the last names of ``above``.

    Args:
        written: the path.
        image: relative to the root.
        shared: number of the image's first folders to ignore, because all images share them.
        above: the folders of the root, with which the path may begin.
    """
    parts = plain_parts(written)
    count = shared_start(reversed(parts), reversed(image.parts))
    ours, theirs = parts[:-count], image.parts[shared:-count]
    named = is_foreign(written) or all(is_kind(part) or part.isdigit() for part in ours)
    named = named or ours == [*above[-len(ours) :]]
    return count if count and len(parts) > 1 and named and all(map(is_kind, theirs)) else 0


def shared_start(ours: Iterable[str], theirs: Iterable[str]) -> int:
    """How many names two sequences share at the beginning."""
    count = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        count += 1
    return count
