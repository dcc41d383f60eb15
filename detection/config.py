"""Every setting of a run, its default and its allowed values.

jsonargparse makes YAML keys, flags and help from these dataclasses; a value out of range stops with
its name, the value and what is allowed. Defaults follow the paper (arXiv 1406.4729) or, where the
paper is silent, the released code; ``docs/differences.md`` lists both.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from proposals.methods import Proposals

# Settings of groups that --help shows; --help=all shows the others too.
COMMON = (
    *("data.root", "data.train_split", "data.test_split", "data.split", "data.lists", "data.cache"),
    *("proposals.method", "proposals.file"),
    *("network.name", "network.weights", "network.pca_channels"),
    *("finetune.train_from", "finetune.hidden", "finetune.steps", "finetune.conv_steps"),
    *("finetune.batch", "finetune.learning_rate"),
    *("svm.layers", "svm.C"),
    *("detection.layer", "detection.bbox", "detection.fc_rank"),
    "detection.vote_iou",
    *("report.images", "report.csv"),
)


def require(settings: Any, **allowed: tuple[float, float]) -> None:
    """Check that number fields of a settings object lie in closed ranges.

    Raises:
        ValueError: naming the first field outside its range, its value and the range.
    """
    for name, (low, high) in allowed.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            owner = type(settings).__name__
            raise ValueError(f"{owner}.{name} must be from {low:g} to {high:g}, got {value}")


Format = Literal["auto", "voc", "xml", "coco", "yolo", "csv"]


@dataclass(frozen=True)
class Data:
    """Annotated images.

    Attributes:
        root: folder of images and annotations; in VOC's layout, with Annotations, JPEGImages and
            ImageSets, or the VOCdevkit above it; or XML beside the images or in a folder of its
            own, COCO's JSON, YOLO's text files, or a CSV table.
        train_split: split to train on; of VOC's, a list in ImageSets/Main. Data without VOC's lists
            have train, val and test by their folders or lists, or else train and test made by
            content, and their train for trainval.
        test_split: split to test on; in data without VOC's lists, val where there is no test.
        format: of the annotations; 'auto' recognises it.
        unlabelled: what becomes of images without annotation, in data without VOC's lists; they are
            left out, or taken as images without objects.
        lists: folder of <split>.txt, one image id a line, for data without VOC's lists; None takes
            the data's own splits, or the run's.
        difficult: train on objects marked difficult too, as the released script does; otherwise
            they are never positives and the windows on them never negatives.
        cache: folder for windows and pooled features, shared by all runs.
    """

    root: str = "data/VOCdevkit"
    train_split: str = "trainval"
    test_split: str = "test"
    format: Format = "auto"
    unlabelled: Literal["left_out", "background"] = "left_out"
    lists: str | None = None
    difficult: bool = False
    cache: str = "data/cache"


@dataclass(frozen=True)
class Split:
    """One split of annotated images.

    Attributes:
        root: folder of images and annotations, as of a training.
        split: its name; of VOC's, a list in ImageSets/Main.
        format: of the annotations; 'auto' recognises it.
        unlabelled: what becomes of images without annotation, in data without VOC's lists.
        lists: folder of <split>.txt, one image id a line, for data without VOC's lists.
    """

    root: str = "data/VOCdevkit"
    split: str = "test"
    format: Format = "auto"
    unlabelled: Literal["left_out", "background"] = "left_out"
    lists: str | None = None


@dataclass(frozen=True)
class Network:
    """The convolutional trunk.

    Attributes:
        name: alexnet, vgg16, zf5, efficientnet_lite0 or resnet50_caffe; or any of torchvision's
            with the layer to pool from, such as ``resnet50/layer4``.
        pca_channels: reduce the map to so many channels, an even number; they are the positive and
            negative parts of principal directions of the training images' cells. None leaves the
            map as it is.
        weights: auto, torchvision, index, random, or a file; 'auto' takes a file in the folder,
            torchvision's, or the package index's.
        folder: where weights are kept.
        keep_maps_gb: disk for the training images' maps, in 10^9 bytes, where computing them
            takes longer than reading them; 0 computes them each time.
        scale_rule: how a window picks its scale; the paper's pixel count nearest 224x224, or the
            released code's rounded side length.
    """

    name: str = "alexnet"
    pca_channels: int | None = None
    weights: str = "auto"
    folder: str = "data/weights"
    keep_maps_gb: float = 0.0
    scale_rule: Literal["paper", "released"] = "paper"

    def __post_init__(self) -> None:
        require(self, keep_maps_gb=(0, 1_000_000))


@dataclass(frozen=True)
class Finetune:
    """Fine-tuning on windows (paper 4.1).

    Attributes:
        train_from: the first layer that is trained, with all after it; 'fc' is the paper's fc6, fc7
            and (K+1)-way layer. From a convolution on, these train through the pyramid (as Fast
            R-CNN showed to pay) in a second phase, after the fc layers alone.
        hidden: width of fc6 and fc7; a start detector brings its own.
        steps: batches of the first phase, which trains the fc layers alone; 0 takes those of the
            start detector (``Config.start``) as they are, and trains the linear parts only.
        batch: windows a batch.
        images: images that join at every step; batches are sampled from those of the last 100
            steps.
        conv_steps: batches of the second phase, which trains convolutions too.
        conv_images: images a batch of the second phase.
        positive_share: share of a batch that overlaps an object by IoU in [0.5, 1]; the rest
            overlap by [0.1, 0.5).
        optimizer: 'adamw' learns fc layers from scratch in few steps; 'sgd' is the paper's, for fc
            layers that start from ImageNet's.
        learning_rate: of the fc layers at the start; falls to a tenth after two thirds of the
            steps and to a hundredth after nine tenths.
        conv_rate: the convolutions' rate as a share of the fc layers'.
        box_loss: weight of the second phase's loss on boxes, which a layer on fc7 learns to move
            (Fast R-CNN 2.3, where it is 1); 0 trains for classes alone, as the paper does.
        momentum: decay of the gradient's running mean.
        weight_decay: L2 penalty on weights, not on biases; decoupled with AdamW.
        dropout: share of fc6 and fc7 units dropped.
        scale: each image's windows from the best-fit scale of one of its objects; 'near' takes a
            scale beside that half of the times; 'random' is any scale, as the released code draws
            one for each window.
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
    box_loss: float = 0.0
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
            box_loss=(0, 1000),
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
        elif self.box_loss:
            raise ValueError(
                "Finetune.box_loss is of the phase that trains convolutions; set "
                "Finetune.train_from to conv3, or leave it 0"
            )

    def _check_share(self, name: str) -> None:
        images = getattr(self, name)
        if self.batch % images or self.batch < 2 * images:
            raise ValueError(
                f"Finetune.batch must be a multiple of Finetune.{name}, two or more times it, as "
                f"every image gives as many windows; got {self.batch} and {images}"
            )


