"""Train an edge network for EdgeBoxes: data/edges.safetensors.

    python tools/train_edges.py --voc data/VOCdevkit/VOC2007 --bsds data/bsds500

It learns from the segmentation masks of VOC's train images and, with --bsds, from the training
images of BSDS500; never from test images.
"""

import hashlib
import logging
from pathlib import Path

from commands.cli import run_tool, with_progress
from files.writing import file_digest, refuse_folders
from proposals.edge_network import save_edges
from proposals.edge_training import read_bsds, read_voc_masks, train_edges

logger = logging.getLogger(__name__)


def main(
    voc: Path = Path("data/VOCdevkit/VOC2007"),
    bsds: Path | None = None,
    split: str = "train",
    steps: int = 5500,
    batch: int = 4,
    seed: int = 0,
    out: Path = Path("data/edges.safetensors"),
) -> None:
    """Train and save the network.

    Args:
        voc: folder with JPEGImages, SegmentationObject and ImageSets/Segmentation.
        bsds: folder with images and boundaries of BSDS500's training images.
        split: list of VOC's images with masks.
        steps: steps of gradient descent.
        batch: crops per step.
        seed: seed of weights and crops.
        out: file for the network.
    """
    refuse_folders([out])
    images = read_voc_masks(voc, split)
    if not images:
        raise ValueError(f"no image of Segmentation/{split}.txt has a mask under {voc}")
    masks = len(images)
    images += read_bsds(bsds) if bsds else []
    logger.info("%d images of VOC, %d of BSDS500", masks, len(images) - masks)
    network = train_edges(
        images,
        steps=steps,
        batch=batch,
        seed=seed,
        progress=with_progress,
        report=lambda event: logger.info("step %(step)d  loss %(loss).4f", event),
    )
    digest = hashlib.sha256(b"".join(image.image.tobytes() for image in images)).hexdigest()
    facts = {
        "training": f"train_edges.py steps {steps}, batch {batch}, seed {seed}",
        "images": f"VOC 2007 {split} {masks}, BSDS500 train {len(images) - masks}",
        "digest": digest,
    }
    save_edges(network, out, facts)
    print(f"{out} sha256 {file_digest(out)}, {out.stat().st_size} bytes")


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
