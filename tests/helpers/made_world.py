"""A small world for the stages of training: images, windows, features and runs on them."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from made_network import made_backbone
from PIL import Image

from detection.config import Config
from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import WindowFeatures
from detection.inference.layers import LayerFeatures
from detection.networks.head import Head
from detection.networks.weights import Weights, tensor_digest
from detection.run import Run, silent
from detection.settings.training import Finetune, Svm
from detection.training.feature_cache import CachedWindows
from detection.training.finetuning.stage import finetune_stage
from detection.training.held_back import split_held_back
from detection.training.row_files import RowFile
from detection.training.svm_stage import svm_stage
from files.artefacts import write_artefact

CLASSES = ("cat", "dog")
LENGTH = 50
GRID = 3
IMAGES = 6
LAYERS = ("pool5", "fc6", "fc7")
CONFIG = Config(
    workers=1,
    device="cpu",
    scales=1,
    finetune=Finetune(
        hidden=4,
        steps=3,
        batch=8,
        images=2,
        conv_steps=3,
        conv_images=2,
        checkpoint_every=1,
    ),
    held_back=0.2,
    svm=Svm(layers=LAYERS, refit_every=5, checkpoint_every=2),
)


class Killed(Exception):
    """Ends a stage as a kill would."""


def dies_before(item_number):
    def progress(items, what, total):
        for number, item in enumerate(items):
            if number == item_number:
                raise Killed
            yield item

    return progress


def cells_of(windows):
    """Return the cells of three pixels that corners are on; equal cells have the same feature."""
    return np.floor(np.asarray(windows, np.float64) / GRID)


class FakeExtractor:
    """A window's feature is 50 numbers computed from its cells."""

    length = LENGTH

    def __init__(self, **facts):
        self.facts = {"features": "fake", **facts}

    def features(self, image, windows):
        assert image.dtype == np.uint8
        unique, index = np.unique(cells_of(windows), axis=0, return_inverse=True)
        return WindowFeatures(torch.from_numpy(feature_of(unique)), index.reshape(-1))


def feature_of(cells):
    phase = cells @ np.array([[1.0, 2, 3, 5]]).T
    return np.abs(np.sin(phase * np.arange(1, LENGTH + 1) / 7)).astype(np.float32) * 3


def made_sample(folder, number, rng):
    path = folder / f"{number:06}.png"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    boxes = np.array([[2, 2, 20, 20], [18, 16, 38, 36]], np.float32)
    record = ImageRecord(f"{number:06}", path, (40, 40), boxes, np.array([0, 1]), np.zeros(2, bool))
    first = rng.integers(0, 20, (12, 2))
    windows = np.hstack([first, first + rng.integers(5, 20, (12, 2))]).astype(np.float32)
    moved = boxes + rng.integers(-2, 3, boxes.shape)
    regression = np.concatenate([boxes, moved]).astype(np.float32)
    rows = feature_of(cells_of(np.concatenate([regression, windows])))
    file, rows = folder / f"{number}.safetensors", rows.astype(np.float16)
    write_artefact(file, "key", {"rows": rows})
    entry = CachedWindows(
        RowFile.of(file, "rows", rows),
        2,
        regression,
        np.concatenate([boxes, boxes]),
        np.array([0, 1, 0, 1]),
    )
    return record, windows, entry


def made_world(folder):
    """Return images with their windows, bank rows and features, and a function to make runs."""
    rng = np.random.default_rng(0)
    images = [made_sample(folder, number, rng) for number in range(IMAGES)]
    by_path = {record.path: windows for record, windows, _ in images}
    head = Head(LENGTH, len(CLASSES), 6)
    head.initialise(torch.Generator().manual_seed(0), 4.0)

    def made_run(name="one", progress=silent, **changes):
        changed = replace(CONFIG, **{"run": str(folder / name), **changes})
        return Run(changed, progress=progress)

    return SimpleNamespace(
        data=Dataset(tuple(record for record, _, _ in images), CLASSES),
        windows=SimpleNamespace(load=by_path.__getitem__, method=SimpleNamespace(key="windows")),
        entries=[entry for _, _, entry in images],
        bank=SimpleNamespace(key="bank"),
        features=LayerFeatures(head, {"pool5": 1.5, "fc6": 2.0, "fc7": 3.0}),
        run=made_run,
    )


def made_weights():
    """Return the weights of a tiny network."""
    state = made_backbone().trunk.state_dict()
    return Weights(state, "made here", tensor_digest(state))


def finetuned(world, run, weights, data=None, windows=None):
    backbone, found = all_finetuned(world, run, weights, data, windows)
    return backbone, found.head, found.key


def all_finetuned(world, run, weights, data=None, windows=None):
    """Run the stage of fine-tuning; return the network and what the stage returns."""
    backbone = made_backbone()
    backbone.load_tensors({name: value.clone() for name, value in weights.state.items()})
    backbone.digest = weights.digest
    train, held_back = split_held_back(
        data or world.data, run.config.held_back, run.config.seed, difficult=False
    )
    found = finetune_stage(
        run, run.config.finetune, train, held_back, windows or world.windows, weights, backbone
    )
    return backbone, found


def svms_of(world, run, head_key="head", extractor=None):
    """Run the stage of SVMs; return the bytes of each layer's SVMs."""
    found = svm_stage(
        run,
        run.config.svm,
        world.data,
        world.windows,
        world.entries,
        extractor or FakeExtractor(),
        world.features,
        head_key,
    )
    assert tuple(found) == run.config.svm.layers
    return {
        layer: svms.coef_.tobytes() + svms.intercept_.tobytes() for layer, svms in found.items()
    }


def artefacts(run, stage):
    return sorted(path.name for path in (run.folder / "stages").glob(f"{stage}-*.safetensors"))


def artefact_bytes(run, stage):
    return {name: (run.folder / "stages" / name).read_bytes() for name in artefacts(run, stage)}


def events_of(run, kind):
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
