from classification.config import Training
from classification.sizes import size_of_epoch


def sizes(kind, epochs=200, seed=0):
    return [size_of_epoch(Training(sizes=kind), seed, epoch) for epoch in range(epochs)]


def test_single_and_alternating():
    assert sizes("single", 4) == [224] * 4
    assert sizes("alternating", 5) == [224, 180, 224, 180, 224]


def test_random_is_a_function_of_seed_and_epoch():
    found = sizes("random", 2000)
    assert set(found) == set(range(180, 225))
    assert found == sizes("random", 2000)
    assert found != sizes("random", 2000, seed=1)
