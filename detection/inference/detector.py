"""The trained detector: windows in, detections out, saved as one safetensors file."""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from detection.config import Detection
from detection.detections import Detections
from detection.features.extractor import SPPExtractor
from detection.features.scales import SCALES
from detection.inference.postprocess import Candidates, postprocess, select_candidates
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.svm import ClassSVMs
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.networks.weights import Weights
from proposals import propose
from proposals.disk import read_picture, write_atomic
from proposals.selective_search import SelectiveSearch

FORMAT = "sppnet-detection 1"
DISPLAY_THRESHOLD = -0.5
Precision = Literal["float32", "bfloat16"]


class FeatureHead:
    """fc7 features at mean norm 20, as SVMs read them.

    Args:
        head: the fine-tuned fc6 and fc7.
        scale: factor that brings fc7 features to mean norm 20.
        precision: of the matrix products; the features are float32 either way.
    """

    def __init__(self, head: Head, scale: float, precision: Precision = "float32") -> None:
        self.head = head.eval()
        self.scale = scale
        self._compute = self.head
        if precision == "bfloat16":
            self._compute = copy.deepcopy(head).eval()
            for layer in (self._compute.fc6, self._compute.fc7):
                layer.to(torch.bfloat16)

    @classmethod
    def load(cls, path: str | Path, scale: float, precision: Precision) -> "FeatureHead":
        """From a head's tensors, as the fine-tuning stage leaves them; on the CPU."""
        state = load_file(path)
        outputs, hidden = state["fc8.weight"].shape
        head = Head(state["fc6.weight"].shape[1], outputs - 1, hidden, dropout=0.0)
        head.load_state_dict(state)
        return cls(head, scale, precision)

    @property
    def length(self) -> int:
        """Number of features."""
        return self.head.fc7.out_features

    @torch.inference_mode()
    def __call__(self, pooled: Tensor) -> NDArray[np.float32]:
        """Features ``(P, hidden)`` float32 of pooled vectors ``(P, D)``."""
        features = self._compute.features(pooled.to(self.head.fc8.weight.device))
        return (features.float() * self.scale).cpu().numpy()


