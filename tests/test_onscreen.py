"""Colours and the line of progress: for a person at a terminal alone."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest
from conftest import OFFICER1_PUB, SIGNED, Shell

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
        while True:
            try:
                got += os.read(screen, 1 << 16)
            except OSError:  # as Linux has it when the last one has closed the terminal
                break
    os.close(screen)
    return process.returncode, got.decode()


@pytest.fixture
def desk(shell: Shell, keys: Path) -> Shell:
    """A folder with a signed file and a key."""
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


def at_times(desk: Shell, command: str, times: str) -> str:
    """Return a command whose clock shows these times: when it starts, and when each is done."""
    start = f"import toktools.system.onscreen as o; o.monotonic = iter({times}).__next__"
    return f"'{desk.bin / 'python'}' -c '{start}; from toktools import cli; cli.run(\"{command}\")'"


def test_progress(desk: Shell) -> None:
    """After some time a line counts what is done, and at the end it is gone."""
    status, got = on_a_terminal(desk, f"tok-extract f.json | tok-exec -- sh -c '{SLOW}' > out", ("stderr",))
    assert status == 0
    assert re.fullmatch(r"(\rtok-exec: [123] signed\x1b\[K\r){1,3}\r\x1b\[K", got)
    assert len(desk.read("out").splitlines()) == 3


def test_progress_after_two_seconds(desk: Shell) -> None:
    """It begins after two seconds, and changes after a fifth of one."""
    command = at_times(desk, "exec", "(5, 6.9, 7, 7.1, 7.25)")
    stream = f"{{ tok-extract f.json; tok-extract -n 1 f.json; }} | {command}"
    status, got = on_a_terminal(desk, f"{stream} -- sh -c '{QUICK}' > out", ("stderr",))
    assert (status, got) == (0, "\rtok-exec: 2 signed\x1b[K\r\rtok-exec: 4 signed\x1b[K\r\r\x1b[K")


def test_progress_and_a_message(desk: Shell) -> None:
    """A message stands alone on its line."""
    command = at_times(desk, "exec", "(0, 1, 2, 2.1)")
    script = f"{{ tok-extract f.json; echo nonsense; }} | {command} -- sh -c '{QUICK}' > out"
    status, got = on_a_terminal(desk, script, ("stderr",))
    assert status == 2
    before, message = got.split("tok-exec: standard input: line 4")
    assert before == "\rtok-exec: 2 signed\x1b[K\r\r\x1b[K"
    assert "signed" not in message


@pytest.mark.parametrize(
    ("streams", "variables"),
    [((), {}), (("stdout", "stderr"), {}), (("stdout",), {}), (("stderr",), {"TERM": "dumb"})],
    ids=str,
)
def test_no_progress(desk: Shell, streams: tuple[str, ...], variables: dict[str, str]) -> None:
    """Nothing is counted where standard error is no terminal, or the signatures go to the terminal themselves."""
    command = at_times(desk, "exec", "range(0, 99, 3)")
    _, got = on_a_terminal(desk, f"tok-extract f.json | {command} -- sh -c '{QUICK}'", streams, **variables)
    assert "\x1b" not in got
    assert "tok-exec: " not in got


def test_progress_of_a_stream(desk: Shell) -> None:
    """tok-sign counts too, as long as its stream goes on; quick work shows nothing."""
    digest = desk.run("tok-extract", "-n", "1", "f.json").out.decode().strip()
    two = f"{{ echo {digest}; until [ -s out ]; do sleep 0.05; done; echo {digest}; }}"
    for second, shown in (("2", "\rtok-sign: 2 signed\x1b[K\r\r\x1b[K"), ("1.9", "")):
        command = at_times(desk, "sign", f"(0, 1.8, {second})")
        script = f"rm -f out; {two} | {command} -k key.pem > out"
        assert on_a_terminal(desk, script, ("stderr",)) == (0, shown)


def test_progress_of_verifying(desk: Shell) -> None:
    """tok-verify says how many there are, and takes the line away before its answers."""
    start = 'import toktools.system.onscreen as o; o._AFTER = o._EVERY = 0; import toktools.cli as c; c.run("verify")'
    python = desk.bin / "python"
    _, got = on_a_terminal(desk, f"'{python}' -c '{start}' -p o.pub a.json", ("stdout", "stderr"), NO_COLOR="1")
    counted = "".join(f"\rtok-verify: {number} of 3 verified\x1b[K\r" for number in (1, 2, 3))
    assert got == counted + "\r\x1b[K" + "".join(f"a.json: token {number}: OK\n" for number in (1, 2, 3))
