"""A directory with a CLI in it, the stand-in or one that a test takes apart, and a user at a terminal."""

from __future__ import annotations

import io
import json
import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from typing import Any

import pexpect
import pytest
from conftest import PASS_PHRASE, Done, Shell, alive
from rehearsing import PASSWORD

USER = ["--username", "officer1", "--role", "admin"]
ASKS_PASSWORD = b"Enter password for officer1: "
READY = b"aws-cloudhsm > "
ASKS_PLACE = b"\x1b[6n"  # of the cursor (ECMA-48, DSR), which a real terminal tells
FOREVER = "time.sleep(300)"

# A CLI in small steps, each of which a test can replace. It writes down who it is, what it was started with, and every
# line that it is given.
FAKE = r"""
import hashlib, json, os, signal, sys, termios, time
from base64 import b64encode

READY, PASSWORD = "aws-cloudhsm > ", "Enter password:"
FILE = "Enter signed token file path (press enter if same as the unsigned token file):"
PARENT = os.getppid()
DIGEST = b"\1" * 32

def note(name, text):
    with open(name, "a") as file:
        file.write(text + "\n")

def show(text):
    left = text.encode()
    while left:
        left = left[os.write(1, left) :]

def echo(on):
    mode = termios.tcgetattr(0)
    mode[3] = mode[3] | termios.ECHO if on else mode[3] & ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, mode)

def hear():
    line = os.read(0, 4096).decode()
    if not line:
        raise SystemExit
    note("heard", line.rstrip("\n"))
    return line.rstrip("\n")

def hear_hidden():
    echo(False)
    heard = hear()
    echo(True)
    show("\n")
    return heard

def reply(data, code=0):
    show(json.dumps({"error_code": code, "data": data}, indent=2) + "\n")

def text(content):
    return b64encode(content).decode()

def start():
    pass

def command():
    return hear()

def ask_password():
    show(PASSWORD)
    hear_hidden()

def document():
    return {"version": "2.0", "tokens": [{"unsigned": text(DIGEST), "signed": ""}]}

def write_tokens(path):
    with open(path, "w") as file:
        file.write(json.dumps(document()))

def ask_file(path):
    show(FILE)
    hear()

def answer(path):
    reply({"username": "officer1", "role": "admin"})

def run(line):
    reply(line)

def end():
    pass

def main():
    note("pid", f"{os.getpid()} {PARENT}")
    note("words", json.dumps(sys.argv[1:]))
    start()
    show(READY)
    path = command().split()[-1]
    ask_password()
    write_tokens(path)
    ask_file(path)
    answer(path)
    show(READY)
    while (line := command()) != "quit":
        if line:
            run(line)
        show(READY)
    end()
"""


@dataclass(frozen=True)
class Desk(Shell):
    """A directory to work in, with a CLI in it, a key, the password in a file, and a TMPDIR of its own."""

    key: Path
    tmp: Path

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "TMPDIR": str(self.tmp), "PHRASE": PASS_PHRASE}

    def script(self, body: str, name: str = "cli") -> None:
        """Write a CLI, a script of shell commands."""
        self.write(name, f"#!/bin/sh\n{body}\n".encode()).chmod(0o700)

    def stand_in(self, *options: str, name: str = "cli") -> None:
        """Have tok-rehearse as the CLI."""
        self.script(f'echo $$ $PPID >pid; exec tok-rehearse --state state.json {" ".join(options)} "$@"', name)

    def fake(self, steps: str = "", name: str = "cli") -> None:
        """Have a fake as the CLI, with some of its steps replaced."""
        self.write("fake.py", f"{FAKE}\n{steps}\nmain()\n".encode())
        self.script(f'exec {self.bin}/python -I -S fake.py "$@"', name)

    def words(self, *more: str | Path, key: Path | str | None = None, cli: str = "./cli") -> list[str]:
        """Return the command line of a login."""
        return ["tok-login", "-k", str(key or self.key), *USER, "--cli", cli, *map(str, more)]

    def login(
        self,
        *more: str | Path,
        password: str = "file:password",
        commands: tuple[str, ...] = ("user list",),
        **rest: Any,
    ) -> Done:
        """Log in without a terminal, and run commands."""
        where = {name: rest.pop(name) for name in ("key", "cli") if name in rest}
        given = ["--", *commands] if len(commands) == 1 else [word for command in commands for word in ("-c", command)]
        words = self.words("--password", password, *more, *given, **where)
        done = self.run(*words, **{"start_new_session": True, "env": self.env, **rest})
        self.assert_nothing_left(done.out.decode(errors="replace") + done.err)
        return done

    def lines(self, name: str) -> list[str]:
        """Return what the CLI has written down."""
        path = self.cwd / name
        return path.read_text().splitlines() if path.exists() else []

    def heard(self, secret: str = PASSWORD) -> int:
        """Say how often the CLI was given the password."""
        return sum(secret in line for line in self.lines("heard"))

    def pids(self) -> list[int]:
        """Return the process IDs of the CLI and of its parent."""
        return [int(pid) for line in self.lines("pid") for pid in line.split()]

    def failures(self) -> int:
        """Return how many wrong logins the cluster has counted."""
        users = json.loads(self.read("state.json"))["users"]
        return next(int(user["failures"]) for user in users if user["username"] == "officer1")

    def assert_nothing_left(self, shown: str) -> None:
        """Assert that no process, no file and no secret is left behind."""
        assert list(self.tmp.iterdir()) == []
        assert [pid for pid in self.pids()[::2] if alive(pid)] == []
        assert "Traceback" not in shown
        assert "internal error" not in shown
        assert [secret for secret in (PASSWORD, PASS_PHRASE) if secret in shown] == []


