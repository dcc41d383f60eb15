"""Fixtures of all tests: random numbers, real data, tools and a browser."""

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from threadpoolctl import threadpool_limits

from commands import cli as shared_cli
from commands import settings_files


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def threads() -> Iterator[None]:
    """Use two threads; restore their number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def voc07_root() -> Path:
    for folder in (ROOT.parent / "shared/voc07/VOCdevkit/VOC2007", ROOT / "data/VOCdevkit/VOC2007"):
        if (folder / "Annotations").is_dir():
            return folder
    pytest.skip("no VOC 2007 images in ../shared/voc07 or data/VOCdevkit")


@pytest.fixture(scope="session")
def voc07_golden() -> Path:
    """Return the folder of the full golden set; tests/golden is a part of it."""
    folder = ROOT.parent / "shared/voc07/golden"
    if not folder.is_dir():
        pytest.skip("no full golden set in ../shared/voc07/golden")
    return folder


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Return the tools' shared module; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setattr(settings_files, "HOME", tmp_path / "home")
    yield shared_cli
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def configured(cli, monkeypatch):
    """Return the settings that flags give; with ``on_trained`` they change a run's settings."""

    def call(*flags, on_trained=False):
        monkeypatch.setattr(sys, "argv", ["tool.py", *map(str, flags)])
        found = []
        (cli.run_on_trained if on_trained else cli.run_configured)(found.append)
        return found[0]

    return call


@pytest.fixture
def refused(configured, capsys):
    """Call a tool with flags that it refuses; return the error, without the usage."""

    def call(*flags):
        with pytest.raises(SystemExit) as ended:
            configured(*flags)
        printed = capsys.readouterr()
        assert ended.value.code in (1, 2)
        assert printed.out == ""
        assert "Traceback" not in printed.err
        return printed.err.rpartition("error: ")[2]

    return call


@pytest.fixture(scope="module")
def browser():
    """Start Chromium by Playwright."""
    driver = pytest.importorskip("playwright.sync_api", reason="no Playwright is installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(names)}")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Open a page from disk; ``outside`` returns its errors, messages and further requests."""
    contexts = []

    def call(path, **options):
        contexts.append(browser.new_context(**options))
        page, seen = contexts[-1].new_page(), []
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url))
        own = path.as_uri()
        page.outside = lambda: [each for each in seen if each != own and each[:5] != "data:"]
        page.goto(own)
        return page

    yield call
    for context in contexts:
        context.close()


@pytest.fixture
def bfloat16(monkeypatch):
    """Pretend that the processor has bfloat16 instructions; PyTorch emulates them, 20 times slower.

    Only for tests that tell bfloat16 from float32; all others use what the processor has.
    """
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)


@pytest.fixture(autouse=True)
def _threads_as_before():
    """Restore the number of threads: a tool called in this process takes all cores."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _logs_as_before():
    """Restore the log level: a tool called in this process logs more than other tests expect."""
    before = logging.getLogger("detection").level
    yield
    logging.getLogger("detection").setLevel(before)
