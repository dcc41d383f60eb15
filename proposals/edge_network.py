"""A small network that finds the boundaries of objects: edge maps for EdgeBoxes.

It has four levels of 3x3 convolutions, each at half the resolution of the previous level. A
top-down path then adds the features of each level to those of the next finer level.
``tools/train_edges.py`` trains it on the segmentation masks of VOC's train images and on BSDS500.
Its file has less than a megabyte.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from files.artefacts import DamagedArtefact, read_artefact, write_artefact
from files.writing import kept_by_content

WIDTHS = (16, 32, 64, 96)
MERGED = 24
MEAN = np.array([123.7, 116.3, 103.5], np.float32)
DEVIATION = np.float32(58)
# The key of its file: raise it when the network changes.
KEY = "sppnet edges 2"


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class EdgeNetwork(nn.Module):
    """Predicts whether each pixel is on a boundary: logits at full resolution."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.levels = nn.ModuleList(
            [
                nn.Sequential(_layer(3, a), _layer(a, a)),
                nn.Sequential(_layer(a, b, 2), _layer(b, b)),
                nn.Sequential(_layer(b, c, 2), _layer(c, c), _layer(c, c)),
                nn.Sequential(_layer(c, d, 2), _layer(d, d), _layer(d, d)),
            ]
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, MERGED, 1) for width in WIDTHS)
        self.merged = nn.ModuleList(_layer(MERGED, out) for out in (a, MERGED, MERGED))
        self.logits = nn.ModuleList(nn.Conv2d(w, 1, 1) for w in (a, MERGED, MERGED, MERGED))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, 1, H, W)`` of ``prepared`` images ``(B, 3, H, W)``."""
        return self.logits[0](self._merge(images)[0])

    def all_levels(self, images: Tensor) -> list[Tensor]:
        """For training: logits of all levels, finest first, each enlarged to ``(B, 1, H, W)``."""
        size = images.shape[2:]
        merged = self._merge(images)
        return [_enlarged(layer(m), size) for layer, m in zip(self.logits, merged, strict=True)]

    def _merge(self, images: Tensor) -> list[Tensor]:
        """Merged features of each level, finest first."""
        features = []
        for level in self.levels:
            images = level(images)
            features.append(images)
        found = [self.lateral[-1](features[-1])]
        for number in reversed(range(len(features) - 1)):
            own = self.lateral[number](features[number])
            found.append(self.merged[number](own + _enlarged(found[-1], own.shape[2:])))
        return found[::-1]


def _enlarged(values: Tensor, size: torch.Size) -> Tensor:
    if values.shape[2:] == size:
        return values
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)


def prepared(images: NDArray) -> Tensor:
    """The network's input ``(B, 3, H, W)`` float32 from images ``(B, H, W, 3)`` of 0..255."""
    pixels = (images.astype(np.float32) - MEAN) / DEVIATION
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def fused(network: EdgeNetwork) -> EdgeNetwork:
    """The same function with normalisation fused into the convolutions; changes the network."""
    network.eval()
    for group in (*network.levels, network.merged):
        layers = [group] if isinstance(group[0], nn.Conv2d) else group
        for layer in layers:
            if isinstance(layer[1], nn.BatchNorm2d):
                layer[0] = fuse_conv_bn_eval(layer[0], layer[1])
                layer[1] = nn.Identity()
    return network


def save_edges(network: EdgeNetwork, path: str | Path, facts: dict[str, str]) -> None:
    """Write a trained network in float16, normalisation fused; ``facts`` record how it was made."""
    state = fused(network).state_dict()
    arrays = {name: value.half().contiguous().numpy() for name, value in state.items()}
    write_artefact(path, KEY, arrays, facts)


@kept_by_content
def load_edges(path: str) -> EdgeNetwork:
    """A network that ``save_edges`` wrote, channels last, on the CPU.

    Raises:
        ValueError: the file is damaged or contains something else.
    """
    try:
        arrays = read_artefact(path, KEY).arrays
    except DamagedArtefact as error:
        raise ValueError(
            f"{path} is not a whole edge network; reinstall the package to restore its own "
            "network, or train one with tools/train_edges.py"
        ) from error
    network = fused(EdgeNetwork())
    network.load_state_dict({name: torch.from_numpy(a).float() for name, a in arrays.items()})
    return network.to(memory_format=torch.channels_last)


@torch.inference_mode()
def find_edges(network: EdgeNetwork, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Edge strength ``(H, W)`` in [0, 1] of an RGB image ``(H, W, 3)`` uint8.

    The result has the same bits for any setting of the number of threads.
    """
    batch = prepared(image[None]).contiguous(memory_format=torch.channels_last)
    with _one_thread():
        return np.ascontiguousarray(torch.sigmoid(network(batch))[0, 0].numpy())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Make torch use one thread: with several, the last bits of a convolution's sums differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
