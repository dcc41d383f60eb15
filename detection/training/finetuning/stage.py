"""The stage of fine-tuning: first the fc layers, then, if set, convolutions and fc layers.

It has two phases, each with its own artefact. Untrained fc layers would spoil ImageNet's
convolutions. They also learn best from batches of hundreds of images, for which the gradients of
convolutions are not available.
"""

from dataclasses import replace
from typing import NamedTuple

from detection.data.records import Dataset
from detection.networks.backbone import Backbone
from detection.networks.head import Head
from detection.networks.truncated import TruncatedHead, with_classes
from detection.networks.weights import Weights, tensor_digest
from detection.ranks import ALONE, Ranks
from detection.run import Run
from detection.settings.training import Finetune
from detection.training.finetuning.phases import Phases, head_path, phase_of_conv, phase_of_fc
from files.artefacts import write_artefact
from files.names import content_key
from proposals.store import Windows


class Finetuned(NamedTuple):
    """What fine-tuning leaves.

    Attributes:
        head: fc6, fc7 and fc8; None where none is needed.
        key: of it and the trunk.
    """

    head: Head | TruncatedHead | None
    key: str


def finetune_stage(
    run: Run,
    settings: Finetune,
    data: Dataset,
    held_back: Dataset,
    windows: Windows,
    weights: Weights,
    backbone: Backbone,
    ranks: Ranks = ALONE,
) -> Finetuned:
    """Fine-tune the head and, where the settings say so, convolutions on windows.

    Args:
        run: the run, for what concerns every stage: layers of the SVMs, scales, precision, seed.
        settings: of fine-tuning.
        data: the training images.
        held_back: those of the learning curve; none draw none.
        windows: of each.
        weights: fc6 and fc7 start from a trained detector's or ImageNet's where they hold these,
            otherwise from He initialisation.
        backbone: the trunk; trained in place.
        ranks: the processes that share every batch.

    Returns:
        No head, and nothing trained, where only pool5 is asked for and the convolutions are left
        alone; without steps the detector's head as it is, which may be a truncated one.

    Raises:
        ValueError: R-CNN's features are asked for, with something that must be fine-tuned.
    """
    config = run.config
    if config.svm.layers == ("pool5",) and settings.train_from == "fc":
        return Finetuned(None, content_key({"weights": backbone.digest}))
    if config.features != "spp":
        raise ValueError(
            "fine-tuning goes through the pyramid, so with --features rcnn only --svm.layers "
            "[pool5] and --finetune.train_from fc can be trained"
        )
    if weights.head is not None:
        if not settings.steps:
            return _as_it_is(run, weights.head)
        settings = replace(settings, hidden=weights.head.fc8.in_features)
        head = with_classes(weights.head, len(data.classes), settings.dropout)
    else:
        head = Head(backbone.pooled_length, len(data.classes), settings.hidden, settings.dropout)
    head.to(run.device)
    phases = Phases(run, data, held_back, windows, weights, backbone, head, ranks)
    key = phases.run_phase("fine-tuning", phase_of_fc(settings), "")
    if settings.train_from != "fc":
        key = phases.run_phase("fine-tuning of convolutions", phase_of_conv(settings), key)
    return Finetuned(head.eval(), key)


def _as_it_is(run: Run, head: Head | TruncatedHead) -> Finetuned:
    """A trained detector's head, written where the stages after, and their processes, look."""
    state = head.state_dict()
    key = content_key({"head": tensor_digest(state)})
    path = head_path(run, key)
    if not path.exists():
        arrays = {f"head.{name}": value.numpy() for name, value in state.items()}
        write_artefact(path, key, arrays)
    return Finetuned(head.to(run.device).eval(), key)
