"""Test a trained image classifier: top-1, top-5, mean class accuracy, predictions, confusions.

    python tools/test_cls.py --run runs/clothing                     # the whole image
    python tools/test_cls.py --run runs/clothing --views ten
    python tools/test_cls.py --run runs/clothing --views full --size 180
    python tools/test_cls.py --run runs/clothing --views multi --compare [runs/b/test_val/ten_128]

The images are in <data.root>/val/CLASS/; the default root is that of the training. Each test has
its own folder for results, <run>/test_<split>/<views>_<size>/, or for images of another root
<run>/test_<split>_<root>-<key>/...: predictions.csv (a line per image), results.json, confusion.png
and report.html, a page with the worst images. The last line printed is the top-1. Images that
cannot be read are left out and listed, with exit status 3.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from classification.classifier import Classifier
from classification.comparison import Comparison, compare_tests
from classification.config import Config
from classification.folder import LabelledImages, images_key, read_folder
from classification.plots import plot_confusion
from classification.report import NAME, write_report
from classification.run import ClassifierRun
from classification.scorer import ViewScorer
from classification.testing import Predictions, format_measures, predict
from classification.views import ViewKind
from commands.cli import end, log_to, run_tool, with_progress
from commands.settings_files import read_settings
from commands.tested_classifiers import (
    PREDICTIONS,
    RESULTS,
    SAME,
    check_same_images,
    facts_of,
    rows_of,
)
from detection.evaluation.report import put_rows
from detection.events import read_events
from detection.machine import environment, fixed_threads, peak_memory_mb
from files.names import check_file_name, content_key, short_name
from files.text import read_text
from files.writing import refuse_folders, refuse_inputs, save_text

logger = logging.getLogger("test_cls")


@dataclass(frozen=True)
class Images:
    """Images of classes, one folder per class.

    Attributes:
        root: folder that holds the split's folder; by default the training's root.
        split: ``val``, or another folder of classes beside it.
    """

    root: str | None = None
    split: str = "val"


def main(
    run: str = Config.run,
    views: ViewKind | None = None,
    size: int | None = None,
    data: Images = Images(),
    compare: tuple[str, ...] = (),
    csv: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    strict: bool = False,
) -> None:
    """Test a run's classifier on a split.

    Args:
        run: folder of the run that trained the classifier.
        views: views of an image whose probabilities are averaged; 'multi' takes 96 views from maps
            of six scales, '+' adds the views it names. By default the full image for a network
            with the pyramid, otherwise the centre crop.
        size: shorter side in pixels to which images are resized, by default the training's; not
            for 'multi'.
        data: the images.
        compare: folders of other tests of the same images; for each, the difference in top-1 is
            printed with its interval and p-value.
        csv: table to which rows of results are added.
        device: where the network runs; 'auto' uses a CUDA device if there is one.
        strict: stop at the first image that cannot be read.
    """
    check_file_name(data.split, "--data.split")
    refuse_folders([csv])
    trained = ClassifierRun(Config(run=run, device=device), " ".join(sys.argv), with_progress)
    fixed_threads()
    classifier = Classifier.load(trained.classifier_path, device=trained.device)
    scorer = classifier.scorer(views, size)
    images = read_folder(root_of(trained, data.root), data.split, classifier.classes)
    folder = folder_of_tests(trained, images.root, data.split) / f"{scorer.views}_{scorer.sizes}"
    others = {other: facts_of(other) for other in compare}
    refuse_inputs([folder], [images.path(row) for row in range(len(images.names))])
    log_to(trained.folder / "log.txt")
    logger.info("%d images, views %s at %s pixels", len(images.names), scorer.views, scorer.sizes)
    start = time.perf_counter()
    found, skipped = predict(scorer, images, strict=strict, progress=with_progress)
    seconds = time.perf_counter() - start

    facts = about(trained, classifier, scorer, images, data.split) | {
        "images_key": images_key(images.root, found.images),
        "skipped": skipped,
        "seconds": round(seconds, 2),
        "peak_memory_mb": peak_memory_mb(),
    }
    for other, known in others.items():
        check_same_images(facts, known, other)
    found.save(folder / PREDICTIONS)
    plot_confusion(found, folder / "confusion.png")
    compared = compared_to(others, folder)
    facts |= results(found, compared)
    save_text(folder / RESULTS, json.dumps(facts, indent=2) + "\n")
    report(folder, trained, found, facts)
    if csv is not None:
        put_rows(csv, rows_of(facts), SAME)
    tell(folder, found, compared)
    end(skipped)


def compared_to(others: Iterable[str], folder: Path) -> dict[str, Comparison]:
    """The test in a folder compared with each of other tests, by their folders."""
    return {
        other: compare_tests([folder / PREDICTIONS], [Path(other) / PREDICTIONS])
        for other in others
    }


def tell(folder: Path, found: Predictions, compared: Mapping[str, Comparison]) -> None:
    """Print where the results are, and the measures."""
    print(f"{PREDICTIONS}, results.json, confusion.png and {NAME} are in {folder}")
    for other, one in compared.items():
        print(f"top-1 less that of {other}: {one}")
    print(format_measures(found))


def report(
    folder: Path, trained: ClassifierRun, found: Predictions, facts: Mapping[str, Any]
) -> None:
    """Write the test's page, beside the run's other tests of the same split."""
    others = sorted(path.parent for path in folder.parent.glob(f"*/{RESULTS}"))
    settings = trained.folder / "config.yaml"
    write_report(
        folder / NAME,
        title=f"{trained.folder.resolve().name} on {facts['split']}: {folder.name}",
        found=found,
        root=Path(facts["root"]),
        facts=facts,
        tests={each.name: each for each in (folder, *others)},
        settings=read_text(settings) if settings.is_file() else "",
        events=read_events(trained.folder),
    )


def about(
    trained: ClassifierRun,
    classifier: Classifier,
    scorer: ViewScorer,
    images: LabelledImages,
    split: str,
) -> dict[str, Any]:
    """What was tested, how and where, for JSON."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": trained.command,
        "trained": classifier.trained,
        "network": classifier.network.settings,
        "root": str(images.root),
        "split": split,
        "views": scorer.views,
        "size": scorer.sizes,
        "environment": environment(),
    }


