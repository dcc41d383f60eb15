"""Image classifiers with and without the spatial pyramid (paper, section 3.1), and their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detection.networks import backbone
from detection.networks.backbone import Preprocessing, normalised
from detection.networks.head import Head
from detection.networks.pyramid import LEVELS
from detection.networks.spatial_pyramid import SpatialPyramidPooling
from detection.networks.zoo.catalogue import network_named
from files.artefacts import DamagedArtefact, read_artefact, strip_prefix, write_artefact

# The key of a classifier's artefact.
FORMAT = "sppnet-classification 1"
# Cells along a side of the pooled map in networks without a pyramid, the baselines.
FIXED = 6
# Deviation of the pixels, 0..255, of natural images.
PIXEL_DEVIATION = 64.0


class PyramidClassifier(nn.Module):
    """A trunk, the pooling of its map, and fc6, fc7 and a K-way layer.

    Args:
        trunk: computes maps ``(B, C, h, w)``, values >= 0, of preprocessed images ``(B, 3, H, W)``.
        pooling: pools maps to ``(B, D)``: the pyramid, or pooling for one size of map.
        head: computes logits ``(B, K)`` from ``(B, D)``.
        preprocessing: of the trunk's input.
        settings: arguments with which ``build_network`` makes the same layers.

    Attributes:
        crop: without a pyramid, the only possible side of images; None with a pyramid.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        pooling: nn.Module,
        head: Head,
        preprocessing: Preprocessing,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling
        self.head = head
        self.preprocessing = preprocessing
        self.settings = dict(settings)
        self.crop: int | None = settings["crop"]
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape), persistent=False)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images as the trunk's input, on its device.

        Args:
            images: ``(B, H, W, 3)`` uint8, RGB.

        Returns:
            ``(B, 3, H, W)`` float32, channels last in memory.
        """
        pixels = images.to(self.mean.device).permute(0, 3, 1, 2)
        return normalised(pixels, self.preprocessing.order, self.mean, self.std)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of preprocessed images ``(B, 3, H, W)``.

        Raises:
            ValueError: the network has no pyramid, and the images have another size than ``crop``.
        """
        if self.crop is not None and images.shape[2:] != (self.crop, self.crop):
            raise ValueError(
                f"a network without a pyramid sees images of {self.crop}x{self.crop} only, got "
                f"{images.shape[2]}x{images.shape[3]}"
            )
        return self.head(self.pooling(self.trunk(images)))


def build_network(
    name: str,
    classes: int,
    *,
    levels: Sequence[int] = LEVELS,
    pool: Literal["max", "mean"] = "max",
    hidden: int = 4096,
    dropout: float = 0.5,
    crop: int | None = None,
    seed: int = 0,
) -> PyramidClassifier:
    """A network with random weights, in evaluation mode, on the CPU, channels last.

    Args:
        name: of the trunk, in the detector's catalogue.
        classes: K, 2 or more.
        levels: of the pyramid; without levels the map is pooled to 6x6, as in the baselines.
        pool: the maximum or the mean of a bin's cells.
        hidden: width of fc6 and fc7.
        dropout: share of their units dropped in training.
        crop: side of the images, if there is no pyramid.
        seed: of the weights.

    Raises:
        ValueError: no such trunk, fewer than two classes, or, without a pyramid, no crop or one
            whose map has fewer than 6x6 cells.
    """
    if classes < 2:
        raise ValueError(f"a classifier needs two classes or more, got {classes}")
    settings = {
        "name": name,
        "classes": classes,
        "levels": list(levels),
        "pool": pool,
        "hidden": hidden,
        "dropout": dropout,
        "crop": None if levels else crop or 0,
    }
    found = _layers(settings, "cpu")
    initialise(found, torch.Generator().manual_seed(seed))
    return found.to(memory_format=torch.channels_last).eval()


def _layers(settings: Mapping[str, Any], device: str) -> PyramidClassifier:
    """The network with these settings, without initialised weights; on "meta" without memory."""
    name, levels, crop = settings["name"], settings["levels"], settings["crop"]
    network = network_named(name)
    trunk = network.empty_trunk() if device == "meta" else network.trunk()
    channels, side = map_shape(name, trunk, 224 if crop is None else crop)
    if levels:
        pyramid = SpatialPyramidPooling(tuple(levels), settings["pool"])
        pooling: nn.Module = pyramid
        bins = pyramid.bins
    else:
        pooling, bins = fixed_pooling(name, crop, side), FIXED**2
    with torch.device(device):
        # The detector's head adds an output for background; here it is that of the last class.
        classes = settings["classes"] - 1
        head = Head(bins * channels, classes, settings["hidden"], settings["dropout"])
    return PyramidClassifier(trunk, pooling, head, network.preprocessing, settings)


