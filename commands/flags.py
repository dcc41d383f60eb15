"""Flags of every tool, and their help.

``--help`` prints the settings that people use (``COMMON``), ``--help=all`` every one.
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
# A part of a setting's text after which the short text ends.
CLAUSE = re.compile(r"; |\. |\.$")


class FlagsParser(ArgumentParser):
    """Takes flags by their whole names only, and the name of a bool alone for true.

    ``--svm.c`` would be taken for ``--svm.checkpoint_every`` otherwise.
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
        """Print one line, which leaves the error below it in sight."""
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
            help="The settings that people use, or with =all every one.",
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Print and end."""
        if values != "all":
            assert isinstance(parser, ArgumentParser)
            shorten(parser)
        parser.print_help()
        parser.exit()


def shorten(parser: ArgumentParser) -> None:
    """Leave out of a parser's help what is neither in ``COMMON`` nor a tool's own."""
    names = [action.dest for action in parser._actions]
    hidden = 0
    for action in parser._actions:
        group = any(name.startswith(f"{action.dest}.") for name in names)
        if group or ("." in action.dest and action.dest not in COMMON):
            action.help = argparse.SUPPRESS
            hidden += not group
    if hidden:
        parser.epilog = f"--help=all shows {hidden} more settings and the whole of each text."
        parser.formatter_class = ShortFormatter


class ShortFormatter(DefaultHelpFormatter):
    """A line or two a setting: no types, and of the texts the first clause."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **options | {"max_help_position": TEXT_COLUMN})

    def _get_help_string(self, action: argparse.Action) -> str:
        text = CLAUSE.split(action.help or "", maxsplit=1)[0]
        shown = action.option_strings and action.default not in (None, argparse.SUPPRESS)
        return f"{text} (default: %(default)s)" if shown else text
