"""A folder of images and annotations in whatever order, listed once; which file belongs to which.

The id of an image is its path below the folder without ending, without the name of a split
(``train``, ``val2017``) and without an ``images``: ``train/images/day2/a.1.jpg`` is ``day2/a.1``.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath

from files.image_folders import images_below
from files.names import check_image_id

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
# How the folders of VOC's masks begin, which are images of no scene.
MASKS = "segmentation"
# What tells a run's folder.
RUN_FILES = {"config.yaml", "metrics.jsonl"}
SPLIT_WORDS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}


def split_word(name: str) -> str | None:
    """The split that a name of a folder or file tells: train, val or test; None where it is none.

    ``valid``, ``instances_val2017`` and ``Validation set`` all are ``val``.
    """
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


class DataFolder:
    """The files below a folder; hidden ones, such as a Mac's ``._a.xml``, are passed over.

    So are those of a training's run, which may lie among its data: drawn images, lists of images;
    and VOC's segmentation masks.

    Args:
        root: of the data.

    Raises:
        OSError: a folder cannot be listed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        files, runs = self._walk()
        images = (path.relative_to(self.root) for path in images_below(self.root)[0])
        self.images = [path for path in images if runs.isdisjoint(path.parents) and not mask(path)]
        self.others = sorted(files - set(self.images))
        self._named: dict[str, list[Path]] = defaultdict(list)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for image in self.images:
            self._named[image.name].append(image)
            self._stems[image.stem].append(image)

    def ending(self, *suffixes: str) -> list[Path]:
        """The files, relative to the root, that end so, and are no images."""
        return [path for path in self.others if path.suffix.lower() in suffixes]

    def split_of(self, path: PurePath) -> str | None:
        """The split that the folders of a file, relative to the root, tell."""
        return next(filter(None, map(split_word, path.parts[:-1])), None)

    def image_id(self, image: PurePath) -> str:
        """The id of an image, relative to the root.

        Raises:
            ValueError: it is no name that a list can hold.
        """
        folders = list(image.parts[:-1])
        for is_one in (split_word, lambda name: name.lower() in IMAGE_FOLDERS):
            named = next(filter(is_one, folders), None)
            if named is not None:
                folders.remove(named)
        return check_image_id("/".join([*folders, image.stem]), str(self.root / image))

    def image_named(self, name: str, source: str, near: PurePath) -> Path:
        """The image that an annotation names, relative to the root.

        Args:
            name: a file name with any folders before it.
            source: where it stands, for messages.
            near: the file that names it, relative to the root.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the name leads outside, or may be one of several images.
        """
        plain = name.replace("\\", "/").removeprefix("./")
        parts = PurePath(check_image_id(plain, source)).parts
        found = [path for path in self._named[parts[-1]] if path.parts[-len(parts) :] == parts]
        if not found:
            others = self._named[parts[-1]] or self._stems[PurePath(parts[-1]).stem]
            hint = f"there is {self.root / others[0]}: write its name so" if others else ""
            hint = hint or "add the image, or take what names it out"
            raise FileNotFoundError(
                f"{source} names the image '{name}', which is not below {self.root}; {hint}"
            )
        return self._nearest(found, near, f"{source} names the image '{name}', which")

    def image_of(self, annotation: PurePath) -> Path | None:
        """The image, relative to the root, that an annotation file of its own is of, by its name.

        None where no image of its split has its name.

        Raises:
            ValueError: it may be of several.
        """
        split = self.split_of(annotation)
        named = [path for path in self._stems[annotation.stem] if self.split_of(path) == split]
        if not named:
            return None
        return self._nearest(named, annotation, f"{self.root / annotation}")

    def _nearest(self, found: list[Path], near: PurePath, what: str) -> Path:
        """Of images the one whose folders are most like a file's."""

        def likeness(image: Path) -> tuple[bool, bool, int, int]:
            """Higher is nearer: the same folder, the same split, folders shared from either end."""
            ours, theirs = image.parts[:-1], near.parts[:-1]
            return (
                ours == theirs,
                self.split_of(image) == (self.split_of(near) or split_word(near.name)),
                _same(reversed(ours), reversed(theirs)),
                _same(ours, theirs),
            )

        ranked = sorted(found, key=likeness, reverse=True)
        if len(ranked) > 1 and likeness(ranked[0]) == likeness(ranked[1]):
            raise ValueError(
                f"{what} may be of {self.root / ranked[0]} or {self.root / ranked[1]}; rename one, "
                "or keep only one below the data's folder"
            )
        return ranked[0]

    def _walk(self) -> tuple[set[Path], set[Path]]:
        """The files, and the folders of runs, which are not looked into."""
        files: set[Path] = set()
        runs: set[Path] = set()
        seen: set[str] = set()
        for place, folders, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(place)
            folders[:] = [name for name in folders if not name.startswith(".")]
            here = Path(place).relative_to(self.root)
            if here.parts and set(names) >= RUN_FILES:
                runs.add(here)
            if real in seen or here in runs:
                folders.clear()
                continue
            seen.add(real)
            files.update(here / name for name in names if not name.startswith("."))
        return files, runs


def mask(image: PurePath) -> bool:
    """Whether an image lies in a folder of VOC's masks, such as ``SegmentationClass``."""
    return any(part.lower().startswith(MASKS) for part in image.parts[:-1])


def _same(ours: Iterable[str], theirs: Iterable[str]) -> int:
    """How many of two rows of names are the same, from their beginning."""
    count = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        count += 1
    return count
