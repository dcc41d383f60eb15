"""Hard negatives of several layers in one pass over the images (paper 4.1).

Images are processed in blocks. The images of a block are distributed to processes, which return
only windows that are hard for the SVMs at the beginning of the block. One miner per layer checks
these windows against its newest SVMs, takes the hard ones, and refits while the next images are
computed. The images of a block depend only on the images before it, so neither the number of
processes nor a kill changes the result.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from joblib import delayed
from numpy.typing import NDArray

from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import Extractor
from detection.inference.layers import LayerFeatures
from detection.learners.class_svms import ClassSVMs
from detection.learners.svm import HingeLoss
from detection.run import Run
from detection.settings.training import Svm
from detection.training.extractors import extractor_spec
from detection.training.feature_cache import CachedWindows
from detection.training.mining import checkpoint
from detection.training.mining.hard_negatives import HardNegativeMiner
from detection.training.mining.hard_windows import (
    FeatureSource,
    Hard,
    HeadFile,
    MiningJob,
    hard_windows,
    hard_windows_in_process,
)
from detection.training.mining.models import Model, ModelsFile
from detection.training.mining.refits import Refits
from proposals.store import Windows

# For the first SVMs nearly every window is hard, so blocks begin with one image and double.
BLOCK = 32
# What the files of a block's SVMs are called, before the number of images done.
BLOCK_FILE = "svms-at-"
# Negatives of all classes that a layer's miner holds, in bytes of float16, were no window shared.
NEGATIVE_BYTES = 2.3e9
MOST_NEGATIVES = 7000


class Mining:
    """One pass over the images.

    Args:
        run: its folder, seed and processes.
        settings: of the SVMs.
        data: the training images.
        windows: the windows of each image.
        extractor: features of windows.
        features: the layers' features.
        head: file of the head, for processes to read.
    """

    def __init__(
        self,
        run: Run,
        settings: Svm,
        data: Dataset,
        windows: Windows,
        extractor: Extractor,
        features: LayerFeatures,
        head: HeadFile,
    ) -> None:
        self.run = run
        self.settings = settings
        self.data = data
        self.windows = windows
        self.extractor = extractor
        self.features = features
        self.head = head
        self.checkpoint = run.folder / "stages" / "svms.checkpoint"

    def train(
        self, layers: Sequence[str], entries: Sequence[CachedWindows], key: str
    ) -> dict[str, ClassSVMs]:
        """SVMs of each layer; ``key`` is what determines them, for the checkpoint."""
        for left in self.checkpoint.parent.glob(f"{BLOCK_FILE}*"):
            left.unlink()  # by a training that was killed; no other works in this folder
        with Refits(self.run.workers) as refits:
            return self._train(self._start(layers, entries, refits), key)

    def _train(self, miners: dict[str, HardNegativeMiner], key: str) -> dict[str, ClassSVMs]:
        done = checkpoint.resume(self.checkpoint, key, miners)
        records, saved = self.data.records, done
        total = len(records) - done
        for _ in self.run.progress(self._mine(miners, done), "SVMs", total):
            done += 1
            if block_ends(done) and done - saved >= self.settings.checkpoint_every:
                checkpoint.save(self.checkpoint, key, done, miners)
                saved = done
        return {layer: miner.finish() for layer, miner in miners.items()}

    def _start(
        self, layers: Sequence[str], entries: Sequence[CachedWindows], refits: Refits
    ) -> dict[str, HardNegativeMiner]:
        """A miner for each layer, given its positives."""
        settings, count = self.settings, len(self.data.classes)
        miners = {}
        for layer, positives in object_features(entries, self.features, layers, count).items():
            length = positives[0].shape[1]
            new, kept = negatives_held(count, length, settings.refit_every)
            miners[layer] = HardNegativeMiner(
                self.data.classes,
                length,
                HingeLoss(settings.C, settings.positive_weight, settings.bias),
                refit_every=new,
                max_negatives=kept,
                seed=self.run.config.seed,
                on_refit=partial(self.run.event, "svm", layer=layer),
                refits=refits,
            ).start(positives)
        return miners

    def _mine(self, miners: dict[str, HardNegativeMiner], done: int) -> Iterator[ImageRecord]:
        """Give the miners every image from number ``done`` on; yields each when it is taken."""
        records, call = self.data.records, self._call()
        pool = self.run.pool("generator")
        while done < len(records):
            block = records[done : done + block_size(done)]
            models = {layer: miner.model() for layer, miner in miners.items()}
            with self._reachable(models, done) as reachable:
                found = pool(delayed(call)(self._job(record, reachable)) for record in block)
                for index, (record, hard) in enumerate(zip(block, found, strict=True), start=done):
                    for layer, rows in hard.items():
                        miners[layer].add_image(index, rows.features, rows.negative)
                    yield record
            done += len(block)

    @contextmanager
    def _reachable(
        self, models: dict[str, Model], done: int
    ) -> Iterator[Mapping[str, Model] | ModelsFile]:
        """A block's SVMs as its jobs find them: in another process, in a file while it lasts.

        Of 20 classes on pool5 they are a megabyte, which would go with every image otherwise.
        """
        if self.run.shares_network:
            yield models
            return
        path = self.run.folder / "stages" / f"{BLOCK_FILE}{done}.safetensors"
        try:
            yield ModelsFile.write(path, models)
        finally:
            path.unlink(missing_ok=True)

    def _call(self) -> Callable[[MiningJob], dict[str, Hard]]:
        """What a job is given to: in other processes it loads its network there, once."""
        spec = extractor_spec(self.run, self.extractor)
        if spec is None:
            return partial(hard_windows, self.extractor, self.features)
        head = None if self.features.head is None else self.head
        factors = tuple(self.features.factors.items())
        source = FeatureSource(spec, head, factors, self.run.config.precision)
        return partial(hard_windows_in_process, source)

    def _job(self, record: ImageRecord, models: Mapping[str, Model] | ModelsFile) -> MiningJob:
        config = self.run.config
        proposals = record.turned(self.windows.load(record.path))
        return MiningJob(
            record, proposals, models, self.settings.negative_iou, config.data.difficult
        )


def negatives_held(classes: int, length: int, refit_every: int) -> tuple[int, int]:
    """New negatives that bring on a class's refit, and how many it keeps after one.

    At most ``refit_every`` and MOST_NEGATIVES; fewer where so many of all classes, of ``length``
    numbers each, would not fit in NEGATIVE_BYTES.
    """
    room = int(NEGATIVE_BYTES / (2 * classes * length))
    new = min(refit_every, max(room // 2, 1))
    return new, min(MOST_NEGATIVES, max(room - new, 1))


def block_size(done: int) -> int:
    """Images of the block that begins after ``done`` ones: 1, 1, 2, 4, ..., 32, 32, ..."""
    return min(BLOCK, max(1, done))


def block_ends(done: int) -> bool:
    """Whether a block ends after ``done`` images: at powers of two, then multiples of 32."""
    return done % BLOCK == 0 if done >= BLOCK else done & (done - 1) == 0


def object_features(
    entries: Sequence[CachedWindows],
    features: LayerFeatures,
    layers: Sequence[str],
    num_classes: int,
) -> dict[str, list[NDArray[np.float16]]]:
    """Features of every trainable ground-truth box, by layer and class: the SVMs' positives."""
    parts: dict[str, list[NDArray[np.float16]]] = {layer: [] for layer in layers}
    shown = [entry for entry in entries if entry.objects]
    for entry in shown:
        pooled = torch.from_numpy(entry.object_rows.read().astype(np.float32))
        for layer, rows in features(pooled, layers).items():
            parts[layer].append(rows.astype(np.float16))
    classes = np.concatenate([entry.object_classes for entry in shown])
    return {
        layer: [rows[classes == label] for label in range(num_classes)]
        for layer, rows in ((layer, np.concatenate(each)) for layer, each in parts.items())
    }
