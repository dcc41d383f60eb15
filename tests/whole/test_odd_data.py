"""Users' data in every stage: odd names, formats and encodings, damaged images."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from driven_tools import FLAGS, call_of, files, made_calls, small_scenes
from PIL import Image

from detection.data.synthetic.dataset import synthetic_image

CAT, MIXED = "猫", "cat/dog"
# Names have one or two suffixes, folders or a space, and some differ only after a dot.
TRAIN = ("a.rf.1.jpg", "a.rf.2.png", "day1/a.bmp", "day1/b.v2.webp", "my photo.tiff", "a.jpg")
TEST = ("day2/c.rf.1.png", "day2/c.rf.2.jpg")


def xml_of(scene, names):
    height, width = scene.image.shape[:2]
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{int(x1) + 1}</xmin><ymin>{int(y1) + 1}</ymin>"
        f"<xmax>{int(x2)}</xmax><ymax>{int(y2)}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in zip(names, scene.boxes, strict=True)
    )
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation xmlns='urn:tool'>{size}{objects}</annotation>"


def made_data(root):
    """Write a data set in VOC's layout; one image is cut short, and one is not an image."""
    for split, paths in (("train", TRAIN), ("test", TEST)):
        ids = []
        for number, path in enumerate(paths):
            with small_scenes():
                scene = synthetic_image("train", number, seed=1)
            image = root / "JPEGImages" / path
            ids.append(path.rpartition(".")[0])
            annotation = root / "Annotations" / f"{ids[-1]}.xml"
            for place in (image, annotation):
                place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(image)
            names = [(CAT, MIXED)[n % 2] for n in range(number, number + len(scene.boxes))]
            encoding = "utf-16" if number == 1 else "utf-8-sig"
            annotation.write_text(xml_of(scene, names), encoding=encoding)
        if split == "train":
            cut = root / "JPEGImages/a.rf.1.jpg"
            cut.write_bytes(cut.read_bytes()[:-20])
            (root / "JPEGImages/none.jpg").write_bytes(b"not an image")
            (root / "Annotations/none.xml").write_text("<annotation></annotation>")
            ids.insert(2, "none")
        listed = root / f"ImageSets/Main/{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\r\n" for name in ids), encoding="utf-8-sig")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    root, run = folder / "data", folder / "run"
    made_data(root)
    before = files(root, "*")
    places = ("--data.root", root, "--run", run, "--data.cache", folder / "cache")
    calls = [
        call_of("train_det.py", folder, "train", *FLAGS, *places),
        call_of("train_det.py", folder, "strict", *FLAGS, *places, "--strict", "true"),
        call_of("test_det.py", folder, "test", "--run", run),
    ]
    train, strict, test = made_calls(folder, calls)
    return SimpleNamespace(
        root=root, run=run, folder=folder, before=before, train=train, strict=strict, test=test
    )


def test_every_stage_takes_the_names(ended):
    # Status 3: done, but one image was left out.
    assert ended.train.status == 3, ended.train.err
    assert (ended.run / "detector.safetensors").is_file()
    assert f"{ended.root}/JPEGImages/none.jpg is not a readable image" in ended.train.err
    assert "image cut short" in ended.train.err
    assert ended.test.status == 0, ended.test.err
    assert ended.test.out.splitlines()[-1].startswith("mAP ")
    for name in (CAT, MIXED):
        assert any(line.startswith(name) for line in ended.test.out.splitlines())


def test_strict_stops_at_the_image(ended):
    assert ended.strict.status == 1
    assert ended.strict.err.splitlines()[-1].startswith("error: ")
    assert "none.jpg is not a readable image" in ended.strict.err


def test_results_are_named_by_class_and_image(ended):
    (found,) = ended.run.glob("test_test_1scales/*/results.json")
    facts = json.loads(found.read_text())
    assert set(facts["per_class"]) == {CAT, MIXED}
    names = {path.name for path in found.parent.glob("comp4_*")}
    assert names == {"comp4_det_test_猫.txt", "comp4_det_test_cat%2Fdog.txt"}
    drawn = [path.relative_to(found.parent / "images") for path in found.parent.rglob("*.jpg")]
    assert {str(path) for path in drawn} <= {"day2/c.rf.1.jpg", "day2/c.rf.2.jpg"}
    assert drawn
    for path in found.parent.glob("comp4_*"):
        for line in path.read_text().splitlines():
            assert line.rsplit(None, 5)[0] in ("day2/c.rf.1", "day2/c.rf.2")


def test_nothing_is_written_elsewhere(ended):
    assert files(ended.root, "*") == ended.before
    assert {path.name for path in ended.folder.iterdir() if path.is_dir()} == {
        *("data", "run", "cache")
    }


def test_the_cut_image_is_used(ended):
    bank = [path.name for path in (ended.folder / "cache/bank").rglob("*.safetensors")]
    assert len(bank) == len(TRAIN)
    assert any(name.startswith("a.rf.1-") for name in bank)
    assert np.unique([name.rpartition("-")[0] for name in bank]).size == len(TRAIN)
