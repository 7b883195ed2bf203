"""pylog top in the terminal of tmux: what it shows, and that it leaves the terminal as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import pylog

LOG = Path(__file__).parents[2] / "fixtures/ipl/v5-1-2-lp64le-filter.ipf.bin"
OVERRUN = Path(__file__).parents[2] / "fixtures/nflog/overrun.bin"
PYLOG = f"PYTHONPATH={Path(pylog.__file__).parents[1]} {sys.executable} -P -m pylog"

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
pytest.importorskip("textual")


class Terminal:
    """A terminal of 80 columns and 24 lines with a shell."""

    def __init__(self) -> None:
        self._name = f"pylog-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-s", "top", "-x", "80", "-y", "24", "sh")

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def type(self, *keys: str) -> None:
        """Press keys, in tmux's names."""
        self.tmux("send-keys", "-t", "top", *keys)

    def shown(self) -> str:
        return self.tmux("capture-pane", "-p", "-t", "top")

    def wait(self, text: str, seconds: float = 60) -> str:
        """The screen as soon as it shows a text."""
        until = time.monotonic() + seconds
        while text not in (shown := self.shown()):
            assert time.monotonic() < until, f"no {text!r} in:\n{shown}"
            time.sleep(0.1)
        return shown

    def settings(self, mark: str) -> str:
        """The settings of the terminal, and whether its alternate screen is used."""
        self.type(f"clear; stty -g; echo {mark}", "Enter")
        shown = self.wait(f"\n{mark}\n").partition(f"\n{mark}\n")[0]
        pane = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"
        return "".join(shown.splitlines()[-2:]) + self.tmux("display", "-p", "-t", "top", pane)

    def close(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def test_the_screen_and_its_end(terminal: Terminal) -> None:
    before = terminal.settings("before")
    terminal.type(f"clear; {PYLOG} top {LOG}; echo left $?", "Enter")
    shown = terminal.wait("198.51.100.23")
    assert "63 in all" in shown and "8 losses" in shown and "74.6%" in shown
    terminal.type("3")
    terminal.wait("tcp 22 ")
    terminal.type("/")
    terminal.wait("filter, as")
    terminal.type("dprt == 1")
    terminal.wait("did you mean dport")
    terminal.type("Escape")  # followed at once by 1 it would be Alt-1
    terminal.wait("order: count")
    terminal.type("1", "Enter")
    terminal.wait("sources: 198.51.100.23")
    terminal.wait(" block in ")
    terminal.type("Escape")
    terminal.wait("8 losses")
    terminal.type("q")
    terminal.wait("left 0")
    assert terminal.settings("after") == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(terminal: Terminal, number: int) -> None:
    before = terminal.settings("before")
    terminal.type(f"clear; {PYLOG} top --speed 1 {LOG}; echo left $?", "Enter")
    terminal.wait("8 losses")
    pane = terminal.tmux("display", "-p", "-t", "top", "#{pane_pid}").strip()
    children = subprocess.run(["pgrep", "-P", pane], capture_output=True, text=True).stdout.split()
    os.kill(int(children[0]), number)
    terminal.wait(f"left {128 + number}")
    assert terminal.settings("after") == before


def test_an_error_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    before = terminal.settings("before")
    terminal.type(f"clear; {PYLOG} top nflog:70000; echo left $?", "Enter")
    assert "pylog: " in terminal.wait("left 2")
    assert terminal.settings("after") == before


def test_losses_are_shown(terminal: Terminal) -> None:
    terminal.type(f"clear; {PYLOG} top {OVERRUN}", "Enter")
    terminal.wait("LOST: 2520 records were lost, in 1 place")
    terminal.type("8")
    terminal.wait("lost 2520 records")
