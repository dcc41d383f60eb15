"""A folder in VOC's layout: finds it, reads its lists, and gives hints if a file is missing."""

import re
from pathlib import Path, PurePosixPath

from files.image_folders import image_suffixes
from files.names import check_file_name, check_image_id, folded
from files.text import read_lines

GET_DATA = (
    "`python tools/get_data.py voc07` fetches VOC 2007, `--data.root` names another folder of data"
)

RELATIVE = "a relative path, in a config too, is of the working directory"


def find_voc_folder(root: str | Path) -> Path:
    """The folder with ``Annotations``: ``root``, or ``VOC2007`` inside it.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(root)
    for folder in (root, root / "VOC2007"):
        if (folder / "Annotations").is_dir():
            return folder
    if root.is_file():
        raise FileNotFoundError(
            f"{root} is a file; give the folder of images and annotations with --data.root (unpack "
            "an archive first)"
        )
    if not root.is_dir():
        where = f" (it would be {root.absolute()}: {RELATIVE})" if not root.is_absolute() else ""
        raise FileNotFoundError(f"data folder {root} does not exist{where}; {GET_DATA}")
    inner = sorted(path.parent for path in root.glob("*/Annotations"))
    raise FileNotFoundError(
        f"data folder {root} ({root.absolute()}) holds neither Annotations nor VOC2007; name by "
        "--data.root a folder with Annotations, JPEGImages and ImageSets/Main"
        + (f", such as {inner[0]}" if inner else "")
    )


def lists_folder(folder: Path) -> Path:
    """The folder of the lists of splits in VOC's layout."""
    return folder / "ImageSets" / "Main"


def list_path(folder: Path, split: str) -> Path:
    """The path of a split's list, which may not exist.

    Raises:
        ValueError: the split's name cannot be a file name.
    """
    return lists_folder(folder) / f"{check_file_name(split, 'the split')}.txt"


def read_split(folder: Path, split: str) -> list[str]:
    """Image ids of ``ImageSets/Main/<split>.txt``, in its order.

    A line is an id, which may have dots, spaces and subfolders. If a line has two fields and the
    second is -1, 0 or 1, as in VOC's lists of one class, the first field is the id.

    Raises:
        FileNotFoundError: no such list.
        ValueError: an id is not a name below a folder, is repeated or is ambiguous, or the list is
            empty. The message gives file and line.
    """
    path = list_path(folder, split)
    if not path.is_file():
        raise FileNotFoundError(f"no split '{split}' at {path}; {_splits_there(path)}")
    image_ids: dict[str, int] = {}
    for number, line in read_lines(path):
        image_id = _id_in(line.strip(), folder, f"{path} line {number}")
        if image_id in image_ids:
            raise ValueError(
                f"{path} names '{image_id}' twice, in lines {image_ids[image_id]} and {number}"
            )
        image_ids[image_id] = number
    if not image_ids:
        raise ValueError(f"{path} names no image")
    return list(image_ids)


def annotation_path(folder: Path, image_id: str) -> Path:
    """The path of an id's annotation, which may not exist."""
    return folder / "Annotations" / f"{image_id}.xml"


def helps_annotation(folder: Path, image_id: str, listed: Path) -> str:
    """A hint for an id without annotation; often it is a file name or has a flag.

    Args:
        folder: in VOC's layout.
        image_id: as listed.
        listed: the list.
    """
    for other in _other_ids(image_id):
        if annotation_path(folder, other).is_file():
            rest = image_id.removeprefix(other).strip()
            if image_id.startswith(other):
                return f"in {listed}, write '{other}', without '{rest}'"
            return f"in {listed}, write it as '{other}'"
    path = annotation_path(folder, image_id)
    for near in path.parent.iterdir() if path.parent.is_dir() else ():
        if folded(near.name) == folded(path.name):
            return f"there is '{near.name}', spelled differently: rename it"
    return (
        f"annotate the image (one without objects has a file without <object>) or take "
        f"'{image_id}' out of {listed}"
    )


def _splits_there(path: Path) -> str:
    names = {other.stem for other in path.parent.glob("*.txt")}
    if path.stem.removesuffix(".txt") in names:
        return f"write it without '.txt': '{path.stem.removesuffix('.txt')}'"
    # VOC has a list for each class beside each split, such as dog_train.
    splits = sorted(
        name for name in names if not any(name.endswith(f"_{other}") for other in names)
    )
    if not splits:
        return "write that list, one image id a line, without ending"
    return f"splits there: {', '.join(splits)}"


def _id_in(line: str, folder: Path, where: str) -> str:
    """The checked id of a line of a list."""
    flagged = re.fullmatch(r"(\S+)\s+(-1|0|1)", line)
    if flagged is None:
        return check_image_id(line, where)
    image_id, flag = flagged.groups()
    check_image_id(image_id, where)
    whole = f"{image_id} {flag}"
    if annotation_path(folder, whole).is_file():
        raise ValueError(
            f"{where} is '{line}', which is read as the id '{image_id}' and the flag {flag} of "
            f"VOC's lists of one class, but there is an annotation '{whole}.xml'; rename it and "
            f"its image so that the id does not end in a flag, for example '{image_id}_{flag}'"
        )
    return image_id


def _other_ids(image_id: str) -> list[str]:
    """Ids that may be meant: without extension, flag or folder, or with slashes for backslashes."""
    slashed = image_id.replace("\\", "/")
    ending = PurePosixPath(slashed).suffix
    bare = slashed
    if ending.lower() in {*image_suffixes(), ".xml"}:
        bare = slashed.removesuffix(ending)
    others = [bare, slashed.rsplit(maxsplit=1)[0], PurePosixPath(bare).name]
    return [other for other in others if other != image_id]
