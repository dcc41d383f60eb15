"""The splits of YOLO's images, from ``train``, ``val`` and ``test`` in data.yaml, or from lists."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from detection.data.folder import DataFolder
from detection.data.split_names import SPLIT_WORDS, split_word
from detection.data.yolo_names import NamesFile, places_meant
from files.image_folders import image_suffixes
from files.text import read_lines

logger = logging.getLogger(__name__)


def yaml_splits(
    folder: DataFolder, files: Iterable[NamesFile]
) -> tuple[dict[Path, str], set[Path]]:
    """The splits of images from YAML files, and the folders and lists that these files name.

    An image in two splits, for example if ``val`` is the same folder as ``train``, is in neither.

    Raises:
        FileNotFoundError: a list names an image that does not exist.
    """
    found: dict[Path, set[str]] = defaultdict(set)
    read: set[Path] = set()
    for file in files:
        for key, value in (file.content or {}).items():
            given = value if isinstance(value, list) else [value]
            for one in given if key in SPLIT_WORDS else ():
                if not isinstance(one, str) or not one.strip():
                    continue
                images, place = _images_at(folder, file, one.strip())
                read |= set() if place is None else {place}
                for image in images:
                    found[image].add(SPLIT_WORDS[key])
                if not images:
                    logger.warning(
                        "%s names '%s' for %s, but there is no image",
                        *(folder.root / file.path, one, key),
                    )
    return _only_splits(folder, found, "a YAML file"), read


def listed_splits(folder: DataFolder, passed_over: Iterable[Path]) -> dict[Path, str]:
    """The splits of images from lists of their paths, such as ``train.txt``.

    A file whose name has other words besides a split's is a list only if every line is an image's
    name. An image in two lists is in neither split.

    Args:
        folder: of the data.
        passed_over: text files that are not lists.

    Raises:
        FileNotFoundError: a list names an image that does not exist.
    """
    skipped = set(passed_over)
    found: dict[Path, set[str]] = defaultdict(set)
    prose = []
    for path in folder.ending(".txt"):
        split = split_word(path.stem)
        if split is None or path in skipped:
            continue
        lines = [line.strip() for _, line in read_lines(folder.root / path)]
        if path.stem.lower() in SPLIT_WORDS or all(map(_is_image, lines)):
            for image in _listed_images(folder, path):
                found[image].add(split)
        else:
            prose.append(path)
    if prose:
        logger.warning(
            "text files named like the list of a split but without images, ignored: %d, first %s",
            *(len(prose), folder.root / prose[0]),
        )
    return _only_splits(folder, found, "lists")


def _only_splits(
    folder: DataFolder, found: Mapping[Path, set[str]], told_by: str
) -> dict[Path, str]:
    """The split of each image that has only one; trainval counts only without another split."""
    splits = {image: some - {"trainval"} or some for image, some in found.items()}
    double = sorted(image for image, some in splits.items() if len(some) > 1)
    if double:
        logger.warning(
            "images in two splits of %s, ignored there: %d, first %s (%s)",
            *(told_by, len(double), folder.root / double[0]),
            " and ".join(sorted(splits[double[0]])),
        )
    return {image: min(some) for image, some in splits.items() if len(some) == 1}


def _is_image(line: str) -> bool:
    return PurePosixPath(line).suffix.lower() in image_suffixes()


def _listed_images(folder: DataFolder, path: Path) -> list[Path]:
    images = []
    for count, line in read_lines(folder.root / path):
        name = line.strip().replace("\\", "/").removeprefix("./").removeprefix("data/")
        images.append(folder.image_named(name, f"{folder.root / path} line {count}", path))
    return images


def _images_at(
    folder: DataFolder, file: NamesFile, value: str
) -> tuple[Sequence[Path], Path | None]:
    """The images of the first possible meaning of a value that has any, and its path."""
    bases = [each for each in (file.base, file.path.parent, Path()) if each is not None]
    for place in places_meant(folder, value.replace("\\", "/"), bases, least=2):
        if place in folder.others and place.suffix.lower() == ".txt":
            return _listed_images(folder, place), place
        images = [image for image in folder.images if place in image.parents]
        if images:
            return images, place
    return [], None
