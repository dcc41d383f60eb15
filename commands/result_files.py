"""The files to which ``detect`` writes the detections of all images."""

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
from files.writing import refuse_folders


@dataclass(frozen=True)
class ResultFiles:
    """The files to write; None for each that is not wanted.

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
        """Those that are not None."""
        return [each for each in (self.json, self.csv, self.yolo) if each is not None]

    def check(self, names: Mapping[Path, Path], classes: Sequence[str]) -> None:
        """Check, before any image is searched, that the files can be written.

        Args:
            names: as for ``write``.
            classes: names of the K classes.

        Raises:
            ValueError: a file is a folder, or a folder a file; or labels made by hand would be
                overwritten (``refuse_labels``).
        """
        refuse_folders([self.json, self.csv])
        if self.yolo is not None:
            if self.yolo.is_file():
                raise ValueError(f"{self.yolo} is a file; name a folder for the labels")
            refuse_labels(label_files(names, self.yolo).values(), self.yolo, classes)

    def write(
        self, found: Mapping[Path, Found], names: Mapping[Path, Path], classes: Sequence[str]
    ) -> None:
        """Write each wanted file.

        Args:
            found: detections of each image that could be read.
            names: each image's name below the folder that was given, also of unreadable images.
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
