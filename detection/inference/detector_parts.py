"""The parts of a detector as settings and named tensors for its file, and back."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detection.features.build import build_extractor
from detection.features.extractor import Extractor
from detection.features.scales import SCALES
from detection.inference.detector_file import read_detector, shipped
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.calibration import Calibration
from detection.learners.class_svms import ClassSVMs
from detection.machine import Precision, native_precision, ready
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.networks.truncated import TruncatedHead, pack, unpack
from detection.networks.weights import Weights
from detection.settings.testing import Detection
from files.artefacts import strip_prefix
from proposals.methods import Proposals


def packed(
    classes: tuple[str, ...],
    extractor: Extractor,
    features: LayerFeatures,
    svms: Mapping[str, ClassSVMs],
    regressor: BoxRegressor,
    proposals: Proposals,
    detection: Detection,
    trained: Mapping[str, Any],
    calibration: Mapping[str, Calibration],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings that JSON knows, and tensors; arguments as ``SPPDetector``."""
    settings = {
        "classes": classes,
        **extractor.facts,
        "head": form_of(features.head),
        "layers": list(svms),
        "factors": features.factors,
        "calibrated": list(calibration),
        "proposals": asdict(proposals),
        "detection": asdict(detection),
        "trained": dict(trained),
    }
    tensors = {
        **{f"trunk.{name}": each for name, each in extractor.backbone.tensors().items()},
        **pack_layers(features),
        **pack_svms(svms),
        **pack_regressor(regressor),
        **pack_calibration(calibration),
    }
    return settings, tensors


def read_parts(
    path: str | Path,
    device: torch.device,
    scales: int | None,
    precision: Precision | None,
    detection: Detection | None,
) -> dict[str, Any]:
    """The parts in a file, by their names in ``packed``.

    Arguments and errors as ``SPPDetector.load``.
    """
    if scales is not None and scales not in SCALES:
        known = " or ".join(map(str, SCALES))
        raise ValueError(
            f"scales must be {known}, or None for the scales of the training; got {scales}"
        )
    path, device = shipped(path), ready(device)
    settings, tensors = read_detector(path)
    try:
        return _unpacked(settings, tensors, path, device, scales, precision, detection)
    except torch.OutOfMemoryError as error:
        reason = str(error).partition(". ")[0]
        raise RuntimeError(
            f"the device {device} has too little memory for the detector {path} ({reason}); end "
            "other programs on it, or use another device, such as cpu"
        ) from error
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path} is not a detector of this version ({reason}); train it again"
        ) from error
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path} cannot be used: {' '.join(str(error).split())}") from error


def _unpacked(
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    path: Path,
    device: torch.device,
    scales: int | None,
    precision: Precision | None,
    detection: Detection | None,
) -> dict[str, Any]:
    """What was ``packed`` into the file, with what is asked for in place of its own settings."""
    # Until November 2026 box regression could be a layer on fc7.
    if settings.get("box_layer") not in (None, "pool5"):
        raise ValueError(
            "it has a box layer of an older version, which has been removed; train it again, or "
            "use a commit from before 2026-11-28"
        )
    precision = precision or native_precision(settings["precision"], device)
    detection = detection or Detection(**settings["detection"])
    trunk = Weights(strip_prefix(tensors, "trunk."), str(path), settings["weights"])
    extractor = build_extractor(
        settings["features"],
        build_backbone(settings["network"], trunk).to(device),
        SCALES[scales] if scales else tuple(settings.get("scales", ())),
        settings.get("scale_rule", "paper"),
        precision,
    )
    return {
        "classes": tuple(settings["classes"]),
        "extractor": extractor,
        "features": layers_of(
            tensors, settings, precision, detection.fc_rank, device, extractor.length
        ),
        "svms": svms_of(tensors, settings["layers"]),
        "regressor": regressor_of(tensors),
        "proposals": Proposals.from_dict(settings["proposals"]),
        "detection": detection,
        "trained": settings["trained"],
        "calibration": calibration_of(tensors, settings["calibrated"]),
    }


