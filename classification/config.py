"""Every setting of a classifier's training, its default and its allowed values.

Defaults are the paper's for ImageNet (section 3.1). jsonargparse makes YAML keys, flags and help
from these dataclasses, as for the detector's settings (``detection/config.py``).
"""

from dataclasses import dataclass, field
from typing import Literal

from detection.settings.ranges import require

# Settings of groups that --help shows.
COMMON = (
    *("data.root", "network.name", "network.levels", "network.hidden"),
    *("training.sizes", "training.epochs", "training.batch", "training.learning_rate"),
)


@dataclass(frozen=True)
class Data:
    """Images of classes, one folder per class.

    Attributes:
        root: folder with ``train/CLASS/`` and ``val/CLASS/``, as for torchvision's ImageFolder.
        shorter_side: length in pixels to which the shorter side of every image is resized.
        keep_gb: memory for resized images, in 10^9 bytes; other images are read in every epoch.
    """

    root: str = "data/imagenet"
    shorter_side: int = 256
    keep_gb: float = 1.0

    def __post_init__(self) -> None:
        require(self, shorter_side=(8, 4096), keep_gb=(0, 1_000_000))


@dataclass(frozen=True)
class Network:
    """The network: a trunk, the pyramid, fc6, fc7 and a layer of K classes.

    Attributes:
        name: trunk of a detector, such as zf5, convnet5, overfeat5, overfeat7 or alexnet; or a
            network of torchvision with the layer to pool from, such as ``resnet18/layer4``.
        levels: bins along a side for each level of the pyramid; an empty list replaces the pyramid
            by pooling to 6x6, and then images must have one size.
        pool: what a bin computes from its cells: the maximum or the mean.
        hidden: width of fc6 and fc7.
        dropout: share of fc6 and fc7 units dropped.
    """

    name: str = "zf5"
    levels: tuple[int, ...] = (1, 2, 3, 6)
    pool: Literal["max", "mean"] = "max"
    hidden: int = 4096
    dropout: float = 0.5

    def __post_init__(self) -> None:
        require(self, hidden=(1, 65536), dropout=(0, 0.95))
        if any(not 1 <= level <= 64 for level in self.levels):
            raise ValueError(f"Network.levels must be from 1 to 64 each, got {self.levels}")


@dataclass(frozen=True)
class Training:
    """Gradient descent (paper, sections 2.3 and 3.1).

    Attributes:
        sizes: image sizes in training; 'single' is the crop, 'alternating' the crop in one epoch
            and the small size in the next, 'random' a size in between, drawn for each epoch.
        crop: side of the region cut out of an image, in pixels.
        small: the smallest size to which the region is resized.
        positions: where a region is cut out; 'five' are the corners and the centre, as in the
            paper, 'any' is anywhere.
        colour: standard deviation of the shift along the principal axes of colour; from Krizhevsky
            et al. 2012. 0 leaves colours as they are.
        epochs: passes over the training images.
        batch: images per step, of all processes together.
        learning_rate: learning rate at the start.
        drops: shares of the epochs after which the rate falls to a tenth; the paper instead lowers
            it when the error stops falling, twice.
        momentum: momentum of the gradient's running sum.
        weight_decay: L2 penalty on weights, not on biases.
        test_every: epochs between tests on the val folder; the last epoch is always tested.
    """

    sizes: Literal["single", "alternating", "random"] = "alternating"
    crop: int = 224
    small: int = 180
    positions: Literal["five", "any"] = "five"
    colour: float = 0.1
    epochs: int = 70
    batch: int = 128
    learning_rate: float = 0.01
    drops: tuple[float, ...] = (0.6, 0.85)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    test_every: int = 1

    def __post_init__(self) -> None:
        require(
            self,
            crop=(1, 4096),
            small=(1, self.crop),
            colour=(0, 10),
            epochs=(1, 100_000),
            batch=(1, 1_000_000),
            learning_rate=(0, 10),
            momentum=(0, 0.999),
            weight_decay=(0, 1),
            test_every=(1, 100_000),
        )
        if any(not 0 < share <= 1 for share in self.drops):
            raise ValueError(f"Training.drops must be above 0 and up to 1 each, got {self.drops}")


@dataclass(frozen=True)
class Config:
    """A run of a classifier.

    Attributes:
        run: folder of the run; it holds config, log, checkpoint, classifier and results.
        seed: seed of every random choice.
        device: where the network runs; 'auto' uses a CUDA device if there is one.
        workers: number of processes that read images, 0 for one per core.
        strict: stop at the first image that cannot be read; otherwise such images are skipped,
            counted and listed at the end, with exit status 3.
        data: the images.
        network: trunk, pyramid and fc layers.
        training: gradient descent.
    """

    run: str = "runs/imagenet_zf5"
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 0
    strict: bool = False
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        require(self, seed=(0, 2**31 - 1), workers=(0, 1024))
        if self.training.crop > self.data.shorter_side:
            raise ValueError(
                f"Training.crop {self.training.crop} is larger than Data.shorter_side "
                f"{self.data.shorter_side}, so images do not have such a region; lower the crop "
                "or raise the shorter side"
            )
        if self.training.sizes != "single" and not self.network.levels:
            raise ValueError(
                f"Training.sizes {self.training.sizes} needs a pyramid, as fc6 needs one length; "
                "set Network.levels, or Training.sizes to single"
            )
