"""Which images a split has: by the data's own folders or lists, by lists given, or by content.

A split by content holds a fifth of the images back. It depends on the images' bytes alone: the same
every time, whatever the files are called, and an image that is there twice is on one side.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detection.data.assembly import Labelled
from detection.data.folder import SPLIT_WORDS
from files.image_folders import image_suffixes
from files.names import check_file_name, check_image_id
from files.text import read_lines
from files.writing import content_digest, save_text

HELD_BACK = 0.2
ALL = "all"
# What stands in for a split that is not there.
STAND_INS = {"trainval": "train", "test": "val"}


def resolve(split: str, there: Iterable[str], where: str) -> str:
    """The name that a split has in the data: ``valid`` is ``val``; see STAND_INS.

    Raises:
        FileNotFoundError: no such split.
    """
    known = list(there)
    wanted = SPLIT_WORDS.get(split, split)
    for name in (split, wanted, STAND_INS.get(wanted, wanted)):
        if name in known:
            return name
    raise FileNotFoundError(
        f"no split '{split}' in {where}; splits there: {', '.join(sorted(known))}"
    )


def content_split(labelled: Sequence[Labelled]) -> dict[str, list[str]]:
    """Ids of ``train`` and ``test``, each in the order of ``labelled``.

    A class of two different images or more is on both sides; one of a single image is in train.
    """
    copies: dict[str, list[Labelled]] = defaultdict(list)
    for each in labelled:
        copies[content_digest(each.path)].append(each)
    names = {
        digest: {name for each in same for name in each.annotation.names}
        for digest, same in sorted(copies.items())
    }
    left = Counter(name for found in names.values() for name in found)
    rarest = sorted(left, key=lambda name: (left[name], name))
    wanted = round(HELD_BACK * len(labelled))
    held: set[str] = set()
    covered: set[str] = set()

    def may_go(digest: str) -> bool:
        """Whether each class of an image has another one left."""
        return digest not in held and all(left[name] > 1 for name in names[digest])

    def hold(digest: str) -> None:
        """Hold an image back."""
        held.add(digest)
        covered.update(names[digest])
        left.subtract(names[digest])

    for name in rarest:
        having = (each for each in names if name in names[each] and may_go(each))
        chosen = None if name in covered else next(having, None)
        if chosen is not None:
            hold(chosen)
    count = sum(len(copies[digest]) for digest in held)
    for digest in names:
        if count + len(copies[digest]) <= wanted and may_go(digest):
            hold(digest)
            count += len(copies[digest])
    ids = {each.image_id for digest in held for each in copies[digest]}
    return {
        "train": [each.image_id for each in labelled if each.image_id not in ids],
        "test": [each.image_id for each in labelled if each.image_id in ids],
    }


def write_lists(folder: Path, splits: Mapping[str, Sequence[str]]) -> None:
    """Write ``<split>.txt`` of each split, an id a line."""
    for name, image_ids in splits.items():
        save_text(folder / f"{name}.txt", "".join(f"{each}\n" for each in image_ids))


def read_list(folder: Path, split: str, labelled: Mapping[str, Labelled]) -> list[Labelled]:
    """The images of ``<split>.txt`` in a folder of lists, in its order.

    Args:
        folder: of lists; a line is an id, or the name of its image.
        split: which list.
        labelled: the data's images by id.

    Raises:
        FileNotFoundError: no such list.
        ValueError: a line names no labelled image, or one a second time; or there is none.
    """
    path = folder / f"{check_file_name(split, 'the split')}.txt"
    found: dict[str, Labelled] = {}
    for count, line in read_lines(path):
        where = f"{path} line {count}"
        image_id = check_image_id(line.strip(), where)
        ending = Path(image_id).suffix
        if image_id not in labelled and ending.lower() in image_suffixes():
            image_id = image_id.removesuffix(ending)
        if image_id not in labelled:
            raise ValueError(
                f"{where} names '{image_id}', which is none of the {len(labelled)} labelled images "
                "of the data; take it out, or delete the lists to have them made anew"
            )
        if image_id in found:
            raise ValueError(f"{where} names '{image_id}' a second time")
        found[image_id] = labelled[image_id]
    if not found:
        raise ValueError(f"{path} names no image")
    return list(found.values())


def lists_in(folder: Path) -> list[str]:
    """The names of the lists in a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    names = sorted(path.stem for path in folder.glob("*.txt"))
    if not names:
        raise FileNotFoundError(
            f"no lists in {folder}; write train.txt and test.txt there, one image id a line"
        )
    return names
