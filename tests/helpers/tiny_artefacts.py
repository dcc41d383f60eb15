"""A tiny artefact of each kind whose key has a version, and a table of what they hold.

``python tests/helpers/tiny_artefacts.py`` makes the table again, after a version was raised.
"""

import importlib
import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
from made_batches import made_records
from made_detector import made_detector, made_image, made_windows
from made_extractor import tiny_backbone
from made_feature_cache import made_feature_cache, made_proposals, made_record
from made_network import SETTINGS, made_network, made_training, names_of
from made_world import LAYERS, made_world, svms_of
from paths import ROOT
from PIL import Image

from detection.data.synthetic.dataset import synthetic_image
from detection.features.extractor import SPPExtractor
from detection.features.rcnn import RCNNExtractor
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.calibration import Calibration
from detection.networks.reduction import CellMoments
from detection.training.row_files import StackedRows
from proposals.edge_boxes import EdgeBoxes
from proposals.selective_search import SelectiveSearch

TABLE = ROOT / "tests/whole/tiny_artefacts.json"
# Of sums with random signs: other processors change a part in 1e5, other code more than this.
TOLERANCE = 1e-3
# The share of windows that must be in the same order; a last bit may move a window.
SAME_WINDOWS = 0.95


@dataclass(frozen=True)
class Kind:
    """A kind of artefact.

    Attributes:
        version: module and name of the constant that is part of the key.
        make: returns its arrays by name; gets a folder to work in.
        libraries: packages that may change the numbers without a version being raised.
    """

    version: str
    make: Callable
    libraries: tuple[str, ...]

    @property
    def current(self):
        """The current version."""
        module, name = self.version.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)

    @property
    def made_with(self):
        """The libraries' versions and the system of this machine."""
        found = {name: release_of(name) for name in ("numpy", *self.libraries)}
        return found | {"system": f"{platform.system()} {platform.machine()}"}


def release_of(name):
    return cv2.__version__ if name == "opencv" else version(name).split("+")[0]


def flat_image():
    """Return rectangles of one colour each; no edge is so weak that a last bit decides."""
    image = np.full((120, 160, 3), 70, np.uint8)
    places = ((10, 10, 60, 50), (40, 30, 100, 90), (90, 15, 150, 60), (20, 70, 70, 110))
    colours = ((220, 40, 40), (40, 200, 60), (50, 60, 230), (230, 220, 50))
    for (x1, y1, x2, y2), colour in zip(places, colours, strict=True):
        image[y1:y2, x1:x2] = colour
    return image


def selective_search(folder):
    return {"windows": SelectiveSearch(min_side=8)(flat_image())}


def edge_boxes(folder):
    return {"windows": EdgeBoxes(edges="gradient", max_windows=60)(flat_image())}


def spp_features(folder):
    found = SPPExtractor(tiny_backbone(), (96, 128)).features(made_image(), made_windows())
    return {"pooled": found.pooled, "index": found.index}


def rcnn_features(folder):
    found = RCNNExtractor(tiny_backbone()).features(made_image(), made_windows(6))
    return {"pooled": found.pooled, "index": found.index}


def feature_cache(folder):
    record = made_record(folder)
    # The file's bytes seed the random windows, and the bytes of a PNG depend on the library.
    record = replace(record, path=record.path.with_suffix(".bmp"))
    Image.open(record.path.with_suffix(".png")).save(record.path)
    cache = made_feature_cache(folder / "cache")
    cache.add(record, made_proposals())
    entry = cache.load(record)
    return {"rows": entry.rows.read(), "windows": entry.windows, "targets": entry.targets}


def head(folder):
    """Return what training added to each matrix; the start would hide a change of the steps."""
    records, arrays = made_records(folder), {}
    for layers, optimizer in (("fc", "adamw"), ("conv4", "sgd")):
        settings = replace(SETTINGS, train_from=layers, optimizer=optimizer, steps=6)
        before = made_network(settings).state_dict()
        after = made_training(records, folder / layers)(settings).state_dict()
        for name in sorted(names_of(layers)):
            if name.endswith("weight"):
                arrays[f"{layers}.{name}"] = after[name] - before[name]
    return arrays


def reduction(folder):
    moments = CellMoments(12)
    moments.add(torch.from_numpy(np.random.default_rng(0).random((12, 9, 11), np.float32)))
    return dict(moments.reduction(6)[0].state_dict())


def svms(folder):
    world = made_world(folder)
    found = svms_of(world, world.run())
    return {layer: np.frombuffer(found[layer], np.float32) for layer in LAYERS}


