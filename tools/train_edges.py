"""Train an edge network for EdgeBoxes: data/edges.safetensors.

    python tools/train_edges.py --voc data/VOCdevkit/VOC2007 --bsds data/bsds500

It learns from the segmentation masks of VOC's train pictures and, where it is given, from the
training pictures of BSDS500; never from pictures that anything is measured on.
"""

import hashlib
import logging
from pathlib import Path

from _cli import run_tool, with_progress

from files.writing import file_digest
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
        bsds: folder with images and boundaries of BSDS500's training pictures.
        split: list of VOC's pictures with masks.
        steps: of descent.
        batch: crops a step.
        seed: of weights and crops.
        out: the file.
    """
    pictures = read_voc_masks(voc, split)
    if not pictures:
        raise ValueError(f"no picture of Segmentation/{split}.txt has a mask under {voc}")
    masks = len(pictures)
    pictures += read_bsds(bsds) if bsds else []
    logger.info("%d pictures of VOC, %d of BSDS500", masks, len(pictures) - masks)
    network = train_edges(
        pictures,
        steps=steps,
        batch=batch,
        seed=seed,
        progress=with_progress,
        report=lambda event: logger.info("step %(step)d  loss %(loss).4f", event),
    )
    digest = hashlib.sha256(b"".join(picture.image.tobytes() for picture in pictures)).hexdigest()
    facts = {
        "training": f"train_edges.py steps {steps}, batch {batch}, seed {seed}",
        "pictures": f"VOC 2007 {split} {masks}, BSDS500 train {len(pictures) - masks}",
        "digest": digest,
    }
    save_edges(network, out, facts)
    print(f"{out} sha256 {file_digest(out)}, {out.stat().st_size} bytes")


if __name__ == "__main__":
    run_tool(main)
