"""The description from which other processes build the same extractor; it is small."""

import pickle

import numpy as np
import pytest
from made_network import made_backbone
from made_world import made_world

from detection.features.build import ExtractorSpec
from detection.networks.build import build_backbone
from detection.settings.training import Network
from detection.training.extractors import extractor_spec, make_extractor
from files.artefacts import DamagedArtefact

WINDOWS = np.array([[0, 0, 50, 40], [10, 20, 60, 70], [5, 5, 20, 90.0]], np.float32)


@pytest.mark.parametrize("features", ["spp", "rcnn"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_features(tmp_path, features, precision):
    run = made_world(tmp_path).run(
        workers=2, features=features, precision=precision, network=Network(keep_maps_gb=0.5)
    )
    backbone = build_backbone("alexnet", "random")
    extractor = make_extractor(run, backbone)
    spec = extractor_spec(run, extractor)
    made = pickle.loads(pickle.dumps(spec)).build()
    assert len(pickle.dumps(spec)) < 2000
    assert made.facts == extractor.facts
    image = np.random.default_rng(0).integers(0, 256, (100, 90, 3), np.uint8)
    found, expected = made.features(image, WINDOWS), extractor.features(image, WINDOWS)
    assert found.pooled.equal(expected.pooled)
    np.testing.assert_array_equal(found.index, expected.index)


def test_one_process_needs_none(tmp_path):
    run = made_world(tmp_path).run(workers=1)
    assert extractor_spec(run, make_extractor(run, made_backbone())) is None
    assert not run.folder.exists()


def test_a_damaged_trunk_is_refused(tmp_path):
    run = made_world(tmp_path).run(workers=2)
    spec = extractor_spec(run, make_extractor(run, build_backbone("alexnet", "random")))
    assert isinstance(spec, ExtractorSpec)
    content = spec.trunk.read_bytes()
    spec.trunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedArtefact, match=r"trunk-.* is damaged"):
        spec.build()
