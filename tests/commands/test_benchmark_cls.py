"""The classifiers' benchmark: both loops run, and its crops equal the views from maps."""

import json

import numpy as np
import pytest
from made_classes import write_classes

from classification.network import build_network
from classification.scorer import ViewScorer
from classification.views import inputs_of
from commands import benchmark_cls

TINY = """
data: {shorter_side: 72}
network: {name: alexnet, levels: [1, 2], hidden: 16}
training: {crop: 64, small: 64, batch: 6}
"""


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's loader on processes and cores
def test_both_loops_and_all_views(tmp_path, capsys):
    root = write_classes(tmp_path / "data", train=4, val=2)
    (tmp_path / "tiny.yaml").write_text(TINY)
    out = tmp_path / "out.json"
    benchmark_cls.main(
        root, tmp_path / "tiny.yaml", epochs=2, rounds=1, images=2, workers=1, out=out
    )
    result = json.loads(out.read_text())
    for rates in result["images_per_second"].values():
        assert min(rates.values()) > 0
    assert set(result["images_per_second"]) == {"ours", "torchvision"}
    assert 0 < result["views"]["probabilities differ by"] < 0.1
    said = capsys.readouterr().out
    assert "other epochs: " in said
    assert "96 views by crops one by one: " in said


def test_one_epoch_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--epochs must be 2 or more"):
        benchmark_cls.main(tmp_path, epochs=1)


def test_crops_together_are_the_crops_one_by_one(rng):
    scorer = ViewScorer(build_network("alexnet", 3, levels=(1, 2), hidden=8), "multi", 64, 72)
    image = rng.integers(0, 256, (90, 110, 3), np.uint8)
    one, other = (benchmark_cls.of_crops(scorer, image, together=each) for each in (True, False))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert one.sum() == pytest.approx(1, abs=1e-5)
    assert sum(len(each.corners) for each in inputs_of(image, "multi", 64, 72)) == 96
