"""What every tool shares: flags from types, logs on stderr, an expected error said in one line."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import asdict
from io import TextIOWrapper
from itertools import chain, compress, pairwise
from operator import not_
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import auto_cli
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from commands.flags import FlagsParser
from commands.stopping import stoppable
from detection.config import Config

DEFAULT_CONFIG = Path("configs/voc07_alexnet.yaml")
# Where configs/ is, too, when a tool is called from another folder: the repository, or the folder
# that the package is installed in.
HOME = Path(__file__).resolve().parents[1]
# Exit status of a tool that did its work on all images but some, which could not be read.
SKIPPED_STATUS = 3
SKIPPED_LINES = 20

logger = logging.getLogger(__name__)


class WordsParser(FlagsParser):
    """Takes the words of the line that are no flags for the list of strings ``main`` needs."""

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Add an argument; one that is required stands on the line without its name."""
        if not options.pop("required", False):
            return super().add_argument(*names, **options)
        name = names[0].removeprefix("--")
        return super().add_argument(name, nargs="+", type=str, help=options["help"])


def run_tool(main: Callable[..., Any] | dict[str, Any], **options: Any) -> None:
    """Call ``main``, or the one of several named functions asked for, with the line's flags."""
    given: dict[str, Any] = {"parser_class": FlagsParser, "as_positional": False} | options
    _guarded(lambda words: auto_cli(main, args=words, **given))


def run_configured(
    main: Callable[[Any], None], kind: type = Config, default: Path = DEFAULT_CONFIG
) -> None:
    """Call ``main`` with settings of a kind, the detector's or others, from --config and flags.

    Without --config, ``default_config`` is taken.
    """

    def configured(words: list[str]) -> None:
        asked = any(word.split("=")[0] == "--config" for word in words)
        path = None if asked else default_config(default)
        main(parse_config(words, kind, default_config_files=[] if path is None else [str(path)]))

    _guarded(configured)


def run_on_trained(main: Callable[[Config], None]) -> None:
    """Call ``main`` with the settings a run was trained with, changed by flags.

    The run is --run's folder or the one that --config (or the default configuration) names; the
    other settings in that file count only where the run has none of its own. A --limit or --cluster
    of training is not taken over.
    """

    def on_trained(words: list[str]) -> None:
        trained = trained_settings(words)
        if trained:
            _, words = _parted(words)
        main(parse_config(words, set_defaults=trained))

    _guarded(on_trained)


def parse_config(words: list[str], kind: type = Config, **options: Any) -> Any:
    """The settings of a command line's words; flags change a file's settings, wherever they stand.

    Raises:
        ValueError: a group of settings is given as a single value.
    """
    try:
        return auto_cli(
            kind,
            as_positional=False,
            return_instance=True,
            args=list(chain(*_parted(words))),
            parser_class=FlagsParser,
            **options,
        )
    except TypeError as error:
        raise ValueError(
            f"the configuration cannot be used ({error}); a group such as svm needs keys of its own"
        ) from error


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of --config with its files, and all others."""
    of_config = [
        word.startswith("--config=") or "--config" in (before, word)
        for before, word in pairwise(["", *words])
    ]
    return list(compress(words, of_config)), list(compress(words, map(not_, of_config)))


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


def with_progress(items: Iterable[Any], what: str, total: int) -> Generator[Any, None, None]:
    """A progress bar with the time left, on stderr; in a file a line a minute."""
    every = 0.1 if sys.stderr.isatty() else 60.0
    with logging_redirect_tqdm():
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.INFO)  # tqdm's own handler forgets the level
        yield from tqdm(items, desc=what, total=total, dynamic_ncols=True, mininterval=every)


def end(skipped: Mapping[str, str]) -> None:
    """End a tool that had to skip images: they are listed, and the exit status is 3.

    Args:
        skipped: by id or path, why an image could not be used; none lets the tool end as always.
    """
    if not skipped:
        return
    for name, reason in list(skipped.items())[:SKIPPED_LINES]:
        logger.error("skipped %s: %s", name, reason.removeprefix(f"{name} "))
    if len(skipped) > SKIPPED_LINES:
        logger.error("and %d more", len(skipped) - SKIPPED_LINES)
    logger.error("images skipped: %d; exit status %d", len(skipped), SKIPPED_STATUS)
    sys.exit(SKIPPED_STATUS)


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


def _guarded(call: Callable[[list[str]], Any]) -> None:
    """Call a tool with its words; what is expected to go wrong ends it with one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if isinstance(sys.stdout, TextIOWrapper):  # names may have letters that the terminal lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    # joblib replaces a worker that has grown by 300 MB, as large images make it grow.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    said = None
    try:
        with stoppable():
            words = packaged_configs(sys.argv[1:])
            _check_settings_files(words)
            call(words)
    except (ValueError, RuntimeError, OSError) as error:
        said = str(error)
    if said is not None:  # here, where no error holds on to progress bars, they have ended
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)


def _check_settings_files(arguments: list[str]) -> None:
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
