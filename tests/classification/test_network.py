import pytest
import torch

from classification.network import build_network, load_classifier, save_classifier
from detection.networks.build import build_backbone

PAPER = ("zf5", "convnet5", "overfeat5", "overfeat7")
LEVELS = [(), (1, 2, 3, 6), (1, 2, 3, 4)]


def pixels(side, count=2, width=None):
    generator = torch.Generator().manual_seed(0)
    shape = (count, side, width or side, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def logits(network, images):
    with torch.no_grad():
        return network(network.preprocess(images))


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("levels", LEVELS)
def test_networks_of_the_paper(name, levels):
    network = build_network(name, 5, levels=levels, hidden=8, crop=224)
    bins = sum(level * level for level in levels) or 36
    channels = 512 if name.startswith("overfeat") else 256
    assert network.head.fc6.in_features == bins * channels
    assert network.crop == (None if levels else 224)
    found = logits(network, pixels(224, 1))
    assert found.shape == (1, 5)
    # Logits are of the order of 1 at the start, whatever the pixels' range.
    assert 0.001 < found.abs().mean() < 5
    if levels:
        assert logits(network, pixels(180, 1, 239)).shape == (1, 5)
    if not levels and name in ("zf5", "convnet5"):
        assert (network.pooling[0].kernel_size, network.pooling[0].stride) == (3, 2)


def test_any_trunk_of_the_catalogue():
    network = build_network("resnet18/layer3", 3, hidden=8, levels=(1, 2))
    assert logits(network, pixels(64)).shape == (2, 3)


def test_the_seed_decides_the_weights():
    one, same, other = (
        build_network("alexnet", 3, hidden=8, levels=(1, 2), seed=seed) for seed in (1, 1, 2)
    )
    images = pixels(64)
    assert torch.equal(logits(one, images), logits(same, images))
    assert not torch.equal(logits(one, images), logits(other, images))


@pytest.mark.parametrize("name", ["alexnet", "resnet18/layer4"])
def test_fc6_begins_with_inputs_of_mean_square_1(name):
    network = build_network(name, 3, hidden=8)
    before = {n: value.clone() for n, value in network.trunk.named_buffers()}
    assert all(value.unique().tolist() in ([0], [1]) for value in before.values())
    with torch.no_grad():
        maps = network.train().trunk(network.preprocess(pixels(112)))
    inputs = network.head.input_scale * network.pooling(maps)
    assert 0.5 < inputs.square().mean() < 2


@pytest.mark.parametrize("levels", [(), (1, 3)])
def test_files(tmp_path, levels):
    network = build_network("alexnet", 3, levels=levels, hidden=8, crop=120, pool="mean")
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, network, ["a", "b", "c"], {"seed": 4})
    found, classes, facts = load_classifier(path)
    assert (classes, facts) == (["a", "b", "c"], {"seed": 4})
    assert found.settings == network.settings
    assert not found.training
    assert torch.equal(logits(found, pixels(120)), logits(network, pixels(120)))
    again = tmp_path / "again.safetensors"
    save_classifier(again, found, classes, facts)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["alexnet", "resnet18/layer3"])
def test_the_trunk_can_be_the_detectors(tmp_path, name):
    network = build_network(name, 3, levels=(1, 2), hidden=8)
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, network, ["a", "b", "c"], {})
    backbone = build_backbone(name, str(path))
    images = network.preprocess(pixels(64))
    with torch.no_grad():
        assert torch.equal(backbone(images), network.trunk(images))
    with pytest.raises(ValueError, match="is not of vgg16"):
        build_backbone("vgg16", str(path))


def test_no_pyramid_takes_one_size():
    network = build_network("alexnet", 3, levels=(), hidden=8, crop=112)
    assert logits(network, pixels(112)).shape == (2, 3)
    with pytest.raises(ValueError, match="sees images of 112x112 only, got 112x128"):
        logits(network, pixels(112, width=128))


def test_sizes_that_are_too_small():
    with pytest.raises(ValueError, match=r"has 4x4 cells for a crop of 90"):
        build_network("alexnet", 3, levels=(), hidden=8, crop=90)
    with pytest.raises(ValueError, match="are too small for zf5"):
        build_network("zf5", 3, levels=(), hidden=8, crop=10)


def test_one_class():
    with pytest.raises(ValueError, match="two classes or more, got 1"):
        build_network("alexnet", 1)


def test_files_that_are_no_classifiers(tmp_path):
    with pytest.raises(FileNotFoundError, match="no classifier at"):
        load_classifier(tmp_path / "none.safetensors")
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"12345678")
    with pytest.raises(ValueError, match="is not a classifier"):
        load_classifier(path)
