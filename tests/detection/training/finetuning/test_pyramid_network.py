"""The network that fine-tuning trains: which layers learn, and the centre of its input."""

from dataclasses import replace

import pytest
import torch
from made_network import (
    SCALES,
    SETTINGS,
    changed,
    made_network,
    names_of,
    window_batches,
)

from detection.features.extractor import SPPExtractor
from detection.networks.backbone import Backbone
from detection.training.finetuning import pyramid_network
from detection.training.finetuning.pyramid_network import PyramidNetwork, input_moments


@pytest.mark.parametrize("layers", ["fc", "conv5", "conv4", "conv3", "conv2"])
def test_what_is_trained(train, layers):
    settings = replace(SETTINGS, train_from=layers, steps=2)
    start = made_network(settings)
    assert start.trained().keys() == names_of(layers)
    assert len(start.convolutions) == (0 if layers == "fc" else 6 - int(layers[-1]))
    network = train(settings)
    assert changed(network, start) == names_of(layers)
    # The trained trunk is the one that extracts features later.
    assert network.trunk is network.extractor.backbone.trunk is network.extractor.trunk
    # After its convolutions were trained, the head can be trained alone.
    again = PyramidNetwork(network.extractor, network.head)
    assert again.trained().keys() == names_of("fc")


def test_stages_of_several_convolutions():
    network = made_network()
    backbone = Backbone(
        "other", network.trunk, network.extractor.backbone.preprocessing, stages=(0, 1, 1, 2, 4)
    )
    extractor = SPPExtractor(backbone, SCALES)
    for layers, count in (("fc", 0), ("conv5", 1), ("conv4", 3), ("conv3", 4), ("conv2", 4)):
        assert len(PyramidNetwork(extractor, network.head, layers).convolutions) == count


def test_moments_of_pooled_windows(records, monkeypatch):
    monkeypatch.setattr(pyramid_network, "MOMENT_IMAGES", 5)
    network, batches = made_network(), window_batches(records)
    rows = torch.cat(
        [network.pooled(view).detach() for step in range(3) for view in batches.draw(step)]
    ).double()
    mean, spread = input_moments(network, batches)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), rows.mean(dim=0), rtol=1e-6, atol=1e-6)
    assert spread == pytest.approx(rows.var(dim=0, correction=0).mean().item())
    with torch.no_grad():
        network.trunk[-2].weight.zero_()
    with pytest.raises(ValueError, match=r"all pooled features are the same; .*check the weights"):
        input_moments(network, batches)


def test_a_centred_head_becomes_one_of_pooled_windows(records):
    network = made_network(SETTINGS)
    network.mean.uniform_(0, 3, generator=torch.Generator().manual_seed(5))
    view = window_batches(records).draw(0)[0]
    network.eval()
    pooled = network.pooled(view)
    before = network(pooled)
    after = network.head.shift_input(network.mean)(pooled)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