@dataclass(frozen=True)
class Svm:
    """One linear SVM a class with hard negatives (paper 4.1, released spp_train).

    Attributes:
        layers: layers on whose features SVMs are trained; one pass over the images serves all.
        C: weight of the hinge loss.
        positive_weight: how much more a positive's loss weighs.
        bias: value of the constant feature that carries the (regularised) bias.
        negative_iou: a window is a negative of a class below this overlap with all its objects.
        refit_every: new hard negatives of a class that bring on a refit; fewer where so many of
            all classes would not fit in memory, as of 12,800 numbers each.
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
    """From a window's features to a better box.

    Attributes:
        layer: pool5 is the paper's ridge regression from pooled conv5; fc7 the layer that was
            fine-tuned with the network (``Finetune.box_loss``), which needs nothing below.
        min_iou: windows that overlap an object by at least this are samples (R-CNN: 0.6).
        ridge: the penalty lambda (R-CNN: 1000).
    """

    layer: Literal["pool5", "fc7"] = "pool5"
    min_iou: float = 0.5
    ridge: float = 4000.0

    def __post_init__(self) -> None:
        require(self, min_iou=(0.5, 1), ridge=(1e-6, 1e12))


@dataclass(frozen=True)
class Detection:
    """From windows to detections.

    Attributes:
        layer: layer whose SVMs score windows, or softmax; 'fc6+fc7' is the mean of both layers'
            scores. None takes the last layer that SVMs were trained on.
        bbox: move the detected windows by box regression.
        fc_rank: truncate fc6 to this rank, which is faster and approximate; fc7 to twice as much,
            at most 512 either. None takes them whole.
        score_threshold: a window must score above this for a class.
        candidates: best windows of a class and image that enter suppression.
        nms_iou: overlap above which the lower-scored window is suppressed.
        top_k: detections kept of a class and image.
        vote_iou: box voting by candidates that overlap this much; a detection's box becomes the
            mean, weighted by score, of the class's candidates that overlap it by at least this
            (Gidaris and Komodakis 2015, where it is 0.5). None leaves boxes as they are, as the
            paper does.
    """

    layer: Literal["pool5", "fc6", "fc7", "fc6+fc7", "softmax"] | None = None
    bbox: bool = True
    fc_rank: int | None = None
    score_threshold: float = -1.5
    candidates: int = 300
    nms_iou: float = 0.3
    top_k: int = 100
    vote_iou: float | None = None

    def __post_init__(self) -> None:
        require(
            self,
            score_threshold=(-1e9, 1e9),
            candidates=(1, 100_000),
            nms_iou=(0, 1),
            top_k=(1, 100_000),
        )
        if self.fc_rank is not None:
            require(self, fc_rank=(1, 512))
        if self.vote_iou is not None:
            require(self, vote_iou=(0.01, 1))


@dataclass(frozen=True)
class Report:
    """What a test leaves besides the table.

    Attributes:
        images: number of test images to draw with their detections.
        csv: table to add rows of results to.
        json: file for the results with the facts of the run.
    """

    images: int = 12
    csv: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        require(self, images=(0, 100_000))


@dataclass(frozen=True)
class Config:
    """A run of the detector.

    Attributes:
        run: folder of the run; it holds config, log, stage artefacts, detector and results.
        start: file of a trained detector to start from; its network, fc6 and fc7 take the place of
            ImageNet's. Classes are the data's.
        seed: seed of every random choice.
        device: where networks run; 'auto' takes a CUDA device where there is one.
        workers: number of processes, 0 for one a core; they make windows, train SVMs and, beside a
            GPU, read.
        cluster: a Dask scheduler; its address, such as tcp://scheduler:8786, whose workers do that
            in place of this machine's, and see images, cache and run at the same paths.
        limit: use only the first so many images of the split.
        strict: stop at the first image that cannot be read; otherwise such images are skipped,
            counted and listed at the end, with exit status 3.
        held_back: share of the training images that no stage learns from; they draw the learning
            curve, and calibrate scores to probabilities. 0 trains on all and leaves scores raw.
        features: SPP-net's, or R-CNN's of warped windows; these send every window through the
            network.
        scales: number of image scales; 5 are 480, 576, 688, 864 and 1200, 1 is 688.
        precision: numbers of conv and fc layers; bfloat16 is quicker on CPUs that have it, not
            exact.
        data: images and annotations.
        proposals: windows, the region proposals.
        network: the convolutional trunk.
        finetune: fine-tuning.
        svm: training of the SVMs.
        bbox: training of the box regression.
        detection: from scored windows to detections.
        report: what a test leaves.
    """

    run: str = "runs/voc07_alexnet"
    start: str | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 0
    cluster: str | None = None
    limit: int | None = None
    strict: bool = False
    held_back: float = 0.08
    features: Literal["spp", "rcnn"] = "spp"
    scales: Literal[1, 5] = 5
    precision: Literal["float32", "bfloat16"] = "float32"
    data: Data = field(default_factory=Data)
    proposals: Proposals = field(default_factory=Proposals)
    network: Network = field(default_factory=Network)
    finetune: Finetune = field(default_factory=Finetune)
    svm: Svm = field(default_factory=Svm)
    bbox: BoxRegression = field(default_factory=BoxRegression)
    detection: Detection = field(default_factory=Detection)
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        require(self, seed=(0, 2**31 - 1), workers=(0, 1024), held_back=(0, 0.5))
        if self.limit is not None:
            require(self, limit=(1, 10**9))
        if self.start is None and not self.finetune.steps:
            raise ValueError(
                "Finetune.steps 0 takes fc6 and fc7 of a trained detector: name one as --start, or "
                "set the steps to 1 or more"
            )
        if self.start is not None and self.features != "spp":
            raise ValueError(
                "a start detector's layers are of SPP-net's features, so --start needs --features "
                f"spp, got {self.features}"
            )
        if self.bbox.layer == "fc7" and not self.finetune.box_loss:
            raise ValueError(
                "BoxRegression.layer fc7 is trained by Finetune.box_loss, which is 0; set it to 1, "
                "or BoxRegression.layer to pool5"
            )
