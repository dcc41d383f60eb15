"""The files below a folder of images and annotations, and which annotation belongs to which image.

The folder may have any structure. The id of an image is its path below the folder, without the
extension, the folder of a split (``train``, ``val2017``) and a folder ``images``: the id of
``train/images/day2/a.1.jpg`` is ``day2/a.1``.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath
from urllib.parse import unquote

from detection.data.pairing import below, match_length, may_belong, shared_start, unlike
from detection.data.split_names import split_folders, split_word
from files.image_folders import images_below
from files.names import check_image_id, folded

# Images that commands draw from the data, and may write into the data's folder.
SHEET = "contact_sheet.png"
DRAWN = {SHEET, "precision_recall.png"}
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
# Folders of images that are not photographs: VOC's masks, other tools' masks, and drawn detections.
MASKS = {
    "detected",
    "segmentation",
    *(f"segmentation{what}{how}" for what in ("class", "object") for how in ("", "raw", "aug")),
}
# Extensions of photographs that Pillow does not open.
UNREAD = (".heic", ".heif", ".dng")
# A folder with these files is a run folder.
RUN_FILES = {"config.yaml", "metrics.jsonl"}


class DataFolder:
    """The files below a folder.

    Ignored are hidden files, such as ``._a.xml`` from a Mac; run folders, which have drawn images
    and lists of images; images that commands draw from the data; and masks in VOC's folders, if
    their images exist.

    Args:
        root: folder of the data.

    Raises:
        OSError: a folder cannot be listed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        files, runs = self._walk()
        images = [path.relative_to(self.root) for path in images_below(self.root)[0]]
        images = [path for path in images if runs.isdisjoint(path.parents)]
        images = [path for path in images if path.name not in DRAWN]
        scenes = {path.stem for path in images if not mask(path)}
        self.images = [path for path in images if not (mask(path) and path.stem in scenes)]
        self.others = sorted(files - set(self.images))
        self._named = _grouped((image.name, image) for image in self.images)
        self._stems = _grouped((image.stem, image) for image in self.images)
        self._unquoted = _grouped((unquote(image.stem), image) for image in self.images)
        self.places = {up for path in (*images, *files) for up in path.parents}
        self._splits = split_folders(self.places)
        # For each folder, its split, and its path without the folders of splits.
        self._split: dict[PurePath, str | None] = {Path(): None}
        self._plain: dict[PurePath, list[str]] = {Path(): []}
        for place in sorted(self.places - {Path()}, key=lambda place: len(place.parts)):
            own = self._splits.get(place)
            self._split[place] = own or self._split[place.parent]
            self._plain[place] = self._plain[place.parent] + ([] if own else [place.name])
        holding = {path.parent for path in self.images}
        self._shared = len(Path(os.path.commonpath(holding)).parts) if holding else 0
        pairs = {path.with_suffix("") for path in self.images}
        # Folders whose images have a file of the same name beside them, and its extension.
        self._beside = {
            (path.parent, path.suffix) for path in self.others if path.with_suffix("") in pairs
        }
        # Images that were matched by the end of a name only, by source and name.
        self.guessed: dict[tuple[str, str], Path] = {}

    def ending(self, *suffixes: str) -> list[Path]:
        """The files with these extensions, relative to the root; without images."""
        return [path for path in self.others if path.suffix.lower() in suffixes]

    def split_of(self, path: PurePath) -> str | None:
        """The split of a file, relative to the root, from its innermost folder named as a split."""
        return self._split[path.parent]

    def image_id(self, image: PurePath) -> str:
        """The id of an image, relative to the root.

        Raises:
            ValueError: the id cannot be written in a list.
        """
        folders = list(image.parts[:-1])
        of_split = next((up for up in image.parents if up in self._splits), None)
        if of_split is not None:
            del folders[len(of_split.parts) - 1]
        named = next((name for name in folders if name.lower() in IMAGE_FOLDERS), None)
        if named is not None:
            folders.remove(named)
        return check_image_id("/".join([*folders, image.stem]), str(self.root / image))

    def image_named(self, name: str, source: str, near: PurePath) -> Path:
        """The image that an annotation names, relative to the root.

        The name may be a path on another machine, where the image was labelled. It is then matched
        to the image whose path shares its longest end, and recorded in ``guessed``.

        Args:
            name: a file name, with or without folders.
            source: file and position of the name, for messages.
            near: the file that contains the name, relative to the root.

        Raises:
            FileNotFoundError: there is no such image.
            ValueError: the name leads outside the folder, or matches several images.
        """
        plain = name.replace("\\", "/").removeprefix("./")
        what = f"{source} names the image '{name}', which"
        readings = dict.fromkeys((plain, unquote(plain)))
        for find in (self._exactly, self._by_end):
            for written in readings:
                found = find(written, near)
                if not found:
                    continue
                image = self._nearest(found, near, what)
                if find == self._by_end or written != plain:
                    self.guessed[source, name] = image
                return image
        last = PurePath(check_image_id(plain, source))
        others = self._named.get(last.name) or self._stems.get(last.stem)
        hint = f"there is {self.root / others[0]}: write its name so" if others else ""
        hint = hint or self.hint(last.stem) or "add the image, or remove its labels"
        raise FileNotFoundError(f"{what} is not below {self.root}; {hint}")

    def hint(self, stem: str) -> str:
        """A hint if no image has a name: one is spelled differently, or its format is not read."""
        for path in (*self.images, *self.ending(*UNREAD)):
            if folded(path.stem) == folded(stem):
                what = "is of a format that is not read: save it as JPEG or PNG"
                if path.suffix.lower() not in UNREAD:
                    what = "has other capitals, or letters of another Unicode form: rename it"
                return f"{self.root / path} {what}"
        return ""

    def image_of(self, annotation: PurePath) -> Path | None:
        """The image, relative to the root, with the same name as an annotation file.

        None if no image of the same split, in a matching folder, has this name. Names may be
        encoded as in URLs: ``a%20b.txt`` belongs to ``a b.jpg`` if there is no ``a%20b.jpg``, and
        vice versa.

        Raises:
            ValueError: several images match.
        """
        split = self.split_of(annotation)
        stem = annotation.stem
        named = self._stems.get(stem) or self._unquoted.get(unquote(stem)) or []
        named = [path for path in named if self.split_of(path) == split]
        named = [path for path in named if self.belong(annotation, path)]
        if not named:
            return None
        ours = self._plain[annotation.parent]
        same = [path for path in named if unlike(ours, self._plain[path.parent]) == ([], [])]
        return self._nearest(same or named, annotation, f"{self.root / annotation}")

    def has_stem(self, annotation: PurePath) -> bool:
        """Whether an image in any folder has the name of an annotation file."""
        return unquote(annotation.stem) in self._unquoted

    def belong(self, annotation: PurePath, image: PurePath) -> bool:
        """Whether an annotation file may belong to an image, by their folders (``may_belong``)."""
        ending = annotation.suffix
        return may_belong(
            self._plain[annotation.parent],
            self._plain[image.parent],
            beside=not self._beside.isdisjoint(
                {(annotation.parent, ending), (image.parent, ending)}
            ),
            unique=len(self._stems[image.stem]) == 1,
        )

    def _exactly(self, written: str, near: PurePath) -> list[Path]:
        """The images that a path names, relative to any folder or, with ``..``, to its file's."""
        parts = PurePath(written).parts
        if not parts:
            return []
        named = self._named.get(parts[-1], ())
        if ".." in parts:
            seen = None if written.startswith("/") else below(near.parent, written)
            return [path for path in named if path == seen]
        return [path for path in named if path.parts[-len(parts) :] == parts]

    def _by_end(self, written: str, near: PurePath) -> list[Path]:
        """The images whose paths share the longest end with a path on another machine."""
        last = written.rpartition("/")[2]
        above = self.root.absolute().parts
        fits: dict[int, list[Path]] = defaultdict(list)
        for path in self._named.get(last, ()):
            shared = max(self._shared, shared_start(path.parts[:-1], near.parts[:-1]))
            fits[match_length(written, path, shared, above)].append(path)
        fits.pop(0, None)
        return fits[max(fits)] if fits else []

    def _nearest(self, found: list[Path], near: PurePath, what: str) -> Path:
        """The image whose folders are most similar to those of a file."""

        def likeness(image: Path) -> tuple[bool, bool, int, int]:
            """Same folder, same split, folders shared at the end and at the start; higher wins."""
            ours, theirs = image.parts[:-1], near.parts[:-1]
            return (
                ours == theirs,
                self.split_of(image) == (self.split_of(near) or split_word(near.name)),
                shared_start(reversed(ours), reversed(theirs)),
                shared_start(ours, theirs),
            )

        ranked = sorted(found, key=likeness, reverse=True)
        if len(ranked) > 1 and likeness(ranked[0]) == likeness(ranked[1]):
            raise ValueError(
                f"{what} may belong to {self.root / ranked[0]} or {self.root / ranked[1]}; rename "
                "one, or keep only one below the data's folder"
            )
        return ranked[0]

    def _walk(self) -> tuple[set[Path], set[Path]]:
        """The files, without those of run folders, and the run folders."""
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


def _grouped(named: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    found = defaultdict(list)
    for name, image in named:
        found[name].append(image)
    return dict(found)


def mask(image: PurePath) -> bool:
    """Whether an image is in a folder of masks, such as ``SegmentationClass``."""
    return any(part.lower() in MASKS for part in image.parts[:-1])
