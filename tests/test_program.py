"""A program in a terminal of its own: shells, whose other end is this process."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator

import pytest
from conftest import wait_until

from toktools.errors import ToktoolsError
from toktools.login import program
from toktools.login.program import Program
from toktools.system import files, signals


@pytest.fixture
def start() -> Iterator[Callable[[str], Program]]:
    """Start shells; in the end they are over, and no descriptor is left."""
    before = os.listdir("/dev/fd")
    started: list[Program] = []

    def begin(script: str) -> Program:
        started.append(Program(["sh", "-c", script], 24, 1000))
        return started[-1]

    yield begin
    for one in started:
        one.close()
        assert one.has_ended()
    assert os.listdir("/dev/fd") == before


def until(one: Program, text: bytes | None) -> bytes:
    """Return all that is shown until a text, or the end."""
    shown = b""
    while text is None or text not in shown:
        output = one.read(60.0)
        if output is None:
            assert text is None, shown
            break
        shown += output
    return shown


def test_its_terminal(start: Callable[[str], Program]) -> None:
    """It has its own, of the size that is wanted, which controls it; no signal is held."""
    with signals.held():
        one = start("stty size; echo $$ > /dev/tty; grep SigBlk /proc/self/status; cat < /proc/$$/stat")
    size, pid, held, stat = until(one, None).decode().split("\r\n")[:4]
    assert (size, pid) == ("24 1000", stat.split()[0])
    assert stat.split()[5] == pid  # the leader of a session
    assert int(held.split()[1], 16) == 0
    assert fcntl.ioctl(one.fileno(), termios.TIOCGWINSZ, bytes(8)) == struct.pack("HHHH", 24, 1000, 0, 0)
    assert one.wait() == 0


def test_what_cannot_be_started() -> None:
    """It leaves no descriptor."""
    before = os.listdir("/dev/fd")
    with pytest.raises(FileNotFoundError):
        Program(["./none"], 24, 80)
    assert os.listdir("/dev/fd") == before


def test_to_read(start: Callable[[str], Program]) -> None:
    """What comes is returned, nothing after some silence, and None at the end, though another holds the terminal."""
    one = start("echo a; read x; trap '' HUP; sleep 600 & echo $!; exit 3")
    assert until(one, b"a\r\n") == b"a\r\n"
    assert one.read(0.0) == b""
    assert one.read(0.01) == b""
    assert not one.has_ended()
    assert one.write(b"x\r")
    pid = int(until(one, None).split()[-1])
    assert one.has_ended()
    assert one.wait() == 3
    os.kill(pid, signal.SIGKILL)


def test_the_last_words(start: Callable[[str], Program]) -> None:
    """What was written before the end is read after it."""
    one = start("echo last; exit 0")
    wait_until(one.has_ended)
    assert one.read(0.0) == b"last\r\n"
    assert one.read(1.0) is None


def test_to_type(start: Callable[[str], Program]) -> None:
    """Keys go as far as there is room, which may come with the time."""
    one = start("stty raw -echo; echo ready; sleep 600")
    until(one, b"ready")
    assert one.write(b"x" * 100)
    assert not one.write(b"x" * 1_000_000)
    assert not one.write(b"x" * 1_000_000, 0.05)
    one = start("stty raw -echo; echo ready; head -c 100000 | wc -c; sleep 600")
    until(one, b"ready")
    assert one.write(b"x" * 100_000, 60.0)
    assert b"100000" in until(one, b"100000")


def test_keys_that_wait(start: Callable[[str], Program], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without patience nothing is waited for; with some, it is until there is room; at the end all is well."""
    one = start("stty raw -echo; echo ready; read x; sleep 600")
    until(one, b"ready")
    waits: list[float] = []

    def room(_readers: object, _writers: object, _errors: object, seconds: float) -> None:
        waits.append(seconds)

    def full(_fd: int, keys: bytes) -> int:
        if len(waits) < 2:
            raise BlockingIOError
        return len(keys)

    monkeypatch.setattr(select, "select", room)
    monkeypatch.setattr(os, "write", full)
    assert not one.write(b"x")
    assert waits == []
    assert one.write(b"x", 600.0)
    assert len(waits) == 2
    assert 0.0 < waits[1] <= waits[0] <= 600.0

    def over(_fd: int, _keys: bytes) -> int:
        raise OSError

    monkeypatch.setattr(os, "write", over)
    assert one.write(b"x")


