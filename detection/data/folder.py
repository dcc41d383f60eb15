"""A folder of images and annotations in whatever order, listed once; which file belongs to which.

The id of an image is its path below the folder without ending, without the name of a split
(``train``, ``val2017``) and without an ``images``: ``train/images/day2/a.1.jpg`` is ``day2/a.1``.
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

# Images that commands draw of the data, which may lie among them.
SHEET = "contact_sheet.png"
DRAWN = {SHEET, "precision_recall.png"}
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
# The folders of images of no scene: VOC's masks, those that tools make beside them, and drawings.
MASKS = {
    "detected",
    "segmentation",
    *(f"segmentation{what}{how}" for what in ("class", "object") for how in ("", "raw", "aug")),
}
# Photographs that Pillow does not open.
UNREAD = (".heic", ".heif", ".dng")
# What tells a run's folder.
RUN_FILES = {"config.yaml", "metrics.jsonl"}


class DataFolder:
    """The files below a folder; hidden ones, such as a Mac's ``._a.xml``, are passed over.

    So are those of a training's run, which may lie among its data: drawn images, lists of images;
    what commands draw of the data; and masks in VOC's folders whose images are there.

    Args:
        root: of the data.

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
        # The split of each folder's files, and its names but for those of splits.
        self._split: dict[PurePath, str | None] = {Path(): None}
        self._plain: dict[PurePath, list[str]] = {Path(): []}
        for place in sorted(self.places - {Path()}, key=lambda place: len(place.parts)):
            own = self._splits.get(place)
            self._split[place] = own or self._split[place.parent]
            self._plain[place] = self._plain[place.parent] + ([] if own else [place.name])
        holding = {path.parent for path in self.images}
        self._shared = len(Path(os.path.commonpath(holding)).parts) if holding else 0
        pairs = {path.with_suffix("") for path in self.images}
        # Folders whose images have files of such an ending beside them.
        self._beside = {
            (path.parent, path.suffix) for path in self.others if path.with_suffix("") in pairs
        }
        # Images by where they are named as for another place, and by this name.
        self.guessed: dict[tuple[str, str], Path] = {}

    def ending(self, *suffixes: str) -> list[Path]:
        """The files, relative to the root, that end so, and are no images."""
        return [path for path in self.others if path.suffix.lower() in suffixes]

    def split_of(self, path: PurePath) -> str | None:
        """The split that the folders of a file, relative to the root, tell: the innermost does."""
        return self._split[path.parent]

    def image_id(self, image: PurePath) -> str:
        """The id of an image, relative to the root.

        Raises:
            ValueError: it is no name that a list can hold.
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

        A name of another place, such as a path of the machine it was labelled on, is that of the
        one image on which most of its end fits; it is noted in ``guessed``.

        Args:
            name: a file name with any folders before it.
            source: where it stands, for messages.
            near: the file that names it, relative to the root.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the name leads outside, or may be one of several images.
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
        """What helps where no image has a name: one is written otherwise, or of another format."""
        for path in (*self.images, *self.ending(*UNREAD)):
            if folded(path.stem) == folded(stem):
                what = "is of a format that is not read: save it as JPEG or PNG"
                if path.suffix.lower() not in UNREAD:
                    what = "has other capitals, or letters of another Unicode form: rename it"
                return f"{self.root / path} {what}"
        return ""

    def image_of(self, annotation: PurePath) -> Path | None:
        """The image, relative to the root, that an annotation file of its own is of, by its name.

        None where no image of its split and its folders has its name. ``a%20b.txt``, as in a URL,
        is of ``a b.jpg`` where there is no ``a%20b.jpg``, and the other way round.

        Raises:
            ValueError: it may be of several.
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
        """Whether any image has the name of an annotation file, wherever it lies."""
        return unquote(annotation.stem) in self._unquoted

    def belong(self, annotation: PurePath, image: PurePath) -> bool:
        """Whether the folders of an annotation's file let it be of an image (``may_belong``)."""
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
        """The images that a path names, seen from the file that has it or from any folder."""
        parts = PurePath(written).parts
        if not parts:
            return []
        named = self._named.get(parts[-1], ())
        if ".." in parts:
            seen = None if written.startswith("/") else below(near.parent, written)
            return [path for path in named if path == seen]
        return [path for path in named if path.parts[-len(parts) :] == parts]

    def _by_end(self, written: str, near: PurePath) -> list[Path]:
        """The images on which most of the end of a path of another place fits."""
        last = written.rpartition("/")[2]
        above = self.root.absolute().parts
        fits: dict[int, list[Path]] = defaultdict(list)
        for path in self._named.get(last, ()):
            shared = max(self._shared, shared_start(path.parts[:-1], near.parts[:-1]))
            fits[match_length(written, path, shared, above)].append(path)
        fits.pop(0, None)
        return fits[max(fits)] if fits else []

    def _nearest(self, found: list[Path], near: PurePath, what: str) -> Path:
        """Of images the one whose folders are most like a file's."""

        def likeness(image: Path) -> tuple[bool, bool, int, int]:
            """Higher is nearer: the same folder, the same split, folders shared from either end."""
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


def _grouped(named: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    found = defaultdict(list)
    for name, image in named:
        found[name].append(image)
    return dict(found)


def mask(image: PurePath) -> bool:
    """Whether an image lies in a folder of masks, such as ``SegmentationClass``."""
    return any(part.lower() in MASKS for part in image.parts[:-1])
