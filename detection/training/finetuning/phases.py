"""The phases of fine-tuning: the images, the key and the result of each."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import SPPExtractor
from detection.features.scales import SCALES
from detection.networks.backbone import Backbone
from detection.networks.head import Head, initialise_classes
from detection.networks.truncated import TruncatedHead
from detection.networks.weights import Weights, tensor_digest
from detection.ranks import Ranks
from detection.run import Run
from detection.settings.training import Finetune
from detection.training.extractors import spp_extractor
from detection.training.feature_cache import image_key
from detection.training.finetuning import finetune
from detection.training.finetuning.batches import WindowBatches, trainable
from detection.training.finetuning.descent import Descent
from detection.training.finetuning.finetune import finetune_head
from detection.training.finetuning.memory import freed_memory_kept
from detection.training.finetuning.pyramid_network import PyramidNetwork, input_moments
from files.artefacts import read_artefact, strip_prefix, write_artefact
from files.names import content_key
from proposals.store import Windows

# Steps of fine-tuning; handed back every 100, a process still grew to 5.9 GB (docs/decisions.md).
HAND_BACK_EVERY = 10
# Processes that read for a GPU, half a gigabyte each. Four brought a batch every 0.08 s to an H200
# that could take one every 0.05 s (docs/decisions.md).
MOST_READERS = 8

logger = logging.getLogger(__name__)


def phase_of_fc(settings: Finetune) -> Finetune:
    """Settings of the first phase; they know nothing of the second, so that runs share it."""
    default = Finetune()
    return replace(
        settings,
        train_from="fc",
        conv_steps=default.conv_steps,
        conv_images=default.conv_images,
        conv_rate=default.conv_rate,
    )


def phase_of_conv(settings: Finetune) -> Finetune:
    """Settings of the second phase, its steps and images in the place of the first one's."""
    return replace(settings, steps=settings.conv_steps, images=settings.conv_images)


def head_path(run: Run, key: str) -> Path:
    """The artefact of fine-tuning: ``head.`` tensors and, of trained layers, ``trunk.``."""
    return run.artefact("head", key)