def test_how_long_it_is_read(start: Callable[[str], Program], monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is wanted, but the program is looked at meanwhile; what came just before its end counts."""
    one = start("exit 0")
    wait_until(one.has_ended)
    waits: list[float] = []
    found: list[list[int]] = []

    def ready(readers: list[int], _writers: object, _errors: object, seconds: float) -> tuple[list[int], ...]:
        waits.append(seconds)
        return (readers if found.pop() else [], [], [])

    monkeypatch.setattr(select, "select", ready)
    for patience in (0.0, -1.0, 0.1, 60.0):
        found[:] = [[1], []]
        assert one.read(patience) == b""
    assert waits[::2] == [0.0, 0.0, 0.1, 0.5]
    found[:] = [[], []]  # another has the terminal open
    assert one.read(0.1) is None


def test_the_mode_of_none(start: Callable[[str], Program], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that cannot be asked is taken for one that gathers lines and shows them."""
    one = start("exit 0")

    def gone(_fd: int) -> None:
        raise termios.error

    monkeypatch.setattr(termios, "tcgetattr", gone)
    assert one.mode() == (True, True)


@pytest.mark.parametrize(
    ("words", "mode"),
    [("sane", (True, True)), ("-echo", (True, False)), ("-icanon", (False, True)), ("raw -echo", (False, False))],
)
def test_the_mode(start: Callable[[str], Program], words: str, mode: tuple[bool, bool]) -> None:
    """Whether lines are gathered, and whether keys are shown, as the program has it."""
    one = start(f"stty {words}; echo ready; sleep 600")
    until(one, b"ready")
    assert one.mode() == mode


def test_what_is_thrown_away(start: Callable[[str], Program]) -> None:
    """The program may throw away what was typed, and that is seen."""
    flush = "import sys, termios; sys.stdin.readline(); print(1, flush=True); termios.tcflush(0, termios.TC{}FLUSH)"
    python = f"exec '{sys.executable}' -S -c"
    for which, seen in (("O", False), ("I", True)):
        one = start(f"stty -echo; {python} '{flush.format(which)}; print(2); sys.stdin.readline()'")
        one.write(b"x\r")
        until(one, b"2")
        assert one.flushed == seen
        one.write(b"x\r")


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 3", 3), ("kill -KILL $$", -9), ("trap '' HUP TERM; while :; do sleep 0.1; done", -9), ("sleep 600", -1)],
)
def test_to_wait(start: Callable[[str], Program], monkeypatch: pytest.MonkeyPatch, script: str, status: int) -> None:
    """For a while; then it is ended, kindly at first."""
    monkeypatch.setattr(program, "_SOON", 5.0 if "sleep" not in script else 0.1)
    monkeypatch.setattr(program, "_KINDLY", 0.1)
    one = start(f"echo ready; {script}" if "trap" not in script else script.replace("; while", "; echo ready; while"))
    until(one, b"ready")
    assert one.wait() == status
    assert one.is_closed == ("sleep" in script)


def test_to_close(start: Callable[[str], Program]) -> None:
    """It is told to hang up; once is enough."""
    one = start("trap 'exit 5' HUP; echo ready; sleep 600 & wait")
    until(one, b"ready")
    assert not one.is_closed
    one.close()
    assert one.is_closed
    assert one.wait() == 5
    one.close()
    assert one.fileno() == -1


class User:
    """A user's terminal, in place of standard input and output."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys, self.terminal = pty.openpty()
        tty.setraw(self.terminal)  # what is typed before the work begins is there then as it is
        self.shown = b""
        self.on_show: Callable[[], None] = lambda: None
        monkeypatch.setattr(files, "STDIN", self.terminal)
        monkeypatch.setattr(files, "write_stdout", self._show)

    def _show(self, content: bytes) -> None:
        self.shown += content
        self.on_show()

    def type(self, text: bytes) -> None:
        os.write(self.keys, text)

    def close(self) -> None:
        for fd in (self.keys, self.terminal):
            os.close(fd)


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], User]]:
    """A user sits down once the program is started, whose own terminal it is not."""
    users: list[User] = []

    def sit() -> User:
        users.append(User(monkeypatch))
        return users[-1]

    before = signal.getsignal(signal.SIGWINCH)
    yield sit
    signal.signal(signal.SIGWINCH, before)
    for one in users:
        one.close()


def test_to_connect(start: Callable[[str], Program], user: Callable[[], User]) -> None:
    """An Enter comes first; then every key goes through, and all that is shown, until the end; modes are put back."""
    one = start(
        'stty -echo; echo ready; read a; stty size; read b; echo "<$a$b>"; head -c 100000 /dev/zero | tr "\\0" x'
    )
    until(one, b"ready")
    who = user()
    termios.tcsetwinsize(who.terminal, (30, 90)) if hasattr(termios, "tcsetwinsize") else None
    who.type(b"hello\r")
    tty.setcbreak(who.terminal, termios.TCSANOW)
    before = termios.tcgetattr(who.terminal)
    one.connect()
    assert b"<hello>" in who.shown
    assert who.shown.count(b"x") == 100_000
    assert termios.tcgetattr(who.terminal) == before
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL
    if hasattr(termios, "tcsetwinsize"):
        assert b"30 90" in who.shown


def test_what_is_typed_before_an_editor_is_ready(start: Callable[[str], Program], user: Callable[[], User]) -> None:
    """It comes behind the Enter, but the terminal's own answers before."""
    one = start("stty raw -echo; echo ready; dd bs=1 count=9 2>/dev/null | od -An -c")
    until(one, b"ready")
    who = user()
    who.type(b"\x1b[1R")
    step = iter([b"abcd"])
    threading.Timer(0.05, lambda: who.type(next(step))).start()
    one.connect()
    shown = b"".join(who.shown.split())
    assert shown.startswith(b"033[1R")
    assert shown.endswith(b"\\rabcd")