def box_regression(folder):
    entries = made_world(folder).entries
    regressor = BoxRegressor().fit(
        StackedRows([entry.regression_rows for entry in entries]),
        np.concatenate([entry.windows for entry in entries]),
        np.concatenate([entry.targets for entry in entries]),
        np.concatenate([entry.classes for entry in entries]),
    )
    return {"weights": regressor.weights_}


def calibration(folder):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=400), rng.integers(0, 3, 400)
    correct = rng.random(400) < 1 / (1 + np.exp(-3 * scores - labels + 1))
    fitted = Calibration().fit(scores, labels, correct, 3)
    return {"slope": fitted.slope_, "offset": fitted.offset_}


def candidates(folder, rank=None):
    detector = made_detector(SPPExtractor(tiny_backbone(), (96, 128)))
    whole = detector.features
    features = LayerFeatures(whole.head, whole.factors, rank=rank, responses=whole.responses)
    found = replace(detector, features=features).candidates(
        made_image(), made_windows(), ["fc6", "fc7"]
    )
    return {
        f"{layer}.{name}": getattr(of_layer, name)
        for layer, of_layer in found.items()
        for name in ("boxes", "scores", "labels")
    }


def candidates_at_a_low_rank(folder):
    return candidates(folder, rank=4)


def synthetic_images(folder):
    scene = synthetic_image("train", 3, 0)
    return {"image": scene.image, "boxes": scene.boxes}


KINDS = {
    "selective search": Kind("proposals.selective_search.VERSION", selective_search, ("opencv",)),
    "EdgeBoxes": Kind("proposals.edge_boxes.VERSION", edge_boxes, ("opencv",)),
    "SPP features": Kind("detection.features.extractor.VERSION", spp_features, ("torch",)),
    "R-CNN features": Kind("detection.features.rcnn.VERSION", rcnn_features, ("torch",)),
    "feature cache": Kind("detection.training.feature_cache.VERSION", feature_cache, ("pillow",)),
    "head": Kind("detection.training.finetuning.finetune.VERSION", head, ("torch",)),
    "reduction": Kind("detection.training.network_stage.REDUCTION_VERSION", reduction, ("torch",)),
    "SVMs": Kind("detection.training.mining.hard_negatives.VERSION", svms, ("scikit-learn",)),
    "box regression": Kind(
        "detection.training.box_regression_stage.BBOX_VERSION", box_regression, ("scikit-learn",)
    ),
    "calibration": Kind(
        "detection.training.calibration_stage.VERSION", calibration, ("scikit-learn",)
    ),
    "candidates": Kind("detection.inference.testing.VERSION", candidates, ("torch",)),
    "candidates at a low rank": Kind(
        "detection.inference.testing.TRUNCATION", candidates_at_a_low_rank, ("torch",)
    ),
    "synthetic images": Kind(
        "detection.data.synthetic.dataset.VERSION", synthetic_images, ("pillow",)
    ),
}


def made(kind):
    """Make an artefact of this kind, and return its content as the table has it."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = KINDS[kind].make(Path(folder))
    if kind in ("selective search", "EdgeBoxes"):
        return {name: array.tolist() for name, array in arrays.items()}
    return {name: outline(np.asarray(array, np.float64)) for name, array in arrays.items()}


def outline(array):
    """Return shape, root mean square, and sums in which each number has a weight of its own."""
    numbers = array.ravel()
    size = np.sqrt(np.square(numbers).mean())
    angles = np.arange(len(numbers)) * np.array([[1.0], [2.4], [0.7]])
    sums = np.cos(angles) @ numbers / (size * np.sqrt(len(numbers)))
    return [list(array.shape), *(float(f"{value:.5g}") for value in (size, *sums))]


def same(one, other):
    """Whether two artefacts, as the table has them, differ in their last bits at most."""
    return one.keys() == other.keys() and all(
        same_windows(one[name], other[name])
        if name == "windows" and isinstance(one[name][0], list) and len(one[name][0]) == 4
        else same_outline(one[name], other[name])
        for name in one
    )


def same_windows(one, other):
    one, other = (list(map(tuple, windows)) for windows in (one, other))
    return SequenceMatcher(None, one, other, autojunk=False).ratio() >= SAME_WINDOWS


def same_outline(one, other):
    (shape, size, *sums), (other_shape, other_size, *other_sums) = one, other
    return (
        shape == other_shape
        and abs(size / other_size - 1) <= TOLERANCE
        and np.allclose(sums, other_sums, rtol=0, atol=TOLERANCE)
    )


def write_table():
    """Make every artefact, and the table of them."""
    table = {
        name: {"version": kind.current, "made_with": kind.made_with, "arrays": made(name)}
        for name, kind in KINDS.items()
    }
    lines = (f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items())
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write_table()
