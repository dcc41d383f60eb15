"""The detector as a user has it: saved, loaded, given pictures; and tested over a split."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from detection.config import Config, Detection
from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import SPPExtractor
from detection.inference import testing
from detection.inference.detector import FeatureHead, SPPDetector
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.svm import ClassSVMs
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.run import Run
from proposals.disk import file_digest, save_text
from proposals.selective_search import SelectiveSearch

CLASSES = ("cat", "dog", "sheep")
SIZE = (60, 80)
ALL = -1e9


def made_image(seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3), np.uint8)
    image[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] += 150
    return image


def made_windows(count=40, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 40, (count, 2))
    return np.hstack([first, first + rng.integers(4, 20, (count, 2))]).astype(np.float32)


@pytest.fixture(scope="module")
def detector():
    rng = np.random.default_rng(0)
    backbone = build_backbone("alexnet", "random")
    extractor = SPPExtractor(backbone, (96, 128))
    pooled = extractor.pool(extractor.maps(made_image()), made_windows()).pooled
    head = Head(backbone.pooled_length, len(CLASSES), hidden=16)
    head.initialise(torch.Generator().manual_seed(0), pooled.square().mean().item())
    scale = 20 / np.linalg.norm(FeatureHead(head, 1.0)(pooled), axis=1).mean()
    bbox = rng.standard_normal((len(CLASSES), backbone.pooled_length + 1, 4))
    return SPPDetector(
        CLASSES,
        extractor,
        FeatureHead(head, float(scale)),
        ClassSVMs.from_arrays(rng.standard_normal((3, 16)) / 10, np.array([0, -0.2, 0.2])),
        BoxRegressor.from_arrays(bbox * 2e-3 / pooled.norm(dim=1).mean().item()),
        SelectiveSearch(min_side=8),
        Detection(),
        {"split": "train", "pictures": 2, "seed": 0},
    )


@pytest.fixture
def saved(detector, tmp_path):
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    return path


def assert_same(one, other):
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.classes == other.classes


def test_it_finds_something(detector):
    found = detector.detect(made_image(), made_windows(), ALL)
    assert len(found) > 10
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.labels) == {0, 1, 2}
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= SIZE[1]).all()
    assert (found.boxes[:, 3] <= SIZE[0]).all()
    # The boxes are regressed: no window has all four sides of one.
    assert not (found.boxes[:, None] == made_windows()).all(axis=2).any()


def test_scores_by_hand(detector):
    image, windows = made_image(), made_windows()
    scores, boxes = detector.score(image, windows)
    assert scores.shape == (40, 3)
    assert boxes.shape == (40, 3, 4)
    features = detector.extractor.pool(detector.extractor.maps(image), windows)
    for row in (0, 7, 39):
        pooled = features.pooled[features.index[row]][None]
        fc7 = detector.features(pooled)[0]
        np.testing.assert_allclose(
            scores[row], detector.svms.coef_ @ fc7 + detector.svms.intercept_, rtol=1e-4, atol=1e-5
        )
        expected = detector.regressor.predict(pooled.numpy(), windows[row][None])[0]
        np.testing.assert_allclose(boxes[row], expected, rtol=1e-4, atol=1e-3)
    alone = detector.score(image, windows[7:8])
    np.testing.assert_allclose(alone[0][0], scores[7], rtol=1e-4, atol=1e-5)


def test_saved_and_loaded(detector, saved):
    loaded = SPPDetector.load(saved)
    assert_same(
        loaded.detect(made_image(), made_windows(), ALL),
        detector.detect(made_image(), made_windows(), ALL),
    )
    assert_same(loaded.detect(made_image()), detector.detect(made_image()))
    assert loaded.extractor.scales == (96, 128)
    assert loaded.proposals == detector.proposals
    assert loaded.detection == detector.detection
    assert loaded.trained == detector.trained
    assert loaded.extractor.backbone.digest == detector.extractor.backbone.digest


def test_what_is_saved_is_the_same_each_time(detector, saved, tmp_path):
    detector.save(tmp_path / "again")
    SPPDetector.load(saved).save(tmp_path / "loaded")
    for name in ("again", "loaded"):
        assert file_digest(tmp_path / name) == file_digest(saved)


def test_the_settings_are_one_entry_that_begins_with_the_format(saved):
    with safe_open(saved, "pt") as file:
        (entry,) = file.metadata().items()
    assert entry[0] == "settings"
    assert entry[1].startswith('{"format": "sppnet-detection 1", ')


def test_loaded_with_other_settings(detector, saved):
    loaded = SPPDetector.load(saved, scales=1, detection=Detection(top_k=1))
    assert loaded.extractor.scales == (688,)
    found = loaded.detect(made_image(), made_windows(), ALL)
    assert sorted(found.labels) == [0, 1, 2]
    near = SPPDetector.load(saved, precision="bfloat16")
    exact, rough = (each.score(made_image(), made_windows())[0] for each in (detector, near))
    assert 0 < np.abs(exact - rough).max() < 0.1


@pytest.mark.parametrize("scales", [3, 0, -1])
def test_a_number_of_scales_that_there_is_not(saved, scales):
    message = f"scales must be 1 or 5, or None for those of training; got {scales}"
    with pytest.raises(ValueError, match=message):
        SPPDetector.load(saved, scales=scales)


def test_a_missing_detector(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no detector at .*; python tools/train_det.py"):
        SPPDetector.load(tmp_path / "detector.safetensors")
    with pytest.raises(FileNotFoundError, match="no detector at"):
        SPPDetector.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text"])
def test_a_damaged_detector(saved, damage):
    whole = saved.read_bytes()
    parts = {"cut": whole[:-1000], "header": whole[:100], "empty": b"", "text": b"hello\n" * 99}
    saved.write_bytes(parts[damage])
    with pytest.raises(ValueError, match=rf"{saved} is not a detector file \(.*run's detector"):
        SPPDetector.load(saved)


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (None, "found no format mark"),
        ({"format": "sppnet-detection 1"}, "found no format mark"),
        ({"settings": '{"format": "sppnet-detection 99"}'}, "found sppnet-detection 99"),
    ],
)
def test_another_safetensors_file(tmp_path, metadata, found):
    path = tmp_path / "other.safetensors"
    save_file({"weights": np.zeros(3, np.float32)}, path, metadata)
    message = rf"{path} is not a detector: expected 'sppnet-detection 1', .*{found}"
    with pytest.raises(ValueError, match=message):
        SPPDetector.load(path)


@pytest.mark.parametrize("kind", ["png", "grey.png", "alpha.png"])
def test_a_path_is_its_picture(detector, tmp_path, kind):
    image = made_image()
    path = tmp_path / f"picture.{kind}"
    if kind == "grey.png":
        image = np.repeat(image[:, :, :1], 3, axis=2)
        Image.fromarray(image[:, :, 0]).save(path)
    elif kind == "alpha.png":
        Image.fromarray(image).convert("RGBA").save(path)
    else:
        Image.fromarray(image).save(path)
    expected = detector.detect(image, score_threshold=ALL)
    assert len(expected)
    assert_same(detector.detect(path, score_threshold=ALL), expected)
    assert_same(detector.detect(str(path), score_threshold=ALL), expected)


@pytest.mark.parametrize("size", [(1, 1), (30, 30), (1, 40), (50, 3)])
def test_small_pictures(detector, size):
    if min(size) * 20 < max(size):  # the shorter side becomes 96 pixels, the longer 40 times that
        detector = replace(detector, extractor=SPPExtractor(detector.extractor.backbone, (64,)))
    found = detector.detect(np.full((*size, 3), 90, np.uint8), score_threshold=ALL)
    assert (found.boxes[:, 2:] <= np.array(size[::-1])).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_no_windows(detector):
    found = detector.detect(made_image(), np.zeros((0, 4), np.float32), ALL)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.classes == CLASSES


def test_thresholds(detector):
    every = detector.detect(made_image(), made_windows(), ALL)
    middle = float(np.median(every.scores))
    some = detector.detect(made_image(), made_windows(), middle)
    assert_same(some, every[every.scores > middle])
    assert 0 < len(some) < len(every)
    shown = detector.detect(made_image(), made_windows())
    assert_same(shown, every[every.scores > -0.5])


def test_order_of_windows_is_no_matter(detector, rng):
    # One window of each set of cells: equal scores are decided by the order.
    cells = detector.extractor.cells(detector.extractor.maps(made_image()), made_windows())
    windows = made_windows()[np.unique(cells, axis=0, return_index=True)[1]]
    assert len(windows) > 15
    one = detector.detect(made_image(), windows, ALL)
    other = detector.detect(made_image(), windows[rng.permutation(len(windows))], ALL)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)


def test_bad_pictures(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match="no picture at"):
        detector.detect(tmp_path / "none.jpg")
    (tmp_path / "words.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"words\.jpg is not a readable picture"):
        detector.detect(tmp_path / "words.jpg")
    for wrong in (made_image()[:, :, 0], made_image() / 255):
        with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
            detector.detect(wrong)
        with pytest.raises(ValueError, match=r"must be uint8 \(H, W, 3\)"):
            detector.detect(wrong, made_windows())


@pytest.fixture
def split(detector, tmp_path):
    """A run with the detector, two test pictures, and their windows."""
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
        data=made_data(tmp_path / "pictures", 0),
        other_data=made_data(tmp_path / "other", 5),
        windows=store,
    )


class Counting:
    """A detector that counts the pictures it scores, and may die at one of them."""

    def __init__(self, detector, dies_at=None):
        self.detector = detector
        self.dies_at = dies_at
        self.scored = 0

    def __getattr__(self, name):
        return getattr(self.detector, name)

    def candidates(self, image, windows):
        if self.scored == self.dies_at:
            raise KeyboardInterrupt
        self.scored += 1
        return self.detector.candidates(image, windows)


def test_a_split_is_scored_once(detector, split):
    counting = Counting(detector)
    folder = testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 2
    assert folder.parent.name == "test_test_1scales"
    assert testing.score_split(split.run, counting, split.data, split.windows) == folder
    assert counting.scored == 2
    found = testing.split_detections(detector, split.data, folder)
    assert found.keys() == {"000000", "000001"}
    for record in split.data.records:
        expected = detector.detect(record.path, made_windows(), ALL)
        assert_same(found[record.image_id], expected)


def test_a_killed_test_goes_on(detector, split):
    with pytest.raises(KeyboardInterrupt):
        testing.score_split(split.run, Counting(detector, 1), split.data, split.windows)
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1


def test_workers_score_with_the_saved_detector(split, monkeypatch):
    """With threads in place of processes, which would import everything first."""
    monkeypatch.setattr(
        testing, "parallel_config", lambda **_: joblib.parallel_config(backend="threading")
    )
    saved = SPPDetector.load(split.run.detector_path, scales=1)
    alone = testing.score_split(split.run, saved, split.data, split.windows)
    files = {path.name: path.read_bytes() for path in alone.iterdir()}
    assert len(files) == 2
    for path in alone.iterdir():
        path.unlink()
    counting = Counting(saved)
    shared = Run(replace(split.run.config, workers=2))
    assert testing.score_split(shared, counting, split.data, split.windows) == alone
    assert counting.scored == 0
    assert {path.name: path.read_bytes() for path in alone.iterdir()} == files


def test_a_process_loads_a_detector_once(detector, saved):
    def loaded():
        source = (saved, file_digest(saved), 1, "float32", Detection())
        return testing._detector_of_process(*source)

    first = loaded()
    assert loaded() is first
    replace(detector, trained={"seed": 1}).save(saved)
    assert loaded().trained == {"seed": 1}


def test_a_head_comes_back_from_its_file(detector, tmp_path):
    """The head alone, as the fine-tuning stage writes it."""
    head = detector.features.head
    save_file({n: v.numpy() for n, v in head.state_dict().items()}, tmp_path / "head.safetensors")
    pooled = torch.rand(5, 12800, generator=torch.Generator().manual_seed(0))
    for precision in ("float32", "bfloat16"):
        found = FeatureHead.load(tmp_path / "head.safetensors", 3.0, precision)
        expected = FeatureHead(head, 3.0, precision)
        np.testing.assert_array_equal(found(pooled), expected(pooled))
        assert found.length == 16


def test_limits_after_suppression_need_no_network(detector, split):
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    other = Counting(replace(detector, detection=Detection(nms_iou=0.9, top_k=2)))
    folder = testing.score_split(split.run, other, split.data, split.windows)
    assert other.scored == 0
    found = testing.split_detections(other, split.data, folder)
    assert len(found["000000"]) == 6


@pytest.mark.parametrize("change", [{"candidates": 5}, {"score_threshold": 0.0}])
def test_limits_before_suppression_are_scored_anew(detector, split, change):
    testing.score_split(split.run, detector, split.data, split.windows)
    settings = Detection(**(asdict(detector.detection) | change))
    counting = Counting(replace(detector, detection=settings))
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 2


def test_damaged_candidates(detector, split):
    folder = testing.score_split(split.run, detector, split.data, split.windows)
    path = testing.candidates_file(folder, split.data.records[1])
    save_text(path, "no candidates")
    with pytest.raises(ValueError, match=f"{path} does not hold candidates"):
        testing.split_detections(detector, split.data, folder)


def test_other_pictures_of_the_same_names_are_scored_anew(detector, split):
    testing.score_split(split.run, detector, split.data, split.windows)
    folder = testing.score_split(split.run, detector, split.other_data, split.windows)
    found = testing.split_detections(detector, split.other_data, folder)
    for record in split.other_data.records:
        assert_same(found[record.image_id], detector.detect(record.path, made_windows(), ALL))


def test_an_edited_picture_is_scored_anew_and_no_other(detector, split):
    folder = testing.score_split(split.run, detector, split.data, split.windows)
    first, second = split.data.records
    names = [f"{record.image_id}_{file_digest(record.path)[:16]}.npz" for record in (first, second)]
    assert sorted(path.name for path in folder.iterdir()) == names
    Image.fromarray(made_image(8)).save(second.path)
    counting = Counting(detector)
    assert testing.score_split(split.run, counting, split.data, split.windows) == folder
    assert counting.scored == 1
    found = testing.split_detections(detector, split.data, folder)
    assert_same(found["000001"], detector.detect(second.path, made_windows(), ALL))
    # Put back as it was, it has its candidates still.
    Image.fromarray(made_image(1)).save(second.path)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1
