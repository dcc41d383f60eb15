"""The splits that the names of folders and files tell."""

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
# Words that say what kind of files a folder holds, and nothing of which images they are of.
KINDS = {
    *("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "obj", "data"),
    *("labels", "label", "annotations", "annotation", "annots", "annot", "boxes", "xml", "xmls"),
    *("dataset", "set"),
}


def split_word(name: str) -> str | None:
    """The split that a file's name tells: train, val, test or trainval; None where it is none.

    ``valid``, ``instances_val2017`` and ``Validation set`` all are ``val``.
    """
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def split_folders(folders: Iterable[PurePath]) -> dict[PurePath, str]:
    """Those of some folders whose names tell a split, and which.

    A name does if it is a split's word, but for digits, single letters and KINDS: ``train2017``,
    ``obj_train_data``. With other words, as in ``street_train``, it does only if a folder beside
    it has the same name with another split's word: ``street_test``. ``train station`` tells none.
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
