"""The page on adding a network: its example is short, and works unchanged."""

import re

import numpy as np
import torch
from paths import ROOT

from detection.features.extractor import SPPExtractor
from detection.networks.build import build_backbone
from detection.networks.zoo.catalogue import NETWORKS

SHEET = ROOT / "docs" / "adding-a-network.md"


def test_the_file_of_the_sheet_works(monkeypatch, rng):
    (code,) = re.findall(r"```python\n(.*?)```", SHEET.read_text(), re.DOTALL)
    assert len(code.splitlines()) < 40
    names: dict = {}
    exec(code, names)
    monkeypatch.setitem(NETWORKS, "vgg11", names["VGG11"])
    backbone = build_backbone("vgg11", "random")
    assert (backbone.channels, backbone.stride, backbone.pooled_length) == (512, 16, 25600)
    convolutions = [layer for layer in backbone.trunk if isinstance(layer, torch.nn.Conv2d)]
    widths = [convolutions[number].out_channels for number in backbone.stages]
    assert widths == [64, 128, 256, 512, 512]
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    found = SPPExtractor(backbone, (64,)).features(image, np.array([[5, 5, 60, 50]]))
    assert found.pooled.shape == (1, 25600)
