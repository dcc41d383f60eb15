"""Write docs/options.md, every setting of a run, from its dataclasses in detection/.

python tools/options_page.py
"""

import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands.cli import run_tool
from detection.config import Config
from files.writing import save_text

HEAD = """# Options

Every setting of a run. A setting is a key of a YAML file and a flag of the same name:

```
svm:                                      python tools/train_det.py --svm.C 0.001
  C: 0.001
```

A list is written as in YAML, `--svm.layers '[fc6,fc7]'`; a true needs no value, `--strict`; None is
`null`. `--help` shows the common settings, `--help=all` every one, `--print_config` their values.
A value out of range is an error that names the key, the value and the range.

`python tools/options_page.py` writes this page from the docstrings of the settings
([config.py](../detection/config.py), [settings](../detection/settings)); correct those, not it.
"""


def main(page: Path = Path("docs/options.md")) -> None:
    """Replace the page.

    Args:
        page: the Markdown file to write.
    """
    save_text(page, options_page(Config))


def options_page(settings: type) -> str:
    """The page in Markdown: one table for the settings of the run itself and one for each group."""
    return "\n".join([HEAD, *tables(settings, "")])


def tables(settings: type, prefix: str) -> list[str]:
    """The table of a dataclass of settings, followed by those of the groups inside it.

    Args:
        settings: a dataclass whose docstring describes each field under ``Attributes:``.
        prefix: of its keys, such as ``svm.``.
    """
    types, meanings, groups = get_type_hints(settings), attributes(settings), []
    lines = ["| key | type | default | what it does |", "|---|---|---|---|"]
    for field in fields(settings):
        kind, key = types[field.name], prefix + field.name
        if is_dataclass(kind) and isinstance(kind, type):
            groups += tables(kind, f"{key}.")
        else:
            cells = (f"`{key}`", type_name(kind), f"`{shown(field.default)}`", meanings[field.name])
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    summary = (parse(settings.__doc__ or "").short_description or "").replace("\n", " ")
    title = f"## `{prefix.removesuffix('.')}`" if prefix else "## The run"
    return [f"{title}\n\n{summary}\n", "\n".join(lines) + "\n", *groups]


def attributes(settings: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field, on one line.

    Raises:
        ValueError: a field is not described.
    """
    described = parse(settings.__doc__ or "").params
    meanings = {
        one.arg_name: " ".join((one.description or "").replace("``", "`").split())
        for one in described
    }
    missing = [field.name for field in fields(settings) if not meanings.get(field.name)]
    if missing:
        raise ValueError(f"the docstring of {settings.__name__} does not describe {missing}")
    return meanings


def type_name(kind: Any) -> str:
    """A type as a reader of the page knows it: ``Literal["a", "b"]`` is ``a or b``."""
    if kind is NoneType:
        return "null"
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(type_name(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {type_name(get_args(kind)[0])}"
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}[kind]


def shown(default: Any) -> str:
    """A default as YAML has it."""
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    return f"[{', '.join(default)}]" if isinstance(default, tuple) else f"{default}"


if __name__ == "__main__":
    run_tool(main)
