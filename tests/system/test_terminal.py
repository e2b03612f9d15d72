"""Prompts and raw mode at real terminals: whole lines, one prompt at a time, and the modes back whatever happens."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PASS_PHRASE, Shell, need, only_if

from toktools.system import process, terminal

QUESTION = b"Secret: "
ANSWER = b"s3cret line"
PROMPT = b"Enter pass phrase for"
NO_LOCK = "macOS takes no locks of a terminal, which keep two prompts apart"
# What changes the modes of its terminal, which is its standard input too.
KINDS = {
    "prompt": "print(prompt.ask('Secret: '))",
    # As a PKCS#11 module may have them.
    "beside a thread": """
import threading
threading.Thread(target=time.sleep, args=[600], daemon=True).start()
print(prompt.ask('Secret: '))
""",
    "raw": """
with terminal.raw(0):
    os.write(1, b'Secret: ')
    while True:
        time.sleep(0.1)
""",
}
PROGRAM = """
import os, signal, sys, time
from toktools.system import process, prompt, terminal
process.restore_default_signals()
def main():
    try:
        work()
    except process.Terminated as fatal:
        process.end_by_signal(fatal.number)
def work():
"""
MODES = {
    "usual": [],
    "icanon": ["-icanon"],
    "raw without echo": ["raw", "-echo"],
    "igcr": ["igncr"],
    "inlcr": ["inlcr"],
    "isig": ["-isig"],
}


def program(kind: str, before: str = "") -> str:
    """Return the text of a program of this kind."""
    lines = f"{before}\n{KINDS[kind]}".strip().splitlines()
    return PROGRAM + "".join(f"    {line}\n" for line in lines) + "main()\n"


class Desk:
    """A terminal, and programs that have it."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.screen, self.line = pty.openpty()
        self.shown = b""
        self.programs: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        """Start a program as the leader of a session, whose terminal this is."""
        program = subprocess.Popen(
            ["sh", "-c", 'exec 3<>"$0" <&3 >&3 2>&3 3>&-; "$@"; exit $?', os.ttyname(self.line), *map(str, command)],
            start_new_session=True,
            cwd=self.shell.cwd,
            env=self.shell.unmeasured,
            **more,
        )
        self.programs.append(program)
        return program

    def ask(self, kind: str) -> subprocess.Popen[bytes]:
        """Put a question, by a process that is the leader itself."""
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), self.line)
        command = (self.shell.bin / "python", "-c", program(kind))
        asking = self.shell.start(*command, terminal=os.ttyname(self.line), env=self.shell.unmeasured, **streams)
        self.programs.append(asking)
        return asking

    def stty(self, *words: str) -> None:
        if words:
            subprocess.run(["stty", *words], stdin=self.line, check=True)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.line)

    def wait_for(self, text: bytes, count: int = 1) -> None:
        deadline = time.monotonic() + 120
        while self.shown.count(text) < count:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.screen], [], [], 1)[0]:
                self.shown += os.read(self.screen, 4096)

    def end_of(self, program: subprocess.Popen[bytes]) -> int:
        """Read until a program has ended, and what is there then; return its exit status."""
        deadline = time.monotonic() + 120
        while program.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self.read_on(0.01)
        self.read_on(0)
        return program.returncode

    def read_on(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while select.select([self.screen], [], [], max(0, deadline - time.monotonic()))[0]:
            self.shown += os.read(self.screen, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self.screen, keys)


@pytest.fixture
def desk(shell: Shell) -> Iterator[Desk]:
    yield from opened(shell)


@pytest.fixture
def other(shell: Shell) -> Iterator[Desk]:
    yield from opened(shell)


def opened(shell: Shell) -> Iterator[Desk]:
    need("sh", "stty")
    desk = Desk(shell)
    try:
        yield desk
    finally:
        for started in desk.programs:
            try:
                os.killpg(started.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            started.wait()
        os.close(desk.line)
        os.close(desk.screen)


# The whole line, in any mode.


@pytest.mark.parametrize("mode", MODES)
def test_the_whole_line_in_any_mode(desk: Desk, mode: str) -> None:
    """Enter ends the line, every byte comes as it is typed, nothing is echoed, and the modes are as before."""
    desk.stty(*MODES[mode])
    before = desk.modes()
    asking = desk.ask("prompt")
    desk.wait_for(QUESTION)
    for key in b"S3cret \xc3\xbc lina\x7fe\r":
        desk.type(bytes([key]))
        time.sleep(0.002)
    assert desk.end_of(asking) == 0
    assert repr("S3cret \u00fc line".encode() + b"\n").encode() in desk.shown
    assert desk.shown.count(b"line") == 1  # what the program prints in the end
    assert desk.modes() == before


def test_more_descriptors_than_select_takes(desk: Desk, keys: Path) -> None:
    """With 1,100 of them open, the pass phrase is read, and not echoed."""
    before = desk.modes()
    script = """
import os, sys
for _ in range(1100):
    os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
os.execv(sys.argv[1], sys.argv[1:])
"""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    only_if(limit[1] >= 1200, "no process here may have so many descriptors")
    command = ("sh", "-c", 'ulimit -n 1200; exec "$@"', "sh", desk.shell.bin / "python", "-c", script)
    asking = desk.start(*command, desk.shell.bin / "tok-sign", "-k", keys / "pbes2.pem")
    desk.wait_for(PROMPT)
    desk.type(PASS_PHRASE.encode() + b"\r")
    desk.wait_for(b"reading digests")
    desk.type(b"\x04")
    assert desk.end_of(asking) == 2
    assert b"no digests" in desk.shown
    assert b"horse" not in desk.shown
    assert desk.modes() == before


def test_the_pass_phrase_that_is_too_long(desk: Desk, keys: Path) -> None:
    """tok-sign says it in one line, and the shell gets no rest of it."""
    before = desk.modes()
    asking = desk.start(desk.shell.bin / "tok-sign", "-k", keys / "pbes2.pem")
    desk.wait_for(PROMPT)
    for _ in range(10):
        desk.type(b"x" * 500)
        time.sleep(0.02)
    desk.type(b"\r")
    assert desk.end_of(asking) == 2
    assert b"pbes2.pem: the pass phrase is longer than 1023 bytes\r\n" in desk.shown
    assert not select.select([desk.line], [], [], 0)[0]
    assert b"xxx" not in desk.shown
    assert desk.modes() == before


def test_what_is_typed_before_and_after(desk: Desk) -> None:
    """It is no answer, and half an answer, when a signal comes, is not left in the terminal for the next reader."""
    desk.type(b"early\r")
    asking = desk.ask("prompt")
    desk.wait_for(QUESTION)
    desk.type(ANSWER + b"\r")
    assert desk.end_of(asking) == 0
    assert repr(ANSWER + b"\n").encode() in desk.shown
    asking = desk.ask("prompt")
    desk.wait_for(QUESTION, 2)
    desk.type(b"half of it")
    os.kill(asking.pid, signal.SIGTERM)
    assert desk.end_of(asking) == -signal.SIGTERM
    desk.type(b"\r")
    assert os.read(desk.line, 100) == b"\n"


@pytest.mark.parametrize(("keys", "line"), [(b"\x04", b""), (b"half\x04 and\x04\x04", b"half and")])
def test_ctrl_d(desk: Desk, keys: bytes, line: bytes) -> None:
    """It ends the line, or makes an empty one."""
    asking = desk.ask("prompt")
    desk.wait_for(QUESTION)
    for key in keys:
        desk.type(bytes([key]))
        time.sleep(0.02)
    assert desk.end_of(asking) == 0
    assert desk.shown.replace(b"\r\n", b" ") == QUESTION + b" " + repr(line).encode() + b" "


# Signals.


@pytest.mark.parametrize("number", process.FATAL, ids=lambda number: number.name)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fatal_signal(desk: Desk, kind: str, number: int) -> None:
    """It ends the process, by itself and without a word, and the modes are as before."""
    before = desk.modes()
    asking = desk.ask(kind)
    desk.wait_for(QUESTION)
    assert desk.modes() != before
    os.kill(asking.pid, number)
    assert desk.end_of(asking) == -number
    assert desk.shown.replace(b"\r\n", b"") == QUESTION
    assert desk.modes() == before


@pytest.mark.parametrize("keys", [b"half\x03", b"half\x1c"])
def test_keys_that_end_it(desk: Desk, keys: bytes) -> None:
    """Ctrl-C and Ctrl-backslash do, and give the modes back, though the terminal was raw."""
    desk.stty("raw")
    before = desk.modes()
    asking = desk.ask("prompt")
    desk.wait_for(QUESTION)
    desk.type(keys)
    assert desk.end_of(asking) == -(signal.SIGINT if keys.endswith(b"\x03") else signal.SIGQUIT)
    assert desk.modes() == before


def job(desk: Desk) -> subprocess.Popen[bytes]:
    """Start a job of a shell: if nobody could wake it up, the system would not stop it."""
    script = 'set -m; "$@"; echo stopped; read -r go; fg; echo "ended $?"'
    shell = desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", "-c", program("prompt"))
    desk.wait_for(QUESTION)
    return shell


def test_ctrl_z(desk: Desk) -> None:
    """It stops the process with the modes as before; when that goes on, the question is put again."""
    before = desk.modes()
    job(desk)
    asked = desk.modes()
    desk.type(b"half\x1a")
    desk.wait_for(b"stopped")
    assert desk.modes() == before
    desk.type(b"\r")
    desk.wait_for(QUESTION, 2)
    assert desk.modes() == asked
    desk.type(ANSWER + b"\r")
    desk.wait_for(b"ended 0")
    assert ANSWER in desk.shown
    assert desk.modes() == before


def test_ctrl_z_after_enter(desk: Desk) -> None:
    """At whatever moment after Enter it comes, the echo is on while the job is stopped, and in the end."""
    desk.stty("noflsh")  # else Ctrl-Z can throw away what the shell has just written
    before = desk.modes()
    chance = random.Random(12)
    for _ in range(15):
        desk.shown = b""
        shell = job(desk)
        desk.type(ANSWER + b"\r")
        time.sleep(chance.random() / 80)
        desk.type(b"\x1a")  # which reaches the shell, and is ignored, if the job has ended
        desk.wait_for(b"stopped")  # or ended, which the script does not tell apart
        assert desk.modes() == before
        desk.type(b"\r")
        deadline = time.monotonic() + 60
        asked = 1
        while b"ended" not in desk.shown:
            assert time.monotonic() < deadline, desk.shown
            desk.read_on(0.01)
            if desk.shown.count(QUESTION) > asked:
                asked += 1
                desk.type(ANSWER + b"\r")
        desk.end_of(shell)  # before that the terminal is its own
        assert desk.modes() == before


def test_a_job_in_the_background(desk: Desk) -> None:
    """A question from the background stops the job and leaves the terminal alone, until it is called."""
    before = desk.modes()
    wait = "until jobs >jobs; grep -q Stopped jobs; do sleep 0.05; done"
    script = f'set -m; "$@" <&0 & {wait}; echo waits; read -r go; fg; echo "ended $?"'
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", "-c", program("prompt"))
    desk.wait_for(b"waits")
    assert QUESTION not in desk.shown
    assert desk.modes() == before
    desk.type(b"\r")
    desk.wait_for(QUESTION)
    desk.type(ANSWER + b"\r")
    desk.wait_for(b"ended 0")
    assert desk.shown.count(QUESTION) == 1, "put again, what was typed after it is thrown away"
    assert desk.modes() == before


def test_a_signal_in_the_background(desk: Desk) -> None:
    """It ends a job that was stopped in raw mode, though a job that sets modes there is stopped again."""
    wait = "until jobs >jobs; grep -q Terminated jobs; do sleep 0.05; done"
    script = f'set -m; "$@"; kill -TERM %1; kill -CONT %1; {wait}; echo gone'
    before = "open('pid', 'w').write(str(os.getpid()))"
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", "-c", program("raw", before))
    desk.wait_for(QUESTION)
    os.kill(int(desk.shell.read("pid")), signal.SIGSTOP)
    desk.wait_for(b"gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_at_any_moment_of_a_question(desk: Desk, number: int) -> None:
    """The end is by the signal, with the modes as before, at once."""
    before = desk.modes()
    chance = random.Random(number)
    for _ in range(15):
        desk.shown = b""
        asking = desk.ask("prompt")
        # Python itself answers a SIGINT before the first line with exit status 1.
        if number == signal.SIGINT or chance.random() < 1 / 2:
            desk.wait_for(QUESTION)
            if chance.random() < 1 / 2:
                desk.type(ANSWER + b"\r")
        time.sleep(chance.random() / 20)
        os.kill(asking.pid, number)
        assert desk.end_of(asking) in {-number, 0}
        assert desk.modes() == before
        desk.read_on(0.01)
        assert b"Traceback" not in desk.shown


# Two at one terminal.


def test_make_with_two_jobs(desk: Desk, keys: Path) -> None:
    """One prompt after the other, and no echo of either."""
    only_if(sys.platform != "darwin", NO_LOCK)
    need("make")
    digest = "A" * 43 + "="
    rule = f"\t@echo {digest} | {desk.shell.bin / 'tok-sign'} -k {keys / 'pbes2.pem'} > $@\n"
    desk.shell.write("Makefile", f"a:\n{rule}b:\n{rule}".encode())
    before = desk.modes()
    make = desk.start("make", "-j2", "a", "b")
    for count in (1, 2):
        desk.wait_for(PROMPT, count)
        desk.read_on(0.5)
        assert desk.shown.count(PROMPT) == count
        desk.type(PASS_PHRASE.encode() + b"\r")
    assert desk.end_of(make) == 0
    assert b"horse" not in desk.shown
    assert desk.modes() == before
    assert (desk.shell.cwd / "a").read_bytes() == (desk.shell.cwd / "b").read_bytes() != b""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("ended", [0, 1])
def test_one_of_two_ends(desk: Desk, ended: int, number: int) -> None:
    """The second asks when the first has ended, by SIGKILL too; a second that waits can be ended as well."""
    only_if(sys.platform != "darwin", NO_LOCK)
    script = '"$1" -c "$2" <&3 & echo "<$!>"; until [ -e go ]; do sleep 0.05; done; "$1" -c "$2" <&3 & echo "<$!>"'
    script = f"exec 3<&0; {script}; wait; echo both"
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", program("prompt"))
    desk.wait_for(QUESTION)
    desk.wait_for(b">")
    desk.shell.write("go", b"")
    desk.wait_for(b">", 2)
    desk.read_on(0.6)
    assert desk.shown.count(QUESTION) == 1
    os.kill([int(part.split(b">")[0]) for part in desk.shown.split(b"<")[1:3]][ended], number)
    desk.wait_for(QUESTION, 2 - ended)
    desk.type(ANSWER + b"\r")
    desk.wait_for(b"both")
    assert repr(ANSWER + b"\n").encode() in desk.shown


def test_a_stopped_one_is_in_nobodys_way(desk: Desk) -> None:
    """After Ctrl-Z another one asks at the same terminal."""
    script = 'set -m; "$1" -c "$2"; "$1" -c "$2"; echo "second $?"; fg; echo "first $?"'
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", program("prompt"))
    for count, end in ((2, b"second 0"), (3, b"first 0")):
        desk.wait_for(QUESTION, count - 1)
        if count == 2:
            desk.type(b"half\x1a")
        desk.wait_for(QUESTION, count)
        desk.type(ANSWER + b"\r")
        desk.wait_for(end)


def test_another_terminal_does_not_wait(desk: Desk, other: Desk) -> None:
    """Though both are /dev/tty to their programs."""
    desk.ask("prompt")
    desk.wait_for(QUESTION)
    asking = other.ask("prompt")
    other.wait_for(QUESTION)
    other.type(ANSWER + b"\r")
    assert desk.end_of(asking) == 0


def test_another_user_keeps_no_prompt_away(desk: Desk, other: Desk, shell: Shell) -> None:
    """A lock that another session holds delays a question, but not for ever."""
    only_if(sys.platform != "darwin", NO_LOCK)
    script = 'until [ -e go ]; do sleep 0.05; done; "$1" -c "$2"'
    text = program("prompt", "prompt._MAX_LOCK_SECONDS = 0.1")
    asking = desk.start("sh", "-c", script, "sh", shell.bin / "python", text)
    lock = f"fcntl.lockf(os.open('/dev/tty', os.O_RDWR), fcntl.LOCK_EX, 1, {asking.pid})"
    script = f"import fcntl, os, time; {lock}; print('locked', flush=True); time.sleep(300)"
    other.start(shell.bin / "python", "-c", script)
    other.wait_for(b"locked")
    shell.write("go", b"")
    desk.wait_for(QUESTION)
    desk.type(ANSWER + b"\r")
    assert desk.end_of(asking) == 0


# Waiting.


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_waiting(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Descriptors that can be read or written are told, an end among them; on Linux those above 1,024 too."""
    monkeypatch.setattr(terminal.sys, "platform", platform)  # type: ignore[attr-defined] # it imports it for itself
    out, into = os.pipe()
    if platform == "linux":
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        high = fcntl.fcntl(out, fcntl.F_DUPFD, 1030)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(out)
        out = high
    assert terminal.wait([out], [into], 60) == ([], [into])
    before = time.monotonic()
    assert terminal.wait([out], [], 0.02) == ([], [])
    assert time.monotonic() - before > 0.01
    os.write(into, b"x")
    assert terminal.wait([out], [], 60) == ([out], [])
    os.read(out, 1)
    os.close(into)
    assert terminal.wait([out], [], 60) == ([out], [])
    os.close(out)
