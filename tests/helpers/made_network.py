"""A tiny network for fine-tuning, and its training on made images."""

import pytest
import torch
from made_batches import CLASSES, Windows, made_batches
from torch import nn

from detection.features.extractor import SPPExtractor
from detection.networks.backbone import Backbone, Preprocessing
from detection.networks.head import Head
from detection.settings.training import Finetune
from detection.training.finetuning.descent import Descent
from detection.training.finetuning.finetune import finetune_head
from detection.training.finetuning.pyramid_network import PyramidNetwork

SCALES = (32, 48)
CHANNELS = 8
SETTINGS = Finetune(
    hidden=16,
    steps=20,
    batch=16,
    images=2,
    conv_images=2,
    learning_rate=0.01,
    scale="random",
    jitter=0,
    checkpoint_every=3,
)
OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
LAYERS = pytest.mark.parametrize("layers", ["fc", "conv4"])
CONVOLUTIONS = {"conv1": "0", "conv2": "3", "conv3": "5", "conv4": "7", "conv5": "9"}


def made_backbone():
    """Return five small convolutions with a stride of four pixels."""
    trunk = nn.Sequential(
        *(nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1), nn.ReLU(inplace=True)),
        nn.MaxPool2d(3, stride=2, padding=1),
        *(nn.Conv2d(CHANNELS, 6, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, CHANNELS, 3, padding=1), nn.ReLU(inplace=True)),
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in trunk:
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                layer.bias.zero_()
    return Backbone("tiny", trunk, Preprocessing("rgb", (110.0,) * 3, (40.0,) * 3), shrink=0.5)


def made_network(settings=SETTINGS):
    extractor = SPPExtractor(made_backbone(), SCALES)
    head = Head(extractor.length, CLASSES, settings.hidden, settings.dropout)
    head.initialise(torch.Generator().manual_seed(0), 3.0)
    return PyramidNetwork(extractor, head, settings.train_from)


def window_batches(records, settings=SETTINGS, seed=0, store=None):
    extractor = SPPExtractor(made_backbone(), SCALES)
    store = Windows(60) if store is None else store
    return made_batches(records, settings, seed, choice=extractor.choice, store=store)


def made_training(records, checkpoint):
    """Return a function that trains a network on the images and returns it."""

    def train(
        settings=SETTINGS,
        network=None,
        held_back=None,
        key="key",
        seed=0,
        autocast=False,
        **options,
    ):
        network = made_network(settings) if network is None else network
        descent = Descent(network, settings, seed, autocast=autocast)
        batches = window_batches(records, settings, seed)
        head = finetune_head(descent, batches, held_back, checkpoint, key, **options)
        assert head is network.head
        return network

    return train


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def changed(one, other):
    """Return the names of the parameters that differ."""
    other = other.state_dict()
    return {name for name, value in one.state_dict().items() if not torch.equal(value, other[name])}


def names_of(layers):
    """Return the names of the parameters that are trained from a layer on."""
    known = sorted(CONVOLUTIONS)
    convolutions = [] if layers == "fc" else known[known.index(layers) :]
    trained = [f"trunk.{CONVOLUTIONS[name]}" for name in convolutions]
    trained += ["head.fc6", "head.fc7", "head.fc8"]
    return {f"{layer}.{kind}" for layer in trained for kind in ("weight", "bias")}
