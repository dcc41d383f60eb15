"""Flags of every tool, and their help.

``--help`` prints the common settings (``COMMON``), ``--help=all`` all settings.
"""

import argparse
import re
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

import classification.config
import detection.config

# Settings of groups that --help shows.
COMMON = detection.config.COMMON + classification.config.COMMON
# Column at which the short text of a setting starts.
TEXT_COLUMN = 36
# The short text of a setting ends before the first of these.
CLAUSE = re.compile(r"; |\. |\.$")


class FlagsParser(ArgumentParser):
    """Accepts flags by their full names only, and a bool's flag without value as true.

    Otherwise ``--svm.c`` would be taken as ``--svm.checkpoint_every``.
    """

    def __init__(self, *words: Any, allow_abbrev: bool = False, **options: Any) -> None:
        super().__init__(*words, allow_abbrev=allow_abbrev, **options)

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Add an argument; the value of a bool may be left out."""
        if options.get("type") is bool:
            options |= {"nargs": "?", "const": True}
        if options.get("action") == "help":
            options["action"] = Help
        return super().add_argument(*names, **options)

    def print_usage(self, *words: Any, **options: Any) -> None:
        """Print one line, so that the error below it stays in sight."""
        self._shorten_usage()
        super().print_usage(*words, **options)

    def format_help(self, *words: Any, **options: Any) -> str:
        """The help, below a usage of one line."""
        self._shorten_usage()
        return super().format_help(*words, **options)

    def _shorten_usage(self) -> None:
        words = [f"{each.dest} ..." for each in self._get_positional_actions()]
        self.usage = " ".join(["%(prog)s", "[--help] [flags]", *words])


class Help(argparse.Action):
    """``--help``, or ``--help=all``."""

    def __init__(self, option_strings: list[str], **_: Any) -> None:
        super().__init__(
            option_strings,
            dest=argparse.SUPPRESS,
            nargs="?",
            default=argparse.SUPPRESS,
            choices=["all"],
            metavar="all",
            help="Show the common settings, or with =all every setting.",
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Print and exit."""
        if values != "all":
            assert isinstance(parser, ArgumentParser)
            shorten(parser)
        parser.print_help()
        parser.exit()


def shorten(parser: ArgumentParser) -> None:
    """Hide settings that are neither in ``COMMON`` nor flags of the tool itself."""
    names = [action.dest for action in parser._actions]
    hidden = 0
    for action in parser._actions:
        group = any(name.startswith(f"{action.dest}.") for name in names)
        if group or ("." in action.dest and action.dest not in COMMON):
            action.help = argparse.SUPPRESS
            hidden += not group
    if hidden:
        parser.epilog = f"--help=all shows {hidden} more settings and the full text of each."
        parser.formatter_class = ShortFormatter


class ShortFormatter(DefaultHelpFormatter):
    """A line or two per setting: no types, and only the first clause of each text."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **options | {"max_help_position": TEXT_COLUMN})

    def _get_help_string(self, action: argparse.Action) -> str:
        text = CLAUSE.split(action.help or "", maxsplit=1)[0]
        shown = action.option_strings and action.default not in (None, argparse.SUPPRESS)
        return f"{text} (default: %(default)s)" if shown else text
