"""A whole split scored by a detector: its candidates on disk, and what is scored anew."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from made_detector import (
    ALL,
    CLASSES,
    LAYERS,
    SIZE,
    assert_same,
    made_detector,
    made_image,
    made_windows,
    scoring_by,
)
from PIL import Image

from detection.config import Config
from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import SPPExtractor
from detection.inference import testing
from detection.inference.detector import SPPDetector
from detection.inference.many_images import DetectorSource, detector_of_process
from detection.networks.build import build_backbone
from detection.run import Run
from detection.settings.data import Data
from detection.settings.testing import Detection
from files import writing
from files.artefacts import DamagedArtefact
from files.writing import file_digest
from proposals.methods import Proposals
from proposals.selective_search import SelectiveSearch


@pytest.fixture(scope="module")
def detector():
    return made_detector(SPPExtractor(build_backbone("alexnet", "random"), (96, 128)))


@pytest.fixture
def saved(detector, tmp_path):
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    return path


@pytest.fixture
def split(detector, tmp_path):
    """A run with the detector, two test images, and their windows."""
    run = Run(Config(run=str(tmp_path / "run"), device="cpu", scales=1, workers=1))
    detector.save(run.detector_path)

    def made_data(folder, seed):
        folder.mkdir()
        records = []
        for number in range(2):
            path = folder / f"{number:06}.png"
            Image.fromarray(made_image(seed + number)).save(path)
            none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
            records.append(ImageRecord(path.stem, path, SIZE, *none))
        return Dataset(tuple(records), CLASSES)

    store = SimpleNamespace(load=lambda path: made_windows(), method=SelectiveSearch())
    return SimpleNamespace(
        run=run,
        data=made_data(tmp_path / "images", 0),
        other_data=made_data(tmp_path / "other", 5),
        windows=store,
    )


class Counting:
    """A detector that counts the images it scores, and may die at one of them."""

    def __init__(self, detector, dies_at=None):
        self.detector = detector
        self.dies_at = dies_at
        self.scored = 0

    def __getattr__(self, name):
        return getattr(self.detector, name)

    def candidates(self, image, windows, layers):
        if self.scored == self.dies_at:
            raise KeyboardInterrupt
        self.scored += 1
        return self.detector.candidates(image, windows, layers)


def test_a_split_is_scored_once_for_all_layers(detector, split):
    counting = Counting(detector)
    folders = testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 2
    assert list(folders) == list(LAYERS)
    for layer, folder in folders.items():
        assert folder.parent.name == "test_test_1scales"
        assert folder.name.startswith(f"candidates-{layer}-")
    assert testing.score_split(split.run, counting, split.data, split.windows) == folders
    other = scoring_by(counting.detector, "softmax", bbox=False)
    assert testing.score_split(split.run, other, split.data, split.windows) == folders
    assert counting.scored == 2
    for layer, folder in folders.items():
        for bbox in (True, False):
            cell = scoring_by(detector, layer, bbox=bbox)
            found = testing.split_detections(cell, split.data, folder)
            assert found.keys() == {"000000", "000001"}
            for record in split.data.records:
                expected = cell.detect(record.path, made_windows(), ALL)
                np.testing.assert_array_equal(found[record.image_id].labels, expected.labels)
                close = found[record.image_id].scores, expected.scores
                np.testing.assert_allclose(*close, rtol=1e-4, atol=1e-4)


def test_another_pass_of_box_regression_is_scored_anew(detector, split):
    folders = testing.score_split(split.run, detector, split.data, split.windows)
    settings = replace(detector.detection, bbox_passes=2)
    twice = Counting(replace(detector, detection=settings))
    others = testing.score_split(split.run, twice, split.data, split.windows)
    assert twice.scored == 2
    assert not set(folders.values()) & set(others.values())
    assert "passes2" in testing.folder_of_test(split.run, twice, split.windows).name


def test_a_killed_test_resumes(detector, split):
    with pytest.raises(KeyboardInterrupt):
        testing.score_split(split.run, Counting(detector, 1), split.data, split.windows)
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1


def test_an_image_that_lacks_a_layer_is_scored_anew(detector, split):
    folders = testing.score_split(split.run, detector, split.data, split.windows)
    path, _ = testing.candidates_file(folders["fc6"], split.data.records[1])
    before = path.read_bytes()
    path.unlink()
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1
    assert path.read_bytes() == before


def test_workers_score_with_the_saved_detector(split, monkeypatch):
    """With threads in place of processes, which would import everything first."""

    def threads(run, return_as):
        return joblib.Parallel(run.workers, return_as=return_as, backend="threading")

    monkeypatch.setattr(Run, "pool", threads)
    saved = SPPDetector.load(split.run.detector_path, scales=1)
    alone = testing.score_split(split.run, saved, split.data, split.windows)
    paths = [path for folder in alone.values() for path in folder.iterdir()]
    files = {path: path.read_bytes() for path in paths}
    assert len(files) == 2 * len(LAYERS)
    for path in paths:
        path.unlink()
    counting = Counting(saved)
    shared = Run(replace(split.run.config, workers=2))
    assert testing.score_split(shared, counting, split.data, split.windows) == alone
    assert counting.scored == 0
    assert {path: path.read_bytes() for path in paths} == files


def test_threads_beside_a_gpu_score_the_same(split, monkeypatch):
    detector = SPPDetector.load(split.run.detector_path, scales=1)
    folders = testing.score_split(split.run, detector, split.data, split.windows)
    files = {path: path.read_bytes() for folder in folders.values() for path in folder.iterdir()}
    for path in files:
        path.unlink()
    monkeypatch.setattr(Run, "shares_network", True)
    monkeypatch.setattr(testing, "_score_in_process", None)
    shared = Run(replace(split.run.config, workers=3))
    assert testing.score_split(shared, detector, split.data, split.windows) == folders
    assert {path: path.read_bytes() for path in files} == files


def test_a_process_loads_a_detector_once(detector, saved):
    def loaded():
        digest = file_digest(saved)
        return detector_of_process(DetectorSource(saved, digest, 1, "float32", Detection()))

    first = loaded()
    assert loaded() is first
    replace(detector, trained={"seed": 1}).save(saved)
    assert loaded().trained["seed"] == 1


def test_limits_after_suppression_need_no_network(detector, split):
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    other = Counting(replace(detector, detection=Detection(nms_iou=0.9, top_k=2)))
    folders = testing.score_split(split.run, other, split.data, split.windows)
    assert other.scored == 0
    found = testing.split_detections(other, split.data, folders["fc7"])
    assert len(found["000000"]) == 6


@pytest.mark.parametrize("change", [{"candidates": 5}, {"score_threshold": 0.0}])
def test_limits_before_suppression_are_scored_anew(detector, split, change):
    testing.score_split(split.run, detector, split.data, split.windows)
    settings = Detection(**(asdict(detector.detection) | change))
    counting = Counting(replace(detector, detection=settings))
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 2


def test_damaged_candidates(detector, split):
    folder = testing.score_split(split.run, detector, split.data, split.windows)["fc7"]
    path, _ = testing.candidates_file(folder, split.data.records[1])
    other, _ = testing.candidates_file(folder, split.data.records[0])
    elsewhere, _ = testing.candidates_file(
        folder.with_name(folder.name.replace("fc7", "fc6")), split.data.records[1]
    )
    for content in (b"no candidates", b"", other.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DamagedArtefact, match=f"{path.name} (is damaged|has another key)"):
            testing.split_detections(detector, split.data, folder)
    assert elsewhere.parent.name != folder.name
    assert elsewhere.name != path.name


def folder_of(detector, split, data):
    return testing.score_split(split.run, detector, data, split.windows)["fc7"]


def test_other_images_of_the_same_names_are_scored_anew(detector, split):
    testing.score_split(split.run, detector, split.data, split.windows)
    folder = folder_of(detector, split, split.other_data)
    found = testing.split_detections(detector, split.other_data, folder)
    for record in split.other_data.records:
        assert_same(found[record.image_id], detector.detect(record.path, made_windows(), ALL))


def test_an_edited_image_is_scored_anew_and_no_other(detector, split):
    folder = folder_of(detector, split, split.data)
    first, second = split.data.records
    names = [testing.candidates_file(folder, record)[0].name for record in (first, second)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [name.split("-")[0] for name in names] == ["000000", "000001"]
    Image.fromarray(made_image(8)).save(second.path)
    counting = Counting(detector)
    assert folder_of(counting, split, split.data) == folder
    assert counting.scored == 1
    found = testing.split_detections(detector, split.data, folder)
    assert_same(found["000001"], detector.detect(second.path, made_windows(), ALL))
    # Put back as it was, it has its candidates still.
    Image.fromarray(made_image(1)).save(second.path)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1


def test_ids_of_any_kind_have_candidates_below_the_folder(detector, split):
    record = split.data.records[0]
    ids = ("a.rf.1", "a.rf.2", "day2/a.rf.1", "Bild 1", "图", "x" * 240)
    data = Dataset(tuple(replace(record, image_id=name) for name in ids), CLASSES)
    folder = folder_of(detector, split, data)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == len(ids)
    assert {path.parent for path in folder.iterdir()} == {folder}
    assert testing.split_detections(detector, data, folder).keys() == set(ids)


def test_an_image_is_hashed_once_until_it_changes(detector, split, monkeypatch):
    hashed = []
    monkeypatch.setattr(writing, "file_digest", lambda path: hashed.append(path) or f"{path}")
    record = split.data.records[0]
    first = testing.candidates_file(split.run.folder, record)
    assert testing.candidates_file(split.run.folder, record) == first
    assert len(hashed) == 1
    Image.fromarray(made_image(9, (80, 80))).save(record.path)
    testing.candidates_file(split.run.folder, record)
    assert len(hashed) == 2


def test_tests_have_folders_named_by_what_they_depend_on(detector, split):
    def named(settings=None, windows=None, **changes):
        run = Run(replace(split.run.config, **changes))
        cell = replace(detector, detection=settings or Detection())
        return testing.folder_of_test(run, cell, windows or split.windows)

    proposals = detector.proposals
    other = replace(proposals.selective_search, min_side=9)
    boxes = replace(proposals, method="edge_boxes")
    folders = [
        named(proposals=proposals),
        named(Detection(bbox=False), proposals=proposals),
        named(Detection(layer="fc6+fc7"), proposals=proposals),
        named(Detection(layer="softmax", vote_iou=0.5, fc_rank=8), proposals=proposals),
        named(Detection(score_threshold=-1.0, nms_iou=0.5), proposals=proposals),
        named(Detection(candidates=50, top_k=2), proposals=proposals, limit=7),
        named(windows=SimpleNamespace(method=boxes), proposals=boxes),
        named(
            windows=SimpleNamespace(method=other),
            proposals=replace(proposals, selective_search=other),
        ),
        named(proposals=proposals, scales=5),
    ]
    assert [f"{folder.parent.name}/{folder.name}" for folder in folders] == [
        "test_test_1scales/fc7+bb",
        "test_test_1scales/fc7",
        "test_test_1scales/fc6+fc7+bb",
        "test_test_1scales/softmax+bb_rank8_vote0.5",
        "test_test_1scales/fc7+bb_above-1_nms0.5",
        "test_test_1scales/fc7+bb_best50_top2_limit7",
        f"test_test_1scales/fc7+bb_{boxes.name}",
        f"test_test_1scales/fc7+bb_selective_search-{other.key[:6]}",
        "test_test_5scales/fc7+bb",
    ]
    trained = replace(detector, trained={"precision": "bfloat16"})
    assert (
        testing.folder_of_test(
            Run(replace(split.run.config, proposals=proposals)), trained, split.windows
        ).name
        == "fc7+bb_float32"
    )


def test_a_test_on_other_images_has_its_own_folder(detector, split, tmp_path):
    trained = replace(split.run.config, data=Data(root=str(tmp_path / "mine")))
    run = Run(replace(trained, proposals=detector.proposals))
    run.save_settings()
    usual = testing.folder_of_test(run, detector, split.windows).name
    folders = set()
    for data in (Data(root=str(tmp_path / "yours: 2")), Data(root=trained.data.root, lists="a")):
        other = Run(replace(run.config, data=data))
        folders.add(testing.folder_of_test(other, detector, split.windows).name)
    first, second = sorted(folders)
    assert first.startswith(f"{usual}_mine-")
    assert second.startswith(f"{usual}_yours%3A 2-")


def test_images_that_were_trained_on_are_known(detector, split):
    run = Run(replace(split.run.config, data=Data(root="mine")))
    assert testing.seen_in_training(run, split.data) == []
    run.save_settings()
    (run.folder / "trained_on.txt").write_text("000001\n7\n")
    assert testing.seen_in_training(run, split.data) == ["000001"]
    other = Run(replace(run.config, data=Data(root="yours")))
    assert testing.seen_in_training(other, split.data) == []


def test_a_file_of_windows_that_is_gone_is_not_needed(detector, split):
    """Trained on windows of a file, tested on others."""
    moved = replace(detector, proposals=Proposals(method="file", file="gone/train.csv"))
    run = Run(replace(split.run.config, proposals=detector.proposals))
    assert testing.folder_of_test(run, moved, split.windows).name.endswith("_selective_search")


def test_a_split_cannot_lead_out_of_the_run(split):
    config = replace(split.run.config, data=replace(split.run.config.data, test_split="a/../../b"))
    with pytest.raises(
        ValueError, match=r"the split of the test 'a/\.\./\.\./b' leaves its folder"
    ):
        testing.results_folder(Run(config))
