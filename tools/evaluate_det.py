"""Score a folder of VOC result files, ours or anybody's, by the VOC 2007 rule.

The folder holds one comp4_det_<split>_<class>.txt for every class; pictures are not needed.
The last line printed is the mAP.

    python tools/evaluate_det.py --detections runs/voc07_alexnet/detections \
        --data.root data/VOCdevkit --data.test_split test
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from _cli import run_tool

from detection.data.voc import read_voc
from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.comp4 import comp4_path, read_comp4
from detection.evaluation.plots import plot_precision_recall
from detection.evaluation.report import format_table, save_result
from detection.evaluation.voc_ap import evaluate_voc

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Ground truth in VOC's layout.

    Attributes:
        root: the folder with Annotations and ImageSets, or the VOCdevkit above it.
        test_split: name of the list in ImageSets/Main, also part of the result files' names.
    """

    root: str = "data/VOCdevkit"
    test_split: str = "test"


def main(detections: str, data: Data = Data(), out: str | None = None) -> None:
    """Score VOC result files; the last line is the mAP.

    Args:
        detections: folder of comp4_det_<split>_<class>.txt, one file a class.
        data: annotations.
        out: folder for results.json and precision_recall.png; none are written without it.
    """
    split = data.test_split
    dataset = read_voc(data.root, split, pictures=False)
    found = read_comp4(detections, split, dataset.classes)
    known = {comp4_path(detections, split, name) for name in dataset.classes}
    for path in sorted(set(Path(detections).glob(comp4_path("", split, "*").name)) - known):
        logger.warning("%s is not scored: no class of that name in %s", path.name, data.root)
    result = evaluate_voc(found, dataset.records, dataset.classes)
    ap50 = coco_ap50(found, dataset.records, dataset.classes)
    if out is not None:
        facts = {"detections": detections, "root": data.root, "split": split, "ap50": ap50}
        save_result(Path(out) / "results.json", result, facts)
        plot_precision_recall(result, Path(out) / "precision_recall.png")
    print(format_table(result, ap50))


if __name__ == "__main__":
    run_tool(main)
