"""Imports run one way: tools, commands, training, inference, features, proposals, files."""

import ast
from functools import cache
from graphlib import TopologicalSorter

import pytest
from paths import ROOT

ORDER = (
    ("files",),
    (
        *("networks", "boxes", "detections", "config", "settings", "run", "leftovers", "events"),
        *("machine", "jobs", "orphans", "cluster", "pool", "ranks", "proposals"),
    ),
    ("features", "learners", "data"),
    ("inference", "evaluation", "pages"),
    ("training", "classification"),
    ("commands",),
    ("tools",),
)
PACKAGES = ("classification", "commands", "detection", "files", "proposals", "tools")
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))
}


@cache
def imports_of(name):
    """Return the dotted names of all modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = whole & MODULES.keys()
            found |= submodules or {node.module}
    return found


def room_of(name):
    """Return the room (package, or part of detection) of a module; None outside the project."""
    first, *rest = name.split(".")
    if first == "detection":
        return rest[0] if rest else "detection"
    return first if first in PACKAGES else None


def test_there_are_modules():
    assert {
        "detection",
        "detection.training.pipeline",
        "proposals.store",
        "commands.train_det",
        "tools.train_det",
    } <= set(MODULES)
    assert {room_of(name) for name in MODULES} == {*LEVELS, "detection"}


@pytest.mark.parametrize("name", MODULES)
def test_imports(name):
    imported = imports_of(name)
    packages = {each.split(".")[0] for each in imported}
    if room_of(name) == "files":
        assert not packages & {"torch", "torchvision", "cv2"}
    if room_of(name) == "proposals":
        # Only the edge network and its training may import torch.
        own = {"torch"} if name in ("proposals.edge_network", "proposals.edge_training") else set()
        assert not packages & {"torch", "torchvision", "detection"} - own
    if name.startswith("detection"):
        assert "cv2" not in packages
        assert not packages & {"classification", "commands", "tools"}
    if name == "detection":  # its public names are from every room
        return
    for each in imported:
        room = room_of(each)
        if room is not None:
            assert room != "detection", f"{name} imports a public name; name its module"
            assert LEVELS[room] <= LEVELS[room_of(name)], f"{name} imports {each} from above"


def test_rooms_have_no_circles():
    graph = {}
    for name in MODULES:
        if name != "detection":
            rooms = {room_of(each) for each in imports_of(name)} - {None, room_of(name)}
            graph.setdefault(room_of(name), set()).update(rooms)
    TopologicalSorter(graph).prepare()


def test_modules_have_no_circles():
    graph = {name: imports_of(name) & MODULES.keys() for name in MODULES}
    TopologicalSorter(graph).prepare()


def test_rooms_name_nothing():
    for path in (ROOT / "detection").glob("*/__init__.py"):
        assert not imports_of(name_of(path)), f"{path} imports"
