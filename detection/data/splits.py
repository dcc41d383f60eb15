"""The images of a split: from the data's own folders or lists, from given lists, or by content.

A split by content holds back a fifth of the images for the test. It depends only on the images'
bytes, not on the names of the files, so it is the same every time. Copies of an image are in the
same part (``copies``, which also uses Roboflow's names).
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from detection.data.assembly import Labelled
from detection.data.records import copies
from detection.data.split_names import SPLIT_WORDS
from files.image_folders import image_suffixes
from files.names import check_file_name, check_image_id, folded
from files.text import read_lines, read_text
from files.writing import save_text

logger = logging.getLogger(__name__)

HELD_BACK = 0.2
ALL = "all"
# The split that replaces a missing one.
STAND_INS = {"trainval": "train", "test": "val"}


def resolve(split: str, there: Iterable[str], where: str) -> str:
    """The name of a split in the data: ``valid`` is ``val``; STAND_INS replace missing splits.

    Raises:
        FileNotFoundError: no such split.
    """
    known = list(there)
    wanted = SPLIT_WORDS.get(split, split)
    stand_in = STAND_INS.get(wanted, wanted)
    if wanted == "test" and "trainval" in known:
        stand_in = wanted  # a test on val would use training images
    for name in (split, wanted, stand_in):
        if name in known:
            return name
    raise FileNotFoundError(
        f"no split '{split}' in {where}; splits there: {', '.join(sorted(known))}"
    )


def content_split(labelled: Sequence[Labelled]) -> dict[str, list[str]]:
    """Ids of ``train`` and ``test``, each in the order of ``labelled``.

    Every class has an image in train and, if possible, one in test. An image goes to test only if
    each of its classes keeps another image in train. If no image satisfies this, the image that
    removes the fewest classes from train goes to test. So with two or more different images, test
    has at least one.
    """
    alike: dict[str, list[Labelled]] = defaultdict(list)
    for each, digest in zip(labelled, copies([each.path for each in labelled]), strict=True):
        alike[digest].append(each)
    names = {
        digest: {name for each in same for name in each.annotation.names}
        for digest, same in sorted(alike.items())
    }
    held = _held_back(names, {digest: len(same) for digest, same in alike.items()})
    ids = {each.image_id for digest in held for each in alike[digest]}
    return {
        "train": [each.image_id for each in labelled if each.image_id not in ids],
        "test": [each.image_id for each in labelled if each.image_id in ids],
    }


def _held_back(names: Mapping[str, set[str]], times: Mapping[str, int]) -> set[str]:
    """The digests of the images that ``content_split`` puts into test.

    Args:
        names: the classes in each image, in the order of digests.
        times: the number of copies of each image.
    """
    left = Counter(name for found in names.values() for name in found)
    rarest = sorted(left, key=lambda name: (left[name], name))
    wanted = round(HELD_BACK * sum(times.values()))
    held: set[str] = set()
    covered: set[str] = set()

    def may_go(digest: str) -> bool:
        """Whether each class of an image has another image left in train."""
        return digest not in held and all(left[name] > 1 for name in names[digest])

    def hold(digest: str) -> None:
        """Put an image into test."""
        held.add(digest)
        covered.update(names[digest])
        left.subtract(names[digest])

    for name in rarest:
        having = (each for each in names if name in names[each] and may_go(each))
        chosen = None if name in covered else next(having, None)
        if chosen is not None:
            hold(chosen)
    count = sum(times[digest] for digest in held)
    for digest in names:
        if count + times[digest] <= wanted and may_go(digest):
            hold(digest)
            count += times[digest]
    if not held and len(names) > 1:
        hold(min(names, key=lambda each: (sum(left[name] == 1 for name in names[each]), each)))
        gone = sorted(name for name in covered if left[name] == 0)
        if gone:
            logger.warning(
                "too few images to keep one for the test and all classes for the training, which "
                "now lacks: %s; label more images of these classes",
                ", ".join(gone),
            )
    return held


def make_lists(folder: Path, labelled: Sequence[Labelled]) -> bool:
    """Write the lists of a split by content, one id per line, if they do not exist.

    If writing was killed, or another process is still writing, there may be only one list. The
    other list depends only on the images, so it is added. A single list with other ids is the
    user's own, and nothing is added.

    Returns:
        Whether a list was written.
    """
    there = {path.stem: path for path in folder.glob("*.txt")}
    if len(there) > 1:
        return False
    texts = {
        name: "".join(f"{each}\n" for each in ids) for name, ids in content_split(labelled).items()
    }
    if any(texts.get(name) != read_text(path) for name, path in there.items()):
        return False
    for name in texts.keys() - there.keys():
        save_text(folder / f"{name}.txt", texts[name])
    return True


def known_only(test: Sequence[Labelled], classes: Iterable[str]) -> list[Labelled]:
    """The images of a test without objects of classes that the training lacks; logs their number.

    A name that differs from a known one only in spelling is kept, so that it raises an error later.
    """
    known = {folded(name) for name in classes}
    names = Counter(
        name for each in test for name in each.annotation.names if folded(name) not in known
    )
    if not names:
        return list(test)
    logger.warning(
        "objects of classes that the training images lack, left out of the test: %s",
        ", ".join(f"{name} {count}" for name, count in sorted(names.items())),
    )
    return [
        replace(each, annotation=each.annotation.having(lambda name: name not in names))
        for each in test
    ]


def read_list(folder: Path, split: str, labelled: Mapping[str, Labelled]) -> list[Labelled]:
    """The images of ``<split>.txt`` in a folder of lists, in its order.

    Args:
        folder: of lists; each line is an id or the file name of an image.
        split: name of the list.
        labelled: the data's images by id.

    Raises:
        FileNotFoundError: no such list.
        ValueError: a line does not name a labelled image, or repeats one; or the list is empty.
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
                f"{where} names '{image_id}', which is not among the {len(labelled)} labelled "
                "images of the data; remove it, or delete the lists to have new ones made"
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
        FileNotFoundError: there are no lists.
    """
    names = sorted(path.stem for path in folder.glob("*.txt"))
    if not names:
        raise FileNotFoundError(
            f"no lists in {folder}; write train.txt and test.txt there, one image id a line"
        )
    return names
