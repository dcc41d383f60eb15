"""Which images a split has: by the data's own folders or lists, by lists given, or by content.

A split by content holds a fifth of the images back. It depends on the images' bytes: the same every
time, whatever the files are called, but that copies of an image are on one side (``copies``).
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
# What stands in for a split that is not there.
STAND_INS = {"trainval": "train", "test": "val"}


def resolve(split: str, there: Iterable[str], where: str) -> str:
    """The name that a split has in the data: ``valid`` is ``val``; see STAND_INS.

    Raises:
        FileNotFoundError: no such split.
    """
    known = list(there)
    wanted = SPLIT_WORDS.get(split, split)
    stand_in = STAND_INS.get(wanted, wanted)
    if wanted == "test" and "trainval" in known:
        stand_in = wanted  # a test on val would be one on images that were learned from
    for name in (split, wanted, stand_in):
        if name in known:
            return name
    raise FileNotFoundError(
        f"no split '{split}' in {where}; splits there: {', '.join(sorted(known))}"
    )


def content_split(labelled: Sequence[Labelled]) -> dict[str, list[str]]:
    """Ids of ``train`` and ``test``, each in the order of ``labelled``.

    Each class has an image in train, and one in test if one can be spared: an image with a class
    of no other image is none. If each image is such a one, that which takes the fewest classes
    from train is held back all the same: of two different images or more one is in test.
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
    """The images that ``content_split`` has in test, by digest.

    Args:
        names: of each image, in the order of digests, the classes it has.
        times: how often each image is there.
    """
    left = Counter(name for found in names.values() for name in found)
    rarest = sorted(left, key=lambda name: (left[name], name))
    wanted = round(HELD_BACK * sum(times.values()))
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
    """Write the lists of a split by content, an id a line, if they are not there.

    Of lists whose writer was killed or still writes one may be there; the others, which depend on
    the images alone, are added. A single list of other ids is somebody's own, and stays so.

    Returns:
        Whether any was written.
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
    """The images of a test without objects of classes that the training has none of, counted.

    A name that differs from a known one only in how it is written stays, to be refused.
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
                f"{where} names '{image_id}', which is not among the {len(labelled)} labelled "
                "images of the data; remove it, or delete the lists to have them made again"
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
