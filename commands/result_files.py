"""The files that detect writes the detections of all images to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection.evaluation.exports import (
    Found,
    label_files,
    refuse_labels,
    save_coco,
    save_csv,
    save_yolo,
)


@dataclass(frozen=True)
class ResultFiles:
    """What was asked for; of nothing, ``wanted`` is False.

    Attributes:
        json: file for COCO's JSON.
        csv: file for a table.
        yolo: folder for YOLO's text files and classes.txt.
    """

    json: Path | None
    csv: Path | None
    yolo: Path | None

    @property
    def wanted(self) -> list[Path]:
        """Those that are asked for."""
        return [each for each in (self.json, self.csv, self.yolo) if each is not None]

    def refuse_labels(self, names: Mapping[Path, Path], classes: Sequence[str]) -> None:
        """Refuse to replace labels made by hand; arguments as ``write``, errors as exports'."""
        if self.yolo is not None:
            refuse_labels(label_files(names, self.yolo).values(), self.yolo, classes)

    def write(
        self, found: Mapping[Path, Found], names: Mapping[Path, Path], classes: Sequence[str]
    ) -> None:
        """Write each file that is asked for.

        Args:
            found: of each image that could be read.
            names: of each image, also of those that could not, its name below the folder given.
            classes: names of the K classes.
        """
        named = {str(image): one for image, one in found.items()}
        if self.json is not None:
            save_coco(self.json, named, classes)
        if self.csv is not None:
            save_csv(self.csv, named)
        if self.yolo is not None:
            labels = label_files(names, self.yolo)
            save_yolo(self.yolo, {labels[image]: one for image, one in found.items()}, classes)
