import numpy as np
import pytest
from made_voc import object_xml
from PIL import Image

from classification import voc_crops
from classification.folder import read_folder
from classification.voc_crops import write_crops

OBJECTS = [
    object_xml("cat", (11, 21, 70, 90)),
    object_xml("dog", (1, 1, 50, 60)),
    object_xml("dog", (1, 1, 80, 80), difficult="1"),
    object_xml("cat", (1, 1, 47, 100)),  # a pixel too narrow
]


@pytest.fixture
def root(tmp_path):
    """Write images 1 to 4 with the same objects; 1 and 2 are train, 3 is val, 4 is test."""
    root = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    image = np.zeros((100, 120, 3), np.uint8)
    image[20:90, 10:70] = (200, 50, 50)
    for name in "1234":
        Image.fromarray(image).save(root / f"JPEGImages/{name}.png")
        annotate(root, name)
    for split, ids in {"train": "12", "val": "3", "trainval": "123", "test": "4"}.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{each}\n" for each in ids))
    return root


def annotate(root, name, objects=OBJECTS):
    size = "<size><width>120</width><height>100</height><depth>3</depth></size>"
    text = f"<annotation>{size}{''.join(objects)}</annotation>"
    (root / f"Annotations/{name}.xml").write_text(text)


def damage(root, name):
    path = root / f"JPEGImages/{name}.png"
    path.write_bytes(path.read_bytes()[:60])


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_objects_become_images_of_classes(root, tmp_path):
    damage(root, "2")
    counts, unreadable = write_crops(root, tmp_path / "crops", "train", "val")
    assert counts == {"train": 2, "val": 2}
    assert list(unreadable) == ["2"]
    found = read_folder(tmp_path / "crops", "train")
    assert found.names == ("train/cat/1_00.jpg", "train/dog/1_01.jpg")
    assert read_folder(tmp_path / "crops", "val").names == ("val/cat/3_00.jpg", "val/dog/3_01.jpg")
    crop = np.asarray(Image.open(found.path(0)))
    assert crop.shape == (70, 60, 3)
    assert abs(crop.astype(int) - (200, 50, 50)).max() < 8


def test_a_folder_of_other_crops_is_refused(root, tmp_path):
    folder = tmp_path / "crops"
    write_crops(root, folder, "train", "val")
    before = contents(folder)
    for wanted in (("trainval", "test"), ("train", "test"), ("train", "val", 40)):
        with pytest.raises(ValueError, match=r"crops holds crops of train train, val val.*delete"):
            write_crops(root, folder, *wanted)
    assert contents(folder) == before
    path = root / "JPEGImages/3.png"
    image = path.read_bytes()
    path.write_bytes(image + b"a")
    write_crops(root, tmp_path / "other", "train", "val")
    path.write_bytes(image + b"b")  # the size of the file stays the same
    with pytest.raises(ValueError, match="other holds crops of train train, val val"):
        write_crops(root, tmp_path / "other", "train", "val")
    path.write_bytes(image)
    annotate(root, "3", OBJECTS[:1])
    with pytest.raises(ValueError, match="not of train train, val val"):
        write_crops(root, folder, "train", "val")


def test_a_folder_of_images_that_were_not_cut_out_is_refused(root, tmp_path):
    (tmp_path / "own/val/cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"own already holds images, without a crops\.json"):
        write_crops(root, tmp_path / "own", "train", "val")


def test_a_killed_call_is_completed_and_a_whole_one_does_nothing(root, tmp_path, monkeypatch):
    folder = tmp_path / "crops"
    counts, _ = write_crops(root, tmp_path / "twin", "train", "val")
    read, seen = voc_crops.read_image, []

    def killed(path):
        if seen:
            raise KeyboardInterrupt
        seen.append(path)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(voc_crops, "read_image", killed)
        with pytest.raises(KeyboardInterrupt):
            write_crops(root, folder, "train", "val")
    assert len(contents(folder)) == 3
    assert write_crops(root, folder, "train", "val")[0] == counts
    assert contents(folder) == contents(tmp_path / "twin")
    monkeypatch.setattr(voc_crops, "read_image", killed)
    assert write_crops(root, folder, "train", "val")[0] == counts


def test_lists_that_share_images_are_refused(root, tmp_path):
    with pytest.raises(ValueError, match="1 of 1 images of val are in trainval too, such as 3"):
        write_crops(root, tmp_path / "crops", "trainval", "val")
    assert not (tmp_path / "crops").exists()
