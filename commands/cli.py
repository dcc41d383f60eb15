"""What all commands share: flags from types, logs on stderr, expected errors in one line."""

import logging
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from io import TextIOWrapper
from itertools import chain, compress, pairwise
from operator import not_
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from commands.flags import FlagsParser
from commands.settings_files import (
    DEFAULT_CONFIG,
    check_settings_files,
    default_config,
    packaged_configs,
    trained_settings,
)
from commands.stopping import stoppable
from detection.config import Config
from files.writing import path_in_errors

# Exit status of a tool that finished but skipped images that could not be read.
SKIPPED_STATUS = 3
SKIPPED_LINES = 20

logger = logging.getLogger(__name__)


class WordsParser(FlagsParser):
    """Passes the words that are not flags to the list of strings that ``main`` requires."""

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Add an argument; a required one is given without its name."""
        if not options.pop("required", False):
            return super().add_argument(*names, **options)
        name = names[0].removeprefix("--")
        return super().add_argument(name, nargs="+", type=str, help=options["help"])


def run_tool(main: Callable[..., Any] | dict[str, Any], **options: Any) -> None:
    """Call ``main``, or the named one of several functions, with the flags of the command line."""
    given: dict[str, Any] = {"parser_class": FlagsParser, "as_positional": False} | options
    _guarded(lambda words: auto_cli(main, args=words, **given))


def run_configured(
    main: Callable[[Any], None], kind: type = Config, default: Path = DEFAULT_CONFIG
) -> None:
    """Call ``main`` with settings of a kind, the detector's or others, from --config and flags.

    Without --config, ``default_config`` is used.
    """

    def configured(words: list[str]) -> None:
        asked = any(word.split("=")[0] == "--config" for word in words)
        path = None if asked else default_config(default)
        main(parse_config(words, kind, default_config_files=[] if path is None else [str(path)]))

    _guarded(configured)


def run_on_trained(main: Callable[[Config], None]) -> None:
    """Call ``main`` with the settings of a run's training, changed by flags.

    The run is --run's folder, or the one that --config (or the default configuration) names. Other
    settings of that file count only if the run has no settings yet. --limit and --cluster of the
    training are not reused.
    """

    def on_trained(words: list[str]) -> None:
        trained = trained_settings(words)
        if trained:
            _, words = _parted(words)
        main(parse_config(words, set_defaults=trained))

    _guarded(on_trained)


def parse_config(words: list[str], kind: type = Config, **options: Any) -> Any:
    """The settings of a command line; flags override a file's settings, before or after --config.

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
            f"the configuration cannot be used ({error}); a group such as svm needs keys"
        ) from error


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of --config with its files, and all others."""
    of_config = [
        word.startswith("--config=") or "--config" in (before, word)
        for before, word in pairwise(["", *words])
    ]
    return list(compress(words, of_config)), list(compress(words, map(not_, of_config)))


def with_progress(items: Iterable[Any], what: str, total: int) -> Generator[Any, None, None]:
    """A progress bar with the time left, on stderr; in a file, one line per minute."""
    every = 0.1 if sys.stderr.isatty() else 60.0
    with logging_redirect_tqdm():
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.INFO)  # tqdm's own handler forgets the level
        yield from tqdm(items, desc=what, total=total, dynamic_ncols=True, mininterval=every)


def log_to(path: Path) -> None:
    """Append this process's log to a file, with times and more detail than on the screen."""
    with path_in_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path)
    # A full disk is reported where files are written, not by a traceback for each line of the log.
    logging.raiseExceptions = False
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for screen in logging.getLogger().handlers:
        screen.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    logging.getLogger("detection").setLevel(logging.DEBUG)


def end(skipped: Mapping[str, str]) -> None:
    """If images were skipped, list them and exit with status 3.

    Args:
        skipped: by id or path, why an image could not be used.
    """
    if not skipped:
        return
    for name, reason in list(skipped.items())[:SKIPPED_LINES]:
        logger.error("skipped %s: %s", name, reason.removeprefix(f"{name} "))
    if len(skipped) > SKIPPED_LINES:
        logger.error("and %d more", len(skipped) - SKIPPED_LINES)
    logger.error("images skipped: %d; exit status %d", len(skipped), SKIPPED_STATUS)
    sys.exit(SKIPPED_STATUS)


def _guarded(call: Callable[[list[str]], Any]) -> None:
    """Call a tool with the words of the command line; an expected error is printed in one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if isinstance(sys.stdout, TextIOWrapper):  # names may have letters the terminal lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    # joblib replaces a worker whose memory has grown by 300 MB, which large images cause.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    said = None
    try:
        with stoppable():
            words = packaged_configs(sys.argv[1:])
            check_settings_files(words)
            call(words)
    except (ValueError, RuntimeError, OSError) as error:
        said = str(error)
    if said is not None:  # outside of except, so that progress bars have been closed
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)
