"""Stored maps: the computed bits, within the limit, and never a damaged map."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from damage import WAYS, damaged
from made_extractor import tiny_backbone
from made_world import CONFIG, artefact_bytes, finetuned, made_weights, made_world

from detection.features import map_store
from detection.features.extractor import SPPExtractor
from detection.features.map_store import MapStore
from detection.features.scales import SCALES as SCALES_OF_RUNS
from detection.settings.data import Data

SCALES = (60, 90)
WINDOWS = np.array([[0, 0, 30, 40], [5, 8, 60, 50], [20, 2, 70, 44]], np.float32)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


def made_map(dtype=torch.float32, seed=0, shape=(6, 7, 4)):
    """Return a map ``(4, 6, 7)`` after a ReLU, channels last as the trunk gives it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).relu().to(dtype).permute(2, 0, 1)


def refuse():
    raise AssertionError("this map is kept; it should not have been computed")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_kept_map_comes_back_bit_for_bit(tmp_path, image, dtype):
    store, map = MapStore(tmp_path, 1e6), made_map(dtype)
    assert store.get("trunk", image, 60, lambda: map) is map
    again = store.get("trunk", image, 60, refuse)
    assert again.dtype == dtype
    assert again.stride() == map.stride()
    assert torch.equal(again, map)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros_with_a_sign_infinities_and_nan_are_kept(tmp_path, image, dtype):
    numbers = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-40, -3.0, 0.0])
    map = numbers.to(dtype).reshape(2, 2, 2).permute(2, 0, 1)
    store = MapStore(tmp_path, 1e6)
    store.get("trunk", image, 60, lambda: map)
    bits = torch.int16 if dtype == torch.bfloat16 else torch.int32
    again = store.get("trunk", image, 60, refuse)
    assert torch.equal(again.contiguous().view(bits), map.contiguous().view(bits))


@pytest.mark.parametrize("fill", [0.0, 2.0])
def test_maps_of_zeros_alone_and_of_none(tmp_path, image, fill):
    store, map = MapStore(tmp_path, 1e6), torch.full((3, 5, 7), fill)
    store.get("trunk", image, 60, lambda: map)
    assert torch.equal(store.get("trunk", image, 60, refuse), map)


def test_zeros_take_a_bit_each(tmp_path, image):
    map = made_map(shape=(40, 50, 256))
    MapStore(tmp_path, 1e9).get("trunk", image, 60, lambda: map)
    (file,) = (tmp_path / "trunk").iterdir()
    numbers = int((map != 0).sum())
    assert file.stat().st_size - 4 * numbers - map.numel() // 8 < 1000


def test_a_file_of_an_older_format_is_made_again(tmp_path, image, monkeypatch):
    store = MapStore(tmp_path, 1e6)
    monkeypatch.setattr(map_store, "FORMAT", map_store.FORMAT - 1)
    store.get("trunk", image, 60, lambda: made_map(seed=1))
    monkeypatch.undo()
    assert torch.equal(store.get("trunk", image, 60, made_map), made_map())
    assert torch.equal(store.get("trunk", image, 60, refuse), made_map())


def test_a_map_is_of_its_trunk_image_and_scale(tmp_path, image):
    store = MapStore(tmp_path, 1e6)
    asked = [("a", image, 60), ("b", image, 60), ("a", image[:, ::-1], 60), ("a", image, 90)]
    asked.append(("a", image.reshape(70, 50, 3), 60))
    for number, (trunk, asked_image, scale) in enumerate(asked):
        store.get(trunk, asked_image, scale, lambda seed=number: made_map(seed=seed))
    for number, (trunk, asked_image, scale) in enumerate(asked):
        assert torch.equal(store.get(trunk, asked_image, scale, refuse), made_map(seed=number))


def test_no_more_is_kept_than_the_limit(tmp_path, image):
    map = made_map(shape=(40, 50, 16))
    store = MapStore(tmp_path, 2.5 * (4 * int((map != 0).sum()) + map.numel() // 8))
    for scale in range(5):
        store.get("trunk", image, scale, lambda: map)
    assert len(list((tmp_path / "trunk").iterdir())) == 2
    assert torch.equal(store.get("trunk", image, 4, lambda: made_map(seed=7)), made_map(seed=7))


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_made_again(tmp_path, image, way, caplog):
    store = MapStore(tmp_path, 1e6)
    store.get("trunk", image, 60, made_map)
    (file,) = (tmp_path / "trunk").iterdir()
    file.write_bytes(damaged(file.read_bytes(), way))
    assert torch.equal(store.get("trunk", image, 60, made_map), made_map())
    assert f"{file} is damaged" in caplog.text
    assert torch.equal(store.get("trunk", image, 60, refuse), made_map())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_are_the_same_with_kept_maps(tmp_path, image, precision):
    plain = SPPExtractor(tiny_backbone(), SCALES, precision=precision)
    store = MapStore(tmp_path, 1e6)
    keeping = SPPExtractor(tiny_backbone(), SCALES, precision=precision, store=store)
    wanted = plain.features(image, WINDOWS)
    for _ in range(2):
        found = keeping.features(image, WINDOWS)
        assert torch.equal(found.pooled, wanted.pooled)
        assert np.array_equal(found.index, wanted.index)
    keeping.trunk = None  # maps can only come from the disk now
    assert torch.equal(keeping.features(image, WINDOWS).pooled, wanted.pooled)
    with torch.no_grad():
        at = plain.features_at(image, WINDOWS, SCALES[1])
    assert torch.equal(keeping.features_at(image, WINDOWS, SCALES[1]), at)
    assert keeping.facts == plain.facts


def test_another_network_finds_other_maps(tmp_path, image):
    store = MapStore(tmp_path, 1e6)
    for seed in (0, 1):
        backbone = tiny_backbone(seed)
        backbone.digest = str(seed)
        found = SPPExtractor(backbone, SCALES, store=store).maps(image).maps
        for map, wanted in zip(found, SPPExtractor(backbone, SCALES).maps(image).maps, strict=True):
            assert torch.equal(map, wanted)
    assert len(list(tmp_path.iterdir())) == 2


def test_fine_tuning_keeps_maps_and_finds_them_again(tmp_path, monkeypatch):
    monkeypatch.setitem(SCALES_OF_RUNS, 1, (32,))
    weights, world = made_weights(), made_world(tmp_path)
    data = Data(cache=str(tmp_path / "cache"))

    def head(name, keep_maps_gb, jitter=0.0):
        settings = replace(CONFIG.finetune, jitter=jitter)
        network = replace(CONFIG.network, keep_maps_gb=keep_maps_gb)
        run = world.run(name, data=data, network=network, finetune=settings)
        finetuned(world, run, weights)
        return artefact_bytes(run, "head")

    maps = tmp_path / "cache" / "maps"
    plain = head("plain", 0.0)
    assert not maps.exists()
    assert head("keeping", 1.0) == plain
    (folder,) = maps.iterdir()
    kept = set(folder.iterdir())
    assert len(world.data.records) < len(kept) <= 2 * len(world.data.records)  # mirrored, too
    assert head("again", 1.0) == plain
    assert set(folder.iterdir()) == kept
    # Jitter changes the colours every time, so that no maps are kept.
    assert head("light", 1.0, jitter=0.5) != plain
    assert set(folder.iterdir()) == kept
