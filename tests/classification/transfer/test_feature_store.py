"""Features on disk, and their Gram matrix."""

import numpy as np
import pytest
from PIL import Image

from classification.transfer import feature_store
from classification.transfer.extractor_spec import ExtractorSpec, FixedNetwork
from classification.transfer.feature_store import FeatureStore
from classification.transfer.view import View
from detection.config import Config
from detection.run import Run
from detection.settings.data import Data
from files.artefacts import DamagedArtefact
from files.images import UnreadableImage, read_image

VIEW = View("full", 64)
LAYERS = ["pool5_6x6", "pool5_pyramid"]


@pytest.fixture(scope="module")
def spec():
    return ExtractorSpec.of(FixedNetwork("alexnet", "random"), "float32", "cpu")


@pytest.fixture
def paths(tmp_path, rng):
    found = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(found):
        pixels = rng.integers(0, 256, (60 + number, 80, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return found


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(feature_store, "SHARD", 2)
    monkeypatch.setattr(feature_store, "GROUP_BYTES", 4 * 9216 * 3)  # groups of two shards


def store_of(tmp_path, spec, strict=False):
    data = Data(cache=str(tmp_path / "cache"))
    config = Config(run=str(tmp_path / "run"), device="cpu", workers=1, strict=strict, data=data)
    return FeatureStore(Run(config), spec)


def test_the_matrix_is_of_the_features_of_each_image(tmp_path, spec, paths):
    store = store_of(tmp_path, spec)
    store.make(paths, VIEW, LAYERS)
    extractor = spec.build()
    for layer in LAYERS:
        vectors = [extractor.features(read_image(path), VIEW, [layer])[layer] for path in paths]
        gram, unreadable = store.gram(paths, VIEW, layer)
        assert not unreadable
        np.testing.assert_allclose(gram, np.stack(vectors) @ np.stack(vectors).T, atol=2e-4)
        np.testing.assert_array_equal(gram, gram.T)


def test_what_is_there_is_not_made_again(tmp_path, spec, paths, caplog):
    store = store_of(tmp_path, spec)
    store.make(paths, VIEW, LAYERS)
    made = {path: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    assert len(made) == 8
    gone, *_ = sorted(made)
    content = gone.read_bytes()
    gone.unlink()
    with caplog.at_level("INFO"):
        store.make(paths, VIEW, LAYERS)
    assert f"{store.spec.network.name} {VIEW}: 5 of 7 images were already done" in caplog.messages
    assert gone.read_bytes() == content
    made.pop(gone)
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_other_bytes_of_an_image_and_other_views_are_other_files(tmp_path, spec, paths):
    store = store_of(tmp_path, spec)
    before = [shard.key for shard in store.shards(paths, VIEW, LAYERS[0])]
    Image.new("RGB", (9, 9)).save(paths[6])
    after = [shard.key for shard in store.shards(paths, VIEW, LAYERS[0])]
    assert before[:3] == after[:3]
    assert before[3] != after[3]
    keys = {
        store.shards(paths, view, layer)[0].key
        for view in (VIEW, View("warp", 64), View("full", 65))
        for layer in LAYERS
    }
    assert len(keys) == 6


def test_an_image_that_cannot_be_read_is_listed(tmp_path, spec, paths):
    paths[4].write_text("no image")
    with pytest.raises(UnreadableImage, match=r"4\.png"):
        store_of(tmp_path, spec, strict=True).make(paths, VIEW, LAYERS)
    store = store_of(tmp_path, spec)
    store.make(paths, VIEW, LAYERS)
    gram, unreadable = store.gram(paths, VIEW, LAYERS[0])
    assert list(unreadable) == [4]
    assert "4.png" in unreadable[4]
    assert not gram[4].any()
    assert np.diag(gram)[[0, 1, 2, 3, 5, 6]] == pytest.approx(1, abs=1e-3)


def test_a_shard_without_a_readable_image(tmp_path, spec, paths):
    paths[6].unlink()
    paths[6].symlink_to(tmp_path / "nowhere.png")
    store = store_of(tmp_path, spec)
    store.make(paths, VIEW, LAYERS)
    gram, unreadable = store.gram(paths, VIEW, LAYERS[0])
    assert list(unreadable) == [6]
    assert not gram[6].any()


def test_a_damaged_file_is_refused(tmp_path, spec, paths):
    store = store_of(tmp_path, spec)
    store.make(paths, VIEW, LAYERS)
    shard = store.shards(paths, VIEW, LAYERS[0])[1]
    content = bytearray(shard.path.read_bytes())
    content[-1] ^= 1
    shard.path.write_bytes(content)
    with pytest.raises(DamagedArtefact, match=shard.path.name):
        store.gram(paths, VIEW, LAYERS[0])


def test_features_may_be_deleted_when_their_matrix_is_there(
    tmp_path, spec, paths, caplog, monkeypatch
):
    store = store_of(tmp_path, spec)
    store.make(paths, VIEW, LAYERS)
    before, _ = store.gram(paths, VIEW, LAYERS[0])
    store.tell_size()
    assert "deleted" not in caplog.text
    monkeypatch.setattr(feature_store, "LARGE_CACHE_BYTES", 1000)
    with caplog.at_level("INFO"):
        store.tell_size()
    assert "only the matrices gram_* are needed" in caplog.text
    for path in store.folder.glob("pool5*"):
        path.unlink()
    store.make(paths, VIEW, LAYERS[:1])
    assert [path.name[:5] for path in store.folder.iterdir()] == ["gram_"]
    np.testing.assert_array_equal(store.gram(paths, VIEW, LAYERS[0])[0], before)
    store.make(paths, VIEW, LAYERS)
    assert len(list(store.folder.glob("pool5_pyramid_full*"))) == 4
