"""VOC's XML without VOC's lists, as LabelImg leaves it: beside the images or in another folder."""

from pathlib import Path

from detection.data.folder import DataFolder
from detection.data.source import Source
from detection.data.voc_xml import read_annotation
from files.text import read_xml

NAME = "VOC's XML, one file an image"
# So many files of an ending are looked at to know what they are.
FEW = 10


def xml_files(folder: DataFolder) -> list[Path]:
    """The XML files below a folder; none if the first FEW are other things."""
    found = folder.ending(".xml")
    return found if any(_is_annotation(folder.root / path) for path in found[:FEW]) else []


def _is_annotation(path: Path) -> bool:
    try:
        return read_xml(path).tag.rpartition("}")[2] == "annotation"
    except ValueError:
        return True  # broken: reading it says so


def read_xml_folder(folder: DataFolder) -> Source:
    """The annotations of a folder of images and XML.

    A file is of the image of its name, whatever the two folders are called, or of the one that its
    ``<filename>`` names.

    Raises:
        FileNotFoundError: images of annotations are not there; the first is named, all are counted.
        ValueError: a file is no annotation, or may be of several images.
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
