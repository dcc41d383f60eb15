"""Features of image sets on disk, and their Gram matrix.

A set is cut into shards of a few images; a shard's vectors of one layer and view are one artefact,
named by all that determines them, so a killed extraction goes on where it was, and memory does not
grow with the set. Vectors are kept as float16, which changes inner products of vectors of norm 1 by
less than 0.0002 (tests).

A linear SVM needs of the vectors only their inner products. With 12,800 numbers and 6,000 images
the Gram matrix is the smaller; it is made once and serves all splits, classes and C.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from classification.transfer.layers import LayerExtractor
from classification.transfer.view import View
from detection.machine import Precision
from detection.networks.build import build_backbone
from detection.networks.weight_sources import load_weights
from detection.networks.weights import tensor_digest
from detection.run import Run
from files.artefacts import Artefact, read_artefact, write_artefact
from files.images import UnreadableImage, read_image
from files.names import content_key
from files.writing import content_digest

# Raised when the same images would give other numbers.
VERSION = 1
SHARD = 128
# Of rows held at once, as float32, while the Gram matrix is made.
GROUP_BYTES = 400 << 20


@dataclass(frozen=True)
class FixedNetwork:
    """The network whose features are taken; it is not trained.

    Attributes:
        name: alexnet, vgg16, zf5, efficientnet_lite0 or resnet50_caffe; or any of torchvision's
            with the layer to pool from, such as ``resnet50/layer4``.
        weights: auto, torchvision, index, random, or a file; 'auto' takes a file in the folder,
            torchvision's, or the package index's.
        folder: where weights are kept.
    """

    name: str = "alexnet"
    weights: str = "auto"
    folder: str = "data/weights"


@dataclass(frozen=True)
class ExtractorSpec:
    """What another process makes an extractor of.

    Attributes:
        network: name, and source of the weights.
        digest: of the weights of convolutions and fc layers.
        precision: of the convolutions.
        device: type of the device they run on.
    """

    network: FixedNetwork
    digest: str
    precision: Precision = "float32"
    device: str = "cpu"

    @classmethod
    def of(cls, network: FixedNetwork, precision: Precision, device: str) -> "ExtractorSpec":
        """The spec of a network; its weights are fetched where they are not there.

        Raises:
            ValueError, FileNotFoundError, RuntimeError: as ``load_weights``.
        """
        weights = load_weights(network.name, network.weights, Path(network.folder))
        digest = tensor_digest({**weights.state, **(weights.classifier or {})})
        return cls(network, digest, precision, device)

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the features beside the image, its view and the layer."""
        return {"version": VERSION, **asdict(self), "network": self.network.name}

    def build(self) -> LayerExtractor:
        """The extractor."""
        network = self.network
        weights = load_weights(network.name, network.weights, Path(network.folder))
        backbone = build_backbone(network.name, weights).to(self.device)
        return LayerExtractor(backbone, weights.classifier, self.precision)


@lru_cache(maxsize=1)
def extractor_of_process(spec: ExtractorSpec) -> LayerExtractor:
    """The extractor, made once in a process."""
    return spec.build()


@dataclass(frozen=True)
class Shard:
    """The vectors of a few images, of one layer and view.

    Attributes:
        path: of the artefact.
        key: of the artefact.
        images: number of rows.
    """

    path: Path
    key: str
    images: int

    def read(self) -> Artefact:
        """The array ``features`` ``(images, D)`` float16, and ``unreadable`` by row in facts."""
        return read_artefact(self.path, self.key)

    def rows(self) -> NDArray[np.float32]:
        """``(images, D)``; zero where an image cannot be read."""
        return self.read().arrays["features"].astype(np.float32)


class FeatureStore:
    """Features of sets of images by one network.

    Args:
        run: where images are shared out, and the cache.
        spec: of the network.
    """

    def __init__(self, run: Run, spec: ExtractorSpec) -> None:
        self.run = run
        self.spec = spec
        self.folder = run.cache / "transfer" / spec.network.name.replace("/", "_")

    def shards(self, paths: Sequence[Path], view: View, layer: str) -> list[Shard]:
        """The shards of images, there or not, in the images' order."""
        found = []
        for part in _parts(paths):
            images = [content_digest(path) for path in part]
            key = content_key(
                {**self.spec.facts, "view": str(view), "layer": layer, "images": images}
            )
            name = f"{layer}_{view}_{key}.safetensors"
            found.append(Shard(self.folder / name, key, len(part)))
        return found

    def make(self, paths: Sequence[Path], view: View, layers: Sequence[str]) -> None:
        """Compute what is missing of some layers.

        Raises:
            UnreadableImage: an image cannot be read, and the run says to stop at the first.
        """
        by_layer = {layer: self.shards(paths, view, layer) for layer in layers}
        jobs = []
        for number, part in enumerate(_parts(paths)):
            missing = {n: each[number] for n, each in by_layer.items()}
            missing = {n: each for n, each in missing.items() if not each.path.exists()}
            if missing:
                jobs.append((part, missing))
        what = f"{self.spec.network.name} {view}"
        total = len(by_layer[layers[0]]) if layers else 0
        self.run.done_before(what, total - len(jobs), total)
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
        """Inner products ``(n, n)`` of all images, made by ``make`` before; kept on disk.

        Returns:
            The matrix, zero where an image cannot be read, and why not by the images' places.
        """
        shards = self.shards(paths, view, layer)
        key = content_key({"version": VERSION, "shards": [shard.key for shard in shards]})
        path = self.folder / f"gram_{layer}_{view}_{key}.safetensors"
        if not path.exists():
            facts = {"unreadable": unreadable_of(shards)}
            write_artefact(path, key, {"gram": gram_matrix(shards)}, facts)
        kept = read_artefact(path, key)
        return kept.arrays["gram"], {int(n): said for n, said in kept.facts["unreadable"].items()}


def unreadable_of(shards: Sequence[Shard]) -> dict[int, str]:
    """Why images cannot be read, by their places."""
    found: dict[int, str] = {}
    first = 0
    for shard in shards:
        said = shard.read().facts["unreadable"]
        found |= {first + int(row): sentence for row, sentence in said.items()}
        first += shard.images
    return found


def gram_matrix(shards: Sequence[Shard]) -> NDArray[np.float32]:
    """Inner products ``(n, n)`` of the rows of shards; never all rows in memory."""
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
    """Numbers of shards, as many together as GROUP_BYTES hold."""
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
        except UnreadableImage as error:
            if strict:
                raise
            unreadable[str(number)] = str(error)
            continue
        for layer, vector in extractor.features(image, view, list(shards)).items():
            rows[layer][number] = vector.astype(np.float16)
    if not rows[next(iter(shards))]:
        raise UnreadableImage(f"none of {len(paths)} images can be read; {unreadable['0']}")
    for layer, shard in shards.items():
        length = len(next(iter(rows[layer].values())))
        features = np.zeros((len(paths), length), np.float16)
        for number, vector in rows[layer].items():
            features[number] = vector
        write_artefact(shard.path, shard.key, {"features": features}, {"unreadable": unreadable})