class Phases:
    """The phases and what they share; head and backbone are trained in place.

    Arguments as ``finetune_stage``.
    """

    def __init__(
        self,
        run: Run,
        data: Dataset,
        held_back: Dataset,
        windows: Windows,
        weights: Weights,
        backbone: Backbone,
        head: Head | TruncatedHead,
        ranks: Ranks,
    ) -> None:
        self.ranks = ranks
        self.run = run
        self.data = data
        self.held_back = held_back
        self.windows = windows
        self.weights = weights
        self.backbone = backbone
        self.head = head

    def run_phase(self, name: str, settings: Finetune, start: str) -> str:
        """Train a phase, or read what it left before; returns its key.

        Args:
            name: of the phase.
            settings: of the phase.
            start: key of the phase before; empty for the first, which initialises the head.
        """
        backbone, extractor = self.backbone, self._extractor(settings)
        key = self._key(settings, extractor, start)
        path = head_path(self.run, key)
        if self.ranks.of_first(path.exists()):
            self.run.reused(name, path)
        else:
            checkpoint = self.run.folder / "stages" / "fine-tuning.checkpoint"
            with self.run.stage(name), freed_memory_kept() as hand_back, self.ranks.parted_cores():
                self._train(settings, extractor, start, checkpoint, key, hand_back)
                with self.ranks.first_before_others():
                    if not self.ranks.rank:
                        self._write(path, key)
                        checkpoint.unlink(missing_ok=True)
        arrays = read_artefact(path, key).arrays
        found = {name: torch.from_numpy(value) for name, value in arrays.items()}
        self.head.load_state_dict(strip_prefix(found, "head."))
        backbone.load_tensors(strip_prefix(found, "trunk."))
        backbone.digest = tensor_digest(strip_prefix(found, "trunk."))
        return key

    def _write(self, path: Path, key: str) -> None:
        """Write what a phase leaves."""
        state = {f"head.{n}": v for n, v in self.head.state_dict().items()}
        state |= {f"trunk.{n}": v for n, v in self.backbone.tensors().items()}
        arrays = {name: value.cpu().numpy() for name, value in state.items()}
        write_artefact(path, key, arrays)

    def _extractor(self, settings: Finetune) -> SPPExtractor:
        """What a phase learns from: the features of all later stages, or ones with gradients."""
        config = self.run.config
        if settings.train_from == "fc":
            # In other light no image comes again, so its map is not kept.
            return spp_extractor(self.run, self.backbone, keep_maps=not settings.jitter)
        return SPPExtractor(self.backbone, SCALES[config.scales], config.network.scale_rule)

    def _key(self, settings: Finetune, extractor: SPPExtractor, start: str) -> str:
        config, classifier, head = self.run.config, self.weights.classifier, self.weights.head
        relevant = asdict(settings)
        del relevant["checkpoint_every"]
        # Only where there is one, so that the keys of other trainings are what they were. Form 2 is
        # the start's own; before, thin layers were multiplied out.
        detector = {} if head is None else {"head": tensor_digest(head.state_dict()), "form": 2}
        return content_key(
            detector
            | {
                "version": finetune.VERSION,
                "start": start,
                "features": extractor.facts,
                "windows": self.windows.method.key,
                "classes": list(self.data.classes),
                "images": [image_key(record) for record in self.data.records],
                "difficult": config.data.difficult,
                "settings": relevant,
                "seed": config.seed,
                "imagenet": classifier is not None and tensor_digest(classifier),
                "precision": config.precision,
            }
        )

    def _train(
        self,
        settings: Finetune,
        extractor: SPPExtractor,
        start: str,
        checkpoint: Path,
        key: str,
        hand_back: Callable[[], None],
    ) -> None:
        config = self.run.config
        # Images without objects draw no curve.
        held = [each for each in self.held_back.records if trainable(each, config.data.difficult)]
        batches = self._batches(self.data.records, settings, extractor, config.seed)
        network = PyramidNetwork(extractor, self.head, settings.train_from).to(self.run.device)
        self._start(network, batches, first=not start)

        def steps(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
            """The run's progress; images differ in size, so kept memory is handed back."""
            for number, item in enumerate(self.run.progress(items, what, total), start=1):
                yield item
                if number % HAND_BACK_EVERY == 0:
                    hand_back()

        autocast = config.precision == "bfloat16"
        finetune_head(
            Descent(network, settings, config.seed, autocast=autocast, ranks=self.ranks),
            batches,
            self._batches(held, settings, extractor, config.seed + 1) if held else None,
            checkpoint,
            key,
            # On the CPU one is ahead of what the others compute.
            readers=1 if self.run.device.type == "cpu" else min(self.run.workers, MOST_READERS),
            report=self._report,
            progress=steps,
        )

    def _start(self, network: PyramidNetwork, batches: WindowBatches, *, first: bool) -> None:
        """Make the network one that learns from centred windows; initialise its head at first.

        Of a head that starts from a trained one's, the classes.
        """
        mean, spread = input_moments(network, batches)
        head = self.head
        if not first:
            head.shift_input(-mean)
        else:
            generator = torch.Generator().manual_seed(self.run.config.seed)
            head.cpu()
            if self.weights.head is not None:
                initialise_classes(head.fc8, generator)
                head.shift_input(-mean.cpu())
            else:
                assert isinstance(head, Head)  # only a start's is truncated
                head.initialise(generator, spread)
                if self.weights.classifier is not None:
                    head.start_from_imagenet(self.weights.classifier, generator)
                    head.shift_input(-mean.cpu())
            head.to(self.run.device)
        network.mean.copy_(mean)

    def _batches(
        self, records: Sequence[ImageRecord], settings: Finetune, extractor: SPPExtractor, seed: int
    ) -> WindowBatches:
        """The batches drawn from images."""
        return WindowBatches(
            records,
            self.windows,
            len(self.data.classes),
            extractor.choice,
            settings,
            difficult=self.run.config.data.difficult,
            seed=seed,
        )

    def _report(self, event: Mapping[str, Any]) -> None:
        """A point of the learning curve, to the log and to metrics.jsonl."""
        self.run.event("fine-tuning", **event)
        logger.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in event.items()))
