"""The pages' tables are those their tool writes, and the files they name are there."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs/RESULTS.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_up_to_date(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setattr(sys, "argv", ["result_tables.py", "--pages", json.dumps([str(copy)])])
    runpy.run_path(str(ROOT / "tools/result_tables.py"), run_name="__main__")
    assert copy.read_text() == page.read_text(), "run python tools/result_tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page: Path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert links
    assert not missing


def test_commands_name_tools_and_options_that_exist():
    commands = re.findall(r"python (tools/\w+\.py)", README.read_text())
    assert commands
    assert all((ROOT / command).is_file() for command in commands)