@pytest.fixture
def desk(shell: Shell, keys: Path, enrolled: Path) -> Iterator[Desk]:
    """A desk where the CLI is the stand-in."""
    desk = Desk(shell.bin, shell.cwd, keys / "pkcs8.pem", shell.cwd / "tmp")
    desk.tmp.mkdir()
    copy(enrolled, desk.cwd / "state.json")
    desk.write("password", f"{PASSWORD}\n".encode())
    desk.stand_in()
    yield desk
    for pid in filter(alive, desk.pids()[::2]):
        os.kill(pid, signal.SIGKILL)


def answers(out: bytes) -> list[Any]:
    """Return the JSON documents that standard output is made of."""
    text, found = out.decode(), []
    while text:
        document, end = json.JSONDecoder().raw_decode(text)
        assert text[end] == "\n"
        found.append(document)
        text = text[end + 1 :]
    return found


def assert_refused(done: Done, status: int, *said: str, out: bytes = b"") -> None:
    """Assert the exit status and one clear line, perhaps with a hint."""
    done.check(status, *said)
    assert done.out == out
    first, *rest = done.err.splitlines()
    assert first.startswith("tok-login: ")
    assert len(rest) == done.err.count("tok-login: hint: ") <= 1


# At a terminal.


class Seat:
    """A shell at a terminal that runs tok-login, says how it ended, and keeps the terminal open."""

    def __init__(self, desk: Desk, words: list[str]) -> None:
        self.desk = desk
        script = ["-c", 'read start; "$@"; echo "ended: $?"; read end', "sh", *words]
        self.log = io.BytesIO()
        self.screen: pexpect.spawn[bytes] = pexpect.spawn(
            "/bin/sh", script, cwd=desk.cwd, env=desk.env, timeout=120, dimensions=(40, 100)
        )
        self.screen.logfile_read = self.log
        self.mode = termios.tcgetattr(self.screen.child_fd)
        self.type("")

    def type(self, line: str) -> None:
        self.screen.send(f"{line}\r".encode())

    def wait_for(self, *texts: str | bytes) -> None:
        for text in texts:
            while self.screen.expect_exact([text if isinstance(text, bytes) else text.encode(), ASKS_PLACE]):
                self.screen.send(b"\x1b[20;1R")

    def log_in(self) -> None:
        """Give the password, and wait for the terminal to be the user's."""
        self.wait_for(ASKS_PASSWORD)
        assert not self.screen.getecho()
        self.type(PASSWORD)
        self.wait_for(READY)

    def end(self, status: int) -> str:
        """Wait for the end, and return all that was shown."""
        self.wait_for(f"ended: {status}\r\n")
        assert termios.tcgetattr(self.screen.child_fd) == self.mode
        shown = self.log.getvalue().decode()
        self.desk.assert_nothing_left(shown)
        return shown