def test_to_suspend(start: Callable[[str], Program], user: Callable[[], User], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z stops the whole job here, and is not for the program."""
    one = start('stty -echo; echo ready; read a; read b; echo "<$b>"')
    until(one, b"ready")
    who = user()
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    who.type(b"a\x1ab\r")
    one.connect()
    monkeypatch.undo()
    assert (0, signal.SIGTSTP) in sent
    assert b"<ab>" in who.shown


def test_a_terminal_that_goes_away(start: Callable[[str], Program], user: Callable[[], User]) -> None:
    """It is told."""
    one = start("echo ready; sleep 600")
    until(one, b"ready")
    who = user()

    def hang_up() -> None:
        os.close(who.keys)
        who.keys = os.open(os.devnull, os.O_RDWR)

    timer = threading.Timer(0.1, hang_up)
    timer.start()
    try:
        with pytest.raises(ToktoolsError, match=r"^the terminal is gone$"):
            one.connect()
    finally:
        timer.join()


@pytest.mark.parametrize(("words", "passes"), [("-echo", 1), ("raw -echo", 3), ("raw echo", 3)])
def test_who_draws_its_prompt(
    start: Callable[[str], Program],
    user: Callable[[], User],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    passes: int,
) -> None:
    """Only what does not gather lines is a line editor, which is given time to draw."""
    one = start(f"stty {words}; echo ready; sleep 600")
    until(one, b"ready")
    user()
    passed: list[tuple[object, ...]] = []

    def pass_on(*typed: object) -> bytes:
        passed.append(typed)
        return b"k"

    monkeypatch.setattr(one, "_pass_on", pass_on)
    one.connect()
    quick = program._REDRAWN  # noqa: SLF001 - there is no other way to see it
    assert passed == ([(b"\r",)] if passes == 1 else [(b"", quick), (b"\r", quick), (b"kk",)])


@pytest.mark.parametrize(("size", "reads"), [(3, 1), (4, 2), (6, 2), (7, 3)])
def test_what_is_shown_in_one_go(
    start: Callable[[str], Program], user: Callable[[], User], monkeypatch: pytest.MonkeyPatch, size: int, reads: int
) -> None:
    """What is there is shown at once, up to a bound; the rest comes later."""
    one = start("exit 0")
    who = user()
    asked: list[int] = []

    def read(_fd: int, count: int) -> bytes:
        asked.append(count)
        return b"abc"

    monkeypatch.setattr(program, "_CHUNK", size)
    monkeypatch.setattr(os, "read", read)
    assert one._show()  # noqa: SLF001 - else the reads are not to be counted
    assert who.shown == b"abc" * reads
    assert asked == [size] * reads


@pytest.mark.parametrize(("waiting", "takes"), [(b"12", True), (b"123", False)])
def test_keys_that_nobody_reads(
    start: Callable[[str], Program],
    user: Callable[[], User],
    monkeypatch: pytest.MonkeyPatch,
    waiting: bytes,
    takes: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    """Where the program reads no keys, the user's are left in the terminal once so many wait."""
    one = start("sleep 600")
    who = user()
    who.type(b"x")
    assert select.select([who.terminal], [], [], 60)[0]

    def full(_fd: int, _keys: bytes) -> int:
        raise BlockingIOError

    monkeypatch.setattr(program, "_CHUNK", 3)
    monkeypatch.setattr(os, "write", full)
    left = one._pass_on(waiting, 0.2)  # noqa: SLF001 - else nobody tells how many wait
    assert left == waiting + b"x" * takes