def map_shape(name: str, trunk: nn.Module, side: int) -> tuple[int, int]:
    """Channels of a square image's map, and cells along its side, without computing the map.

    Raises:
        ValueError: the image is too small for the trunk.
    """
    try:
        return backbone.map_shape(trunk, side)
    except RuntimeError as error:
        raise ValueError(
            f"images of {side}x{side} are too small for {name}, whose map has no cell; give larger "
            "sizes"
        ) from error


def fixed_pooling(name: str, crop: int, side: int) -> nn.Module:
    """Max pooling of a square map to 6x6 cells; for 13 cells, 3x3 with stride 2 as in the paper.

    Raises:
        ValueError: the map has fewer cells.
    """
    if side < FIXED:
        raise ValueError(
            f"the map of {name} has {side}x{side} cells for a crop of {crop}; without a pyramid it "
            f"needs {FIXED}x{FIXED} or more"
        )
    stride = side // FIXED
    return nn.Sequential(nn.MaxPool2d(side - (FIXED - 1) * stride, stride), nn.Flatten())


@torch.no_grad()
def initialise(network: PyramidClassifier, generator: torch.Generator) -> None:
    """He initialisation with zero biases; Gaussian with deviation 0.01 for the last layer.

    conv1 is scaled by the deviation of natural pixels. fc6's input is scaled, by the head's factor,
    according to the response to noise of this deviation. Otherwise the paper's pixels of -128..127
    and the maxima of the pyramid would give logits of several hundred. Batch normalisation uses the
    statistics of the noise, as later in training those of its batches: with the initial statistics,
    ResNet-18's map would be 17 times larger.
    """
    first = True
    for layer in network.trunk.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if first:
                layer.weight.mul_(network.std.mean() / PIXEL_DEVIATION)
                first = False
            if layer.bias is not None:
                layer.bias.zero_()
    side = network.crop or 112
    noise = torch.randn((4, 3, side, side), generator=generator)
    norms = [each for each in network.trunk.eval().modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    pooled = network.pooling(network.trunk(noise * PIXEL_DEVIATION / network.std))
    for norm in norms:
        norm.eval().reset_running_stats()
    network.head.initialise(generator, pooled.square().mean().item())


def save_classifier(
    path: str | Path, network: PyramidClassifier, classes: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Write a classifier; its trunk has the names that ``--network.weights`` expects.

    Args:
        path: of the file.
        network: with ``len(classes)`` logits.
        classes: names, in the order of the logits.
        facts: further facts, of JSON's types.
    """
    prefix = network_named(network.settings["name"]).prefix
    tensors = {prefix + name: each for name, each in network.trunk.state_dict().items()}
    tensors |= {f"head.{name}": each for name, each in network.head.state_dict().items()}
    arrays = {name: each.detach().cpu().contiguous().numpy() for name, each in tensors.items()}
    said = {"network": network.settings, "classes": list(classes), "facts": dict(facts)}
    write_artefact(path, FORMAT, arrays, said)


def load_classifier(path: str | Path) -> tuple[PyramidClassifier, list[str], dict[str, Any]]:
    """Read the file of ``save_classifier``; returns network, classes and facts.

    The network is in evaluation mode and on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or not a classifier of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no classifier at {path} ({path.absolute()}); python tools/train_cls.py trains one"
        )
    try:
        found = read_artefact(path, FORMAT)
    except DamagedArtefact as error:
        reason = str(error).removeprefix(f"{path} ").partition(";")[0]
        raise ValueError(
            f"{path} is not a classifier: it {reason}; expected a run's classifier.safetensors of "
            f"the format '{FORMAT}', as written by a training"
        ) from error
    network = _layers(found.facts["network"], "meta")
    tensors = {name: torch.from_numpy(array) for name, array in found.arrays.items()}
    network.head.load_state_dict(strip_prefix(tensors, "head."), assign=True)
    prefix = network_named(network.settings["name"]).prefix
    trunk = {name: tensors[prefix + name] for name in network.trunk.state_dict()}
    network.trunk.load_state_dict(trunk, assign=True)
    network = network.to(memory_format=torch.channels_last).eval()
    return network, found.facts["classes"], found.facts["facts"]
