"""Recognises the format of a folder of annotated images."""

import re
from pathlib import Path
from typing import Literal

from detection.data.coco import NAME as COCO
from detection.data.coco import coco_files
from detection.data.csv_table import NAME as CSV
from detection.data.csv_table import csv_files
from detection.data.folder import DataFolder
from detection.data.splits import ALL, STAND_INS
from detection.data.voc_folder import find_voc_folder, lists_folder
from detection.data.xml_folder import FEW, xml_files
from detection.data.xml_folder import NAME as XML
from detection.data.yolo import NAME as YOLO
from detection.data.yolo import yolo_files
from files.text import read_text

# Patterns of other tools' annotation formats, which are not read, by the extension of the files.
FOREIGN = {
    ".json": {
        "LabelMe's JSON": '"shapes"',
        "VIA's JSON": '"(_via_settings|shape_attributes|region_attributes)"',
        "Label Studio's JSON": '"rectanglelabels"',
        "Supervisely's JSON": '"classTitle"',
        "VoTT's JSON": '(?s)"regions".*"boundingBox"',
        "CreateML's JSON": r'(?s)^\s*\[.*"annotations?".*"coordinates"',
    },
    ".xml": {"CVAT's own XML": "<annotations>"},
    ".csv": {
        "VIA's CSV": "region_shape_attributes",
        "makesense.ai's CSV": r"(?im)\A(label_name,bbox_x\b|.+(,-?\d+){4},.+\.\w+,\d+,\d+\s*$)",
    },
}
# Number of characters of a file that are searched for these patterns.
BEGINNING = 100_000

Format = Literal["voc", "xml", "coco", "yolo", "csv"]


def is_voc(root: str | Path) -> bool:
    """Whether a folder, or the ``VOC2007`` in it, has VOC's annotations and lists."""
    return any(
        (place / "Annotations").is_dir() and (place / "ImageSets" / "Main").is_dir()
        for place in (Path(root), Path(root) / "VOC2007")
    )


def voc_list(root: str | Path, split: str) -> str | None:
    """The list in VOC's layout from which a split is read.

    If they are missing, ``trainval`` is train and ``test`` is val. None if ``split`` is ``all``, or
    if no list is a split, as in CVAT's exports (``default.txt``). The caller then reads the XML
    files without lists and splits them by content.
    """
    names = {path.stem for path in lists_folder(find_voc_folder(root)).glob("*.txt")}
    stand_in = STAND_INS.get(split)
    # With a trainval, a test on val would use training images.
    if split in names or (split == "test" and "trainval" in names):
        return split
    if stand_in in names:
        return stand_in
    return split if split != ALL and names & {"train", "trainval", "val", "test"} else None


def recognise(folder: DataFolder) -> Format:
    """The format of a folder that is not in VOC's layout.

    Raises:
        FileNotFoundError: there are no files of a supported format.
        ValueError: there are files of several formats.
    """
    if any("ImageSets" in path.parts for path in folder.ending(".txt")):
        find_voc_folder(folder.root)  # VOC's layout is in a subfolder; raises an error that says so
    named, labels = yolo_files(folder)
    coco, detections = coco_files(folder)
    found: dict[Format, tuple[str, list[Path]]] = {
        "xml": (XML, xml_files(folder)),
        "coco": (COCO, coco),
        "yolo": (YOLO, [*named[:1], *labels] if labels else []),
        "csv": (CSV, csv_files(folder)),
    }
    there = {key: (name, files[0]) for key, (name, files) in found.items() if files}
    if len(there) > 1:
        readings = " or ".join(f"{name} ({file})" for name, file in there.values())
        raise ValueError(
            f"{folder.root} can be read as {readings}; say which by "
            + " or ".join(f"--data.format {key}" for key in there)
        )
    if not there and detections:
        return "coco"  # its reader raises the error
    if not there:
        raise FileNotFoundError(_nothing_there(folder))
    return next(iter(there))


def _nothing_there(folder: DataFolder) -> str:
    root = folder.root
    foreign = _foreign(folder)
    if foreign is not None:
        return f"{root} holds {foreign}; export it as COCO, YOLO or Pascal VOC"
    try:
        find_voc_folder(root)
    except FileNotFoundError as error:
        said = str(error)
    else:
        said = f"data folder {root} has Annotations, but no XML in it"
    if folder.images:
        said += f". The images below it ({len(folder.images)}) have no labels in a known format"
    return (
        f"{said}. Read are VOC's layout, XML beside images or in a folder of its own, COCO's JSON, "
        "YOLO (data.yaml or classes.txt) and CSV with the columns filename, class, xmin, ymin, "
        "xmax, ymax"
    )


def _foreign(folder: DataFolder) -> str | None:
    """The first annotations found in another tool's format, for messages; None if none."""
    for ending, signs in FOREIGN.items():
        for path in folder.ending(ending)[:FEW]:
            text = read_text(folder.root / path)
            for tool, pattern in signs.items():
                if re.search(pattern, text[:BEGINNING]):
                    return f"{tool} ({path})"
    return None
