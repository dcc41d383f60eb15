"""Features of image sets on disk, and their Gram matrix.

A set is divided into shards of a few images. A shard's vectors of one layer and view are one
artefact, named by the key of everything that determines them. So a killed extraction can be
resumed, and memory does not grow with the set. Vectors are stored as float16, which changes inner
products of vectors of norm 1 by less than 0.0002 (tests).

A linear SVM needs only the inner products of the vectors. With 12,800 numbers and 6,000 images, the
Gram matrix is smaller than the vectors. It is computed once for all splits, classes and C.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from classification.folder import image_digest
from classification.transfer.extractor_spec import VERSION, ExtractorSpec, extractor_of_process
from classification.transfer.view import View
from detection.leftovers import LARGE_CACHE_BYTES
from detection.run import Run
from files.artefacts import Artefact, read_artefact, write_artefact
from files.images import UnreadableImage, read_image
from files.names import content_key

logger = logging.getLogger(__name__)

SHARD = 128
# Limit on the float32 rows held in memory while the Gram matrix is computed.
GROUP_BYTES = 400 << 20
# Beginning of the names of Gram matrices' files.
GRAM = "gram_"


@dataclass(frozen=True)
class Shard:
    """The vectors of a few images for one layer and view.

    Attributes:
        path: of the artefact.
        key: of the artefact.
        images: number of rows.
    """

    path: Path
    key: str
    images: int

    def read(self) -> Artefact:
        """The array ``features`` ``(images, D)`` float16, and the fact ``unreadable``, by row."""
        return read_artefact(self.path, self.key)

    def rows(self) -> NDArray[np.float32]:
        """Features ``(images, D)``; zero for an unreadable image."""
        return self.read().arrays["features"].astype(np.float32)


class FeatureStore:
    """Features of sets of images by one network.

    Args:
        run: has the pool and the cache.
        spec: of the network.
    """

    def __init__(self, run: Run, spec: ExtractorSpec) -> None:
        self.run = run
        self.spec = spec
        self.folder = run.cache / "transfer" / spec.network.name.replace("/", "_")

    def shards(self, paths: Sequence[Path], view: View, layer: str) -> list[Shard]:
        """The shards of images, in their order; their files may not exist yet."""
        found = []
        for part in _parts(paths):
            images = [image_digest(path) for path in part]
            key = content_key(
                {**self.spec.facts, "view": str(view), "layer": layer, "images": images}
            )
            name = f"{layer}_{view}_{key}.safetensors"
            found.append(Shard(self.folder / name, key, len(part)))
        return found

    def make(self, paths: Sequence[Path], view: View, layers: Sequence[str]) -> None:
        """Compute the missing shards of the layers that have no Gram matrix yet.

        Raises:
            UnreadableImage: an image cannot be read, and ``config.strict`` is set.
        """
        if not layers:
            return
        by_layer = {layer: self.shards(paths, view, layer) for layer in layers}
        by_layer = {
            layer: shards
            for layer, shards in by_layer.items()
            if not self._gram_file(shards, view, layer)[0].exists()
        }
        jobs = []
        for number, part in enumerate(_parts(paths)):
            missing = {n: each[number] for n, each in by_layer.items()}
            missing = {n: each for n, each in missing.items() if not each.path.exists()}
            if missing:
                jobs.append((part, missing))
        what = f"{self.spec.network.name} {view}"
        to_do = sum(len(part) for part, _ in jobs)
        self.run.done_before(what, len(paths) - to_do, len(paths))
        if not jobs:
            return
        strict = self.run.config.strict
        pool = self.run.pool("generator_unordered")
        done = pool(delayed(_fill)(self.spec, part, view, each, strict) for part, each in jobs)
        for _ in self.run.progress(done, what, len(jobs)):
            pass

    def gram(
        self, paths: Sequence[Path], view: View, layer: str
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Inner products ``(n, n)`` of all images, stored on disk; call ``make`` first.

        Returns:
            The matrix, zero for unreadable images, and, by index, why an image cannot be read.
        """
        shards = self.shards(paths, view, layer)
        path, key = self._gram_file(shards, view, layer)
        if not path.exists():
            facts = {"unreadable": unreadable_of(shards)}
            write_artefact(path, key, {"gram": gram_matrix(shards)}, facts)
        kept = read_artefact(path, key)
        return kept.arrays["gram"], {int(n): said for n, said in kept.facts["unreadable"].items()}

    def _gram_file(self, shards: Sequence[Shard], view: View, layer: str) -> tuple[Path, str]:
        """The file of the shards' Gram matrix, and its key."""
        key = content_key({"version": VERSION, "shards": [shard.key for shard in shards]})
        return self.folder / f"{GRAM}{layer}_{view}_{key}.safetensors", key

    def tell_size(self) -> None:
        """Log the size of the features, which are no longer needed for these images, if large."""
        features = (path for path in self.folder.glob("*") if not path.name.startswith(GRAM))
        size = sum(path.stat().st_size for path in features)
        if size >= LARGE_CACHE_BYTES:
            logger.info(
                "the features in %s take %.1f GB; for the same images and views only the matrices "
                "%s* are needed, so the other files can be deleted while nothing runs",
                *(self.folder, size / 1e9, GRAM),
            )


