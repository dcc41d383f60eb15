"""Score a folder of VOC result files, of any detector, by the VOC 2007 rule.

The folder has one comp4_det_<split>_<class>.txt for every class; images are not needed. The classes
are those of the files and of the annotated objects; a class without objects does not count in the
mean. The last line printed is the mAP.

    python tools/evaluate_det.py --detections runs/voc07_alexnet/test_test_5scales/fc7+bb \
        --data.root data/VOCdevkit --data.split test
"""

import sys
import time
from pathlib import Path

from commands.cli import run_tool
from detection.data.reading import read_dataset
from detection.data.voc import VOC_CLASSES
from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.comp4 import classes_found, read_comp4
from detection.evaluation.plots import plot_precision_recall
from detection.evaluation.report import format_table, save_result
from detection.evaluation.voc_ap import VOCResult, evaluate_voc
from detection.machine import environment
from detection.pages.detection_report import NAME, write_report
from detection.pages.outcomes import Shown
from detection.settings.data import Split


def main(
    detections: str,
    data: Split = Split(),  # noqa: B008 - frozen
    out: str | None = None,
) -> None:
    """Score VOC result files; the last line is the mAP.

    Args:
        detections: folder of comp4_det_<split>_<class>.txt, one file per class.
        data: annotations; the name of the split is part of the files' names.
        out: folder for results.json, precision_recall.png and report.html; the page shows images
            if they are available. Without a folder nothing is written.
    """
    split = data.split
    if out is not None and Path(out).resolve() == Path(detections).resolve():
        raise ValueError(f"--out {out} is the folder of --detections; name another, to keep both")
    dataset = read_dataset(data, split, images=False)
    names = {*dataset.classes, *classes_found(detections, split)}
    # Labels are indices into the annotated classes, so these come first; the table sorts anew.
    classes = (*dataset.classes, *sorted(names - set(dataset.classes)))
    found = read_comp4(detections, split, classes)
    evaluated = evaluate_voc(found, dataset.records, classes)
    result = VOCResult({name: evaluated.per_class[name] for name in ordered(names)})
    ap50 = coco_ap50(found, dataset.records, classes)
    if out is not None:
        facts = {"detections": detections, "root": data.root, "split": split, "ap50": ap50}
        about = {
            "command": " ".join(sys.argv),
            "date": time.strftime("%Y-%m-%d"),
            "ap50_pycocotools": ap50,
            "environment": environment(),
        }
        save_result(Path(out) / "results.json", result, facts)
        plot_precision_recall(result, Path(out) / "precision_recall.png")
        write_report(
            Path(out) / NAME,
            title=f"{detections} on {split}",
            records=dataset.records,
            shown=Shown.raw(found, dataset.records, classes),
            result=evaluated,
            facts=facts | about,
            settings=facts,
        )
    print(format_table(result, ap50))


def ordered(names: set[str]) -> list[str]:
    """Class names in the order of a detector: VOC's order, otherwise sorted."""
    if names <= set(VOC_CLASSES):
        return [name for name in VOC_CLASSES if name in names]
    return sorted(names)


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
