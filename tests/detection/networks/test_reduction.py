"""Channels reduced by PCA: both parts of scikit-learn's directions, and their variance."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from detection.networks.reduction import CellMoments


def made_maps(rng, channels=12, images=4):
    mixing = rng.normal(0, 1, (channels, channels)) * np.linspace(3, 0.1, channels)
    return [
        torch.from_numpy(
            (mixing @ rng.normal(0, 1, (channels, 5 * 7 + n))).reshape(channels, 1, -1)
        )
        .float()
        .add(2.0)
        for n in range(images)
    ]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_equals_scikit_learn(rng, count):
    maps, moments = made_maps(rng), CellMoments(12)
    for map in maps:
        moments.add(map)
    reduction, share = moments.reduction(2 * count)
    cells = torch.cat([map.flatten(1) for map in maps], dim=1).t().double().numpy()
    pca = PCA(count).fit(cells)
    both = torch.cat([reduction(map[None]).flatten(2)[0] for map in maps], dim=1).t().numpy()
    assert both.min() == 0
    found = both[:, :count] - both[:, count:]
    expected = pca.transform(cells)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-3)
    assert share == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)
    assert (reduction.weight[:count].flatten(1).max(dim=1).values > 0).all()
    assert not any(each.requires_grad for each in reduction.parameters())


def test_order_of_images_and_their_type_are_no_matter(rng):
    maps = made_maps(rng)
    found = []
    for order in (maps, maps[::-1], [map.bfloat16() for map in maps]):
        moments = CellMoments(12)
        for map in order:
            moments.add(map)
        found.append(moments.reduction(4)[0].weight)
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0], atol=0.05, rtol=0)


def test_what_cannot_be():
    with pytest.raises(
        ValueError, match="cannot make 4 channels, two for each direction, of 12, from 0"
    ):
        CellMoments(12).reduction(4)
    moments = CellMoments(2)
    moments.add(torch.ones(2, 1, 1))
    for channels in (1, 4):
        with pytest.raises(ValueError, match=f"cannot make {channels} channels"):
            moments.reduction(channels)