def unreadable_of(shards: Sequence[Shard]) -> dict[int, str]:
    """Why images cannot be read, by their index."""
    found: dict[int, str] = {}
    first = 0
    for shard in shards:
        said = shard.read().facts["unreadable"]
        found |= {first + int(row): sentence for row, sentence in said.items()}
        first += shard.images
    return found


def gram_matrix(shards: Sequence[Shard]) -> NDArray[np.float32]:
    """Inner products ``(n, n)`` of the shards' rows, which are never all in memory."""
    counts = [shard.images for shard in shards]
    starts = np.concatenate([[0], np.cumsum(counts)])
    gram = np.empty((starts[-1], starts[-1]), np.float32)
    for group in _groups(shards):
        here = slice(starts[group[0]], starts[group[-1] + 1])
        rows = np.concatenate([shards[number].rows() for number in group])
        gram[here, here] = rows @ rows.T
        for other in range(group[0]):
            there = slice(starts[other], starts[other + 1])
            block = rows @ shards[other].rows().T
            gram[here, there], gram[there, here] = block, block.T
    return gram


def _groups(shards: Sequence[Shard]) -> Iterator[list[int]]:
    """Indices of shards in groups of about GROUP_BYTES."""
    row = shards[0].rows()[0].nbytes
    group: list[int] = []
    for number, _ in enumerate(shards):
        group.append(number)
        if sum(shards[each].images for each in group) * row > GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _parts(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for first in range(0, len(paths), SHARD):
        yield paths[first : first + SHARD]


def _fill(
    spec: ExtractorSpec,
    paths: Sequence[Path],
    view: View,
    shards: Mapping[str, Shard],
    strict: bool,
) -> None:
    """Compute and write the shards of some layers."""
    extractor = extractor_of_process(spec)
    rows: dict[str, dict[int, NDArray]] = {layer: {} for layer in shards}
    unreadable: dict[str, str] = {}
    for number, path in enumerate(paths):
        try:
            image = read_image(path)
        except (UnreadableImage, FileNotFoundError) as error:
            if strict:
                raise
            unreadable[str(number)] = str(error)
            continue
        for layer, vector in extractor.features(image, view, list(shards)).items():
            rows[layer][number] = vector.astype(np.float16)
    known = {layer: next(iter(found.values())) for layer, found in rows.items() if found}
    if not known:  # a blank image gives the length of the vectors
        blank = np.zeros((view.size, view.size, 3), np.uint8)
        known = extractor.features(blank, view, list(shards))
    for layer, shard in shards.items():
        length = len(known[layer])
        features = np.zeros((len(paths), length), np.float16)
        for number, vector in rows[layer].items():
            features[number] = vector
        write_artefact(shard.path, shard.key, {"features": features}, {"unreadable": unreadable})
