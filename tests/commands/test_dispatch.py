"""The table of commands: sppnet and tools/ call the same modules."""

import os
import subprocess
import sys
from importlib import import_module

import pytest
from paths import ROOT

from commands import dispatch
from commands.dispatch import COMMANDS

# These tools write this repository's pages; an installed package does not need them.
FOR_PAGES = {
    *("options_page", "result_tables", "scaling_table"),
    *("peers", "faster_rcnn", "few_images"),
}
THIN = [path for path in sorted((ROOT / "tools").glob("*.py")) if path.stem not in FOR_PAGES]


@pytest.fixture
def sppnet(monkeypatch, capsys):
    """Call the console script in this process; return its exit status, stdout and modules run."""
    ran = []
    monkeypatch.setattr(dispatch, "run", ran.append)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/sppnet", *words])
        status = 0
        try:
            dispatch.main()
        except SystemExit as ended:
            status = ended.code
        return status, capsys.readouterr().out, ran

    return call


def test_the_table_is_that_of_the_tools():
    assert {path.stem for path in THIN} == COMMANDS.keys()


@pytest.mark.parametrize("path", THIN, ids=lambda path: path.stem)
def test_a_tool_is_thin(path):
    assert len(path.read_text().splitlines()) < 15
    assert path.read_text().endswith(f'run("{path.stem}")\n')


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_can_be_run(name):
    assert callable(import_module(f"commands.{name}").run)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]], ids=" ".join)
def test_the_commands_are_listed(sppnet, words):
    status, out, ran = sppnet(*words)
    assert (status, ran) == (0, [])
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == [*COMMANDS]
    assert max(map(len, out.splitlines())) <= 80


def test_another_word_is_one_sentence(sppnet):
    status, out, ran = sppnet("nonsense", "--help")
    assert (out, ran) == ("", [])
    assert status.startswith("error: nonsense is not a command of sppnet: get_data, ")


def test_a_command_gets_the_words_after_its_name(sppnet):
    assert sppnet("detect", "street.jpg", "--strict") == (0, "", ["detect"])
    assert sys.argv == ["sppnet detect", "street.jpg", "--strict"]
    assert dispatch.command_of("test_det") == ["sppnet", "test_det"]


def test_a_tool_names_tools(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tools/train_det.py"])
    assert dispatch.command_of("test_det") == ["python", "tools/test_det.py"]


def test_the_list_imports_nothing_slow():
    program = "import sys; import commands.dispatch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "commands.stopping" in loaded
    assert not loaded & {"torch", "numpy", "yaml", "jsonargparse", "commands.cli"}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ([str(ROOT / "tools/get_data.py")], "get_data.py"),
        (["-c", "from commands.dispatch import main; main()", "get_data"], "sppnet get_data"),
    ],
    ids=["tool", "sppnet"],
)
def test_usage_names_the_command_in_any_folder(tmp_path, command, name):
    """A tool finds its own repository when it is called from another folder."""
    if command[0] == "-c":
        command[1] = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {command[1]}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name} [--help] [flags] subcommand ...")
