"""Faster R-CNN on the same images, cores and minutes as a training of ours; ours beside it.

    python tools/peers.py theirs --data.root FOLDER --network resnet50_caffe --minutes 10
    python tools/peers.py ours runs/mine
    python tools/peers.py plot

``theirs`` fine-tunes torchvision's Faster R-CNN with a feature pyramid from the same ImageNet
convolutions, until the minutes are over, and tests it by the same metric. ``ours`` reads what a
run's training took and what its test found. Both put a row into --csv; ``plot`` draws the table.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from commands.cli import run_tool, with_progress
from commands.tables import results_of, rows_of
from detection.data.reading import read_dataset
from detection.data.records import Dataset, ImageRecord
from detection.detections import Detections
from detection.evaluation.comp4 import from_images
from detection.evaluation.report import put_row
from detection.evaluation.voc_ap import VOCResult, evaluate_voc
from detection.machine import fixed_threads, peak_memory_mb
from detection.networks.backbone import Backbone
from detection.networks.build import build_backbone
from detection.run import stage_seconds
from detection.settings.data import Data
from files.images import read_image

CSV = Path("docs/results/own_images_peers.csv")
PLOT = Path("docs/results/own_images_peers.png")
SAME = ("set", "method", "minutes_allowed", "images", "seed")
# Stages of a run that are no part of its training.
TESTING = ("detection", "evaluation", "windows of test")


@dataclass(frozen=True)
class Peer:
    """A Faster R-CNN.

    Attributes:
        side: shorter side of its images in pixels; torchvision's own for the light one, and for
            ResNet-50 what two cores can train.
        channels: of the levels that the feature pyramid is made of.
        pyramid: channels of the pyramid.
    """

    side: int
    channels: tuple[int, ...]
    pyramid: int


PEERS = {
    "resnet50_caffe": Peer(480, (256, 512, 1024, 2048), 256),
    "efficientnet_lite0": Peer(320, (24, 40, 112, 320), 128),
}
# Blocks of EfficientNet-Lite0 whose maps have the strides 4, 8, 16 and 32.
LITE0_LEVELS = {2: "0", 4: "1", 10: "2", 15: "3"}


class LiteLevels(nn.Module):
    """The maps of EfficientNet-Lite0 that a feature pyramid is made of."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Four maps of images ``(B, 3, H, W)``, by name."""
        trunk: Any = self.trunk
        maps = trunk._relu(trunk._bn0(trunk._conv_stem(trunk._pad(images))))
        levels: OrderedDict[str, Tensor] = OrderedDict()
        for number, block in enumerate(trunk._blocks):
            maps = block(maps)
            if number in LITE0_LEVELS:
                levels[LITE0_LEVELS[number]] = maps
        return levels


class Pyramid(nn.Module):
    """Lite0's levels and their feature pyramid."""

    def __init__(self, trunk: nn.Module, peer: Peer) -> None:
        super().__init__()
        self.body = LiteLevels(trunk)
        self.fpn = FeaturePyramidNetwork(
            list(peer.channels), peer.pyramid, extra_blocks=LastLevelMaxPool()
        )
        self.out_channels = peer.pyramid

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps of ``out_channels`` each."""
        return self.fpn(self.body(images))


class Reordered(nn.Module):
    """A backbone whose weights expect blue, green, red."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.out_channels = body.out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """As the backbone's."""
        return self.body(images.flip(1))


