"""Torchvision's Faster R-CNN with a feature pyramid on the networks of this project, for peers.py.

It starts from the files of ImageNet's weights that this project's networks start from.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from commands.cli import with_progress
from detection.data.records import Dataset, ImageRecord
from detection.detections import Detections
from detection.evaluation.average_precision import VOCResult
from detection.evaluation.comp4 import from_images
from detection.evaluation.voc_ap import evaluate_voc
from detection.networks.backbone import Backbone
from files.images import read_image


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
    """Images in random order, again and again.

    Raises:
        ValueError: fewer images than a batch has.
    """
    if len(train.records) < batch:
        raise ValueError(f"{len(train.records)} training images are fewer than a batch of {batch}")
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
