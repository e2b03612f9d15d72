"""Colours and the line of progress: for a person at a terminal alone."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import OFFICER1_PUB, PATIENCE_SECONDS, SIGNED, Shell

from toktools.system import terminal

QUICK = "openssl pkeyutl -sign -inkey key.pem -pkeyopt digest:sha256"
SLOW = f"sleep 1.2; {QUICK}"


def on_a_terminal(shell: Shell, script: str, streams: tuple[str, ...], **environment: str) -> tuple[int, str]:
    """Run a script with these of its streams on a terminal, and return its status and what the terminal got."""
    screen, line = pty.openpty()
    attributes = termios.tcgetattr(line)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(line, termios.TCSANOW, attributes)
    options: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        **dict.fromkeys(streams, line),
    }
    variables = {name: text for name, text in shell.env.items() if name != "NO_COLOR"} | {
        "TERM": "xterm",
        **environment,
    }
    with subprocess.Popen(["sh", "-c", script], cwd=shell.cwd, env=variables, **options) as process:
        os.close(line)
        got = b""
        try:
            while chunk := os.read(screen, 1 << 16):
                got += chunk
        except OSError:  # as Linux has it when the last one has closed the terminal
            pass
    os.close(screen)
    return process.returncode, got.decode()


@pytest.fixture
def desk(shell: Shell, keys: Path) -> Shell:
    """A directory with a signed file and a key."""
    shutil.copy(SIGNED, shell.cwd / "a.json")
    shutil.copy(OFFICER1_PUB, shell.cwd / "o.pub")
    shell.write("key.pem", (keys / "pkcs8.pem").read_bytes()).chmod(0o600)
    return shell


def test_colours(desk: Shell) -> None:
    """OK is green and FAILED is red, and nothing else has a colour."""
    status, got = on_a_terminal(desk, "tok-verify -p o.pub -- a.json f.json", ("stdout",))
    assert status == 1
    good = [f"a.json: token {number}: \x1b[32mOK\x1b[0m\n" for number in (1, 2, 3)]
    bad = [f"f.json: token {number}: \x1b[31mFAILED\x1b[0m: unsigned\n" for number in (1, 2, 3)]
    assert got == "".join(good + bad)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}], ids=str)
def test_no_colours(desk: Shell, variables: dict[str, str]) -> None:
    """NO_COLOR and a terminal without colours are kept to; an empty NO_COLOR says nothing; nor does JSON have any."""
    _, got = on_a_terminal(desk, "tok-verify -p o.pub a.json", ("stdout",), **variables)
    assert got == "".join(f"a.json: token {number}: OK\n" for number in (1, 2, 3))
    _, got = on_a_terminal(desk, "tok-verify -p o.pub a.json", ("stdout",), NO_COLOR="")
    assert "\x1b[32mOK" in got
    _, got = on_a_terminal(desk, "tok-verify --json -p o.pub a.json", ("stdout",))
    assert "\x1b" not in got


def test_no_colours_in_a_pipe(desk: Shell) -> None:
    """A pipe has none, though standard error is a terminal."""
    on_a_terminal(desk, "tok-verify -p o.pub a.json | cat > out", ("stderr",))
    assert b"\x1b" not in desk.read("out")


def test_progress(desk: Shell) -> None:
    """After some time a line counts what is done, and at the end it is gone."""
    status, got = on_a_terminal(desk, f"tok-extract f.json | tok-exec -- sh -c '{SLOW}' > out", ("stderr",))
    assert status == 0
    assert re.fullmatch(r"(\rtok-exec: [123] signed\x1b\[K\r){1,3}\r\x1b\[K", got)
    assert len(desk.read("out").splitlines()) == 3


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal for standard error; what it shows can be read from a descriptor."""
    screen, line = pty.openpty()
    monkeypatch.setattr(terminal, "_STDERR", line)
    monkeypatch.setenv("TERM", "xterm")
    yield screen
    os.close(screen)
    os.close(line)


def test_when_progress_is_shown(monkeypatch: pytest.MonkeyPatch, screen: int) -> None:
    """It begins after two seconds, changes after a fifth of one, and counts all that is done."""
    monkeypatch.setattr(terminal, "monotonic", iter((5, 6.9, 7, 7.1, 7.25)).__next__)
    progress = terminal.progress("tok-x", "done")
    assert progress is not None
    for count in (1, 1, 1, 4):
        progress.step(count)
    progress.erase()
    progress.erase()
    wanted = b"\rtok-x: 2 done\x1b[K\r\rtok-x: 7 done\x1b[K\r\r\x1b[K"
    shown = b""
    while len(shown) < len(wanted) and select.select([screen], [], [], PATIENCE_SECONDS)[0]:
        shown += os.read(screen, 1000)  # a terminal gives what it has, which may be a part
    assert shown == wanted


@pytest.mark.parametrize("term", ["", "dumb"])
def test_no_progress(monkeypatch: pytest.MonkeyPatch, screen: int, term: str) -> None:
    """Nothing is counted on a terminal that cannot show it, or on no terminal; nor after quick work."""
    assert terminal.progress("tok-x", "done")
    monkeypatch.setenv("TERM", term)
    assert terminal.progress("tok-x", "done") is None
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "_STDERR", os.open(os.devnull, os.O_WRONLY))
    assert terminal.progress("tok-x", "done") is None
    os.close(terminal._STDERR)  # noqa: SLF001 - the fixture's stays open
    os.set_blocking(screen, False)
    with pytest.raises(BlockingIOError):
        os.read(screen, 1)


def test_progress_stands_aside(desk: Shell) -> None:
    """It is not shown if the signatures go to the terminal, and a message stands alone on its line."""
    _, got = on_a_terminal(desk, f"tok-extract f.json | tok-exec -- sh -c '{SLOW}'", ("stdout", "stderr"))
    assert "\x1b" not in got
    script = f"{{ tok-extract f.json; sleep 2; echo nonsense; }} | tok-exec -- sh -c '{SLOW}' > out"
    status, got = on_a_terminal(desk, script, ("stderr",))
    assert status == 2
    before, message = got.split("tok-exec: standard input: line 4")
    assert before.endswith("\r\x1b[K")
    assert "signed" not in message
