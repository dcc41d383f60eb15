"""Objects cut out of VOC's images, a folder a class: a data set for classifiers."""

from pathlib import Path

from PIL import Image

from detection.data.voc import read_voc
from files.images import UnreadableImage, read_image
from files.names import file_part
from files.writing import write_atomic

# Of JPEG: crops are seldom whole blocks of the image's own.
QUALITY = 95


def write_crops(
    root: str | Path, split: str, folder: Path, min_side: int = 48
) -> tuple[int, dict[str, str]]:
    """Write ``folder/CLASS/IMAGE_NUMBER.jpg`` of every object that is not difficult.

    Args:
        root: annotated images in VOC's layout.
        split: list in ImageSets/Main.
        folder: made if missing.
        min_side: pixels that an object's shorter side has at least.

    Returns:
        The number of crops; and, by image, why one could not be read.

    Raises:
        FileNotFoundError, ValueError: as ``read_voc``.
    """
    data = read_voc(root, split)
    count, unreadable = 0, dict(data.unreadable)
    for record in data.records:
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        wanted = [
            number
            for number in range(len(record.boxes))
            if not record.difficult[number] and sides[number].min() >= min_side
        ]
        if not wanted:
            continue
        try:
            pixels = read_image(record.path)
        except UnreadableImage as error:
            unreadable[record.image_id] = str(error)
            continue
        for number in wanted:
            left, top, right, bottom = record.boxes[number].round().astype(int)
            name = f"{file_part(record.image_id)}_{number:02d}.jpg"
            path = folder / file_part(data.classes[record.labels[number]]) / name
            with write_atomic(path) as file:
                crop = Image.fromarray(pixels[top:bottom, left:right])
                crop.save(file, "JPEG", quality=QUALITY)
        count += len(wanted)
    return count, unreadable
