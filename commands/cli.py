"""What every tool shares: flags from types, logs on stderr, an expected error said in one line."""

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


def with_progress(items: Iterable[Any], what: str, total: int) -> Generator[Any, None, None]:
    """A progress bar with the time left, on stderr; in a file a line a minute."""
    every = 0.1 if sys.stderr.isatty() else 60.0
    with logging_redirect_tqdm():
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.INFO)  # tqdm's own handler forgets the level
        yield from tqdm(items, desc=what, total=total, dynamic_ncols=True, mininterval=every)


def log_to(path: Path) -> None:
    """Append this process's log to a file, in more detail than on the screen and with times."""
    with path_in_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path)
    # A full disk is told by who writes what matters, not in a traceback for each line.
    logging.raiseExceptions = False
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    for screen in logging.getLogger().handlers:
        screen.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    logging.getLogger("detection").setLevel(logging.DEBUG)


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
            check_settings_files(words)
            call(words)
    except (ValueError, RuntimeError, OSError) as error:
        said = str(error)
    if said is not None:  # here, where no error holds on to progress bars, they have ended
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)