def form_of(head: Head | TruncatedHead | None) -> str | None:
    """What the file says of a head: whole, truncated, or nothing."""
    if head is None:
        return None
    return "whole" if isinstance(head, Head) else "truncated"


def pack_layers(features: LayerFeatures) -> dict[str, Tensor]:
    """The head, and its responses to windows."""
    state = {} if features.head is None else features.head.state_dict()
    return {
        **{f"head.{name}": value for name, value in state.items()},
        **{f"responses.{name}": value for name, value in pack(features.responses).items()},
    }


def layers_of(
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    precision: Precision,
    rank: int | None,
    device: str | torch.device,
    length: int,
) -> LayerFeatures:
    """What ``pack_layers`` packed, with the head on a device; arguments as ``LayerFeatures``.

    Raises:
        RuntimeError: the head does not read vectors of ``length`` numbers.
    """
    head = _head_of(settings["head"], strip_prefix(tensors, "head."))
    if head is not None:
        if next(head.fc6.parameters()).shape[1] != length:
            raise RuntimeError(f"fc6 does not read {length} numbers")
        head.to(device)
    responses = unpack(strip_prefix(tensors, "responses."))
    return LayerFeatures(head, settings["factors"], precision, rank, responses)


def _head_of(form: str | None, state: Mapping[str, Tensor]) -> Head | TruncatedHead | None:
    if form is None:
        return None
    if form == "truncated":
        return TruncatedHead.from_state(state)
    return Head.from_state(state)


def pack_svms(svms: Mapping[str, ClassSVMs]) -> dict[str, Tensor]:
    """The SVMs of each layer."""
    tensors = {}
    for layer, of_layer in svms.items():
        tensors[f"svm.{layer}.weights"] = torch.from_numpy(of_layer.coef_)
        tensors[f"svm.{layer}.bias"] = torch.from_numpy(of_layer.intercept_)
    return tensors


def svms_of(tensors: Mapping[str, Tensor], layers: Iterable[str]) -> dict[str, ClassSVMs]:
    """What ``pack_svms`` packed of these layers."""
    return {
        layer: ClassSVMs.from_arrays(
            tensors[f"svm.{layer}.weights"].numpy(), tensors[f"svm.{layer}.bias"].numpy()
        )
        for layer in layers
    }


def pack_regressor(regressor: BoxRegressor) -> dict[str, Tensor]:
    """Box regression: rows ``(4K, D)``, one a target, and constants ``(4K,)``."""
    # A row a target, and no constant in it: a small file has one step a row.
    rows = torch.from_numpy(regressor.weights_).permute(0, 2, 1).flatten(0, 1)
    return {"bbox.weights": rows[:, :-1], "bbox.bias": rows[:, -1]}


def regressor_of(tensors: Mapping[str, Tensor]) -> BoxRegressor:
    """What ``pack_regressor`` packed."""
    rows = torch.cat([tensors["bbox.weights"], tensors["bbox.bias"][:, None]], dim=1)
    return BoxRegressor.from_arrays(rows.unflatten(0, (-1, 4)).permute(0, 2, 1).numpy())


def pack_calibration(calibration: Mapping[str, Calibration]) -> dict[str, Tensor]:
    """The sigmoids of each layer."""
    tensors = {}
    for layer, of_layer in calibration.items():
        tensors[f"calibration.{layer}.slope"] = torch.from_numpy(of_layer.slope_)
        tensors[f"calibration.{layer}.offset"] = torch.from_numpy(of_layer.offset_)
    return tensors


def calibration_of(tensors: Mapping[str, Tensor], layers: Iterable[str]) -> dict[str, Calibration]:
    """What ``pack_calibration`` packed of these layers."""
    return {
        layer: Calibration.from_arrays(
            tensors[f"calibration.{layer}.slope"].numpy(),
            tensors[f"calibration.{layer}.offset"].numpy(),
        )
        for layer in layers
    }
