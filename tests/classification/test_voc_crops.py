import numpy as np
from PIL import Image

from classification.folder import read_folder
from classification.voc_crops import write_crops

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
OBJECTS = [
    ("cat", 0, 11, 21, 70, 90),
    ("dog", 0, 1, 1, 50, 60),
    ("dog", 1, 1, 1, 80, 80),  # difficult
    ("cat", 0, 1, 1, 47, 100),  # a pixel too narrow
]


def test_objects_become_images_of_classes(tmp_path):
    root = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    image = np.zeros((100, 120, 3), np.uint8)
    image[20:90, 10:70] = (200, 50, 50)
    Image.fromarray(image).save(root / "JPEGImages" / "1.png")
    size = "<size><width>120</width><height>100</height><depth>3</depth></size>"
    objects = "".join(OBJECT.format(*each) for each in OBJECTS)
    for name in ("1", "2"):
        text = f"<annotation>{size}{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "JPEGImages" / "2.png").write_bytes((root / "JPEGImages" / "1.png").read_bytes()[:60])
    (root / "ImageSets" / "Main" / "train.txt").write_text("1\n2\n")
    count, unreadable = write_crops(root, "train", tmp_path / "crops" / "train")
    assert count == 2
    assert list(unreadable) == ["2"]
    found = read_folder(tmp_path / "crops", "train")
    assert found.names == ("train/cat/1_00.jpg", "train/dog/1_01.jpg")
    crop = np.asarray(Image.open(found.path(0)))
    assert crop.shape == (70, 60, 3)
    assert abs(crop.astype(int) - (200, 50, 50)).max() < 8
