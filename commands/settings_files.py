"""Files of settings: where those that a command line names lie, and what they hold."""

import argparse
import logging
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from detection.config import Config

DEFAULT_CONFIG = Path("configs/voc07_alexnet.yaml")
# Where configs/ is, too, when a tool is called from another folder: the repository, or the folder
# that the package is installed in.
HOME = Path(__file__).resolve().parents[1]

logger = logging.getLogger(__name__)


def default_config(name: Path = DEFAULT_CONFIG) -> Path | None:
    """A default configuration of the working folder, or else the one that belongs to the tools.

    None, with a warning, where neither is there.
    """
    for path in (name, HOME / name):
        if path.is_file():
            return path
    logger.warning(
        "no %s in %s or %s: settings have the defaults of --help", name, Path.cwd(), HOME
    )
    return None


def packaged_configs(words: list[str]) -> list[str]:
    """The command line with a ``configs/NAME.yaml`` that is not in the working folder found.

    The configurations come with the package, so that the documented commands work in any folder.
    """
    found = list(words)
    for place, (before, word) in enumerate(pairwise(["", *words])):
        path = word if before == "--config" else word.partition("--config=")[2]
        packaged = HOME / path
        known = Path(path).parent == DEFAULT_CONFIG.parent and packaged.is_file()
        if known and not Path(path).exists():
            logger.info("%s is not in %s: %s is read", path, Path.cwd(), packaged)
            found[place] = word.removesuffix(path) + str(packaged)
    return found


def trained_settings(arguments: list[str]) -> dict[str, Any]:
    """The settings in config.yaml of the run that the arguments name, as flat dotted keys.

    Raises:
        ValueError: they are of another version of this project.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--run")
    known, _ = parser.parse_known_args(arguments)
    folder = known.run
    if folder is None:
        path = known.config or default_config()
        folder = read_settings(path).get("run") if path and path.is_file() else None
    trained = Path(folder or Config.run) / "config.yaml"
    if not trained.is_file():
        return {}
    settings = _flat(read_settings(trained)) | {"run": str(trained.parent)}
    for name in ("limit", "cluster"):
        settings.pop(name, None)
    if unknown := settings.keys() - _flat(asdict(Config())):
        raise ValueError(
            f"{trained} is of another version, whose settings {', '.join(sorted(unknown))} do not "
            "exist here; train the run again"
        )
    return settings


def check_settings_files(arguments: list[str]) -> None:
    """Read the files of settings that the arguments name, for a better sentence than a parser's.

    Raises:
        ValueError: as ``read_settings``.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[], nargs="?", const="")
    known, _ = parser.parse_known_args(arguments)
    for path in map(Path, known.config):
        if path.is_file():
            read_settings(path)


def read_settings(path: Path) -> dict[str, Any]:
    """What a file of settings holds; nothing, if it is empty.

    Raises:
        ValueError: the file is no YAML, or not of names and values.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path.absolute()} is not valid YAML in UTF-8 ({reason})") from error
    if not isinstance(settings, dict | None):
        raise ValueError(
            f"{path.absolute()} holds no settings: expected lines such as 'seed: 3', got a "
            f"{type(settings).__name__}"
        )
    return settings or {}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