def own_root(run: ClassifierRun) -> str | None:
    """The folder of images that a run was trained on; None where the run does not tell."""
    path = run.folder / "config.yaml"
    root = (read_settings(path).get("data") or {}).get("root") if path.is_file() else None
    return None if root is None else str(root)


def root_of(run: ClassifierRun, named: str | None) -> str:
    """The folder of images to test on: the one named, or that of the training.

    Raises:
        FileNotFoundError: none is named, and the run does not tell.
    """
    root = named or own_root(run)
    if root is None:
        raise FileNotFoundError(
            f"{run.folder / 'config.yaml'} does not say where the images are; name --data.root"
        )
    return root


def folder_of_tests(run: ClassifierRun, root: Path, split: str) -> Path:
    """The folder of a run's tests on a split, which of images of another root has that in its name.

    Args:
        run: of the training.
        root: of the images.
        split: of them.
    """
    name, own, place = f"test_{split}", own_root(run), root.resolve()
    if own is None or Path(own).resolve() != place:
        name += f"_{short_name(place.name, content_key({'root': str(place)})[:8])}"
    return run.folder / name


def results(found: Predictions, compared: dict[str, Comparison]) -> dict[str, Any]:
    """The numbers of a test, for JSON."""
    accuracies = found.class_accuracies()
    counts = found.confusion().sum(axis=1).tolist()
    return {
        "images": len(found.images),
        **found.measures(),
        "per_class": {
            name: {"images": count, "accuracy": accuracies[name]}
            for name, count in zip(found.classes, counts, strict=True)
        },
        "compared": {other: asdict(one) for other, one in compared.items()},
    }


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