@contextmanager
def seat(desk: Desk, *more: str, **where: Any) -> Iterator[Seat]:
    """Log in at a terminal."""
    taken = Seat(desk, desk.words(*more, **where))
    try:
        yield taken
    finally:
        taken.screen.close(force=True)


# A line editor in raw mode, and what a CLI may do around it. {switch} is replaced by a test.
EDITOR = r"""
import tty
BEFORE = termios.tcgetattr(0)

def raw(when=termios.TCSADRAIN):
    tty.setraw(0, when)

def cooked():
    termios.tcsetattr(0, termios.TCSADRAIN, BEFORE)

def draw(prompt, line):
    show(f"\r\x1b[K{prompt}{line}")

def accept(prompt, line):
    show("\r\n")

def edit(prompt, mask=None):
    raw()
    line = ""
    draw(prompt, line)
    while (key := os.read(0, 1).decode()) != "\r":
        line += key
        draw(prompt, line if mask is None else mask * len(line))
    accept(prompt, line if mask is None else mask * len(line))
    cooked()
    note("heard", line)
    return line

def command():
    return edit(READY)

def ask_password():
    edit(PASSWORD, "")

def ask_file(path):
    edit(FILE)

def main():
    note("pid", f"{os.getpid()} {PARENT}")
    start()
    path = command().split()[-1]
    ask_password()
    write_tokens(path)
    ask_file(path)
    answer(path)
    while (line := command()) != "quit":
        if line:
            run(line)
    end()
"""

SWITCHES = {
    "nothing special": "",
    "a question for the cursor": r"""
def edit(prompt, mask=None, old=edit):
    raw()
    show("\x1b[6n")
    answer = ""
    while not answer.endswith("R"):
        answer += os.read(0, 1).decode()
    note("places", answer[1:])
    return old(prompt, mask)
""",
    "a question for the kind": r"""
def start():
    raw()
    show("\x1b[?u\x1b[c")
    answer = ""
    while not answer.endswith("c"):
        answer += os.read(0, 1).decode()
    cooked()
""",
    "absolute places": r"""
def draw(prompt, line):
    show(f"\x1b[999;1H\x1b[2K{prompt}{line}")
""",
    "a clear screen for every question": r"""
def edit(prompt, mask=None, old=edit):
    show("\x1b[H\x1b[2J")
    return old(prompt, mask)
""",
    "a right prompt": r"""
def draw(prompt, line):
    show(f"\r\x1b[K{prompt}{line}\x1b7\x1b[900G12:00:00\x1b8")
""",
    "hints": r"""
def draw(prompt, line):
    show(f"\r\x1b[K{prompt}{line}\x1b[2m --help\x1b[0m\x1b[7D")
""",
    "a toolbar": r"""
def draw(prompt, line):
    show(f"\r\x1b[J{prompt}{line}\x1b7\r\n\x1b[7mF1 help\x1b[0m\x1b8")
def accept(prompt, line):
    show("\x1b[J\r\n")
""",
    "colours, a title, brackets and strings": r"""
def draw(prompt, line):
    show(f"\x1b]0;title\x07\x1bP+q\x1b\\\x1b[1m\x1b[?2004h\r{prompt[:3]}\x1b[1;31m{prompt[3:]}\x1b[0m{line}\x1b[K")
def accept(prompt, line):
    show("\x1b[?2004l\r\n")
""",
    "a mark of the mode": r"""
def draw(prompt, line):
    show(f"\r\x1b[K(ins){prompt}{line}")
""",
    "redrawn on Enter": r"""
def accept(prompt, line):
    show(f"\r\x1b[2K{prompt}{line}\r\x1b[2K{prompt}{line}\r\n")
""",
    "stars": 'def ask_password():\n    edit(PASSWORD, "*")',
    "dots": 'def ask_password():\n    edit(PASSWORD, "•")',
    "no new line after the password": r"""
def accept(prompt, line):
    if "password" not in prompt:
        show("\r\n")
""",
    "another prompt after the login": r"""
def answer(path):
    global READY
    reply(0)
    READY = "officer1@cluster-1a2b > "
""",
}
