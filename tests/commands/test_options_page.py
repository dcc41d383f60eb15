"""The page of options is up to date with its tool."""

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from paths import ROOT

TOOL = ROOT / "tools/options_page.py"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.syspath_prepend(ROOT / "tools")
    return runpy.run_path(str(TOOL))


def test_the_page_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "options.md"
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setattr(sys, "argv", [TOOL.name, "--page", str(page)])
    runpy.run_path(str(TOOL), run_name="__main__")
    written = (ROOT / "docs/options.md").read_text()
    assert page.read_text() == written, "run python tools/options_page.py"


def test_a_setting_is_a_row_with_its_key_type_default_and_meaning(tool: dict):
    @dataclass
    class Settings:
        """Two of them.

        Attributes:
            layers: on whose features, or
                none.
            limit: at most so many.
        """

        layers: tuple[str, ...] = ("fc6", "fc7")
        limit: int | None = None

    assert tool["tables"](Settings, "svm.") == [
        "## `svm`\n\nTwo of them.\n",
        "| key | type | default | what it does |\n|---|---|---|---|\n"
        "| `svm.layers` | list of text | `[fc6, fc7]` | on whose features, or none. |\n"
        "| `svm.limit` | whole number or null | `null` | at most so many. |\n",
    ]


def test_a_setting_without_a_description_is_refused(tool: dict):
    @dataclass
    class Settings:
        """One of them."""

        seed: int = 0

    with pytest.raises(ValueError, match=r"Settings does not describe \['seed'\]"):
        tool["tables"](Settings, "")
