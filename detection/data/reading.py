"""Reads annotated images of any supported format by one function, ``read_dataset``."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detection.data.annotations import Annotation
from detection.data.assembly import Labelled, assemble, count_objects
from detection.data.coco import read_coco
from detection.data.csv_table import read_csv
from detection.data.folder import DataFolder
from detection.data.recognise import is_voc, recognise, voc_list
from detection.data.records import Dataset
from detection.data.source import Source
from detection.data.splits import (
    ALL,
    content_split,
    known_only,
    lists_in,
    make_lists,
    read_list,
    resolve,
)
from detection.data.voc import class_names, read_voc
from detection.data.voc_folder import find_voc_folder
from detection.data.xml_folder import read_xml_folder
from detection.data.yolo import read_yolo
from detection.settings.data import Data, Split

READERS = {"xml": read_xml_folder, "coco": read_coco, "yolo": read_yolo, "csv": read_csv}
# Subfolder of a run for the lists of a split by content.
LISTS = "lists"

logger = logging.getLogger(__name__)


def read_dataset(
    data: Data | Split,
    split: str,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    images: bool = True,
    *,
    strict: bool = False,
    kept: Path | None = None,
) -> Dataset:
    """Records of a split of annotated images in any supported format; logs what was found.

    Args:
        data: location and format of the data.
        split: name of a VOC list; or ``train``, ``val`` or ``test`` from folders or lists; or, if
            there are none, ``train`` or ``test`` by content. If missing, ``trainval`` is train and
            ``test`` is val (``voc_list``, ``resolve``). ``all`` has all images.
        classes: class names that labels index. Objects of other classes are left out, but in VOC's
            layout they are an error. None: the classes of the split's objects, in VOC's order if
            all are among its 20, otherwise sorted.
        limit: reads only this many images, the first ones.
        images: False opens no image whose size the annotations give and, in VOC's layout, needs no
            images. This is for evaluation without images.
        strict: an unreadable image is an error; otherwise it is left out.
        kept: run folder; a split by content is written there, and read from there later.

    Raises:
        FileNotFoundError: no such folder, split, annotation or image.
        ValueError: a file is invalid, the data match two formats, or see ``read_voc``.
    """
    if not Path(data.root).is_dir():
        find_voc_folder(data.root)  # raises a helpful error
    if (listed := _listed_in_voc(data, split)) is not None:
        logger.info("%s: VOC's layout, split %s", Path(data.root), listed)
        return read_voc(Path(data.root), listed, classes, limit, images, strict=strict)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more (or none), got {limit}")
    source = _source(data)
    labelled, name, how = _chosen(source, data, split, kept)
    _warn_of_guesses(source.folder)
    unlabelled = len(source.folder.images) - len(source.annotations)
    logger.info(
        "%s: %s, %d labelled images%s; %s %s, %d images",
        *(data.root, source.described, len(source.annotations)),
        f", {unlabelled} unlabelled {UNLABELLED[data.unlabelled]}" if unlabelled else "",
        *(how, name, len(labelled)),
    )
    labelled = labelled[:limit]
    if classes is not None:
        labelled = known_only(labelled, classes)
    annotations = [each.annotation for each in labelled]
    count_objects(annotations, name, needed=classes is None, expected="an object")
    known = class_names(annotations, classes)
    return assemble(labelled, name, known, images=images, strict=strict)


UNLABELLED = {"left_out": "left out", "background": "taken as empty"}


def _in_voc_layout(data: Data | Split) -> bool:
    return data.format == "voc" or (data.format == "auto" and is_voc(Path(data.root)))


def _listed_in_voc(data: Data | Split, split: str) -> str | None:
    """The VOC list of a split; None if another reader must find the split."""
    if data.lists is not None or not _in_voc_layout(data):
        return None
    listed = voc_list(Path(data.root), split)
    if listed is None and data.format == "voc" and split != ALL:
        return split  # read_voc raises a helpful error
    return listed


def _source(data: Data | Split) -> Source:
    """The annotations below the root, read in the given format, or in the one recognised."""
    if _in_voc_layout(data):
        return read_xml_folder(DataFolder(find_voc_folder(data.root)))
    folder = DataFolder(Path(data.root))
    return READERS[recognise(folder) if data.format == "auto" else data.format](folder)


def _chosen(
    source: Source, data: Data | Split, split: str, kept: Path | None
) -> tuple[list[Labelled], str, str]:
    """A split's images, its name in the data, and a description of where it comes from."""
    by_split = _by_split(source, background=data.unlabelled == "background")
    own = [name for name in by_split if name]
    everything = _everything(by_split)
    if not everything:
        raise ValueError(f"{data.root} has no labelled image: {source.described}")
    if data.lists is not None:
        return _listed(Path(data.lists), split, everything)
    if split == ALL:
        return list(everything.values()), ALL, "split"
    if len(own) > 1:
        if other := list(by_split.get("", {}).values()):
            logger.warning(
                "labelled images in no split, which only '%s' has: %d of %d, first %s",
                *(ALL, len(other), len(everything), other[0].path),
            )
        name = resolve(split, own, str(data.root))
        return list(by_split[name].values()), name, "its own split"
    if own:
        logger.warning(
            "the split '%s' of %d of the %d labelled images in %s is the only split, so it is "
            "ignored: all images are split by content",
            *(own[0], len(by_split[own[0]]), len(everything), data.root),
        )
    return _by_content(everything, split, str(data.root), None if kept is None else kept / LISTS)


