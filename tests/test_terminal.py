"""What is asked of a person: whole lines in any mode, one question at a time, and the modes back whatever happens."""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PASS_PHRASE, Shell, need

from toktools.system import signals

QUESTION = b"Secret: "
ANSWER = b"s3cret line"
# Kinds of questions, and the hand-over. Each gets its terminal as /dev/tty, and as standard input.
KINDS = {
    "hidden": "print(terminal.ask('Secret: '))",
    "visible": "print(terminal.ask('Secret: ', path='/dev/fd/0', hidden=False))",
    "stand-in": "from toktools.rehearsal.shell import Terminal; print(Terminal().ask('Secret: ', hidden=True))",
    "raw": """
with terminal.raw(0, again=lambda: os.write(1, b'Secret: ')):
    while True:
        time.sleep(0.1)
""",
}
PROGRAM = """
import os, signal, sys, time
signals_to_default = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT]
for number in signals_to_default:
    signal.signal(number, signal.SIG_DFL)
from toktools.system import terminal
"""
MODES = {
    "usual": [],
    "icanon": ["-icanon"],
    "raw": ["raw"],
    "raw without echo": ["raw", "-echo"],
    "isig": ["-isig"],
    "icrnl": ["-icrnl"],
    "igncr": ["igncr"],
    "inlcr": ["inlcr"],
    "iuclc": ["iuclc"],
    "istrip": ["istrip"],
    "parmrk": ["parmrk"],
    "eol": ["eol", "c", "eol2", "3"],
    "echo": ["-echo"],
    "min": ["-icanon", "min", "0", "time", "1"],
    "all": ["raw", "-echo", "igncr", "inlcr", "istrip", "iuclc"],
}


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
        command = (self.shell.bin / "python", "-c", PROGRAM + KINDS[kind])
        program = self.shell.start(*command, terminal=os.ttyname(self.line), env=self.shell.unmeasured, **streams)
        self.programs.append(program)
        return program

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
    need("sh", "stty")
    desk = Desk(shell)
    try:
        yield desk
    finally:
        for program in desk.programs:
            try:
                os.killpg(program.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            program.wait()
        os.close(desk.line)
        os.close(desk.screen)


# The whole line, in any mode.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["hidden", "visible", "stand-in"])
def test_the_whole_line_in_any_mode(desk: Desk, mode: str, kind: str) -> None:
    """Enter, and nothing before it, ends the line; every byte comes as it is typed; the modes are as before."""
    desk.stty(*MODES[mode])
    before = desk.modes()
    program = desk.ask(kind)
    desk.wait_for(QUESTION)
    for key in b"S3cret \xc3\xbc lina\x7fe\r":
        desk.type(bytes([key]))
        time.sleep(0.002)
    assert desk.end_of(program) == 0
    answer = "S3cret \u00fc line"
    printed = repr(answer) if kind == "stand-in" else repr(answer.encode() + b"\n")
    printed = answer if kind == "stand-in" else printed
    assert printed.encode() in desk.shown
    if kind != "visible":
        assert desk.shown.count(b"line") == 1  # what the program prints in the end
    assert desk.modes() == before


@pytest.mark.parametrize("keys", [b"half\x03", b"half\x1c"])
@pytest.mark.parametrize("mode", ["isig", "raw", "icanon"])
def test_keys_that_end_it_in_any_mode(desk: Desk, mode: str, keys: bytes) -> None:
    """Ctrl-C and Ctrl-backslash work, and give the modes back."""
    desk.stty(*MODES[mode])
    before = desk.modes()
    program = desk.ask("hidden")
    desk.wait_for(QUESTION)
    desk.type(keys)
    assert desk.end_of(program) == -(signal.SIGINT if keys.endswith(b"\x03") else signal.SIGQUIT)
    assert desk.modes() == before


@pytest.mark.parametrize("size", [4094, 4095, 5000])
@pytest.mark.parametrize("kind", ["hidden", "visible"])
def test_a_line_that_is_too_long(desk: Desk, kind: str, size: int) -> None:
    """A line that the terminal would cut off is an error."""
    program = desk.ask(kind)
    desk.wait_for(QUESTION)
    for at in range(0, size, 500):
        desk.type(b"x" * min(500, size - at))
        desk.read_on(0.02)
    desk.type(b"\r")
    status = desk.end_of(program)
    if size <= 4094:
        assert status == 0
        assert b"x" * size + b"\\n" in desk.shown
    else:
        assert status
        assert b"the line has more than 4094 bytes" in desk.shown


def test_the_pass_phrase_that_is_too_long(desk: Desk, keys: Path) -> None:
    """tok-sign says it in one line, and the shell gets no rest of it."""
    before = desk.modes()
    program = desk.start(desk.shell.bin / "tok-sign", "-k", keys / "pbes2.pem")
    desk.wait_for(b"Enter pass phrase")
    for _ in range(10):
        desk.type(b"x" * 500)
        time.sleep(0.02)
    desk.type(b"\r")
    assert desk.end_of(program) == 2
    assert b"pbes2.pem: the line has more than 4094 bytes, and a terminal cuts off the rest\r\n" in desk.shown
    assert not select.select([desk.line], [], [], 0)[0]
    assert b"xxx" not in desk.shown
    assert desk.modes() == before


def test_typed_ahead(desk: Desk) -> None:
    """What is typed before a hidden question is no answer; before a visible one it is."""
    desk.type(b"early\r")
    hidden = desk.ask("hidden")
    desk.wait_for(QUESTION)
    desk.type(ANSWER + b"\r")
    assert desk.end_of(hidden) == 0
    desk.wait_for(repr(ANSWER + b"\n").encode())
    desk.type(b"early\r")
    visible = desk.ask("visible")
    assert desk.end_of(visible) == 0
    desk.wait_for(b"b'early\\n'")


def test_nothing_is_left_for_the_shell(desk: Desk) -> None:
    """Half an answer, when a signal comes, is not left in the terminal for whoever reads next."""
    program = desk.ask("hidden")
    desk.wait_for(QUESTION)
    desk.type(b"half of it")
    os.kill(program.pid, signal.SIGTERM)
    assert desk.end_of(program) == -signal.SIGTERM
    desk.type(b"\r")
    assert os.read(desk.line, 100) == b"\n"


def test_modes_that_change_during_the_question(desk: Desk) -> None:
    """A program beside it that makes the terminal raw gets no half of the line: the question is put again."""
    program = desk.ask("hidden")
    desk.wait_for(QUESTION)
    desk.type(b"half")
    # stty says so itself where the question has set the modes again before it looks at them.
    subprocess.run(["stty", "raw", "echo"], stdin=desk.line, check=False, stderr=subprocess.DEVNULL)
    desk.wait_for(QUESTION, 2)
    desk.type(ANSWER + b"\r")
    assert desk.end_of(program) == 0
    desk.wait_for(repr(ANSWER + b"\n").encode())
    flags = desk.modes()[3]
    assert flags & termios.ECHO
    assert not flags & termios.ICANON  # what the other has changed stays


def test_only_what_was_changed_is_put_back(desk: Desk) -> None:
    """A mode that another program has set meanwhile stays."""
    program = desk.ask("hidden")
    desk.wait_for(QUESTION)
    desk.stty("tostop", "-ixon", "intr", "^K")
    desk.type(ANSWER + b"\r")
    assert desk.end_of(program) == 0
    modes = desk.modes()
    assert modes[3] & termios.TOSTOP
    assert not modes[0] & termios.IXON
    assert modes[6][termios.VINTR] == b"\x0b"
    assert modes[3] & termios.ECHO


# Signals.

CATCHABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
STOPS = [signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU]
FAULTS = [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL]


def name_of(number: int) -> str:
    return getattr(number, "name", str(number))


DO_NOTHING = """
import os, signal, sys
number = int(sys.argv[1])
signal.signal(number, signal.SIG_DFL)
os.kill(os.getpid(), number)
"""


def test_the_list_of_signals_is_whole(shell: Shell) -> None:
    """What ends a process that does nothing about it is in the list, tried out; but for faults."""
    deadly = []
    for number in CATCHABLE:
        program = shell.start(shell.bin / "python", "-c", DO_NOTHING, str(int(number)), env=shell.unmeasured)
        _, status = os.waitpid(program.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            program.kill()
            program.wait()
            continue
        program.returncode = os.waitstatus_to_exitcode(status)
        assert program.returncode in (0, -number)
        if program.returncode:
            deadly.append(number)
    assert deadly
    assert set(deadly) - set(FAULTS) == set(signals.DEADLY)


@pytest.mark.parametrize("number", signals.DEADLY, ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
def test_a_deadly_signal(desk: Desk, kind: str, number: int) -> None:
    """It ends the process, by itself and without a word, and the modes are as before."""
    before = desk.modes()
    program = desk.ask(kind)
    desk.wait_for(QUESTION)
    assert desk.modes() != before or kind == "visible"
    os.kill(program.pid, number)
    assert desk.end_of(program) == -number
    assert desk.shown.replace(b"\r\n", b"") == QUESTION
    assert desk.modes() == before


@pytest.mark.parametrize("number", STOPS, ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_that_stops(desk: Desk, kind: str, number: int) -> None:
    """It stops the process with the modes as before; when it goes on, the question is put again."""
    before = desk.modes()
    # A job of a shell: where nobody could wake it up, the system would not stop it.
    script = 'set -m; "$@"; echo stopped; read -r go; fg; echo "ended $?"'
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", "-c", PROGRAM + KINDS[kind])
    desk.wait_for(QUESTION)
    asked = desk.modes()
    os.kill(os.tcgetpgrp(desk.screen), number)
    desk.wait_for(b"stopped")
    assert desk.modes() == before
    desk.type(b"\r")
    desk.wait_for(QUESTION, 2)
    assert desk.modes() == asked
    if kind == "raw":
        os.kill(os.tcgetpgrp(desk.screen), signal.SIGTERM)
        desk.wait_for(b"ended 143")
    else:
        desk.type(ANSWER + b"\r")
        desk.wait_for(b"ended 0")
        assert ANSWER in desk.shown
    assert desk.modes() == before


@pytest.mark.parametrize("kind", ["hidden", "visible"])
def test_a_job_in_the_background(desk: Desk, kind: str) -> None:
    """A question from the background stops the job and leaves the terminal alone, until it is called."""
    before = desk.modes()
    wait = "until jobs >jobs; grep -q Stopped jobs; do sleep 0.05; done"
    script = f'set -m; "$@" <&0 & {wait}; echo waits; read -r go; fg; echo "ended $?"'
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", "-c", PROGRAM + KINDS[kind])
    desk.wait_for(b"waits")
    assert QUESTION not in desk.shown
    assert desk.modes() == before
    desk.type(b"\r")
    desk.wait_for(QUESTION)
    desk.type(ANSWER + b"\r")
    desk.wait_for(b"ended 0")
    assert desk.shown.count(QUESTION) == 1, "put again, what was typed after it is thrown away"
    assert desk.modes() == before


STRUCK = """
from contextlib import ExitStack
os.write(1, b"ready")
while True:
    with signals.tidied(*signals.STOPS, tidy=lambda: None):
        with signals.tidied(*signals.STOPS, tidy=lambda: None):
            pass
"""


def test_a_signal_while_handlers_are_installed(shell: Shell) -> None:
    """At whatever moment it comes, it ends the process, and nothing is said."""
    chance = random.Random(10)
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN + 3]
    script = PROGRAM.replace("import terminal", "import signals") + STRUCK
    for turn in range(60):
        number = numbers[turn % len(numbers)]
        pipe = subprocess.PIPE
        with shell.start(shell.bin / "python", "-c", script, stdout=pipe, stderr=pipe, env=shell.unmeasured) as program:
            assert program.stdout is not None
            assert program.stdout.read(5) == b"ready"
            time.sleep(chance.random() / 200)
            program.send_signal(number)
            out, err = program.communicate(timeout=120)
            assert (program.returncode, out, err) == (-number, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2], ids=name_of)
def test_a_signal_at_any_moment_of_a_question(desk: Desk, number: int) -> None:
    """From the start of the question on, the end is by the signal, with the modes as before, at once."""
    before = desk.modes()
    chance = random.Random(number)
    for _ in range(15):
        desk.shown = b""
        program = desk.ask("hidden")
        # Python itself answers a SIGINT before the first line with exit status 1.
        if number == signal.SIGINT or chance.random() < 1 / 2:
            desk.wait_for(QUESTION)
        time.sleep(chance.random() / 20)
        os.kill(program.pid, number)
        assert desk.end_of(program) == -number
        assert desk.modes() == before
        desk.read_on(0.01)
        assert b"Traceback" not in desk.shown


GONE = """
import pty, termios

class Gone(Exception):
    pass

def look(*_):
    global struck
    if not struck:
        struck = True
        raise Gone

def trace(frame, event, _):
    global left
    if frame.f_code.co_filename in FILES and event == "line":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGCHLD)
    return trace

screen, line = pty.openpty()
FILES = {terminal.__file__, terminal.signals.__file__}
signal.signal(signal.SIGCHLD, look)
before = termios.tcgetattr(line), signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGTERM)
turn, left, ends = 0, 0, set()
while left <= 0:
    turn += 1
    left, struck = turn, False
    try:
        sys.settrace(trace)
        terminal.ask("", lambda _: os.write(screen, b"x\\n"), path=os.ttyname(line))
        end = "answered"
    except Gone:
        end = "gone"
    finally:
        sys.settrace(None)
        signal.pthread_sigmask(signal.SIG_SETMASK, before[1])
    ends.add(end)
    after = termios.tcgetattr(line), before[1], signal.getsignal(signal.SIGTERM)
    if after != before:
        sys.exit(f"not as before, after line {turn}")
print(turn > 100, sorted(ends))
"""


def test_an_exception_at_any_moment_of_a_question(shell: Shell) -> None:
    """Where the handler of SIGCHLD raises, at whatever line, the modes are given back."""
    done = shell.run(shell.bin / "python", "-c", PROGRAM + GONE, env=shell.unmeasured).check(0)
    assert done.out == b"True ['answered', 'gone']\n"


# Two at one terminal.

PROMPT = b"Enter pass phrase for"


def test_make_with_two_jobs(desk: Desk, keys: Path) -> None:
    """One prompt after the other, and no echo of either."""
    need("make", "openssl")
    sign = desk.shell.bin / "tok-sign"
    digest = "A" * 43 + "="
    rule = f"\t@echo {digest} | {sign} -k {keys / 'pbes2.pem'} > $@\n"
    desk.shell.write("Makefile", f"a:\n{rule}b:\n{rule}".encode())
    before = desk.modes()
    program = desk.start("make", "-j2", "a", "b")
    for count in (1, 2):
        desk.wait_for(PROMPT, count)
        desk.read_on(0.5)
        assert desk.shown.count(PROMPT) == count
        desk.type(PASS_PHRASE.encode() + b"\r")
    assert desk.end_of(program) == 0
    assert b"horse" not in desk.shown
    assert desk.modes() == before
    assert (desk.shell.cwd / "a").read_bytes() == (desk.shell.cwd / "b").read_bytes() != b""


def pair(desk: Desk, first: str, second: str) -> tuple[int, int]:
    """Start two at one terminal, the second once the first has asked; return their process IDs."""
    os.mkfifo(desk.shell.cwd / "gate")
    # Without the 3, what is in the background would read from /dev/null.
    script = (
        'exec 3<&0; "$1" -c "$2" <&3 & echo "<$!>"; read -r go < gate; "$1" -c "$3" <&3 & echo "<$!>"; wait; echo both'
    )
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", PROGRAM + KINDS[first], PROGRAM + KINDS[second])
    desk.wait_for(QUESTION)
    desk.wait_for(b">")
    (desk.shell.cwd / "gate").write_bytes(b"\n")
    desk.wait_for(b">", 2)
    one, two = (int(part.split(b">")[0]) for part in desk.shown.split(b"<")[1:3])
    return one, two


@pytest.mark.parametrize("second", ["hidden", "visible", "stand-in"])
@pytest.mark.parametrize("first", ["hidden", "visible", "raw"])
def test_the_second_waits(desk: Desk, first: str, second: str) -> None:
    """However each reaches the terminal, the second asks when the first has ended, by SIGKILL too."""
    one, _ = pair(desk, first, second)
    desk.read_on(0.6)
    assert desk.shown.count(QUESTION) == 1
    os.kill(one, signal.SIGKILL)
    desk.wait_for(QUESTION, 2)
    desk.type(ANSWER + b"\r")
    desk.wait_for(b"both")
    assert ANSWER in desk.shown


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=name_of)
def test_the_one_that_waits_can_be_ended(desk: Desk, number: int) -> None:
    """Who waits is ended as usual, and the first has its answer undisturbed."""
    before = desk.modes()
    _, two = pair(desk, "hidden", "hidden")
    desk.read_on(0.2)
    os.kill(two, number)
    desk.type(ANSWER + b"\r")
    desk.wait_for(b"both")
    assert desk.shown.count(QUESTION) == 1
    assert repr(ANSWER + b"\n").encode() in desk.shown
    assert desk.modes() == before


def test_another_terminal_does_not_wait(desk: Desk, shell: Shell) -> None:
    """Though both are /dev/tty to their programs."""
    desk.ask("hidden")
    desk.wait_for(QUESTION)
    other = Desk(shell)
    try:
        program = other.ask("hidden")
        other.wait_for(QUESTION)
        other.type(ANSWER + b"\r")
        assert desk.end_of(program) == 0
    finally:
        os.close(other.screen)
        os.close(other.line)


def test_another_users_terminal(desk: Desk) -> None:
    """After su(1) the terminal is another user's file, and yet the second waits."""
    if os.geteuid():
        pytest.skip("takes root")
    nobody = "import fcntl, select, termios\nos.setgid(65534); os.setuid(65534)\n"
    os.chmod(os.ttyname(desk.line), 0o620)
    script = '"$1" -c "$2" & "$1" -c "$2" & wait; echo both'
    desk.start("sh", "-c", script, "sh", desk.shell.bin / "python", PROGRAM + nobody + KINDS["hidden"])
    for count in (1, 2):
        desk.wait_for(QUESTION, count)
        desk.read_on(0.4)
        assert desk.shown.count(QUESTION) == count
        desk.type(ANSWER + b"\r")
    desk.wait_for(b"both")
