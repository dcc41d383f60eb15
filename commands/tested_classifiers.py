"""What tests of classifiers left: their facts, what tells one from another, and rows of tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from files.names import content_key
from files.text import read_text

PREDICTIONS = "predictions.csv"
RESULTS = "results.json"
# The columns of the table that tell one finding from another.
SAME = ("task", "network", "features", "view", "size", "train", "test", "seed", "settings")
# Settings that ``features_of`` and the view have words for.
SAID = {
    *("split", "views", "size", "images"),
    *("network.levels", "network.pool", "network.crop"),
    *("training.sizes", "training.crop", "training.small", "training.epochs"),
}


def facts_of(folder: str | Path) -> dict[str, Any]:
    """The results.json of a test's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    facts: dict[str, Any] = json.loads(read_text(Path(folder) / RESULTS))
    return facts


def settings_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What determines a test's result but for the seed, by name; of its results.json."""
    trained = facts["trained"]
    found = {
        "split": facts["split"],
        "views": facts["views"],
        "size": facts["size"],
        # Tests from before images had a key tell the folder.
        "images": facts.get("images_key", facts["root"]),
        "shorter_side": trained.get("shorter_side"),
    }
    for group, values in (("network", facts["network"]), ("training", trained["training"])):
        found |= {f"{group}.{name}": value for name, value in values.items()}
    return found


def key_of(facts: Mapping[str, Any]) -> str:
    """A short name for what determines a test's result, but for what has columns of its own."""
    settings = settings_of(facts)
    for name in ("split", "views", "size"):
        del settings[name]
    return content_key({"trained": facts["trained"].get("settings"), "tested": settings})[:8]


def differences(tests: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the settings in which tests differ."""
    settings = [settings_of(facts) for facts in tests]
    names = dict.fromkeys(name for each in settings for name in each)
    return [
        name for name in names if any(each.get(name) != settings[0].get(name) for each in settings)
    ]


def check_seeds(folders: Sequence[str]) -> list[dict[str, Any]]:
    """The facts of tests of one training by several seeds.

    Raises:
        FileNotFoundError: a folder is no test's.
        ValueError: there is no test, the tests differ in more, or a seed is there twice.
    """
    if not folders:
        raise ValueError("a comparison needs one test or more on each side: --first, --second")
    tests = [facts_of(folder) for folder in folders]
    names = [f"{name} {_values(tests, name)}" for name in differences(tests)]
    if not names and len({facts["trained"].get("settings") for facts in tests}) > 1:
        names = ["the images they were trained on"]
    if names:
        raise ValueError(
            f"{folders[0]} and the others of its side differ in more than their seed: "
            f"{'; '.join(names)}; name tests of one training on each side"
        )
    for (one, facts), (other, others) in combinations(zip(folders, tests, strict=True), 2):
        seed = facts["trained"]["seed"]
        if seed == others["trained"]["seed"]:
            raise ValueError(f"{one} and {other} are both of seed {seed}; name each seed once")
    return tests


def _values(tests: Sequence[Mapping[str, Any]], name: str) -> str:
    found = [str(settings_of(facts).get(name)) for facts in tests]
    if name == "images":
        pairs = zip(tests, found, strict=True)
        found = [f"of {facts['root']} (key {value})" for facts, value in pairs]
    return " and ".join(dict.fromkeys(found))


def check_same_images(
    facts: Mapping[str, Any], others: Mapping[str, Any], folder: str | Path
) -> None:
    """See to it that two tests are of the same files, where both tell.

    Args:
        facts: of one test.
        others: of the other.
        folder: the other's.

    Raises:
        ValueError: they are not.
    """
    keys = {each["images_key"] for each in (facts, others) if "images_key" in each}
    if len(keys) > 1:
        raise ValueError(
            f"{folder} is a test of the images in {others['root']}, and not of the same files as "
            f"those in {facts['root']}; compare tests of the same images"
        )


def names_of_sides(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """What was tested on each side, in words, with every setting that the sides differ in."""
    unsaid = [name for name in differences([first, second]) if name not in SAID]
    for facts in (first, second):
        settings = settings_of(facts)
        more = "".join(f", {name} {settings.get(name)}" for name in unsaid)
        yield f"{features_of(facts)}{more}; {facts['views']} {facts['size']}"


def task_of(facts: Mapping[str, Any]) -> str:
    """The name of the folder of images."""
    return Path(facts["root"]).resolve().name


def features_of(facts: Mapping[str, Any]) -> str:
    """What a classifier was, in words: pooling, sizes and epochs of its training.

    Args:
        facts: a test's results.json.
    """
    network, training = facts["network"], facts["trained"]["training"]
    pooling = "6x6"
    if network["levels"]:
        pooling = f"pyramid {' '.join(map(str, network['levels']))} {network['pool']}"
    sides = training["crop"]
    if training["sizes"] != "single":
        sides = f"{training['small']}-{training['crop']}"
    return f"{pooling}, {training['sizes']} {sides}, {training['epochs']} epochs"


def rows_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of results, a measure each, of a test's results.json."""
    row = {
        "task": task_of(facts),
        "network": facts["network"]["name"],
        "features": features_of(facts),
        "view": facts["views"],
        "size": facts["size"],
        "train": "train",
        "test": facts["split"],
        "seed": facts["trained"]["seed"],
        "settings": key_of(facts),
    }
    measures = ("top1", "top5", "mean_class")
    return [
        row | {"metric": name, "value": f"{facts[name]:.4f}"} for name in measures if name in facts
    ]
