"""A command called in this process."""

import sys
from types import SimpleNamespace

import pytest


@pytest.fixture
def called(monkeypatch, capsys, caplog):
    """Call a command's ``run`` with flags; return its exit status, stdout, stderr and log."""

    def call(run, *flags):
        monkeypatch.setattr(sys, "argv", [run.__module__, *map(str, flags)])
        caplog.clear()
        status = 0
        try:
            run()
        except SystemExit as stopped:
            status = stopped.code
        printed = capsys.readouterr()
        return SimpleNamespace(status=status, out=printed.out, err=printed.err, log=caplog.text)

    return call
