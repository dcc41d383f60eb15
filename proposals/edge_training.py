"""Training of the edge network: images with boundaries, crops of them, and gradient descent.

There are two kinds of targets: outlines of the objects in VOC's segmentation masks, and BSDS500's
boundaries, drawn by several people. Some pixels are undecided and do not count: the void stripe
along VOC's outlines, and pixels on which few of BSDS500's annotators agree. Edges are rare, so
boundary pixels together get as much weight as the others (Xie and Tu, HED, ICCV 2015).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from files.image_folders import ImageFinder, images_below
from files.images import UnreadableImage, read_image
from files.names import check_image_id
from files.text import read_lines
from proposals.edge_network import EdgeNetwork, prepared

VOID = 255
# A BSDS pixel is a boundary if this share of its annotators drew one; with a smaller share above 0
# it is undecided.
AGREED = 0.3
SCALES = (0.6, 1.5)
TURN = 20.0
# The highest learning rate of the schedule.
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class EdgeSample:
    """An image with its boundaries.

    Attributes:
        image: ``(H, W, 3)`` RGB uint8.
        edges: ``(H, W)`` float32, 1 on a boundary.
        counts: ``(H, W)`` float32, 1 where a pixel counts, 0 where it is undecided.
    """

    image: NDArray[np.uint8]
    edges: NDArray[np.float32]
    counts: NDArray[np.float32]


def outlines(mask: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``edges`` and ``counts`` from a mask ``(H, W)``: objects 1, 2, ..., background 0, void 255.

    Void pixels take the label of the nearest labelled pixel, and outlines are drawn between the
    labels. The other void pixels are undecided.
    """
    void = mask == VOID
    filled = mask.copy()
    if void.any() and not void.all():
        _, nearest = cv2.distanceTransformWithLabels(
            void.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        values = np.zeros(nearest.max() + 1, np.uint8)
        values[nearest[~void]] = mask[~void]
        filled = values[nearest]
    edges = np.zeros(mask.shape, np.bool_)
    across, down = filled[:, 1:] != filled[:, :-1], filled[1:] != filled[:-1]
    edges[:, :-1] |= across
    edges[:, 1:] |= across
    edges[:-1] |= down
    edges[1:] |= down
    return edges.astype(np.float32), (edges | ~void).astype(np.float32)


def read_voc_masks(root: Path, split: str) -> list[EdgeSample]:
    """The images of ImageSets/Segmentation/<split>.txt that have an object mask.

    Raises:
        FileNotFoundError: no such list, or a mask without its image.
        ValueError: a file cannot be read, or the sizes of a mask and its image differ.
    """
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    images = ImageFinder(root / "JPEGImages")
    found = []
    for number, line in read_lines(path):
        name = check_image_id(line.strip(), f"{path}, line {number},")
        mask = root / "SegmentationObject" / f"{name}.png"
        if mask.is_file():
            found.append(_made(images.find(name), mask, *outlines(_numbers(mask))))
    return found


def read_bsds(root: Path) -> list[EdgeSample]:
    """Images from images/, and the share of annotators who drew a boundary, 0 to 255, boundaries/.

    Raises:
        ValueError: a file cannot be read, or the sizes of boundaries and their image differ.
    """
    found = []
    for path in images_below(root / "images")[0]:
        boundaries = root / "boundaries" / f"{path.stem}.png"
        share = _numbers(boundaries).astype(np.float32) / 255
        edges = share >= AGREED
        counts = (edges | (share == 0)).astype(np.float32)
        found.append(_made(path, boundaries, edges.astype(np.float32), counts))
    return found


def _numbers(path: Path) -> NDArray[np.uint8]:
    """The stored numbers ``(H, W)`` of an image of grey values or palette indices.

    Raises:
        UnreadableImage: the image cannot be read, or has colours.
    """
    try:
        with Image.open(path) as image:
            numbers = np.array(image, np.uint8)
    except Exception as error:
        raise UnreadableImage(f"{path} cannot be read as a mask ({error})") from error
    if numbers.ndim != 2:
        raise UnreadableImage(f"{path} is not a mask: expected one number a pixel, got colours")
    return numbers


def _made(image: Path, mask: Path, edges: NDArray, counts: NDArray) -> EdgeSample:
    """A sample from the file of an image, and the targets computed from its mask.

    Raises:
        ValueError: the sizes of mask and image differ.
    """
    pixels = read_image(image)
    if pixels.shape[:2] != edges.shape:
        raise ValueError(
            f"{mask} has the shape {edges.shape}, but its image {image} has {pixels.shape[:2]}"
        )
    return EdgeSample(pixels, edges, counts)


def draw_crop(sample: EdgeSample, side: int, rng: np.random.Generator) -> EdgeSample:
    """A square crop with random scale and brightness, sometimes rotated, mirrored or grey."""
    height, width = sample.edges.shape
    scale = float(np.exp(rng.uniform(*np.log(SCALES))))
    turn = rng.uniform(-TURN, TURN) if rng.random() < 0.5 else 0.0
    centre = []
    for length in (width, height):
        half = min(side / 2 / scale, length / 2)
        centre.append(rng.uniform(half, length - half) if length > 2 * half else length / 2)
    matrix = cv2.getRotationMatrix2D(centre, turn, scale)
    matrix[:, 2] = matrix[:, 2] + side / 2 - np.array(centre)
    smooth = cv2.INTER_LINEAR if scale >= 1 else cv2.INTER_AREA
    image = cv2.warpAffine(
        sample.image, matrix, (side, side), flags=smooth, borderMode=cv2.BORDER_REFLECT
    )
    edges = cv2.warpAffine(sample.edges, matrix, (side, side), flags=cv2.INTER_LINEAR) > 0.4
    counts = cv2.warpAffine(sample.counts, matrix, (side, side), flags=cv2.INTER_NEAREST)
    light = image.astype(np.float32) * rng.uniform(0.8, 1.2) + rng.uniform(-15, 15)
    image = light.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        image = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    step = -1 if rng.random() < 0.5 else 1
    return EdgeSample(
        np.asarray(image[:, ::step]),
        np.asarray(edges[:, ::step], np.float32),
        np.asarray(counts[:, ::step], np.float32),
    )


def balanced_loss(logits: Tensor, edges: Tensor, counts: Tensor) -> Tensor:
    """Mean cross-entropy of the pixels that count; boundaries together weigh as much as the rest.

    All arguments are ``(B, 1, H, W)``.
    """
    positive, negative = (edges * counts).sum(), ((1 - edges) * counts).sum()
    total = (positive + negative).clamp_min(1)
    weights = counts * torch.where(edges > 0, negative / total, 1.1 * positive / total)
    return binary_cross_entropy_with_logits(logits, edges, weights, reduction="sum") / total


def train_edges(
    images: Sequence[EdgeSample],
    *,
    steps: int,
    batch: int = 4,
    side: int = 288,
    seed: int = 0,
    progress: Callable[[Iterable[int], str, int], Iterable[int]],
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> EdgeNetwork:
    """Train a network from random weights; the result depends only on the arguments.

    Args:
        images: drawn with equal probability.
        steps: of AdamW; the learning rate rises over 100 steps and falls along a cosine to 0.
        batch: crops per step.
        side: of a crop in pixels.
        seed: of weights and crops.
        progress: wraps the loop over steps.
        report: called every 100 steps with the mean loss.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = EdgeNetwork().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3, fused=True)
    losses: list[float] = []
    for step in progress(range(steps), "edges", steps):
        rate = min(1, (step + 1) / 100) * (1 + np.cos(np.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        crops = [
            draw_crop(images[number], side, rng) for number in rng.integers(len(images), size=batch)
        ]
        edges, counts = (
            torch.from_numpy(np.stack([getattr(crop, name) for crop in crops]))[:, None]
            for name in ("edges", "counts")
        )
        found = network.all_levels(prepared(np.stack([crop.image for crop in crops])))
        parts = [balanced_loss(logits, edges, counts) for logits in found]
        loss = parts[0] + 0.5 * torch.stack(parts[1:]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(parts[0].item())
        if (step + 1) % 100 == 0:
            report({"step": step + 1, "loss": float(np.mean(losses[-100:]))})
    return network.eval()
