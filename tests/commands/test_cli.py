"""What every tool does alike: flags, files of settings, being stopped, and the end."""

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from paths import ROOT

from commands import cli as shared_cli
from commands.dispatch import COMMANDS

MODULES = sorted((ROOT / "commands").glob("*.py"))
CONSOLE_SCRIPT = "from commands.dispatch import main; main()"
STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")


@pytest.fixture(autouse=True)
def _signals_are_heard():
    """Here and in what is started here, even where all of it runs in the background."""
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in STOPS:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def ended(monkeypatch, capsys):
    """Runs a tool with flags that it ends at; its exit status and stderr."""

    def call(tool, *flags):
        status, printed = call_tool(monkeypatch, capsys, tool, flags)
        return status, printed.err

    return call


@pytest.fixture
def ended_well(monkeypatch, capsys):
    """Runs a tool with flags that it ends at without an error; its stdout."""

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
    """``--svm.c 3`` set ``svm.checkpoint_every``, in silence."""
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
    """An ArgumentParser of a tool's own would take abbreviated flags again."""
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


def test_interruption(cli, monkeypatch, capsys):
    def main():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["tool.py"])
    with pytest.raises(SystemExit) as ended:
        cli.run_tool(main)
    assert ended.value.code == 130
    assert "the same command resumes here" in capsys.readouterr().err


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
    """The root logger without handlers; everything about logging is put back."""
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
    """What matters tells of a full disk itself; the log would in a traceback for each line."""
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


def started(command, **settings):
    """A process, and the first line that it prints."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **settings,
    )
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize(
    "command",
    [[ROOT / "tools/train_edges.py"], ["-c", CONSOLE_SCRIPT, "train_edges"]],
    ids=["tool", "sppnet"],
)
def test_a_tool_is_stopped_in_one_line_during_imports(tmp_path, number, command):
    """The first that takes long is one that waits here, and catches whatever is raised in it."""
    (tmp_path / "yaml.py").write_text(
        "import os, time\n"
        "parent = os.getppid()\n"
        "print('importing', flush=True)\n"
        "try:\n"
        "    while os.getppid() == parent: time.sleep(0.1)\n"
        "except BaseException as error:\n"
        "    raise ImportError from error\n"
    )
    paths = os.pathsep.join((str(tmp_path), str(ROOT)))
    tool, said = started(command, env=os.environ | {"PYTHONPATH": paths})
    assert said == "importing"
    tool.send_signal(number)
    assert tool.communicate(timeout=60) == ("", "stopped\n")
    assert tool.returncode == 128 + number


WORKING = """
import sys
sys.path[:0] = {paths!r}
from commands import cli
from detection.pool import shared_out
from joblib import delayed

def work(number):
    import os, time
    os.write(os.open({fifo!r}, os.O_RDWR), b"%d " % os.getpid())
    while os.path.exists("/proc/{tests}"):  # ends with the tests, also where they are killed
        time.sleep(0.1)

def main():
    for _ in shared_out(2, {order!r})(delayed(work)(number) for number in range(5)):
        pass

cli.run_tool(main)
"""


def alive(process):
    """Whether a process is there, and at work: one that nobody asked for its end is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at Linux's processes")
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [(signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGHUP, True)],
)
def test_no_process_is_left_when_a_tool_is_stopped(tmp_path, number, whole_group):
    """A terminal sends Ctrl-C and its end to all of them, ``kill`` to the one named."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    order = "generator_unordered" if number == signal.SIGTERM else "generator"
    program = WORKING.format(paths=[str(ROOT)], fifo=str(fifo), order=order, tests=os.getpid())
    (tmp_path / "program.py").write_text(program)
    place, written = os.open(fifo, os.O_RDWR), b""
    tool = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while written.count(b" ") < 2:
        written += os.read(place, 100)
    os.close(place)
    workers = written.decode().split()
    assert all(map(alive, workers))
    if whole_group:
        os.killpg(tool.pid, number)
    else:
        tool.send_signal(number)
    _, err = tool.communicate(timeout=60)
    assert tool.returncode == 128 + number
    assert "stopped; the same command resumes here\n" in err
    if not whole_group:  # joblib's own process, told to end too, may warn of what it finds gone
        assert err.count("\n") == 1
    assert not any(map(alive, workers))


@pytest.mark.parametrize("number", STOPS)
def test_what_follows_from_being_stopped_is_not_told(cli, capsys, number):
    """Where files or processes are torn down half-way, something else may be raised."""
    before = [signal.getsignal(each) for each in STOPS]

    def main():
        try:
            signal.raise_signal(number)
        finally:
            raise RuntimeError("a worker is gone")

    with pytest.raises(SystemExit) as ended:
        cli._guarded(lambda words: main())
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == "stopped; the same command resumes here\n"
    assert [signal.getsignal(each) for each in STOPS] == before


def test_signals_that_are_ignored_stay_ignored(cli):
    """As nohup has it for the end of a terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        cli._guarded(lambda words: signal.raise_signal(signal.SIGHUP))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_importing_a_command_changes_no_handler():
    """Only one that is run takes the signals, not what imports it, such as these tests."""
    import_module("commands.train_edges")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (ValueError("no such thing"), "error: no such thing"),
        (KeyboardInterrupt(), "stopped; the same command resumes here"),
    ],
)
def test_an_error_has_a_line_of_its_own_below_the_bar(monkeypatch, capsys, raised, line):
    def main():
        for number in shared_cli.with_progress(range(5), "bars", 5):
            if number == 2:
                raise raised

    monkeypatch.setattr(sys, "argv", ["tool.py"])
    with pytest.raises(SystemExit):
        shared_cli.run_tool(main)
    assert capsys.readouterr().err.splitlines()[-1] == line