def faster_rcnn(backbone: Backbone, classes: int) -> FasterRCNN:
    """Torchvision's detector with ImageNet's convolutions; normalisations are frozen."""
    peer, wanted = PEERS[backbone.name], backbone.preprocessing
    body: Any
    if backbone.name == "resnet50_caffe":
        model = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        for stage in (model.layer2, model.layer3, model.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        model.load_state_dict(backbone.trunk.state_dict(), strict=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(("layer2", "layer3", "layer4")))
        levels = {f"layer{number + 1}": str(number) for number in range(4)}
        body = BackboneWithFPN(model, levels, list(peer.channels), peer.pyramid)
    else:
        body = Pyramid(backbone.trunk, peer)
        for module in body.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    mean, spread = list(wanted.mean), list(wanted.std)
    if wanted.order == "bgr":
        body, mean, spread = Reordered(body), mean[::-1], spread[::-1]
    return FasterRCNN(
        body,
        num_classes=classes + 1,
        min_size=peer.side,
        max_size=2 * peer.side,
        image_mean=[value / 255 for value in mean],
        image_std=[value / 255 for value in spread],
    )


def theirs(
    data: Data = Data(),  # noqa: B008 - frozen
    network: Literal["resnet50_caffe", "efficientnet_lite0"] = "efficientnet_lite0",
    weights: str = "auto",
    minutes: float = 10.0,
    batch: int = 2,
    learning_rate: float = 0.005,
    images: int | None = None,
    seed: int = 0,
    csv: Path = CSV,
) -> None:
    """Fine-tune Faster R-CNN for so many minutes, test it, and put a row into the table.

    Args:
        data: the images, as of a training.
        network: its convolutions.
        weights: of these, as --network.weights of a training.
        minutes: of training, from the first image on.
        batch: images a step.
        learning_rate: the highest; it rises over the first tenth of the time and falls to 0 by the
            last, as a cosine.
        images: learn from the first so many.
        seed: of the heads and the images' order.
        csv: the table.
    """
    fixed_threads()
    torch.manual_seed(seed)
    train = read_dataset(data, "train", limit=images)
    test = read_dataset(data, "test", classes=train.classes)
    model = faster_rcnn(build_backbone(network, weights), len(train.classes))
    steps = fine_tune(model, train, minutes, batch, learning_rate, seed)
    start = time.perf_counter()
    result = tested(model, test)
    row = {
        "set": Path(data.root).resolve().name,
        "method": f"Faster R-CNN, {network}",
        "minutes_allowed": f"{minutes:g}",
        "images": len(train.records),
        "seed": seed,
        "minutes": f"{minutes:.1f}",
        "ap": round(result.map, 4),
        "ap_area": round(result.map_area, 4),
        "test_seconds_an_image": round((time.perf_counter() - start) / len(test.records), 2),
        "peak_memory_mb": peak_memory_mb(),
    }
    put_row(csv, row, SAME)
    print(f"{steps} steps; AP {result.map:.4f}, area {result.map_area:.4f}")


def fine_tune(
    model: FasterRCNN, train: Dataset, minutes: float, batch: int, highest: float, seed: int
) -> int:
    """Descend until the time is over; returns the number of steps."""
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9, weight_decay=5e-4)
    start, steps = time.perf_counter(), 0
    for records in with_progress(batches(train, batch, seed), "fine-tuning", 0):
        share = (time.perf_counter() - start) / (60 * minutes)
        if share >= 1:
            break
        rate = min(share / 0.1, 1.0) * 0.5 * (1 + np.cos(np.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = highest * float(rate)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        flips = torch.rand(len(records)) < 0.5
        pairs = [example(one, bool(flip)) for one, flip in zip(records, flips, strict=True)]
        losses = model([pixels for pixels, _ in pairs], [target for _, target in pairs])
        loss = sum(losses.values())
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {loss.item()}; try a lower --learning_rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 10.0)
        optimizer.step()
        steps += 1
    return steps


def batches(train: Dataset, batch: int, seed: int) -> Iterator[list[ImageRecord]]:
    """Images in random order, again and again."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(train.records))
        for first in range(0, len(order) - batch + 1, batch):
            yield [train.records[place] for place in order[first : first + batch]]


def example(record: ImageRecord, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """An image in 0..1 and its objects as torchvision wants them."""
    pixels = torch.from_numpy(read_image(record.path).copy()).permute(2, 0, 1).float() / 255
    boxes = torch.from_numpy(record.boxes[~record.difficult].astype(np.float32).reshape(-1, 4))
    if flip:
        pixels = pixels.flip(2)
        boxes = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1.0])
        boxes = boxes + torch.tensor([1, 0, 1, 0.0]) * pixels.shape[2]
    labels = torch.from_numpy(record.labels[~record.difficult] + 1)
    return pixels, {"boxes": boxes, "labels": labels}


@torch.inference_mode()
def tested(model: FasterRCNN, test: Dataset) -> VOCResult:
    """The metric of every detection."""
    model.eval()
    model.roi_heads.score_thresh = 0.01
    found = {}
    for record in with_progress(test.records, "testing", len(test.records)):
        (one,) = model([example(record, False)[0]])
        found[record.image_id] = Detections(
            one["boxes"].numpy(), one["scores"].numpy(), one["labels"].numpy() - 1, test.classes
        )
    return evaluate_voc(from_images(found, test.classes), test.records, test.classes)


def ours(run: Path, method: str = "SPP-net", minutes: float = 10.0, csv: Path = CSV) -> None:
    """Put a row of a run's training and newest test into the table.

    Args:
        run: folder of the run, tested.
        method: its name in the table.
        minutes: that it was allowed.
        csv: the table.
    """
    stages = stage_seconds(run)
    seconds = [one["seconds"] for name, one in stages.items() if not name.startswith(TESTING)]
    (path, *_) = sorted(run.glob("test_*/*/results.json"), key=lambda each: -each.stat().st_mtime)
    result = results_of(path)
    row = {
        "set": Path(result["data"]["root"]).resolve().name,
        "method": method,
        "minutes_allowed": f"{minutes:g}",
        "images": result["trained"]["images"] + result["trained"]["held_back"],
        "seed": result["trained"]["seed"],
        "minutes": f"{sum(seconds) / 60:.1f}",
        "ap": round(result["map"], 4),
        "ap_area": round(result["map_area"], 4),
        "test_seconds_an_image": round(result["detection"]["seconds"] / result["images"], 2),
        "peak_memory_mb": max(one["peak_memory_mb"] for one in stages.values()),
    }
    put_row(csv, row, SAME)
    print(", ".join(f"{name} {value}" for name, value in row.items()))


def plot(csv: Path = CSV, out: Path = PLOT) -> None:
    """Draw AP against minutes, a panel a set, a line a method.

    Args:
        csv: the table.
        out: the image.
    """
    rows = [row for row in rows_of(csv) if row["minutes_allowed"] != "-"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    figure, panels = plt.subplots(1, len(sets), figsize=(4.5 * len(sets), 3.6), squeeze=False)
    for name, axes in zip(sets, panels[0], strict=True):
        for method in dict.fromkeys(row["method"] for row in rows if row["set"] == name):
            mine = [row for row in rows if (row["set"], row["method"]) == (name, method)]
            points = sorted((float(row["minutes"]), float(row["ap"])) for row in mine)
            axes.plot(*zip(*points, strict=True), marker="o", label=method)
        axes.set(title=name, xlabel="minutes of training", ylabel="AP", ylim=(0, 1), xscale="log")
        axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    run_tool({"theirs": theirs, "ours": ours, "plot": plot})