@dataclass(frozen=True)
class SPPDetector:
    """Everything between a picture and its detections (paper section 4).

    Attributes:
        classes: names of the K classes.
        extractor: conv5 maps and pooled windows.
        features: fc7 at mean norm 20.
        svms: one linear SVM a class, on those features.
        regressor: box regression on pooled conv5.
        proposals: how windows are made for a picture that comes without.
        detection: suppression and limits.
        trained: what it was trained on, for the record: split, pictures, seed.
    """

    classes: tuple[str, ...]
    extractor: SPPExtractor
    features: FeatureHead
    svms: ClassSVMs
    regressor: BoxRegressor
    proposals: SelectiveSearch = field(default_factory=SelectiveSearch)
    detection: Detection = field(default_factory=Detection)
    trained: Mapping[str, Any] = field(default_factory=dict)

    def score(
        self, image: NDArray[np.uint8], windows: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """SVM scores ``(P, K)`` and regressed boxes ``(P, K, 4)`` of windows ``(P, 4)``.

        Args:
            image: ``(H, W, 3)`` RGB uint8.
            windows: half-open pixels of it. The boxes are not clipped.
        """
        pooled = self.extractor.pool(self.extractor.maps(image), windows)
        scores = self.svms.decision_function(self.features(pooled.pooled))
        rows = pooled.pooled.cpu().numpy()
        return scores[pooled.index], self.regressor.predict(rows, windows, pooled.index)

    def candidates(self, image: NDArray[np.uint8], windows: NDArray[np.float32]) -> Candidates:
        """The best windows of each class before suppression; what a run keeps of a picture."""
        scores, boxes = self.score(image, windows)
        return select_candidates(
            windows,
            scores,
            boxes,
            per_class=self.detection.candidates,
            score_threshold=self.detection.score_threshold,
        )

    def detect(
        self,
        image: NDArray[np.uint8] | str | Path,
        windows: NDArray[np.float32] | None = None,
        score_threshold: float = DISPLAY_THRESHOLD,
    ) -> Detections:
        """Find objects in a picture.

        Args:
            image: RGB uint8 ``(H, W, 3)``, or a picture's path.
            windows: ``(P, 4)`` candidate regions; None proposes them.
            score_threshold: keep detections that score above this (strict). SVM scores above 0
                say "object"; -0.5 is for display, the measured mAP goes down to -1.5.

        Returns:
            Detections of all classes, best first.

        Raises:
            FileNotFoundError, ValueError: the picture is missing or unreadable.
        """
        if not isinstance(image, np.ndarray):
            image = read_picture(image)
        if windows is None:
            windows = propose(image, self.proposals)
        found = self.finish(self.candidates(image, windows), image.shape[:2])
        return found[found.scores > score_threshold]

    def finish(self, candidates: Candidates, image_size: tuple[int, ...]) -> Detections:
        """Suppress, regress and clip candidates of an image of size (height, width)."""
        return postprocess(
            candidates,
            (image_size[0], image_size[1]),
            self.classes,
            score_threshold=self.detection.score_threshold,
            nms_iou=self.detection.nms_iou,
            top_k=self.detection.top_k,
        )

    def save(self, path: str | Path) -> None:
        """Write the whole detector, whole or not at all: safetensors, settings as JSON inside."""
        head, backbone = self.features.head, self.extractor.backbone
        tensors = {f"trunk.{name}": value for name, value in backbone.trunk.state_dict().items()}
        tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
        tensors |= {
            "svm.weights": torch.from_numpy(self.svms.coef_),
            "svm.bias": torch.from_numpy(self.svms.intercept_),
            "bbox.weights": torch.from_numpy(self.regressor.weights_),
        }
        settings = {
            "format": FORMAT,
            "classes": self.classes,
            "network": backbone.name,
            "weights_digest": backbone.digest,
            "scales": self.extractor.scales,
            "scale_rule": self.extractor.scale_rule,
            "precision": self.extractor.precision,
            "hidden": head.fc7.out_features,
            "feature_scale": self.features.scale,
            "proposals": asdict(self.proposals),
            "detection": asdict(self.detection),
            "trained": dict(self.trained),
        }
        # One entry only: safetensors writes several in an order that changes from save to save.
        metadata = {"settings": json.dumps(settings)}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with write_atomic(path) as file:
            file.write(to_safetensors(tensors, metadata))

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        scales: Literal[1, 5] | None = None,
        precision: Precision | None = None,
        detection: Detection | None = None,
    ) -> "SPPDetector":
        """Read a detector written by ``save``.

        Args:
            path: a run's detector.safetensors.
            device: where the network runs.
            scales: 1 or 5 test scales; None keeps those of training.
            precision: None keeps that of training.
            detection: None keeps the limits of training.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is not a detector of this format, or no such number of scales.
        """
        if scales is not None and scales not in SCALES:
            known = " or ".join(map(str, SCALES))
            raise ValueError(f"scales must be {known}, or None for those of training; got {scales}")
        settings, tensors = read_detector(Path(path))
        trunk = Weights(part(tensors, "trunk."), str(path), settings["weights_digest"])
        backbone = build_backbone(settings["network"], trunk)
        precision = precision or settings["precision"]
        head = Head(
            backbone.pooled_length, len(settings["classes"]), settings["hidden"], dropout=0.0
        )
        head.load_state_dict(part(tensors, "head."))
        extractor = SPPExtractor(
            backbone.to(device),
            SCALES[scales] if scales else tuple(settings["scales"]),
            settings["scale_rule"],
            precision,
        )
        return cls(
            tuple(settings["classes"]),
            extractor,
            FeatureHead(head.to(device), settings["feature_scale"], precision),
            ClassSVMs.from_arrays(tensors["svm.weights"].numpy(), tensors["svm.bias"].numpy()),
            BoxRegressor.from_arrays(tensors["bbox.weights"].numpy()),
            SelectiveSearch(**settings["proposals"]),
            detection or Detection(**settings["detection"]),
            settings["trained"],
        )


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, under their names without it."""
    return {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}


def read_detector(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors of a detector file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a detector of this format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no detector at {path}; python tools/train_det.py trains one")
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads((file.metadata() or {}).get("settings", "{}"))
            if settings.get("format") != FORMAT:
                found = settings.get("format", "no format mark")
                raise ValueError(f"{path} is not a detector: expected '{FORMAT}', found {found}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a detector file ({error}); expected a run's detector.safetensors"
        ) from error
    return settings, tensors
