"""The pages' tables are up to date, and everything that the pages name exists."""

import json
import re
import runpy
import sys
from pathlib import Path
from statistics import mean

import pytest
from paths import ROOT

from commands import tables
from commands.dispatch import COMMANDS

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = (README, ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", *DOCS)
WITH_TABLES = (
    README,
    *(ROOT / "docs" / name for name in ("RESULTS.md", "voc07.md", "own-images.md")),
)
WITH_COMMANDS = (README, ROOT / "CONTRIBUTING.md", ROOT / "docs/LOG.md", ROOT / "docs/voc07.md")
RESULTS = ROOT / "docs/results"
HEADLINE = ("ridge", "seed1", "seed2")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.chdir(ROOT)
    return ROOT / "tools"


@pytest.mark.parametrize("page", WITH_TABLES, ids=lambda page: page.name)
def test_tables_are_up_to_date(
    page: Path, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    monkeypatch.setattr(sys, "argv", ["result_tables.py", "--pages", json.dumps([str(copy)])])
    runpy.run_path(str(tools / "result_tables.py"), run_name="__main__")
    assert copy.read_text() == page.read_text(), "run python tools/result_tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_linked_files_exist(page: Path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.fixture
def options() -> set[str]:
    """Return the keys of all settings."""
    return set(re.findall(r"^\| `([\w.]+)` ", (ROOT / "docs/options.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_commands_name_tools_and_options_that_exist(page: Path, options: set[str]):
    calls = re.findall(r"(?:python tools/|sppnet )(\w+)(?:\.py)?([^#`\n|]*)", page.read_text())
    assert calls
    for tool, words in calls:
        folder = "commands" if tool in COMMANDS else "tools"
        source = (ROOT / folder / f"{tool}.py").read_text()
        configured = (
            options | {"config"}
            if "run_configured" in source or "run_on_trained" in source
            else set()
        )
        for flag in re.findall(r"--([\w.-]*\w)", words):
            own = re.search(rf"^    {flag.split('.')[0]}: ", source, re.MULTILINE)
            assert flag in configured or own, f"{tool} has no --{flag}"


def test_flags_of_the_readme_are_options(options: set[str]):
    flags = re.findall(r"--([a-z]\w*\.[\w.]*\w)", README.read_text())
    assert flags
    assert set(flags) <= options


def test_the_headline_is_that_of_the_results():
    found = [
        json.loads((RESULTS / f"voc07_minival_both_{n}_both.json").read_text()) for n in HEADLINE
    ]
    maps = [100 * result["map"] for result in found]
    line = f"| {mean(maps):.1f} ({min(maps):.1f} to {max(maps):.1f}) | - |"
    assert line in README.read_text()


def test_the_papers_pipeline_is_that_of_the_results():
    made = tables.paper(RESULTS / "voc07_table.csv")
    (row,) = [line for line in made.splitlines() if line.startswith("| fc7 SVM + box")]
    cells = row.strip("|").split("|")
    assert f"fc7 SVMs and box regression |{cells[2]}|{cells[-1]}|" in README.read_text()


def test_the_speed_is_that_of_the_benchmark():
    text = " ".join(README.read_text().split())
    ratios = json.loads((RESULTS / "benchmark.json").read_text())
    found = {
        f"{name} {part}": f"{value:.0f}"
        for name in ("ratios_like_for_like", "ratios")
        for part, value in ratios[name].items()
    }
    for sentence in (
        "in all, SPP-net is {ratios_like_for_like total_5_scales} times faster with five scales "
        "and {ratios_like_for_like total_1_scale} times with one; in the convolutions alone, "
        "{ratios_like_for_like conv_5_scales} and {ratios_like_for_like conv_1_scale} times",
        "SPP-net is {ratios total_5_scales} and {ratios total_1_scale} times faster in all than "
        "R-CNN",
    ):
        assert sentence.format_map(found) in text


def test_the_best_of_others_are_those_of_the_results():
    made = tables.best(RESULTS / "voc07_table.csv", RESULTS / "combination.csv")
    found = dict(re.findall(r"^\| ([\w ]+) \| ([\d.]+) \|", made, flags=re.MULTILINE))
    text = " ".join(README.read_text().split())
    assert f"ResNet-50, reaches {found['resnet50_caffe']}" in text
    assert f"three networks together {found['3 models together']}" in text
