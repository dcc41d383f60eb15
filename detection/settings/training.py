"""Settings of the stages of a training."""

from dataclasses import dataclass
from typing import Literal

from detection.settings.ranges import require


@dataclass(frozen=True)
class Network:
    """The convolutional trunk.

    Attributes:
        name: alexnet, vgg16, zf5, convnet5, overfeat5, overfeat7, efficientnet_lite0 or
            resnet50_caffe; or a network of torchvision with a layer, such as ``resnet50/layer4``.
        pca_channels: reduce the map to this even number of channels; they are the positive and
            negative parts of principal directions, computed from the training images' cells. None
            leaves the map as it is.
        weights: auto, torchvision, index, random, or a file; 'auto' takes the first it finds: a
            file in the folder, torchvision's weights, or those of the package index.
        folder: folder where weights are kept.
        keep_maps_gb: disk space for the training images' maps, in 10^9 bytes; maps are kept where
            computing them takes longer than reading them. 0 computes them each time.
        scale_rule: how a window's scale is chosen; the paper takes the scale where its pixel count
            is nearest 224x224, the released code rounds the side length.
    """

    name: str = "alexnet"
    pca_channels: int | None = None
    weights: str = "auto"
    folder: str = "data/weights"
    keep_maps_gb: float = 0.0
    scale_rule: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        require(self, keep_maps_gb=(0, 1_000_000))
        if self.pca_channels is not None:
            require(self, pca_channels=(2, 65536))
            if self.pca_channels % 2:
                raise ValueError(
                    "Network.pca_channels must be an even number, because each direction gives two "
                    f"channels, got {self.pca_channels}"
                )


@dataclass(frozen=True)
class Finetune:
    """Fine-tuning on windows (paper 4.1).

    Attributes:
        train_from: the first layer that is trained, with all after it; 'fc' trains the paper's fc6,
            fc7 and (K+1)-way layer. A convolution adds a second phase, which trains this
            convolution and all layers after it through the pyramid, as in Fast R-CNN.
        hidden: width of fc6 and fc7; with a start detector, its width and rank are used.
        steps: batches of the first phase, which trains the fc layers alone; 0 keeps the fc layers
            of the start detector (``Config.start``) and trains only the linear parts.
        batch: number of windows in a batch.
        images: images read at every step; batches are sampled from the windows of the last 100
            steps.
        conv_steps: batches of the second phase, which trains convolutions too.
        conv_images: images in a batch of the second phase.
        positive_share: share of a batch that overlaps an object by IoU in [0.5, 1]; the rest
            overlap by [0.1, 0.5).
        optimizer: adamw or sgd; 'adamw' learns fc layers from scratch in few steps, 'sgd' is the
            paper's, for fc layers that start from ImageNet's.
        learning_rate: initial learning rate of the fc layers; falls to a tenth after two thirds of
            the steps and to a hundredth after nine tenths.
        conv_rate: learning rate of the convolutions, as a share of that of the fc layers.
        momentum: decay of the gradient's running mean.
        weight_decay: L2 penalty on weights, not on biases; decoupled with AdamW.
        dropout: share of fc6 and fc7 units dropped.
        scale: how the scale of an image's windows is chosen; 'best_fit' is the best-fit scale of
            one of its objects, 'near' replaces it half of the time by a neighbouring scale,
            'random' takes any scale (the released code draws one for each window).
        jitter: largest change of an image's brightness, contrast and saturation, as a share; 0
            leaves images as they are.
        checkpoint_every: steps between checkpoints.
    """

    train_from: Literal["fc", "conv5", "conv4", "conv3", "conv2"] = "fc"
    hidden: int = 4096
    steps: int = 5000
    batch: int = 256
    images: int = 4
    conv_steps: int = 1000
    conv_images: int = 16
    positive_share: float = 0.25
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-4
    conv_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.01
    dropout: float = 0.5
    scale: Literal["best_fit", "near", "random"] = "near"
    jitter: float = 0.4
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        require(
            self,
            hidden=(1, 65536),
            steps=(0, 10_000_000),
            batch=(2, 65536),
            images=(1, 65536),
            conv_steps=(1, 10_000_000),
            conv_images=(1, 65536),
            positive_share=(0.01, 0.99),
            learning_rate=(0, 10),
            conv_rate=(0, 10),
            momentum=(0, 0.999),
            weight_decay=(0, 1),
            dropout=(0, 0.95),
            jitter=(0, 1),
            checkpoint_every=(1, 10_000_000),
        )
        self._check_share("images")
        if not self.steps and self.train_from != "fc":
            raise ValueError(
                "Finetune.steps 0 trains no layer, so Finetune.train_from must be fc, got "
                f"{self.train_from}; or set the steps to 1 or more"
            )
        if self.train_from != "fc":
            self._check_share("conv_images")

    def _check_share(self, name: str) -> None:
        images = getattr(self, name)
        if self.batch % images or self.batch < 2 * images:
            raise ValueError(
                f"Finetune.batch must be two or more times Finetune.{name} and a multiple of it, "
                f"because each image gives the same number of windows; got {self.batch} and "
                f"{images}"
            )


@dataclass(frozen=True)
class Svm:
    """One linear SVM per class, with hard negatives (paper 4.1, released spp_train).

    Attributes:
        layers: layers on whose features SVMs are trained; one pass over the images serves all.
        C: weight of the hinge loss.
        positive_weight: weight of a positive's loss relative to a negative's.
        bias: value of the constant feature that carries the (regularised) bias.
        negative_iou: a window that overlaps all objects of a class by less is a negative of it.
        refit_every: number of new hard negatives of a class that triggers a refit; smaller if the
            negatives of all classes would not fit in memory, as on pool5 (12,800 numbers each).
        checkpoint_every: images between checkpoints.
    """

    layers: tuple[Literal["pool5", "fc6", "fc7"], ...] = ("fc7",)
    C: float = 1e-3
    positive_weight: float = 2.0
    bias: float = 10.0
    negative_iou: float = 0.3
    refit_every: int = 2000
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        require(
            self,
            C=(1e-9, 1e9),
            positive_weight=(1e-3, 1e3),
            bias=(1e-3, 1e3),
            negative_iou=(0.01, 1),
            refit_every=(1, 1_000_000),
            checkpoint_every=(1, 1_000_000),
        )


@dataclass(frozen=True)
class BoxRegression:
    """From a window's pooled conv5 to a better box, by ridge regression (paper 4.1).

    Attributes:
        min_iou: windows that overlap an object by at least this are samples (R-CNN: 0.6).
        ridge: penalty lambda of the regression (R-CNN: 1000).
    """

    min_iou: float = 0.5
    ridge: float = 4000.0

    def __post_init__(self) -> None:
        require(self, min_iou=(0.5, 1), ridge=(1e-6, 1e12))
