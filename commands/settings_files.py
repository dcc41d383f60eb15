"""Find and read the files of settings that a command line names."""

import argparse
import logging
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from detection.config import Config

DEFAULT_CONFIG = Path("configs/voc07_alexnet.yaml")
# Folder of configs/ when a tool is called from another folder: the repository, or the folder in
# which the package is installed.
HOME = Path(__file__).resolve().parents[1]

logger = logging.getLogger(__name__)


def default_config(name: Path = DEFAULT_CONFIG) -> Path | None:
    """The default configuration in the working folder, otherwise the one of the package.

    None, with a warning, if neither exists.
    """
    for path in (name, HOME / name):
        if path.is_file():
            return path
    logger.warning(
        "no %s in %s or %s: settings have the defaults of --help", name, Path.cwd(), HOME
    )
    return None


def packaged_configs(words: list[str]) -> list[str]:
    """The command line, with ``configs/NAME.yaml`` replaced by the package's file if needed.

    So the documented commands work in any folder.
    """
    found = list(words)
    for place, (before, word) in enumerate(pairwise(["", *words])):
        path = word if before == "--config" else word.partition("--config=")[2]
        packaged = HOME / path
        known = Path(path).parent == DEFAULT_CONFIG.parent and packaged.is_file()
        if known and not Path(path).exists():
            logger.info("%s is not in %s: reading %s", path, Path.cwd(), packaged)
            found[place] = word.removesuffix(path) + str(packaged)
    return found


def trained_settings(arguments: list[str]) -> dict[str, Any]:
    """The settings in config.yaml of the run that the arguments name, as flat dotted keys.

    Raises:
        ValueError: the run was trained by another version of this project.
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
            f"{trained} was written by another version: its settings {', '.join(sorted(unknown))} "
            "do not exist in this one; train the run again"
        )
    return settings


def check_settings_files(arguments: list[str]) -> None:
    """Read the files of settings that the arguments name, for clearer errors than a parser's.

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
    """The settings of a YAML file; none if it is empty.

    Raises:
        ValueError: the file is not YAML, or has no names and values.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path.absolute()} is not valid YAML in UTF-8 ({reason})") from error
    if not isinstance(settings, dict | None):
        raise ValueError(
            f"{path.absolute()} has no settings: expected lines such as 'seed: 3', got a "
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
