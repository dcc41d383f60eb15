"""What each stage of a training will take, by the last one like it on this machine.

Times lie in the cache, a file for all settings that change them and the processor. An image costs
what it cost then, and so does a batch of fine-tuning, whatever the number of images.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from detection.config import Config
from detection.machine import processor
from files.names import content_key
from files.writing import save_text

# The stage that goes over the mirrored images too, where these are learned from.
MIRRORED = "training windows"
# Settings that change nothing about the time of an image or of a batch.
FREE = ("run", "seed", "limit", "strict", "mirrored", "data", "detection", "report")


def remember(cache: Path, config: Config, stages: Mapping[str, Mapping[str, float]]) -> None:
    """Keep what the stages took; those that did nothing keep the time they had.

    Args:
        cache: folder shared by runs.
        config: of the training.
        stages: of each stage ``seconds``, and ``images`` that these went to.
    """
    known = _read(cache, config)
    new = {
        name: {"seconds": one["seconds"], "items": batches_of(name, config) or int(one["images"])}
        for name, one in stages.items()
        if one["images"]
    }
    save_text(_path(cache, config), json.dumps(known | new, indent=2) + "\n")


def expected_seconds(cache: Path, config: Config, images: int) -> dict[str, float]:
    """Seconds of each stage for so many images; empty where no training like it is known."""
    return {
        name: one["seconds"] * items_of(name, config, images) / one["items"]
        for name, one in _read(cache, config).items()
    }


def items_of(stage: str, config: Config, images: int) -> int:
    """Over how many images, mirrored ones too, or batches a stage goes."""
    mirrored = config.mirrored and stage == MIRRORED
    return batches_of(stage, config) or images * (2 if mirrored else 1)


def batches_of(stage: str, config: Config) -> int:
    """Of a stage of fine-tuning; 0 of the others."""
    if stage == "fine-tuning":
        return config.finetune.steps
    return config.finetune.conv_steps if stage.startswith("fine-tuning") else 0


def _path(cache: Path, config: Config) -> Path:
    settings = {name: value for name, value in asdict(config).items() if name not in FREE}
    for free in ("steps", "conv_steps", "checkpoint_every"):
        del settings["finetune"][free]
    return cache / "times" / f"{content_key(settings | {'processor': processor()})}.json"


def _read(cache: Path, config: Config) -> dict[str, dict[str, float]]:
    """What is kept; nothing where the file is missing or damaged, as it only serves a guess."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = json.loads(_path(cache, config).read_text())
        return {
            str(name): {"seconds": float(one["seconds"]), "items": int(one["items"]) or 1}
            for name, one in known.items()
        }
    return {}
