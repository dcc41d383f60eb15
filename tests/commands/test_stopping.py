"""How tools are stopped: by signals, at any moment, in one line, with all their processes."""

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from paths import ROOT

CONSOLE_SCRIPT = "from commands.dispatch import main; main()"

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")


@pytest.fixture(autouse=True)
def _signals_are_heard():
    """Set the default handlers: programs started in the background may ignore signals."""
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in STOPS:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_interruption(cli, monkeypatch, capsys):
    def main():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["tool.py"])
    with pytest.raises(SystemExit) as ended:
        cli.run_tool(main)
    assert ended.value.code == 130
    assert "the same command resumes here" in capsys.readouterr().err


def started(command, **settings):
    """Start a process; return it and the first line that it prints."""
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
    """A fake ``yaml`` waits while it is imported, and turns any error into ImportError."""
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
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at Linux's processes")
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [
        (signal.SIGTERM, False),
        (signal.SIGINT, True),
        (signal.SIGHUP, True),
        (signal.SIGKILL, False),
    ],
)
def test_no_process_is_left_when_a_tool_is_stopped(tmp_path, number, whole_group):
    """A terminal sends SIGINT and SIGHUP to the whole group, ``kill`` to one process.

    Workers have the tool's stderr, so ``communicate`` waits for them, too.
    """
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
    if number == signal.SIGKILL:
        assert tool.returncode == -number
    else:
        assert tool.returncode == 128 + number
        assert "stopped; the same command resumes here\n" in err
    if number == signal.SIGTERM:  # a signal to joblib's own process may make it warn
        assert err.count("\n") == 1
    assert not any(map(alive, workers))


@pytest.mark.parametrize("number", STOPS)
def test_errors_caused_by_a_stop_are_not_shown(cli, capsys, number):
    """Errors that follow from being stopped are not reported."""
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
    """nohup ignores SIGHUP, so that a tool outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        cli._guarded(lambda words: signal.raise_signal(signal.SIGHUP))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_importing_a_command_changes_no_handler():
    """Handlers are set when a command runs, not when it is imported, as by these tests."""
    import_module("commands.train_edges")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
