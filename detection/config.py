"""Every setting of a run, its default and its allowed values.

jsonargparse makes YAML keys, flags and help from these dataclasses. A value out of range is an
error that names the setting, the value and what is allowed. Defaults follow the paper (arXiv
1406.4729) or, where the paper is silent, the released code; ``docs/differences.md`` lists both.
"""

from dataclasses import dataclass, field
from typing import Literal

from detection.machine import Precision
from detection.settings.data import Data
from detection.settings.ranges import require
from detection.settings.testing import Detection, Report
from detection.settings.training import BoxRegression, Finetune, Network, Svm
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
    "report.csv",
)


@dataclass(frozen=True)
class Config:
    """A run of the detector.

    Attributes:
        run: folder of the run; it holds config, log, stage artefacts, detector and results.
        start: file of a trained detector to start from; the training takes its network, fc6 and
            fc7 instead of ImageNet's weights. The classes are still those of the data.
        seed: seed of every random choice.
        device: where networks run; 'auto' uses a CUDA device if there is one.
        workers: number of processes, 0 for one per core; they make windows, train SVMs and, with a
            GPU, read images.
        cluster: address of a Dask scheduler, such as tcp://scheduler:8786; its workers replace
            this machine's processes and need images, cache and run at the same paths.
        limit: use only the first so many images of the split.
        strict: stop at the first image that cannot be read; otherwise such images are skipped,
            counted and listed at the end, with exit status 3.
        held_back: share of the training images that no stage learns from; they give the learning
            curve and calibrate scores to probabilities. With 0, training uses all images and
            scores stay raw.
        mirrored: SVMs take positives from mirror images too, and box regression learns from them;
            fine-tuning always does. Better with few images.
        features: SPP-net's or R-CNN's; R-CNN sends every warped window through the network.
        scales: number of image scales; 5 are 480, 576, 688, 864 and 1200, 1 is 688.
        precision: number format of conv and fc layers; bfloat16 is faster but less exact. Machines
            without bfloat16 instructions use float32 instead.
        data: images and annotations.
        proposals: windows (region proposals).
        network: the convolutional trunk.
        finetune: fine-tuning.
        svm: training of the SVMs.
        bbox: training of the box regression.
        detection: from scored windows to detections.
        report: what a test writes.
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
    mirrored: bool = False
    features: Literal["spp", "rcnn"] = "spp"
    scales: Literal[1, 5] = 5
    precision: Precision = "float32"
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
                "Finetune.steps 0 uses fc6 and fc7 of a trained detector: give one with --start, "
                "or set the steps to 1 or more"
            )
        if self.start is not None and self.features != "spp":
            raise ValueError(
                "the layers of a start detector were trained on SPP-net's features, so --start "
                f"needs --features spp, got {self.features}"
            )
