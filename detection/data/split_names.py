"""Derives splits from the names of folders and files."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

_WORDS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
    "trainval": "trainval",
}
SPLIT_WORDS = {**_WORDS, **{f"{word}set": split for word, split in _WORDS.items()}}
# Names of folders that describe the kind of files in them, not which images they belong to.
KINDS = {
    *("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "obj", "data"),
    *("labels", "label", "annotations", "annotation", "annots", "annot", "boxes", "xml", "xmls"),
    *("dataset", "set"),
}


def split_word(name: str) -> str | None:
    """The split in a file's name: train, val, test or trainval; None if there is none.

    ``valid``, ``instances_val2017`` and ``Validation set`` are all ``val``.
    """
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def split_folders(folders: Iterable[PurePath]) -> dict[PurePath, str]:
    """The folders whose names are splits, and these splits.

    A name is a split if it is a split's word, apart from digits, single letters and KINDS:
    ``train2017``, ``obj_train_data``. A name with other words, such as ``street_train``, is a split
    only if a folder beside it has the same name with another split's word: ``street_test``.
    ``train station`` is not a split.
    """
    found: dict[PurePath, str] = {}
    named: dict[PurePath, dict[PurePath, str]] = defaultdict(dict)
    for folder in folders:
        name = folder.name.lower()
        words = re.findall(r"[^\W\d_]+", name)
        whole = SPLIT_WORDS.get("".join(words))
        word = next((word for word in words if word in SPLIT_WORDS), None)
        if whole is not None:
            found[folder] = whole
        elif word is not None:
            if all(each == word or each in KINDS or len(each) == 1 for each in words):
                found[folder] = SPLIT_WORDS[word]
            alike = folder.with_name(re.sub(rf"(?<![a-z]){word}(?![a-z])", "<split>", name))
            named[alike][folder] = SPLIT_WORDS[word]
    for same in named.values():
        if len(set(same.values())) > 1:
            found.update(same)
    return found
