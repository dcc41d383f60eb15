"""The tool on synthetic images."""

import csv
import shutil
from functools import partial

import numpy as np
import pytest
from made_voc import object_xml
from PIL import Image
from safetensors.torch import save_file

from classification.transfer import voc07 as voc_task
from classification.transfer.caltech101 import CaltechData
from classification.transfer.extractor_spec import FixedNetwork
from classification.transfer.voc07 import VocData
from commands import transfer_cls
from detection.networks.build import build_backbone

COLOURS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "cow": (40, 40, 200)}
NETWORK = FixedNetwork("alexnet", "random")
VIEWS = ("crop-64", "full-64")
COLUMNS = ["task", "network", "features", "view", "size", "train", "test", "seed", "settings"]


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transfer_cls, "fixed_threads", lambda: None)
    monkeypatch.setattr(voc_task, "bootstrap_gain", partial(voc_task.bootstrap_gain, replicates=20))


def picture(rng, name):
    noise = rng.integers(-40, 40, (70, 90, 3))
    return Image.fromarray(np.clip(noise + COLOURS[name], 0, 255).astype(np.uint8))


@pytest.fixture
def voc(tmp_path, rng):
    """Write images with one object each; the whole image has the colour of its class."""
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, count in (("train", 24), ("val", 12)):
        ids = [f"{split}_{number}" for number in range(count)]
        for number, image_id in enumerate(ids):
            name = list(COLOURS)[number % 3]
            picture(rng, name).save(root / f"JPEGImages/{image_id}.png")
            text = f"<annotation>{object_xml(name)}</annotation>"
            (root / f"Annotations/{image_id}.xml").write_text(text)
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(ids))
    return root


def of_voc(root, test="val", network=NETWORK, **options):
    data = VocData(str(root), "train", test, "cache")
    options = {"views": VIEWS, "workers": 1, "device": "cpu", "csv": "table.csv"} | options
    transfer_cls.voc07(data, network, **options)


def rows(path="table.csv"):
    with open(path) as file:  # noqa: PTH123
        return list(csv.DictReader(file))


def test_colours_are_distinguished(voc, capsys):
    of_voc(voc, features=("pool5_6x6", "conv5", "fc7"))
    found = rows()
    assert list(found[0]) == [*COLUMNS, "metric", "value"]
    of_metric = {(row["features"], row["view"], row["metric"]): row["value"] for row in found}
    for view in ("crop", "full"):
        assert float(of_metric["pool5_6x6", view, "mAP"]) > 0.9
        assert of_metric["fc7", view, "the weights of alexnet hold convolutions only"] == "-"
    assert of_metric["conv5", "full", "conv5 of full images has no fixed length"] == "-"
    assert ("conv5", "crop", "mAP") in of_metric
    assert ("pool5_6x6", "full", "mAP - crop-64 low") in of_metric
    assert "conv5 full-64: - (conv5 of full images" in capsys.readouterr().out
    (page,) = (voc.parent / "runs/transfer_cls").glob("*.html")
    assert page.name == f"voc07_alexnet-{found[0]['settings']}.html"
    before = found
    of_voc(voc, features=("pool5_6x6", "conv5", "fc7"))
    assert rows() == before


def test_to_choose_needs_no_test_images(voc, capsys):
    of_voc(voc, test="is_not_there", choose=True)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [
        f"{layer} {view}" for view in VIEWS for layer in ("pool5_6x6", "pool5_pyramid")
    ]
    assert all("held back" in line for line in said)


def test_unreadable_images_are_left_out(voc, caplog):
    whole = (voc / "JPEGImages/val_2.png").read_bytes()
    (voc / "JPEGImages/val_2.png").write_bytes(whole[:60])
    with pytest.raises(SystemExit) as ended:
        of_voc(voc, C=1.0)
    assert ended.value.code == 3
    assert "val_2" in caplog.text
    assert {row["view"] for row in rows()} == {"crop", "full"}


def test_impossible_requests_are_refused(voc):
    with pytest.raises(ValueError, match="C must be above 0"):
        of_voc(voc, C=0.0)
    with pytest.raises(ValueError, match="one view or more"):
        of_voc(voc, views=())
    with pytest.raises(FileNotFoundError, match="no split 'is_not_there'"):
        of_voc(voc, test="is_not_there")
    with pytest.raises(ValueError, match="24 of 24 images of train are in train too"):
        of_voc(voc, test="train")


def test_other_settings_have_rows_pages_and_scores_of_their_own(voc, tmp_path):
    one = {"views": ("crop-64",), "features": ("pool5_6x6",)}
    trunk = build_backbone("alexnet", "random").trunk.state_dict()
    own = {f"features.{name}": 2 * each.contiguous() for name, each in trunk.items()}
    save_file(own, tmp_path / "own.safetensors")
    twin = tmp_path / "twin"
    shutil.copytree(voc, twin)
    picture(np.random.default_rng(1), "cat").save(twin / "JPEGImages/val_0.png")
    of_voc(voc, **one)
    of_voc(voc, **one, C=1.0)
    of_voc(voc, **one, network=FixedNetwork("alexnet", str(tmp_path / "own.safetensors")))
    of_voc(twin, **one)
    of_voc(voc, **one)
    assert len([row for row in rows() if row["metric"] == "mAP"]) == 4
    assert len({row["settings"] for row in rows()}) == 4
    kept = [path.suffix for path in (tmp_path / "runs/transfer_cls").iterdir()]
    assert kept.count(".html") == kept.count(".safetensors") == 4


def test_class_folders(tmp_path, rng):
    for name in COLOURS:
        (tmp_path / "sets" / name).mkdir(parents=True)
        for number in range(8):
            picture(rng, name).save(tmp_path / f"sets/{name}/{number}.png")
    (tmp_path / "sets/cow/x.png").write_text("no image")
    data = CaltechData("sets", 4, 3, 2, "cache")
    with pytest.raises(SystemExit):
        transfer_cls.caltech101(
            data, NETWORK, ("pool5_pyramid",), ("crop-64", "warp-64"), workers=1, csv="table.csv"
        )
    found = {(row["view"], row["metric"]): row["value"] for row in rows()}
    assert float(found["crop", "class accuracy"]) > 0.9
    assert ("warp", "class accuracy - crop-64 deviation") in found
    assert {(row["train"], row["test"]) for row in rows()} == {("4", "3 x 2")}
    with pytest.raises(ValueError, match="class cat has 8 images"):
        transfer_cls.caltech101(CaltechData("sets", 8, 3, 2, "cache"), NETWORK)