def _by_content(
    everything: dict[str, Labelled], split: str, root: str, lists: Path | None
) -> tuple[list[Labelled], str, str]:
    """The result of ``_chosen`` for a split by content, which is stored in ``lists`` and reused."""
    if lists is None:
        made = content_split(list(everything.values()))
        name, how = resolve(split, made, f"{root}, split by content"), "split by content"
        parts = {each: [everything[key] for key in ids] for each, ids in made.items()}
        if not parts[name]:
            raise ValueError(
                f"{root} has one image, or copies of one, so that '{name}' has none; label more"
            )
    else:
        how = f"by {lists}"
        if make_lists(lists, list(everything.values())):
            how = f"split by content ({lists})"
        else:
            _warn_of_new(lists, everything)
        name = resolve(split, lists_in(lists), f"{lists}, split by content")
        wanted = {name, "train"} if name == "test" else {name}
        parts = {each: read_list(lists, each, everything) for each in wanted & {*lists_in(lists)}}
    chosen = parts[name]
    if name == "test":
        train = parts.get("train", chosen)
        chosen = known_only(chosen, {name for each in train for name in each.annotation.names})
    return chosen, name, how


def _warn_of_guesses(folder: DataFolder) -> None:
    """Log how many names of images were matched by their ends only."""
    if folder.guessed:
        (where, written), image = next(iter(folder.guessed.items()))
        logger.warning(
            "names of images with paths of another place, matched by their ends: %d, first '%s' "
            "in %s, matched to %s",
            *(len(folder.guessed), written, where, folder.root / image),
        )


def _warn_of_new(lists: Path, everything: Mapping[str, Labelled]) -> None:
    """Log how many images are in none of a run's lists, because they were added later."""
    listed = [read_list(lists, name, everything) for name in lists_in(lists)]
    if new := len(everything) - len({each.image_id for part in listed for each in part}):
        logger.warning(
            "%d labelled images were added after the lists in %s were made, and are not used; add "
            "their ids to the lists, or use another --run to split all images anew",
            *(new, lists),
        )


def _listed(
    lists: Path, split: str, everything: dict[str, Labelled]
) -> tuple[list[Labelled], str, str]:
    there = lists_in(lists)
    if split == ALL and ALL not in there:
        return list(everything.values()), ALL, "split"
    name = resolve(split, there, str(lists))
    return read_list(lists, name, everything), name, f"by {lists}"


def _by_split(source: Source, *, background: bool) -> dict[str, dict[str, Labelled]]:
    """Images by split ('' if unknown) and by id, sorted by path."""
    folder = source.folder
    found: dict[str, dict[str, Labelled]] = {}
    for image in folder.images:
        path = folder.root / image
        annotation = source.annotations.get(image)
        if annotation is None and background:
            annotation = _without_objects(path)
        if annotation is None:
            continue
        of_split = found.setdefault(source.split_of(image) or "", {})
        image_id = folder.image_id(image)
        if image_id in of_split:
            raise ValueError(
                f"{of_split[image_id].path} and {path} would both have the id '{image_id}'; rename "
                "one of them"
            )
        of_split[image_id] = Labelled(image_id, path, annotation)
    return found


def _everything(by_split: dict[str, dict[str, Labelled]]) -> dict[str, Labelled]:
    """All images by id; if two splits have the same id, its split is put before it."""
    found: dict[str, Labelled] = {}
    for split, of_split in by_split.items():
        for image_id, each in of_split.items():
            own = f"{split or 'other'}/{image_id}" if image_id in found else image_id
            found[own] = Labelled(own, each.path, each.annotation)
    return found


def _without_objects(path: Path) -> Annotation:
    return Annotation(str(path), None, (), np.zeros((0, 4)), np.zeros(0, np.bool_), "pixels")
