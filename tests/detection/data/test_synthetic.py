import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from detection.data.records import Dataset
from detection.data.synthetic import scene
from detection.data.synthetic.dataset import synthetic_image, write_synthetic_voc
from detection.data.synthetic.scene import CLASSES, EASY_SIDE, IMAGE_SIDES
from detection.data.synthetic.shapes import Patch, draw_object, draw_scrap
from detection.data.synthetic.textures import GROUNDS, fractal_noise, two_colours
from detection.data.voc import read_voc
from files.images import read_image
from files.writing import file_digest


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_synthetic_voc(root, train=12, test=3, seed=0)
    return root


@pytest.fixture(scope="module")
def dataset(root: Path) -> Dataset:
    return read_voc(root, "train")


def digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): file_digest(p) for p in root.rglob("*") if p.is_file()}


def test_reads_as_voc(root: Path, dataset: Dataset) -> None:
    assert len(CLASSES) >= 4
    assert dataset.classes == CLASSES == tuple(sorted(CLASSES))
    assert len(dataset.records) == 12
    assert len(read_voc(root, "test", CLASSES).records) == 3
    assert not dataset.repairs
    for record in dataset.records:
        assert read_image(record.path).shape == (*record.size, 3)
        assert all(IMAGE_SIDES[0] <= side < IMAGE_SIDES[1] for side in record.size)
        assert len(record.boxes) <= 5
    assert len({record.size for record in dataset.records}) > 6


def test_classes_sizes_and_empty_images() -> None:
    scenes = [synthetic_image("train", index, seed=1) for index in range(18)]
    assert [i for i, drawn in enumerate(scenes) if not drawn.names] == [10]
    counts = Counter(name for drawn in scenes for name in drawn.names)
    assert set(counts) == set(CLASSES)
    assert min(counts.values()) >= 3
    sides = np.concatenate(
        [(s.boxes[:, 2:] - s.boxes[:, :2]).max(axis=1) for s in scenes if s.names]
    )
    assert sides.max() > 3 * sides.min()
    flags = np.concatenate([drawn.difficult for drawn in scenes])
    assert 0 < flags.mean() < 0.4
    for drawn in scenes:
        longer = (drawn.boxes[:, 2:] - drawn.boxes[:, :2]).max(axis=1, initial=0)
        assert drawn.difficult[longer < EASY_SIDE].all()


def test_an_image_depends_on_seed_split_and_index_alone() -> None:
    first, again = synthetic_image("train", 3, seed=0), synthetic_image("train", 3, seed=0)
    assert_array_equal(first.image, again.image)
    assert_array_equal(first.boxes, again.boxes)
    for other in (("train", 3, 1), ("test", 3, 0), ("train", 8, 0)):
        assert not np.array_equal(first.image, synthetic_image(*other).image)


def test_images_do_not_depend_on_how_many(root: Path, tmp_path: Path) -> None:
    write_synthetic_voc(tmp_path, train=2, test=1, seed=0)
    names = [p for p in digests(tmp_path) if p.startswith(("JPEGImages", "Annotations"))]
    assert len(names) == 6
    full, few = digests(root), digests(tmp_path)
    assert all(full[name] == few[name] for name in names)


