"""Finds test images that are also training images, by id and by content."""

from collections.abc import Iterable

from classification.folder import LabelledImages
from files.writing import content_digest

# Limit on the bytes read to compare files: a data set of ImageNet's size would take minutes, during
# which the other processes of a training wait.
MOST_BYTES = 4 << 30


def refuse_shared(train: Iterable[str], test: Iterable[str], splits: tuple[str, str]) -> None:
    """Check that no image is in both lists.

    Args:
        train: ids of the training images.
        test: ids of the test images.
        splits: names of the two lists.

    Raises:
        ValueError: an id is in both.
    """
    test = list(test)
    shared = sorted(set(train) & set(test))
    if shared:
        raise ValueError(
            f"{len(shared)} of {len(test)} images of {splits[1]} are in {splits[0]} too, such as "
            f"{shared[0]}: a test on training images says nothing; name lists that share no image"
        )


def find_copies(train: LabelledImages, val: LabelledImages) -> list[tuple[str, str]] | None:
    """Names of files of ``train`` and ``val`` with the same bytes.

    Only files with the same size are read; their digests are cached.

    Returns:
        Pairs of names (train, val) in the order of ``val``; None if more than MOST_BYTES would have
        to be read.
    """
    sizes = train.sizes(), val.sizes()
    both = (set(sizes[0]) & set(sizes[1])) - {0}
    if sum(size for size in (*sizes[0], *sizes[1]) if size in both) > MOST_BYTES:
        return None
    known: dict[str, str] = {}
    for row, name in enumerate(train.names):
        if sizes[0][row] in both:
            known.setdefault(content_digest(train.path(row)), name)
    digests = {
        name: content_digest(val.path(row))
        for row, name in enumerate(val.names)
        if sizes[1][row] in both
    }
    return [(known[digest], name) for name, digest in digests.items() if digest in known]
