"""What every tool shares: flags from types, logs on stderr, an expected error said in one line."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, auto_cli
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from detection.config import Config

DEFAULT_CONFIG = Path("configs/voc07_alexnet.yaml")

# Huge pages for torch's large tensors, where Linux leaves that to the program: detection at one
# scale took 0.20 s of processor time instead of 0.23, with the same result. Torch looks at it when
# it makes its first tensor; worker processes inherit it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


class WordsParser(ArgumentParser):
    """Takes the words of the line that are no flags for the list of strings ``main`` needs."""

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Add an argument; one that is required stands on the line without its name."""
        if not options.pop("required", False):
            return super().add_argument(*names, **options)
        name = names[0].removeprefix("--")
        return super().add_argument(name, nargs="+", type=str, help=options["help"])


def run_tool(main: Callable[..., Any] | dict[str, Any], **options: Any) -> None:
    """Call ``main``, or the one of several named functions asked for, with the line's flags."""
    _guarded(lambda: auto_cli(main, as_positional=False, **options))


def run_configured(main: Callable[[Config], None]) -> None:
    """Call ``main`` with a Config from --config and flags.

    Without --config, configs/voc07_alexnet.yaml is taken.
    """
    asked = any(word.split("=")[0] == "--config" for word in sys.argv[1:])
    files = [] if asked else [str(DEFAULT_CONFIG)]
    _guarded(lambda: main(parse_config(default_config_files=files)))


def run_on_trained(main: Callable[[Config], None]) -> None:
    """Call ``main`` with the settings a run was trained with, changed by flags.

    The run is --run's folder or the one that --config (or the default configuration) names. A
    --limit of training is not taken over.
    """
    _guarded(lambda: main(parse_config(set_defaults=trained_settings(sys.argv[1:]))))


def parse_config(**options: Any) -> Config:
    """The Config of the command line.

    Raises:
        ValueError: a group of settings is given as a single value.
    """
    words = ["--detection.bbox=false" if word == "--no-bbox" else word for word in sys.argv[1:]]
    try:
        return auto_cli(Config, args=words, as_positional=False, return_instance=True, **options)
    except TypeError as error:
        raise ValueError(
            f"the configuration cannot be used ({error}); a group such as svm needs keys of its own"
        ) from error


def trained_settings(arguments: list[str]) -> dict[str, Any]:
    """The settings in config.yaml of the run that the arguments name, as flat dotted keys."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default=str(DEFAULT_CONFIG))
    parser.add_argument("--run")
    known, _ = parser.parse_known_args(arguments)
    folder = known.run
    if folder is None and Path(known.config).is_file():
        folder = (yaml.safe_load(Path(known.config).read_text()) or {}).get("run")
    trained = Path(folder or Config.run) / "config.yaml"
    if not trained.is_file():
        return {}
    settings = _flat(yaml.safe_load(trained.read_text()))
    settings.pop("limit", None)
    return settings


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def with_progress(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """A progress bar with the time left, on stderr; in a file a line a minute."""
    every = 0.1 if sys.stderr.isatty() else 60.0
    with logging_redirect_tqdm():
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.INFO)  # tqdm's own handler forgets the level
        yield from tqdm(items, desc=what, total=total, dynamic_ncols=True, mininterval=every)


def _guarded(call: Callable[[], Any]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        call()
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
