"""The driver with real programs, which it does not wait for as long as for a CLI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import alive, wait_until

from toktools import prompts
from toktools.cli import Console
from toktools.errors import ToktoolsError
from toktools.login import driver
from toktools.login.host import LocalHost
from toktools.login.pty import Pty
from toktools.system import prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READY = prompts.READY


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., driver.Cli]]:
    """Start shells as CLIs, with a second for each step, and end them; no descriptor is left."""
    monkeypatch.setattr(prompt, "known", {})  # other tests in this process have had secrets
    monkeypatch.setattr(driver, "_QUESTION_SECONDS", 0.5)
    monkeypatch.setattr(driver, "_PERSON_SECONDS", 0.1)
    monkeypatch.setattr(Pty, "connect", lambda *_: False)  # the terminal of the tests is not for this
    before = os.listdir("/dev/fd")
    started: list[driver.Cli] = []
    said: list[str] = []

    def begin(script: str, seconds: float = 1.0, say: list[str] = said) -> driver.Cli:
        cli = driver.Cli("/bin/sh", say.append, seconds, LocalHost(None, Console("login")))
        started.append(cli)
        cli.start(["/bin/sh", "-c", script])
        return cli

    yield begin
    for cli in started:
        cli.close()
    assert os.listdir("/dev/fd") == before


def refused(call: Callable[[], object]) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        call()
    return raised.value


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sleep 300", "no 'Enter password:' within 1 seconds; it shows: nothing"),
        ("printf 'Enter new PIN: '; sleep 300", "it asks an unknown question; it shows: Enter new PIN:"),
        ("printf Connecting; sleep 300", "no 'Enter password:' within 1 seconds; it shows: Connecting"),
        ("while sleep 0.05; do echo .; done", "no 'Enter password:' within 1 seconds; it shows: . / ."),
        ("printf 'aws-cloudhsm > '; sleep 300", "expected 'Enter password:'; it shows: aws-cloudhsm >"),
        ("printf 'a b Enter password:'; sleep 300", "it asks an unknown question; it shows: a b Enter password:"),
        ("stty raw; yes $(printf '\\033[6n') | head -n 40000; sleep 300", "no 'Enter password:' within 1 seconds"),
        ("exit 127", "it ended (exit status 127); it shows: nothing"),
    ],
)
def test_the_deadline(start: Callable[..., driver.Cli], script: str, said: str) -> None:
    """A CLI that does not come to the point is given up, with what it shows."""
    error = refused(lambda: start(script).expect(prompts.PASSWORD))
    assert error.message.startswith(f"/bin/sh: {said}")
    assert error.status == 2
    hint = '-v shows each step; to report it, see "If your CLI is not understood" in README.md'
    assert error.hint == ("name the CLI with --cli" if "127" in said else hint)


@pytest.mark.parametrize("mark", ["", "(ins)", "+", "@ "])
@pytest.mark.parametrize("passing", ["", f"{READY}\\r\\033[K", "Enter password:\\n"])
def test_a_prompt(start: Callable[..., driver.Cli], mark: str, passing: str) -> None:
    """It may have the mark of a line editor before it; one that goes on to something else at once is none."""
    said: list[str] = []
    cli = start(f"printf 'one\\n\\ntwo\\n{passing}{mark}{READY}'; sleep 300", 60.0, said)
    cli.expect(READY)
    assert said[:3] == ["one", "", "two"]


def test_another_prompt_after_the_login(start: Callable[..., driver.Cli]) -> None:
    """It has the name of the user who logs in, and no other."""
    cli = start("printf 'alice@cluster-1a2b > '; sleep 300")
    cli.knows("bob")
    assert "it asks an unknown question" in refused(lambda: cli.expect(READY)).message
    cli.knows("alice")
    cli.expect(READY)


RESPONSE = '{"error_code": %s, "data": "%s"}'


@pytest.mark.parametrize("end", ["\\n", "", "\\r\\n\\033[1m", "\\nnote\\n"])
def test_a_response(start: Callable[..., driver.Cli], end: str) -> None:
    """It is the one JSON object with an error_code on lines of its own."""
    said: list[str] = []
    cli = start(f"printf '{READY}'; read x; printf '{RESPONSE % (0, 'a')}{end}{READY}'; sleep 300", 60.0, said)
    cli.expect(READY)
    cli.type(b"do")
    assert cli.response() == RESPONSE % (0, "a")
    assert said == (["note"] if "note" in end else [])
    cli.accept('{"error_code": 0}')
    error = refused(lambda: cli.accept(RESPONSE % (1, "x" * 301)))
    assert (error.message, error.status) == (f"/bin/sh: refused: {'x' * 100} ... {'x' * 300}", 1)


@pytest.mark.parametrize("asks", [True, False])
def test_no_response(start: Callable[..., driver.Cli], asks: bool) -> None:  # noqa: FBT001
    """A response that does not come is called so, whether or not the command may ask for a password."""
    cli = start(f"printf '{READY}'; read x; echo busy; sleep 300")
    cli.expect(READY)
    cli.type(b"do")
    error = refused(lambda: cli.response((lambda _: b"") if asks else None))
    assert error.message == "/bin/sh: no response within 1 seconds; it shows: busy"


def test_a_cli_that_does_not_end(start: Callable[..., driver.Cli]) -> None:
    """A CLI that does not end after quit is given up, too; leave() says nothing about it."""
    script = f"printf '{READY}'; read line; echo never; sleep 300"
    cli = start(script)
    cli.expect(READY)
    assert refused(cli.quit).message == "/bin/sh: it did not end after quit; it shows: never"
    cli = start(script)
    cli.expect(READY)
    cli.leave()


def test_a_cli_that_does_not_read(start: Callable[..., driver.Cli]) -> None:
    """A CLI that never reads what is typed is given up, once there is no room for more; a line fits a row."""
    cli = start(f"stty raw -echo; printf '{READY}'; sleep 300")
    cli.expect(READY)
    assert "more than 900 bytes" in refused(lambda: cli.type(b"x" * 901)).message

    def type_on() -> None:
        for _ in range(1000):
            cli.type(b"x" * 900)

    assert refused(type_on).message == "/bin/sh: it does not read its input"


@pytest.mark.parametrize("output", ["y\\n", READY])
def test_a_flood(start: Callable[..., driver.Cli], monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    """Output without an end is given up."""
    monkeypatch.setattr(driver, "_MAX_OUTPUT", 1 << 14)
    monkeypatch.setattr(driver, "_PROMPT_SECONDS", 60.0)  # else a prompt counts when "yes" gets no time for a moment
    cli = start(f"exec yes '{output}'", 60.0)
    assert refused(lambda: cli.expect(prompts.PASSWORD)).message == "/bin/sh: more than 16384 bytes of output"


def test_the_last_words() -> None:
    """What was written before the end is read after it, though another process holds the terminal open."""
    pty = Pty(24, 80)
    pty.start(["sh", "-c", "trap '' HUP; sleep 600 & echo $!; stty size; exit 3"])
    wait_until(pty.has_ended)
    output = b""
    while (chunk := pty.read(5)) is not None:
        output += chunk
    pid, size = output.split(b"\r\n")[:2]
    assert (size, pty.wait(5)) == (b"24 80", 3)
    pty.close()
    assert alive(int(pid))
    os.kill(int(pid), signal.SIGKILL)


SCREEN = """
import resource, sys
from toktools.login import driver
screen = driver.Screen(*driver.SIZE)
piece = eval(sys.argv[1]) * 1000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
written = 0
while written < 1 << 20 and screen.size <= driver._MAX_SCREEN:
    screen.feed(piece)
    written += len(piece)
screen.lines(0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    "piece",
    [
        r"b'x\x1b[2J'",
        r"b'x\x1b[999b'",
        r"b'\x1b[999@\n'",
        r"b'\x1b[99S'",
        r"b'\0'",
        r"b'x\n'",
        r"'x\u0301'.encode()",
        r"('x' + 16 * '\u0301' + '\x1b[999b').encode()",
    ],
)
def test_the_memory_of_the_screen(piece: str) -> None:
    """Whatever is drawn with a megabyte of output, it takes less than 64, also when it is read."""
    assert int(subprocess.check_output([sys.executable, "-c", SCREEN, piece])) < 64 << 10
