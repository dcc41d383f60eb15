"""The names of YOLO's classes, from YAML files or lists.

Two exports below one folder may number their classes differently. So a label file uses the nearest
names in a folder above it; a folder such as ``labels`` does not count as a level.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from detection.data.folder import DataFolder
from detection.data.pairing import below, is_foreign, is_kind, plain_parts
from detection.data.split_names import split_word
from files.names import check_class_name
from files.text import read_lines, read_text

NAME_LISTS = ("classes.txt", "obj.names")


@dataclass(frozen=True)
class NamesFile:
    """A file that names classes.

    Attributes:
        path: relative to the root.
        content: of a YAML file, with all values as strings; None for a list.
        base: the folder, relative to the root, that the YAML file's ``path`` means; None if it has
            none.
    """

    path: Path
    content: Mapping[str, Any] | None
    base: Path | None = None

    @property
    def level(self) -> Path:
        """The folder, relative to the root, below which the file's labels are."""
        place = self.path.parent if self.base is None else self.base
        while is_kind(place.name):
            place = place.parent
        return place

    @property
    def keypoints(self) -> bool:
        """Whether the file's labels have keypoints after the box."""
        return self.content is not None and "kpt_shape" in self.content


def names_files(folder: DataFolder) -> list[Path]:
    """The files that name classes, YAML first."""
    lists = [path for path in folder.others if path.name in NAME_LISTS]
    yamls = folder.ending(".yaml", ".yml")
    pattern = re.compile(r"^names\s*:", re.MULTILINE)
    return [*(path for path in yamls if pattern.search(read_text(folder.root / path))), *lists]


def read_names_file(folder: DataFolder, path: Path) -> NamesFile:
    """The content of a file that names classes; the names are not checked.

    Raises:
        ValueError: the file is not valid YAML.
    """
    if path.name in NAME_LISTS:
        return NamesFile(path, None)
    where = folder.root / path
    try:
        # All values stay strings, because a class may be called yes, 010 or null.
        content = yaml.load(read_text(where), Loader=yaml.BaseLoader)
    except (RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{where} is not valid YAML ({reason})") from error
    content = content if isinstance(content, dict) else {}
    given = content.get("path")
    base = _base_folder(folder, path, given) if isinstance(given, str) and given else None
    return NamesFile(path, content, base)


def _base_folder(folder: DataFolder, path: Path, given: str) -> Path | None:
    """The folder, relative to the root, that the ``path`` of a YAML file means; None if missing.

    ``path`` is often a folder on another machine; its last folders may exist below the root.
    """
    written = given.replace("\\", "/")
    tried = places_meant(folder, written, [path.parent, Path()], least=1)
    return next((place for place in tried if place in folder.places), None)


def places_meant(
    folder: DataFolder, written: str, bases: Sequence[Path], *, least: int
) -> list[Path]:
    """The paths below the root that a path in a YAML file may mean, the most likely first.

    Args:
        folder: of the data.
        written: the path, with slashes.
        bases: folders to which the path may be relative.
        least: ends of an absolute path on another machine are tried if they have at least this many
            names, or name a split.
    """
    parts = plain_parts(written)
    if written.startswith("..") or not is_foreign(written):
        literal = [below(base, written) for base in bases]
        # Roboflow's ../train/images has one .. too many.
        return [place for place in literal if place is not None] + (
            [base / Path(*parts) for base in bases] if written.startswith("..") else []
        )
    roots = (folder.root.absolute(), folder.root.resolve())
    whole = PurePosixPath(written)
    places = [Path(whole.relative_to(root)) for root in roots if whole.is_relative_to(root)]
    ends = [Path(*parts[start:]) for start in range(len(parts))]
    ends = [end for end in ends if len(end.parts) >= least or split_word(end.stem)]
    return places + [base / end for end in ends for base in bases]


def names_by_folder(
    folder: DataFolder, files: Iterable[NamesFile], labels: Iterable[Path]
) -> dict[Path, tuple[NamesFile, list[str]]]:
    """For each folder of labels, the nearest file above it that names classes, and its names.

    If there is none above, a file that is above no labels is used, such as ``meta/classes.txt``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: two equally near files name different classes; or the names are invalid.
    """
    first = {path.parent: path for path in reversed(list(labels))}
    files = list(files)
    above = {
        place: [each for each in files if each.level in (place, *place.parents)] for place in first
    }
    used = {each.path for some in above.values() for each in some}
    read = {}
    for place, some in above.items():
        nearest = max((len(each.level.parts) for each in some), default=0)
        near = [each for each in some if len(each.level.parts) == nearest]
        near = near or [each for each in files if each.path not in used]
        if not near:
            raise FileNotFoundError(
                f"{folder.root} has YOLO's labels, such as {first[place]}, but no data.yaml or "
                "classes.txt that names their classes; write classes.txt, one name a line"
            )
        names = [read_names(folder, each) for each in near]
        for other, those in zip(near, names, strict=True):
            if those != names[0]:
                raise ValueError(
                    f"{folder.root / near[0].path} and {folder.root / other.path} name different "
                    f"classes, and either may belong to {folder.root / first[place]}; keep one of "
                    "them"
                )
        with_keypoints = [each for each in near if each.keypoints]
        read[place] = ((with_keypoints or near)[0], names[0])
    return read


def read_names(folder: DataFolder, file: NamesFile) -> list[str]:
    """The class names in the order of their numbers.

    Raises:
        ValueError: there is no list of names, a number is missing, or a name is invalid.
    """
    path = str(folder.root / file.path)
    if file.content is None:
        lines = list(read_lines(path))
        for place, (number, _) in enumerate(lines, start=1):
            if place != number:
                raise ValueError(
                    f"{path} line {place} is blank, but each line stands for the class with its "
                    "number; write the name there, or remove the line if the labels do not count "
                    "it"
                )
        given: Any = [line.strip() for _, line in lines]
    else:
        given = file.content.get("names")
    if isinstance(given, dict):
        numbers = [str(place) for place in range(len(given))]
        if set(given) != set(numbers):
            raise ValueError(f"{path} names classes [{', '.join(given)}]; expected 0, 1, 2 ...")
        given = [given[number] for number in numbers]
    if not given or not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"{path} has {given or 'nothing'} for names; expected a list of classes")
    return [check_class_name(each.strip(), path) for each in given]
