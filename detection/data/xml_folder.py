"""Reads VOC's XML without VOC's lists, as LabelImg writes it, beside images or in other folders."""

from pathlib import Path

from detection.data.folder import DataFolder
from detection.data.source import Source
from detection.data.voc_xml import read_annotation
from files.text import read_xml

NAME = "VOC's XML, one file an image"
# Number of files of one extension that are read to recognise their format.
FEW = 10


def xml_files(folder: DataFolder) -> list[Path]:
    """The XML files below a folder; none if the first FEW are other things."""
    found = folder.ending(".xml")
    return found if any(_is_annotation(folder.root / path) for path in found[:FEW]) else []


def _is_annotation(path: Path) -> bool:
    try:
        return read_xml(path).tag.rpartition("}")[2] == "annotation"
    except ValueError:
        return True  # broken; reading it raises the error


def read_xml_folder(folder: DataFolder) -> Source:
    """The annotations of a folder of images and XML.

    A file belongs to the image with the same name or, if there is none, to the image that its
    ``<filename>`` names. The names of the two folders do not matter.

    Raises:
        FileNotFoundError: images are missing; the message names the first and counts all.
        ValueError: a file is not an annotation, or matches several images.
    """
    files = xml_files(folder)
    source = Source(folder, f"{NAME} ({len(files)})")
    missing: list[str] = []
    for path in files:
        annotation = read_annotation(folder.root / path)
        try:
            image = folder.image_of(path) or _image_named_in(path, folder)
        except FileNotFoundError as error:
            missing.append(str(error))
            continue
        source.add(image, annotation)
    if missing:
        count = f" (XML files without their image: {len(missing)})" if len(missing) > 1 else ""
        raise FileNotFoundError(missing[0] + count)
    return source


def _image_named_in(path: Path, folder: DataFolder) -> Path:
    """The image that an annotation's ``<filename>`` names."""
    file = folder.root / path
    named = (read_xml(file).findtext("filename") or "").strip() or f"{path.stem}.jpg"
    image = folder.image_named(named, str(file), path)
    if not folder.belong(path, image):
        raise FileNotFoundError(
            f"{file} names the image '{named}', which is not below {folder.root} in a folder of "
            f"that name ({folder.root / image} is in another one); add the image, or remove its "
            "labels"
        )
    return image
