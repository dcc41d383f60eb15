"""The README's table is the one its tool writes, and the files it names are there."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def test_results_table_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text())
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setattr(sys, "argv", ["readme_table.py", "--readme", str(copy)])
    runpy.run_path(str(ROOT / "tools/readme_table.py"), run_name="__main__")
    assert copy.read_text() == README.read_text(), "run python tools/readme_table.py"


def test_linked_files_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text())
    missing = [link for link in links if not (ROOT / link).exists()]
    assert links
    assert not missing


def test_commands_name_tools_and_options_that_exist():
    commands = re.findall(r"python (tools/\w+\.py)", README.read_text())
    assert commands
    assert all((ROOT / command).is_file() for command in commands)
