"""The edge network and its training: shapes, fusing, targets, crops, loss, and that it learns."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detection.run import silent
from files.writing import file_digest
from proposals.edge_network import (
    EdgeNetwork,
    find_edges,
    fused,
    load_edges,
    prepared,
    save_edges,
)
from proposals.edge_training import (
    EdgeSample,
    balanced_loss,
    draw_crop,
    outlines,
    read_bsds,
    read_voc_masks,
    train_edges,
)
from proposals.edges import LearnedEdges


def made_network(seed=0):
    """Return a random network whose normalisation is not the identity."""
    torch.manual_seed(seed)
    network = EdgeNetwork()
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 32, 40))
    return network.eval()


def made_sample(rng, height=80, width=100):
    image = rng.integers(90, 130, (height, width, 3), np.uint8)
    edges = np.zeros((height, width), np.float32)
    image[20:60, 30:80] = (200, 40, 40)
    cv2.rectangle(edges, (30, 20), (79, 59), 1.0, 1)
    return EdgeSample(image, edges, np.ones_like(edges))


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (37, 53), (64, 48)])
def test_maps_have_the_images_size(rng, shape):
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    network = made_network()
    edges = find_edges(network, image)
    assert edges.dtype == np.float32
    assert edges.shape == shape
    assert edges.min() >= 0
    assert edges.max() <= 1
    levels = network.all_levels(prepared(image[None]))
    assert [tuple(each.shape) for each in levels] == [(1, 1, *shape)] * 4
    torch.testing.assert_close(levels[0], network(prepared(image[None])))


def test_fusing_and_saving_keep_the_function(rng, tmp_path):
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    network = made_network()
    before = network(prepared(image[None]))
    path = tmp_path / "edges.safetensors"
    save_edges(network, path, {"training": "none"})
    torch.testing.assert_close(network(prepared(image[None])), before, rtol=1e-3, atol=1e-4)
    loaded = load_edges(str(path))
    torch.testing.assert_close(loaded(prepared(image[None])), before, rtol=2e-2, atol=2e-2)
    assert path.stat().st_size < 1_000_000
    first = file_digest(path)
    save_edges(loaded, path, {"training": "none"})
    assert file_digest(path) == first


def test_the_shipped_network(rng):
    path = Path(LearnedEdges().model)
    assert path.stat().st_size < 1_000_000
    # The edges of a bright rectangle on a dark ground are strong on its outline and weak inside.
    image = np.full((120, 160, 3), 60, np.uint8)
    image += rng.integers(0, 8, image.shape, np.uint8)
    image[30:90, 40:110] += 110
    edges = LearnedEdges()(image)
    along = [edges[50:70, 38:42].max(axis=1), edges[50:70, 108:112].max(axis=1)]
    assert np.min(along) > 5 * max(edges[50:70, 65:85].max(), 0.02)
    assert np.array_equal(LearnedEdges()(image), edges)
    assert (LearnedEdges(power=3.0)(image) <= edges).all()


def test_what_is_no_edge_network_is_refused(tmp_path, rng):
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    with pytest.raises(FileNotFoundError, match="no edge network at"):
        LearnedEdges(str(tmp_path / "none.safetensors"))(image)
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors is not a whole edge network"):
        LearnedEdges(str(path))(image)


def test_a_damaged_network_is_refused(tmp_path):
    path = tmp_path / "damaged.safetensors"
    content = bytearray(Path(LearnedEdges().model).read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.safetensors is not a whole edge network"):
        load_edges(str(path))


def slow_outlines(mask):
    """Return outlines; a search over all labelled pixels finds the nearest of each void pixel."""
    height, width = mask.shape
    labelled = np.argwhere(mask != 255)
    filled = mask.copy()
    for row, column in np.argwhere(mask == 255):
        away = ((labelled - (row, column)) ** 2).sum(axis=1)
        near = labelled[away == away.min()]
        values = {int(mask[r, c]) for r, c in near}
        filled[row, column] = min(values) if len(values) == 1 else 254
    edges = np.zeros(mask.shape)
    for row in range(height):
        for column in range(width):
            for other_row, other_column in ((row + 1, column), (row, column + 1)):
                if other_row < height and other_column < width:
                    here, there = filled[row, column], filled[other_row, other_column]
                    if here != there:
                        edges[row, column] = edges[other_row, other_column] = 1
    return edges


def test_outlines_of_masks():
    mask = np.zeros((12, 14), np.uint8)
    mask[3:8, 3:7] = 1
    mask[3:8, 7:11] = 2
    edges, counts = outlines(mask)
    np.testing.assert_array_equal(edges, slow_outlines(mask))
    assert counts.all()
    # A stripe of void is along the outline: the outline is inside it, its rest does not count.
    mask = np.zeros((21, 21), np.uint8)
    mask[5:16, 5:16] = 255
    mask[7:14, 7:14] = 1
    edges, counts = outlines(mask)
    inside = edges[10]
    assert np.flatnonzero(inside).tolist() == [5, 6, 14, 15]
    assert (counts[(mask == 255) & (edges == 0)] == 0).all()
    assert counts[mask != 255].all()


@pytest.mark.parametrize("value", [0, 3, 255])
def test_masks_of_one_value(value):
    edges, counts = outlines(np.full((5, 6), value, np.uint8))
    assert not edges.any()
    assert counts.all() == (value != 255)


def test_reading_the_training_images(tmp_path, rng):
    voc, bsds = tmp_path / "VOC2007", tmp_path / "bsds"
    for folder in (
        voc / "ImageSets/Segmentation",
        voc / "SegmentationObject",
        voc / "JPEGImages",
        bsds / "images",
        bsds / "boundaries",
    ):
        folder.mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("one\ntwo\n")
    image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8))
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15] = 1
    for name in ("one", "two"):
        image.save(voc / f"JPEGImages/{name}.jpg")
    # Image "one" has no mask, as is possible in a part of VOC.
    Image.fromarray(mask).save(voc / "SegmentationObject/two.png")
    (found,) = read_voc_masks(voc, "train")
    assert found.image.shape == (20, 30, 3)
    np.testing.assert_array_equal(found.edges, outlines(mask)[0])
    image.save(bsds / "images/7.jpg")
    share = np.zeros((20, 30), np.uint8)
    share[4], share[9] = 204, 51
    Image.fromarray(share).save(bsds / "boundaries/7.png")
    (found,) = read_bsds(bsds)
    assert found.edges[4].all()
    assert found.edges.sum() == 30
    assert not found.counts[9].any()
    assert found.counts.sum() == 19 * 30


def write_masked(voc, name, mask):
    for folder in ("ImageSets/Segmentation", "SegmentationObject", "JPEGImages"):
        (voc / folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(voc / f"JPEGImages/{name}.png")
    Image.fromarray(mask).save(voc / f"SegmentationObject/{name}.png")


def test_names_and_lists_of_training_images_are_read_as_others(tmp_path):
    write_masked(tmp_path, "sub/a.rf.1", np.zeros((20, 30), np.uint8))
    split = tmp_path / "ImageSets/Segmentation/train.txt"
    split.write_bytes("sub/a.rf.1\n".encode("utf-16"))
    assert len(read_voc_masks(tmp_path, "train")) == 1
    split.write_text("../a\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 1, names the image '\.\./a'"):
        read_voc_masks(tmp_path, "train")


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (
            np.zeros((30, 20), np.uint8),
            r"a\.png has the shape \(30, 20\), but its image .* has \(20, 30\)",
        ),
        (np.zeros((20, 30, 3), np.uint8), r"a\.png is not a mask: .* got colours"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, mask, words):
    write_masked(tmp_path, "a", mask)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\n")
    with pytest.raises(ValueError, match=words):
        read_voc_masks(tmp_path, "train")
    path = tmp_path / "SegmentationObject/a.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a mask"):
        read_voc_masks(tmp_path, "train")


def test_crops_keep_edges_where_they_are(rng):
    image = made_sample(rng)
    for seed in range(20):
        crop = draw_crop(image, 64, np.random.default_rng(seed))
        assert crop.image.shape == (64, 64, 3)
        assert crop.edges.shape == crop.counts.shape == (64, 64)
        assert set(np.unique(crop.edges)) <= {0, 1}
        found = cv2.GaussianBlur(crop.image.mean(axis=2), (0, 0), 1)
        slope = np.hypot(cv2.Sobel(found, -1, 1, 0), cv2.Sobel(found, -1, 0, 1))
        if crop.edges.sum() > 20:
            assert slope[crop.edges > 0].mean() > 2 * slope[crop.edges == 0].mean()


def test_loss_by_hand():
    logits = torch.tensor([0.0, 2.0, -1.0, 5.0]).view(1, 1, 2, 2)
    edges = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 2, 2)
    counts = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    # One boundary pixel and two other pixels count; the last pixel does not.
    losses = [np.log(2), np.log(1 + np.exp(2)), np.log(1 + np.exp(-1))]
    expected = (2 / 3 * losses[0] + 1.1 / 3 * (losses[1] + losses[2])) / 3
    assert balanced_loss(logits, edges, counts).item() == pytest.approx(expected, rel=1e-5)
    assert balanced_loss(logits, edges, 0 * counts).item() == 0


def test_training_learns_and_repeats(rng):
    images = [made_sample(rng) for _ in range(2)]
    events = []

    def trained(steps):
        return train_edges(
            images, steps=steps, batch=2, side=48, progress=silent, report=events.append
        )

    network = trained(100)
    edges = find_edges(fused(network), images[0].image)
    on, off = images[0].edges > 0, cv2.dilate(images[0].edges, np.ones((9, 9))) == 0
    assert edges[on].mean() > edges[off].mean() + 0.3
    assert events[0]["step"] == 100
    one, two = trained(2), trained(2)
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_changed_network_is_read_again(tmp_path, rng):
    """The new file is read in the same process, and the key changes, too."""
    image = rng.integers(0, 256, (16, 24, 3), np.uint8)
    path, found, keys = tmp_path / "edges.safetensors", [], set()
    for seed in (1, 2):
        save_edges(made_network(seed), path, {"training": "none"})
        source = LearnedEdges(str(path))
        found.append(source(image))
        keys.add(source.key)
    assert not np.array_equal(*found)
    assert len(keys) == 2
