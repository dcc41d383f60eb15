"""What is asked of fixed features, and what is kept of the answer: rows of a table, and scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classification.folder import image_digest
from classification.transfer.extractor_spec import ExtractorSpec, FixedNetwork
from classification.transfer.layers import Layer
from classification.transfer.report import Measured
from classification.transfer.task import Outcome, Task
from classification.transfer.view import View
from commands.tested_classifiers import SAME
from detection.evaluation.report import put_rows
from detection.machine import Precision
from files.artefacts import write_artefact
from files.names import content_key
from files.writing import refuse_folders


@dataclass(frozen=True)
class Asked:
    """What is to be measured; the flags of ``transfer_cls`` explain the fields.

    Raises:
        ValueError: no view or no layer, or a C that is not above 0.
    """

    network: FixedNetwork
    features: tuple[Layer, ...]
    views: tuple[View, ...]
    C: float | None
    choose: bool
    seed: int
    precision: Precision
    csv: str | None

    def __post_init__(self) -> None:
        if not self.views or not self.features:
            raise ValueError("name one view or more and one layer or more: --views, --features")
        if self.C is not None and self.C <= 0:
            raise ValueError(f"C must be above 0, got {self.C}")
        if self.C is not None and self.choose:
            raise ValueError("--choose tries several C; give no --C with it")
        refuse_folders([self.csv])


@dataclass(frozen=True)
class Rows:
    """Where results go, each named by all that determines it.

    Attributes:
        facts: columns of every row but layer and view.
        spec: of the extractor.
        csv: table, or None; nothing is put into it where views are only chosen.
    """

    facts: Mapping[str, Any]
    spec: ExtractorSpec
    csv: str | None

    @classmethod
    def of(cls, task: Task, spec: ExtractorSpec, asked: Asked) -> "Rows":
        """The rows of a call, before images are left out of the task."""
        images = [image_digest(path) for path in task.paths]
        parts = {"spec": spec.facts, "C": asked.C, "images": images, "labels": task.labels.tolist()}
        facts = {
            **{"task": task.name, "network": asked.network.name, **task.facts},
            **{"seed": asked.seed, "settings": content_key(parts)[:8]},
        }
        return cls(facts, spec, None if asked.choose else asked.csv)

    @property
    def settings(self) -> str:
        """A short key of what has no column: weights, precision, images, labels, a C given."""
        return str(self.facts["settings"])

    def _row(self, layer: str, view: View) -> dict[str, Any]:
        found = {**self.facts, "features": layer, "view": view.kind, "size": view.size}
        return {name: found[name] for name in SAME}

    def put(self, layer: str, view: View, values: Mapping[str, str]) -> None:
        """Put a result's rows into the table, in place of all that it had before."""
        if self.csv is not None:
            row = self._row(layer, view)
            rows = [row | {"metric": name, "value": value} for name, value in values.items()]
            put_rows(self.csv, rows, SAME)

    def keep(self, folder: Path, layer: str, view: View, outcome: Outcome) -> None:
        """Keep the scores in the run's folder, for who compares them with others later."""
        facts = {**self._row(layer, view), "C": list(outcome.C), "spec": self.spec.facts}
        key = content_key(facts)
        name = "_".join(str(facts[each]) for each in SAME[:5])
        path = folder / f"{name.replace('/', '_')}_{key}.safetensors"
        write_artefact(path, key, outcome.arrays, facts)


def values_of(measured: Measured) -> dict[str, str]:
    """Metrics, C and gains of a layer and view, as they stand in tables."""
    numbers = {**measured.outcome.metrics, **measured.named_gains()}
    values = {name: f"{value:.4g}" for name, value in numbers.items()}
    metrics = {name: values.pop(name) for name in measured.outcome.metrics}
    return {**metrics, "C": measured.outcome.C_in_words, **values}