def test_boxes_are_tight_around_what_differs_from_the_ground(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The twin compares an image of one object with the image of the bare ground."""
    nothing = Patch(np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.bool_))
    monkeypatch.setattr(scene, "draw_scrap", lambda *_: nothing)
    monkeypatch.setattr(scene, "_shade", lambda *_: None)
    for seed, name in enumerate(CLASSES):
        bare = scene.render_scene(np.random.default_rng(seed), ())
        drawn = scene.render_scene(np.random.default_rng(seed), (name,))
        differs = np.abs(drawn.image.astype(int) - bare.image).max(axis=2) > 0
        rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        # an outline in the ground's colour may hide a pixel
        assert_allclose(drawn.boxes[0], seen, atol=1)


def test_difficult_is_less_than_half_seen_or_tiny() -> None:
    """The canvas has twice the resolution: 100 x 80 of its pixels are a box of 50 x 40."""
    canvas = np.zeros((200, 200, 3), np.float32)
    wide, tiny = np.zeros((2, 200, 200), np.bool_)
    wide[20:100, 10:110] = True
    tiny[0:62, 0:62] = True  # 31 pixels
    cases = [(wide, 8000), (wide, 16000), (wide, 16001), (tiny, 62 * 62)]
    drawn = scene._scene(canvas, [scene._Placed("ball", area, seen) for seen, area in cases])
    assert drawn.boxes.tolist() == [[5, 10, 55, 50]] * 3 + [[0, 0, 31, 31]]
    assert drawn.difficult.tolist() == [False, False, True, True]
    assert drawn.truncated.tolist() == [False, True, True, False]


def test_crowded_scene(rng: np.random.Generator) -> None:
    drawn = scene.render_scene(rng, CLASSES * 3)
    assert 3 < len(drawn.names) <= 3 * len(CLASSES)
    assert drawn.truncated.any()
    assert drawn.boxes.dtype == np.float32
    assert (drawn.boxes[:, :2] >= 0).all()
    assert (drawn.boxes[:, 2:] <= drawn.image.shape[1::-1]).all()
    assert (drawn.boxes[:, 2:] > drawn.boxes[:, :2]).all()


def test_empty_scene(rng: np.random.Generator) -> None:
    drawn = scene.render_scene(rng, ())
    assert drawn.boxes.shape == (0, 4)
    assert drawn.difficult.shape == drawn.truncated.shape == (0,)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("side", [28, 101, 250])
def test_objects_fill_their_patch(name: str, side: int, rng: np.random.Generator) -> None:
    for _ in range(3):
        patch = draw_object(rng, name, side)
        assert patch.colour.shape == (*patch.mask.shape, 3)
        assert 0.6 * side < max(patch.mask.shape) <= 1.25 * side
        for edge in (patch.mask[0], patch.mask[-1], patch.mask[:, 0], patch.mask[:, -1]):
            assert edge.any()
        assert patch.colour.min() >= 0
        assert patch.colour.max() <= 255


def test_colours_do_not_tell_the_class() -> None:
    """A class has mean hues all round the circle, so that their mean vector is short."""
    for name in CLASSES:
        vectors = []
        for seed in range(40):
            patch = draw_object(np.random.default_rng(seed), name, 30)
            red, green, blue = patch.colour[patch.mask].mean(axis=0)
            angle = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
            vectors.append([np.cos(angle), np.sin(angle)])
        assert np.hypot(*np.mean(vectors, axis=0)) < 0.4


@pytest.mark.parametrize("shape", [(300, 419), (31, 17)])
def test_textures(shape: tuple[int, int], rng: np.random.Generator) -> None:
    for ground in GROUNDS:
        texture = ground(rng, shape)
        assert texture.shape == shape
        assert texture.min() >= 0
        assert texture.max() <= 1
        assert texture.std() > 0.05
    noise = fractal_noise(rng, shape, cell=9)
    assert noise.min() == 0
    assert noise.max() == pytest.approx(1)
    dark, light = two_colours(rng, contrast=0.4, saturation=0.9)
    assert light.max() - dark.max() == pytest.approx(0.4 * 255, abs=0.1)
    assert draw_scrap(rng, 6).mask.any()


def test_a_second_call_changes_nothing(root: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    write_synthetic_voc(root, train=12, test=3, seed=0)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


def test_a_half_drawn_set_is_completed(tmp_path: Path) -> None:
    write_synthetic_voc(tmp_path, train=3, test=0, seed=2)
    before = digests(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    (tmp_path / "Annotations/train_00001.xml").unlink()
    (tmp_path / "JPEGImages/train_00002.jpg").unlink()
    write_synthetic_voc(tmp_path, train=3, test=0, seed=2)
    assert digests(tmp_path) == before


def test_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"drawn with train 12, test 3, seed 0, .* not with train 12, test 4, .*"
    ):
        write_synthetic_voc(root, train=12, test=4, seed=0)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(ValueError, match="holds data that this command did not draw"):
        write_synthetic_voc(tmp_path, train=1, test=0, seed=0)
    for wrong in ({"train": -1}, {"test": -1}, {"seed": -1}):
        arguments = {"train": 1, "test": 1, "seed": 0} | wrong
        with pytest.raises(ValueError, match="must be 0 or more, got -1"):
            write_synthetic_voc(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_parameters_are_noted(root: Path) -> None:
    noted = json.loads((root / "synthetic.json").read_text())
    assert noted == {"train": 12, "test": 3, "seed": 0, "version": 1}
