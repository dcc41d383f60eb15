"""What every tool does alike: flags, logs, errors, and the end."""

import contextlib
import io
import logging
import sys
from importlib import import_module
from pathlib import Path

import pytest
from paths import ROOT

from commands import cli as shared_cli
from commands.dispatch import COMMANDS

MODULES = sorted((ROOT / "commands").glob("*.py"))


@pytest.fixture
def ended(monkeypatch, capsys):
    """Run a tool with flags that end it; return its exit status and stderr."""

    def call(tool, *flags):
        status, printed = call_tool(monkeypatch, capsys, tool, flags)
        return status, printed.err

    return call


@pytest.fixture
def ended_well(monkeypatch, capsys):
    """Run a tool with flags that end it without an error; return its stdout."""

    def call(tool, *flags):
        status, printed = call_tool(monkeypatch, capsys, tool, flags)
        assert status in (0, None), printed.err
        return printed.out

    return call


def call_tool(monkeypatch, capsys, tool, flags):
    monkeypatch.setattr(sys, "argv", [f"{tool}.py", *flags])
    with pytest.raises(SystemExit) as stopped:
        import_module(f"commands.{tool}").run()
    return stopped.value.code, capsys.readouterr()


ABBREVIATED = [
    ("train_det", "--svm.c 3"),
    ("train_det", "--svm.checkpoint_ever 3"),
    ("test_det", "--svm.c 3"),
    ("evaluate_det", "--detection some"),
    ("combine_det", "one two --weight [1,1]"),
    ("make_proposals", "--data.spl train"),
    ("detect", "a.jpg --thresh 0"),
    ("get_data", "synthetic --fold some"),
    ("get_data", "voc07 --fold some"),
    ("benchmark", "--hid 16"),
    ("train_edges", "--step 1"),
]


@pytest.mark.parametrize(("tool", "line"), ABBREVIATED)
def test_an_abbreviated_flag_is_refused(ended, tmp_path, monkeypatch, tool, line):
    """argparse would take ``--svm.c 3`` for ``--svm.checkpoint_every 3``, without a word."""
    monkeypatch.chdir(tmp_path)
    status, err = ended(tool, *line.split())
    (flag,) = (word for word in line.split() if word.startswith("--"))
    assert status == 2
    assert f"unrecognized arguments: {flag}" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tool", COMMANDS)
def test_help_ends_well_and_fits_in_two_screens(ended_well, monkeypatch, tool):
    monkeypatch.setenv("COLUMNS", "100")
    short, whole = (ended_well(tool, flag) for flag in ("--help", "--help=all"))
    assert short.startswith(f"usage: {tool}.py [--help] [flags]")
    assert len(short.splitlines()) <= 80
    assert len(whole.splitlines()) >= len(short.splitlines())


def test_a_wrong_flag_is_seen_below_one_line_of_usage(ended):
    status, err = ended("train_det", "--finetune.stepz", "3")
    assert status == 2
    assert len(err.splitlines()) == 2
    assert err.startswith("usage: train_det.py [--help] [flags]\n")


def test_every_tool_has_its_parser_from_here():
    """A tool that makes its own ArgumentParser would accept abbreviated flags again."""
    for path in MODULES:
        if path.stem not in ("flags", "settings_files"):
            assert "ArgumentParser" not in path.read_text(), path.name


def test_a_bool_needs_no_value(cli, monkeypatch):
    found = []
    for words in (["--strict"], ["--strict=true"], ["--data.difficult", "--strict", "true"]):
        monkeypatch.setattr(sys, "argv", ["tool.py", *words])
        cli.run_configured(found.append)
    assert [config.strict for config in found] == [True] * 3
    assert found[2].data.difficult


@pytest.mark.parametrize("error", [ValueError, RuntimeError, FileNotFoundError, OSError])
def test_expected_errors_are_one_line(cli, monkeypatch, capsys, error):
    def main():
        raise error("this is wrong")

    monkeypatch.setattr(sys, "argv", ["tool.py"])
    with pytest.raises(SystemExit) as ended:
        cli.run_tool(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: this is wrong\n"


def test_what_was_skipped_is_listed_at_the_end(cli, caplog):
    cli.end({})
    with pytest.raises(SystemExit) as ended:
        cli.end({f"p{number}": f"p{number} is damaged" for number in range(25)})
    assert ended.value.code == 3
    assert caplog.messages[:2] == ["skipped p0: is damaged", "skipped p1: is damaged"]
    assert caplog.messages[-2] == "and 5 more"
    assert caplog.messages[-1] == "images skipped: 25; exit status 3"
    assert len(caplog.messages) == 22


def test_the_status_of_skipped_images_leaves_a_tool(cli, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tool.py"])
    with pytest.raises(SystemExit) as ended:
        cli.run_tool(lambda: cli.end({"a": "is damaged"}))
    assert ended.value.code == 3


@pytest.fixture
def logs():
    """Remove the root logger's handlers; restore logging afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("detection")
    before, levels = root.handlers, (root.level, ours.level)
    root.handlers = []
    root.setLevel(logging.INFO)
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers = before
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_the_log_is_appended_to_a_file(logs, tmp_path):
    for word in ("one", "two"):
        shared_cli.log_to(tmp_path / "new/log.txt")
        logging.getLogger("any").info("word %s", word)
        logs.handlers.pop().close()
    lines = (tmp_path / "new/log.txt").read_text().splitlines()
    assert [line[19:] for line in lines] == [" word one", " word two"]
    assert lines[0][4] == "-"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_that_cannot_be_written_is_passed_over(logs, tmp_path, capsys, monkeypatch):
    """Other files report a full disk; the log would print a traceback for each line."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    (tmp_path / "log.txt").symlink_to("/dev/full")
    shared_cli.log_to(tmp_path / "log.txt")
    logging.getLogger("any").info("word")
    assert capsys.readouterr().err == ""
    with contextlib.suppress(OSError):
        logs.handlers.pop().close()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/log\.txt cannot be written .* is a file and run"):
        shared_cli.log_to(tmp_path / "file/log.txt")


def test_the_file_has_more_than_the_screen(logs, tmp_path):
    screen = io.StringIO()
    logs.addHandler(logging.StreamHandler(screen))
    shared_cli.log_to(tmp_path / "log.txt")
    logging.getLogger("detection.run").debug("detail")
    logging.getLogger("detection.run").info("word")
    assert screen.getvalue() == "word\n"
    assert "detail" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (ValueError, "error: no such thing"),
        (KeyboardInterrupt, "stopped; the same command resumes here"),
    ],
)
def test_an_error_has_a_line_of_its_own_below_the_bar(monkeypatch, capsys, raised, line):
    def main():
        shown = shared_cli.with_progress(range(5), "bars", 5)  # still open at the end of main
        for number in shown:
            if number == 2:
                raise raised("no such thing")

    monkeypatch.setattr(sys, "argv", ["tool.py"])
    with pytest.raises(SystemExit):
        shared_cli.run_tool(main)
    assert capsys.readouterr().err.splitlines()[-1] == line
