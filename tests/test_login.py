"""tok-login: at a terminal and without one, with the stand-in and with CLIs that do not do what they should."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from types import FrameType
from typing import Any
from urllib.parse import quote

import pexpect
import pytest
from conftest import PASS_PHRASE, Done, Shell, alive, wait_until
from rehearsing import PASSWORD
from test_pkcs11 import KEY_LABEL, LABEL, PIN, Store, store

from toktools.errors import ToktoolsError
from toktools.login import driver

__all__ = ["store"]  # a fixture

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
    """A folder to work in, with a CLI in it, a key, the password in a file, and a TMPDIR of its own."""

    key: Path
    tmp: Path

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "TMPDIR": str(self.tmp), "PHRASE": PASS_PHRASE, "PIN": PIN}

    def script(self, body: str, name: str = "cli") -> None:
        """Write a CLI, a script of shell commands."""
        self.write(name, f"#!/bin/sh\n{body}\n".encode()).chmod(0o700)

    def stand_in(self, *options: str, name: str = "cli") -> None:
        """Have tok-rehearse as the CLI."""
        self.script(f'echo $$ $PPID >pid; exec tok-rehearse --state state.sqlite {" ".join(options)} "$@"', name)

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
        self.assert_tidy(done.out.decode(errors="replace") + done.err)
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
        users = json.loads((self.cwd / "state.sqlite").read_text())["users"]
        return int(next(user["failures"] for user in users if user["username"] == "officer1"))

    def assert_tidy(self, shown: str) -> None:
        """Assert that no process, no file and no secret is left behind."""
        assert list(self.tmp.iterdir()) == []
        assert [pid for pid in self.pids()[::2] if alive(pid)] == []
        assert "Traceback" not in shown
        assert "internal error" not in shown
        assert [secret for secret in (PASSWORD, PASS_PHRASE, PIN) if secret in shown] == []


@pytest.fixture
def desk(shell: Shell, keys: Path, enrolled: Path) -> Iterator[Desk]:
    """A desk where the CLI is the stand-in."""
    desk = Desk(shell.bin, shell.cwd, keys / "pkcs8.pem", shell.cwd / "tmp")
    desk.tmp.mkdir()
    copy(enrolled, desk.cwd / "state.sqlite")
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
        self.desk.assert_tidy(shown)
        return shown


@contextmanager
def seat(desk: Desk, *more: str, **where: Any) -> Iterator[Seat]:
    """Log in at a terminal."""
    taken = Seat(desk, desk.words(*more, **where))
    try:
        yield taken
    finally:
        taken.screen.close(force=True)


def test_the_terminal_is_the_users(desk: Desk) -> None:
    """After the password, which nobody sees, commands are typed and answered until quit, and the mode is as before."""
    with seat(desk) as person:
        person.log_in()
        person.type("user list")
        person.wait_for('"error_code": 0', '"username": "officer1"', READY)
        person.type("user create --username alice --role crypto-user")
        person.wait_for("\nEnter password:")
        person.type("alices-own")
        person.wait_for("Confirm password:")
        person.type("alices-own")
        person.wait_for('"username": "alice"', READY)
        person.type("quit")
        shown = person.end(0)
    assert "alices-own" not in shown
    assert shown.count("quit\r\n") == 1
    assert shown.count("aws-cloudhsm > ") == 3
    assert desk.failures() == 0


def test_28_hsms(desk: Desk) -> None:
    """A token for each of 28 HSMs is signed."""
    desk.stand_in("--hsms", "28")
    done = desk.login(commands=("quorum token-sign list-quorum-values",)).check(0, "28 HSMs")
    assert answers(done.out) == [{"error_code": 0, "data": {"user": 1, "quorum": 1, "cluster": 1}}]


SIZES = """
def tell(*_):
    size = os.get_terminal_size(0)
    show(f"size {size.lines}x{size.columns}\\n")
signal.signal(signal.SIGWINCH, tell)
signal.signal(signal.SIGINT, lambda *_: show("still here\\n"))
"""


def test_the_size_of_the_window(desk: Desk) -> None:
    """The CLI learns of the window's size when it gets the terminal, and of every new one."""
    desk.fake(SIZES)
    with seat(desk) as person:
        person.log_in()
        # The size comes before the prompt that is drawn for it; an earlier prompt may come between.
        assert re.search(rb"size 40x100\r\n(?:[^\n]*\n)?aws-cloudhsm > $", person.log.getvalue())
        for rows, columns in [(50, 132), (24, 80)]:
            person.screen.setwinsize(rows, columns)
            person.wait_for(f"size {rows}x{columns}\r\n")
        person.type("quit")
        person.end(0)


def test_keys_that_are_not_text(desk: Desk) -> None:
    """Ctrl-C interrupts the CLI, not tok-login; Ctrl-] is a key like any other, and Ctrl-D is the CLI's end."""
    desk.fake(SIZES)
    with seat(desk) as person:
        person.log_in()
        for _ in range(2):
            person.screen.send(b"\x03")
            person.wait_for("still here\r\n")
        person.type("one\x1dtwo")
        person.wait_for('"data": "one\\u001dtwo"', READY)
        person.screen.send(b"\x04")
        person.end(0)


def test_the_last_words(desk: Desk) -> None:
    """All that the CLI shows before it ends is on the screen."""
    desk.fake('def end():\n    show("word\\n" * 600 + "the last of them\\n")\n    os._exit(0)')
    with seat(desk) as person:
        person.log_in()
        person.type("quit")
        shown = person.end(0)
    assert "the last of them\r\n" in shown


@pytest.mark.parametrize(
    ("step", "status", "said"),
    [
        ("os.kill(os.getpid(), 9)", 137, "tok-login: ./cli: killed by signal 9 ("),
        ("os._exit(3)", 3, ""),
        ("os._exit(1)", 1, ""),
    ],
)
def test_a_cli_that_dies(desk: Desk, step: str, status: int, said: str) -> None:
    """Where the CLI ends while the user has the terminal, its exit status is tok-login's, and a signal is said."""
    desk.fake(f"def run(line):\n    {step}")
    with seat(desk) as person:
        person.log_in()
        person.type("user list")
        assert said in person.end(status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_the_terminal_is_the_users(desk: Desk, number: signal.Signals) -> None:
    """A signal ends tok-login and the CLI, though that ignores it, and the terminal is as it was."""
    desk.fake("signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with seat(desk) as person:
        person.log_in()
        person.type("user list")
        person.wait_for('"data": "user list"', READY)
        os.kill(desk.pids()[1], number)
        person.end(128 + number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_at_the_question(desk: Desk, number: signal.Signals) -> None:
    """A signal at the password question ends all, and the echo is on again."""
    desk.fake()
    with seat(desk) as person:
        person.wait_for(ASKS_PASSWORD)
        if number == signal.SIGINT:
            person.screen.send(b"\x03")
        else:
            os.kill(desk.pids()[1], number)
        # A shell that runs a script ends with its child at Ctrl-C.
        person.screen.expect([f"ended: {128 + number}\r\n".encode(), pexpect.EOF])
    desk.assert_tidy(person.log.getvalue().decode())
    assert desk.heard() == 0


@pytest.mark.parametrize("step", ["the question", "the user"])
@pytest.mark.parametrize("trap", [":", "trap '' HUP"])
def test_the_terminal_goes_away(desk: Desk, step: str, trap: str) -> None:
    """Where the window is closed, tok-login ends by SIGHUP, or where it ignores that in one line, and the CLI too."""
    desk.fake()
    script = ["-c", f'{trap}; exec "$@" 2>messages', "sh", *desk.words()]
    screen: Any = pexpect.spawn("/bin/sh", script, cwd=desk.cwd, env=desk.env, timeout=120)
    screen.expect_exact(ASKS_PASSWORD)
    if step == "the user":
        screen.send(f"{PASSWORD}\r")
        screen.expect_exact(READY)
        screen.send(b"user list\r")
        screen.expect_exact(READY)
    screen.ptyproc.fileobj.close()
    wait_until(lambda: not screen.isalive())
    assert (screen.signalstatus, screen.exitstatus) == ((signal.SIGHUP, None) if trap == ":" else (None, 2))
    said = desk.read("messages").decode()
    logged_in = "tok-login: logged in as officer1 (admin)\n" if step == "the user" else ""
    assert said.startswith(logged_in)
    assert said.removeprefix(logged_in).count("\n") == (0 if trap == ":" else 1)
    desk.assert_tidy(said)


def test_no_answer_at_the_question(desk: Desk) -> None:
    """Ctrl-D at the password question is no password: nothing is typed."""
    desk.fake()
    with seat(desk) as person:
        person.wait_for(ASKS_PASSWORD)
        person.screen.send(b"\x04")
        assert "tok-login: officer1: the password is empty\r\n" in person.end(2)
    assert len(desk.lines("heard")) == 1


@pytest.mark.parametrize(
    "then",
    [
        'show("Timed out.\\n" + READY)',
        "show(PASSWORD + '\\n' + READY)",
        "pass",
        "raise SystemExit",
    ],
)
def test_the_user_takes_too_long(desk: Desk, then: str) -> None:
    """A password that comes when the CLI waits for it no more, or would show it, is not typed."""
    desk.fake(f"""
import select
def ask_password():
    show(PASSWORD)
    echo(False)
    while not os.path.exists("timeout"):
        time.sleep(0.01)
    echo(True)
    note("over", "")
    {then}
    hear()
""")
    with seat(desk) as person:
        person.wait_for(ASKS_PASSWORD)
        desk.write("timeout", b"")
        wait_until(lambda: bool(desk.lines("over")))
        if then == "raise SystemExit":
            person.wait_for("./cli: it ended (exit status 0); it shows: Enter password:")
        else:
            person.type(PASSWORD)
        person.end(2)
    assert desk.heard() == 0


def test_a_wrong_password_at_the_terminal(desk: Desk) -> None:
    """A wrong password is typed once, counted once, and the end of it."""
    with seat(desk) as person:
        person.wait_for(ASKS_PASSWORD)
        person.type("wrong-one")
        shown = person.end(1)
    assert "tok-login: ./cli: refused: tok-rehearse: wrong user name, role or password\r\n" in shown
    assert "wrong-one" not in shown
    assert shown.count("Enter password") == 1
    assert desk.failures() == 1


@pytest.mark.parametrize("redirected", ["</dev/null", ">out", "</dev/null >out"])
def test_no_terminal_to_hand_over(desk: Desk, redirected: str) -> None:
    """Without commands, standard input and output must be a terminal, or nothing is started."""
    words = ["sh", "-c", f'"$@" {redirected}', "sh", *desk.words("--password", "file:password")]
    taken = Seat(desk, words)
    with closing(taken.screen):
        assert (
            "tok-login: standard input and output are not a terminal\r\ntok-login: hint: give a command" in taken.end(2)
        )
    assert desk.pids() == []


# The command line.


@pytest.mark.parametrize("more", [[], ["--cluster-id", "cluster-1a2b"]])
def test_what_the_cli_is_started_with(desk: Desk, more: list[str]) -> None:
    """The CLI is started in its interactive mode, with the cluster if one is named."""
    desk.fake()
    desk.login(*more).check(0)
    assert desk.lines("words") == [json.dumps(["interactive", *more])]


@pytest.mark.parametrize(
    ("cli", "words"),
    [
        ("./cli  --state 'a b'", ["--state", "a b"]),
        ("'the folder/c l i' \"it's\" \\$HOME '*' ''", ["it's", "$HOME", "*", ""]),
        ("the\\ folder/c\\ l\\ i ';' '|'", [";", "|"]),
    ],
)
def test_the_cli_is_split_as_a_shell_does(desk: Desk, cli: str, words: list[str]) -> None:
    """Quotes and backslashes keep words together, and nothing else of a shell is done."""
    (desk.cwd / "the folder").mkdir()
    desk.fake()
    desk.fake(name="the folder/c l i")
    desk.login(cli=cli).check(0)
    assert desk.lines("words")[0] == json.dumps([*words, "interactive"])


@pytest.mark.parametrize(
    ("cli", "said"),
    [
        ("./missing", "./missing: not found, or not executable\n"),
        ("missing-from-the-path --x", "missing-from-the-path: not found, or not executable\n"),
        ("./password", "./password: not found, or not executable\n"),
        ("./tmp", "./tmp: not found, or not executable\n"),
        ("''", "'': not found, or not executable\n"),
        ("./none", "./none: "),
        ("./lost", "./lost: "),
        ("'./cli", "--cli: no closing quotation\n"),
        ('"./cli', "--cli: no closing quotation\n"),
        ("./cli \\", "--cli: no escaped character\n"),
        ("", "--cli: the command is empty\n"),
        (" ", "--cli: the command is empty\n"),
    ],
)
def test_a_cli_that_cannot_be_started(desk: Desk, cli: str, said: str) -> None:
    """What cannot be split or started is named in one line."""
    desk.write("none", b"\0 no program").chmod(0o700)
    desk.write("lost", b"#!/no/interpreter\n").chmod(0o700)
    done = desk.login(cli=cli)
    assert_refused(done, 2, said)
    assert not done.err.startswith("tok-login: None")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--role", "admin", "-k", "k", "--", "x"], "--username"),
        (["--username", "officer1", "-k", "k", "--", "x"], "--role"),
        ([*USER, "--", "x"], "-k"),
        ([*USER, "-k", "", "--", "x"], "'': no such file or directory\n"),
        ([*USER, "--no-mfa", "-k", "", "--", "x"], "--no-mfa cannot be used with -k or --signer\n"),
        ([*USER, "--no-mfa", "-p", "x", "--", "x"], "-p cannot be used with --no-mfa\n"),
        ([*USER, "--no-mfa", "--base64", "--", "x"], "-b cannot be used with --no-mfa\n"),
        ([*USER, "--no-mfa", "--passin", "env:X", "--", "x"], "--passin cannot be used with --no-mfa\n"),
        ([*USER, "-k", "k", "--bogus", "--", "x"], "--bogus"),
        (
            ["-u", "officer1", "-k", "k", "--", "x"],
            "option -u not recognized\ntok-login: hint: did you mean --username?\n",
        ),
        (
            ["--username", "officer1", "-R", "admin", "-k", "k"],
            "option -R not recognized\ntok-login: hint: did you mean --role?\n",
        ),
        (["--username", "o r", "--role", "admin", "-k", "k", "--", "x"], "--username: "),
        (["--username", "a" * 32, "--role", "admin", "-k", "k", "--", "x"], "--username: "),
        (["--username", "a;b", "--role", "admin", "-k", "k", "--", "x"], "--username: "),
        (["--username", "a\n", "--role", "admin", "-k", "k", "--", "x"], "--username: "),
        (["--username", "a", "--role", "Admin", "-k", "k", "--", "x"], "--role: a role must be admin or crypto-user\n"),
        ([*USER, "-k", "k", "--cluster-id", "a b", "--", "x"], "--cluster-id: "),
        ([*USER, "-k", "k", "--cluster-id", "--help", "--", "x"], "--cluster-id: "),
        ([*USER, "-k", "k", "--cluster-id", "", "--", "x"], "--cluster-id: "),
        ([*USER, "-k", "k", "--password", "hunter22", "--", "x"], "--password: "),
        ([*USER, "-k", "k", "--password", "pass:hunter22", "--", "x"], "--password: "),
        ([*USER, "-k", "k", "--password", "stdin:", "--", "x"], "--password: "),
        ([*USER, "-k", "k", "--text"], "--text goes with a command for the CLI\n"),
        ([*USER, "-k", "k", "--answer", "Sure?=env:X"], "--answer goes with a command for the CLI\n"),
        ([*USER, "-k", "k", "--", ""], "a command for the CLI must be one line of text\n"),
        ([*USER, "-k", "k", "--", "  "], "a command for the CLI must be one line of text\n"),
        (
            [*USER, "-k", "k", "-c", "user list", "-c", "user list\nquit"],
            "a command for the CLI must be one line of text\n",
        ),
        ([*USER, "-k", "k", "--", "user list\r"], "a command for the CLI must be one line of text\n"),
        ([*USER, "-k", "k", "--", "\x03"], "a command for the CLI must be one line of text\n"),
        ([*USER, "-k", "k", "--", "user \x1b[2J"], "a command for the CLI must be one line of text\n"),
        ([*USER, "-k", "k", "--", "user\tlist"], "a command for the CLI must be one line of text\n"),
        ([*USER, "-k", "k", "--", "user \udcff"], "a command for the CLI must be one line of text\n"),
    ],
)
def test_usage_errors(desk: Desk, words: list[str], said: str) -> None:
    """What is wrong with the command line is said before anything is started, and no secret is repeated."""
    done = desk.run("tok-login", "--cli", "./cli", *words, start_new_session=True)
    assert_refused(done, 2, said)
    assert "hunter22" not in done.err
    assert desk.pids() == []


def test_a_parent_that_ignores_the_end_of_children(desk: Desk) -> None:
    """The end of the CLI is seen where the parent does not care for its children: trap '' CHLD."""
    words = shlex.join([*desk.words("--password", "file:password"), "--", "user list"])
    done = desk.sh(f"trap '' CHLD; {words}; exit $?", shell="bash", env=desk.env, start_new_session=True)
    desk.assert_tidy(done.out.decode() + done.check(0).err)
    assert len(answers(done.out)) == 1


def test_a_command_that_is_too_long_for_a_terminal(desk: Desk) -> None:
    """A terminal cuts a line off after 4095 bytes: such a command is never run in part."""
    done = desk.login(commands=(f"user list {' ' * 5000} --no-such-option",)).check(2)
    assert done.out == b""


# Keys and passwords.


@pytest.mark.parametrize("key", ["pbes2.pem", "old-encrypted.pem"])
def test_an_encrypted_key(desk: Desk, key: str) -> None:
    """The pass phrase comes from where --passin says."""
    done = desk.login("--passin", "env:PHRASE", key=desk.key.with_name(key)).check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]


def test_the_pass_phrase_is_asked_for_first(desk: Desk) -> None:
    """The terminal is asked for the key's pass phrase before the CLI is started, and neither secret is shown."""
    with seat(desk, key=desk.key.with_name("pbes2.pem")) as person:
        person.wait_for("Enter pass phrase for ", "pbes2.pem: ")
        assert desk.pids() == []
        person.type(PASS_PHRASE)
        person.log_in()
        person.type("quit")
        person.end(0)


@pytest.mark.parametrize(
    ("key", "passin", "said"),
    [
        ("missing.pem", "", "missing.pem: no such file or directory\n"),
        ("spki.pem", "", "a public key, but the private key is needed\n"),
        ("ec.pem", "", "CloudHSM takes only RSA keys\n"),
        ("rsa1024.pem", "", "the key is RSA-1024"),
        ("pbes2.pem", "", "there is no terminal to ask for the pass phrase\n"),
        ("pbes2.pem", "file:password", "wrong pass phrase\n"),
        ("pbes2.pem", "env:MISSING", "--passin: there is no such environment variable\n"),
    ],
)
def test_a_key_that_cannot_be_used(desk: Desk, key: str, passin: str, said: str) -> None:
    """A key that cannot be read is said to be so, and the CLI is never started."""
    more = ["--passin", passin] if passin else []
    assert_refused(desk.login(*more, key=desk.key.with_name(key)), 2, said)
    assert desk.pids() == []


def test_a_key_on_a_token(desk: Desk, store: Store) -> None:
    """A key on a PKCS#11 token logs in as a file does."""
    env = {**desk.env, "SOFTHSM2_CONF": str(store.config), "PKCS11_MODULE_PATH": store.module}
    uri = f"pkcs11:token={quote(LABEL)};object={quote(KEY_LABEL)}"
    done = desk.login("--passin", "env:PIN", key=uri, env=env).check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]


@pytest.mark.parametrize("source", ["env:SECRET", "file:password", "fd:3"])
def test_where_the_password_is(desk: Desk, source: str) -> None:
    """The password comes from a variable, a file or a descriptor, and is typed once."""
    desk.fake()
    words = desk.words("--password", source, "--", "user list")
    env = {**desk.env, "SECRET": PASSWORD}
    done = desk.run("sh", "-c", '"$@" 3<password', "sh", *words, env=env, start_new_session=True).check(0)
    assert answers(done.out) == [{"error_code": 0, "data": "user list"}]
    assert desk.lines("heard")[1:] == [PASSWORD, "", "user list", "quit"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n", "officer1: the password is empty\n"),
        (b"for\x03practice\n", "the password has a control character, which cannot be typed\n"),
        (b"for\x7fpractice\n", "the password has a control character, which cannot be typed\n"),
        (b"x" * 2000, "officer1: the password is longer than 1024 bytes\n"),
    ],
)
def test_a_password_that_cannot_be_typed(desk: Desk, content: bytes, said: str) -> None:
    """A password that a terminal would take for something else is not typed."""
    desk.fake()
    desk.write("password", content)
    assert_refused(desk.login(), 2, said)
    assert len(desk.lines("heard")) == 1


def test_a_password_that_is_not_ascii(desk: Desk) -> None:
    """The bytes of a password are typed as they are."""
    desk.fake()
    desk.write("password", "für-übung\n".encode())
    desk.login().check(0)
    assert desk.heard("für-übung") == 1


def test_nobody_to_ask(desk: Desk) -> None:
    """Without a terminal and --password there is one line and a hint, and nothing is started."""
    done = desk.run(*desk.words("--", "user list"), start_new_session=True)
    assert_refused(done, 2, "officer1: there is no terminal to ask for the password\n", "hint: use --password")
    assert desk.pids() == []
    desk.assert_tidy(done.err)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("env:MISSING", "there is no such environment variable\n"),
        ("file:missing", "missing: no such file or directory\n"),
        ("file:tmp", "tmp: is a directory\n"),
        ("fd:77", "descriptor 77: bad file descriptor\n"),
    ],
)
@pytest.mark.parametrize("option", ["--password", "--answer"])
def test_a_source_that_is_not_there(desk: Desk, option: str, source: str, said: str) -> None:
    """A secret that cannot be fetched is told before anything is started."""
    words = ["--password", source] if option == "--password" else ["--password", "file:password"]
    words += ["--answer", f"Really?={source}"] if option == "--answer" else []
    done = desk.run(*desk.words(*words, "--", "user list"), start_new_session=True)
    assert_refused(done, 2, f"tok-login: {option}: {said}")
    assert desk.pids() == []


def test_a_source_that_is_a_pipe(desk: Desk) -> None:
    """A pipe in the place of a file is read once, and not spoilt before."""
    os.mkfifo(desk.cwd / "pipe")
    words = shlex.join(desk.words("--password", "file:pipe", "--", "user list"))
    done = desk.sh(f"cat password >pipe & {words}", env=desk.env, start_new_session=True).check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]


# Commands.


def test_answers_and_nothing_else(desk: Desk) -> None:
    """Standard output has the answers, one after the other, and standard error what the CLI showed at its start."""
    done = desk.login(commands=("user list", "quorum token-sign list-quorum-values", "logout"))
    users, values, logout = answers(done.check(0).out)
    assert [user["username"] for user in users["data"]["users"]] == ["admin", "officer1", "app_user"]
    assert values["data"] == {"user": 1, "quorum": 1, "cluster": 1}
    assert logout == {"error_code": 0, "data": "Logout successful"}
    compact = (json.dumps(answer, separators=(",", ":")) for answer in (users, values, logout))
    assert done.out == b"".join(f"{answer}\n".encode() for answer in compact)
    alone = desk.login(commands=("user list",)).check(0)
    assert alone.out == f"{json.dumps(users, indent=2)}\n".encode()
    assert done.err.startswith("tok-login: tok-rehearse: a rehearsal: ")
    assert done.err.count("\n") == 1


def test_quit_is_sent(desk: Desk) -> None:
    """After the last command the CLI is told to quit, and its end is waited for."""
    desk.fake('def end():\n    time.sleep(0.5)\n    note("ended", "well")')
    done = desk.login(commands=("one", "two"))
    assert answers(done.check(0).out) == [{"error_code": 0, "data": "one"}, {"error_code": 0, "data": "two"}]
    assert desk.lines("heard")[-3:] == ["one", "two", "quit"]
    assert desk.lines("ended") == ["well"]


def test_the_first_refusal_is_the_last_command(desk: Desk) -> None:
    """A command that is refused ends it with 1, and those behind it are not run."""
    delete = "user delete --username nobody --role admin"
    done = desk.login(commands=("quorum token-sign list-quorum-values", delete, "user list"))
    done.check(1, "tok-login: command 2: ./cli: refused: tok-rehearse: there is no such user\n")
    assert len(answers(done.out)) == 1 + done.out.count(b'"error_code":1')
    assert b'"users"' not in done.out


@pytest.mark.parametrize(
    "command", ["user change-password --username officer1 --role admin", "no such command", "help"]
)
def test_a_command_without_an_answer(desk: Desk, command: str) -> None:
    """A command that asks a question, or answers with something else than JSON, ends it with 2."""
    done = desk.login(commands=(command, "user list"))
    assert_refused(Done(done.status, done.out, "".join(done.err.splitlines(keepends=True)[1:])), 2, "; it shows: ")


def test_nothing_is_typed_at_a_question(desk: Desk) -> None:
    """At a question of a command, neither the password nor the next command is typed."""
    desk.fake("def run(line):\n    ask_password()")
    assert_refused(desk.login(commands=("one", "two")), 2, "tok-login: command 1: ", "it shows: Enter password:\n")
    assert desk.lines("heard")[1:] == [PASSWORD, "", "one"]


def test_a_command_is_words(desk: Desk) -> None:
    """The words behind -- are one command, joined by blanks."""
    desk.fake()
    done = desk.run(*desk.words("--password", "file:password", "--", "user", "list"), start_new_session=True).check(0)
    assert answers(done.out) == [{"error_code": 0, "data": "user list"}]


def test_commands_on_standard_input(desk: Desk) -> None:
    """Each line is a command, answered in a line before the next is written, in one session."""
    desk.fake("def run(line):\n    reply({'line': line, 'a \\\\ \\\" b': [1.0, 1e5]})")
    words = desk.words("--password", "file:password", "-c", "-")
    pipe = subprocess.PIPE
    with desk.start(*words, stdin=pipe, stdout=pipe, start_new_session=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in (b"one\n", b"\ntwo\r\n"):
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline()
            assert answer == b'{"error_code":0,"data":{"line":"%s","a \\\\ \\" b":[1.0,100000.0]}}\n' % line.strip()
        child.stdin.write(b"three")
        child.stdin.close()
        assert json.loads(child.stdout.read())["data"]["line"] == "three"
    assert child.returncode == 0
    desk.assert_tidy("")
    assert desk.lines("heard")[-4:] == ["one", "two", "three", "quit"]


def test_a_bad_line_on_standard_input(desk: Desk) -> None:
    """A line that cannot be typed is named, and what was answered before it stays."""
    desk.fake()
    words = desk.words("--password", "file:password", "-c", "-")
    done = desk.run(*words, stdin=b"one\ntwo\x03\nthree\n", start_new_session=True, env=desk.env)
    done.check(2, "standard input: line 2: a command for the CLI must be one line of text\n")
    assert done.out == b'{"error_code":0,"data":"one"}\n'


@pytest.mark.parametrize("word", ["quit", "exit", " exit "])
def test_quit_among_the_commands(desk: Desk, word: str) -> None:
    """It ends the session well, and what stands behind it is not run."""
    desk.fake()
    done = desk.login(commands=("one", word, "two")).check(0)
    assert (done.out, done.err) == (b'{"error_code":0,"data":"one"}\n', "")
    assert desk.lines("heard")[3:] == ["one", "quit"]
    words = desk.words("--password", "file:password", "-c", "-")
    typed = f"one\n{word}\ntwo\n".encode()
    done = desk.run(*words, stdin=typed, start_new_session=True, env=desk.env).check(0)
    assert (done.out, done.err) == (b'{"error_code":0,"data":"one"}\n', "")


def test_the_cli_ends_while_commands_are_waited_for(desk: Desk) -> None:
    """The end of the CLI is noticed though the next command does not come."""
    desk.fake("def run(line):\n    reply(line)\n    show(READY)\n    raise SystemExit")
    words = desk.words("--password", "file:password", "-c", "-")
    pipe = subprocess.PIPE
    with desk.start(*words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(b"one\n")
        child.stdin.flush()
        assert b"./cli: it ended (exit status 0)" in child.stderr.read()
    assert child.returncode == 2


ASKS = """
def run(line):
    ask_password()
    show("Confirm password:")
    hear_hidden()
    show("Really? ")
    hear()
    reply(line)
"""


def test_questions_of_a_command(desk: Desk) -> None:
    """What a command asks is answered from sources, and what is not is given up."""
    desk.fake(ASKS)
    desk.write("new", b"new-secret\n")
    desk.write("yes", b"yes\n")
    replies = ["--answer", "Enter password:=file:new", "--answer", "Confirm password=file:new"]
    done = desk.login(*replies, "--answer", "Really?=file:yes").check(0)
    assert answers(done.out) == [{"error_code": 0, "data": "user list"}]
    assert desk.lines("heard")[3:] == ["user list", "new-secret", "new-secret", "yes", "quit"]
    done = desk.login(replies[0], replies[1])
    assert_refused(done, 2, "'aws-cloudhsm > ' was expected; it shows: Confirm password:\n")
    assert "new-secret" not in done.err


@pytest.mark.parametrize("question", ["New password: ", "Enter the PIN: ", "Pass phrase: "])
def test_a_secret_that_would_be_shown(desk: Desk, question: str) -> None:
    """What the question calls a password, a PIN or a phrase is not typed while the echo is on."""
    desk.fake(f"def run(line):\n    show({question!r})\n    hear()")
    desk.write("new", b"new-secret\n")
    done = desk.login("--answer", f"{question}=file:new")
    assert_refused(done, 2, "it asks for a secret but would show it on the screen; nothing typed\n")
    assert desk.heard("new-secret") == 0


@pytest.mark.parametrize("question", ["New password: ", "Code: "])
def test_an_answer_that_is_shown(desk: Desk, question: str) -> None:
    """Where the CLI shows what was typed while the echo was off, that is told, and no message has it."""
    desk.fake(f"""
def run(line):
    echo(False)
    show({question!r})
    heard = hear()
    echo(True)
    show("\\n")
    reply("not " + heard, 1)
""")
    desk.write("new", b"new-secret\n")
    done = desk.login("--answer", f"{question}=file:new").check(1, "refused: not (the answer)\n")
    assert done.err.count("warning: THE ANSWER IS SHOWN on the CLI's screen") == 1
    assert "new-secret" not in done.err


@pytest.mark.parametrize("question", ["Sure?", "Change the password? [y/N]", "Is the PIN new (yes/no):"])
def test_an_answer_that_is_no_secret(desk: Desk, question: str) -> None:
    """What is typed while the echo is on is in messages as it is."""
    desk.fake(f"def run(line):\n    show('{question} ')\n    hear()\n    reply('not by any policy', 1)")
    desk.write("yes", b"y\n")
    done = desk.login("--answer", f"{question}=file:yes")
    done.check(1)
    assert done.err == "tok-login: ./cli: refused: not by any policy\n"


def test_an_answer_that_cannot_be_typed(desk: Desk) -> None:
    """A control character, on which the terminal would act, is refused."""
    desk.fake(ASKS)
    desk.write("new", b"new\x03\n")
    done = desk.login("--answer", "Enter password=file:new")
    assert_refused(done, 2, "Enter password: the answer has a control character, which cannot")
    assert desk.lines("heard")[3:] == ["user list"]


def test_an_answer_that_nobody_asked_for(desk: Desk) -> None:
    """A question that no command asks is told, and a file that others can read."""
    desk.fake("def run(line):\n    ask_password()\n    reply(line)")
    desk.write("new", b"new-secret\n").chmod(0o644)
    done = desk.login("--answer", "Enter password=file:new", "--answer", "Entre password=file:new").check(0)
    assert 'tok-login: warning: --answer: no command asked "Entre password"\n' in done.err
    assert "new: " in done.err
    assert done.err.count("warning: ") == 3
    desk.login("--answer", "Entre password=file:new").check(2, "no command asked", "it shows: Enter password:\n")


def test_a_question_that_comes_again(desk: Desk) -> None:
    """A reply is typed once for a command: a wrong one does not lock anybody."""
    desk.fake("def run(line):\n    for _ in range(9):\n        ask_password()")
    desk.write("new", b"new-secret\n")
    desk.login("--answer", "Enter password:=file:new").check(2, "it shows: Enter password:\n")
    assert desk.heard("new-secret") == 1


def test_text(desk: Desk) -> None:
    """With --text, an answer that is not JSON is passed on, and one that is JSON is taken as such."""
    desk.fake("def run(line):\n    show('Usage:\\n  quit\\n') if line == 'help' else reply(line)")
    done = desk.login("--text", commands=("help", "user list")).check(0)
    assert done.out == b'Usage:\n  quit\n{"error_code":0,"data":"user list"}\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--answer", "x"], "--answer: expected QUESTION=SOURCE"),
        (["--answer", "x=hunter22"], "--answer: not a source of a secret\n"),
        (["--timeout", "0"], "--timeout: expected a number of seconds"),
        (["--timeout", "-1"], "--timeout: expected a number of seconds"),
        (["-c", "user list"], "-c and COMMAND cannot be used together\n"),
        (["-p", "x"], "-p and -b go with --signer, not with -k\n"),
        (["--signer", "x"], "-k and --signer cannot be used together\n"),
    ],
)
def test_more_usage_errors(desk: Desk, more: list[str], said: str) -> None:
    """What is wrong with the options is said before anything is started."""
    assert_refused(desk.login(*more), 2, said)
    assert desk.pids() == []


# Signers of the user's own.


@pytest.mark.parametrize("base64", [False, True])
def test_a_signer(desk: Desk, base64: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A command signs, as for tok-exec."""
    openssl = f"openssl pkeyutl -sign -inkey {desk.key} -pkeyopt digest:sha256"
    signer = f"sh -c '{openssl} | base64 -w0'" if base64 else openssl
    words = ["tok-login", "--signer", signer, *(["-b"] if base64 else []), "-p", str(desk.key), *USER]
    words += ["--cli", "./cli", "--password", "file:password", "--", "user list"]
    done = desk.run(*words, env=desk.env, start_new_session=True).check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]


def test_a_signer_with_another_key(desk: Desk) -> None:
    """A signature that does not verify is not given to the CLI, and counts as no wrong login."""
    signer = f"openssl pkeyutl -sign -inkey {desk.key} -pkeyopt digest:sha256"
    words = ["tok-login", "--signer", signer, "-p", str(desk.key.with_name("other.pem")), *USER, "--cli", "./cli"]
    done = desk.run(*words, "--password", "file:password", "--", "x", env=desk.env, start_new_session=True)
    done.check(1, "tok-login: token 1: openssl: not made by the given key\n")
    assert desk.failures() == 0


def test_a_signer_with_a_larger_key(desk: Desk) -> None:
    """A size of the key that CloudHSM does not document is told, as that of a key in a file is."""
    key = desk.key.with_name("rsa3072.pem")
    words = ["tok-login", "--signer", "false", "-p", str(key), *USER, "--cli", "./cli", "--password", "file:password"]
    done = desk.run(*words, "--", "x", env=desk.env, start_new_session=True).check(2)
    assert f"warning: {key}: the key is RSA-3072; CloudHSM documents only RSA-2048\n" in done.err


def test_without_a_second_factor(desk: Desk) -> None:
    """A user who has none logs in with the password alone, once."""
    words = ["tok-login", "--no-mfa", "--username", "admin", "--role", "admin", "--cli", "./cli"]
    done = desk.run(*words, "--password", "file:password", "--", "user list", env=desk.env, start_new_session=True)
    assert [answer["error_code"] for answer in answers(done.check(0).out)] == [0]
    assert_refused(desk.login("--no-mfa"), 2, "--no-mfa cannot be used with -k or --signer\n")


@pytest.mark.parametrize(
    ("digests", "said"),
    [
        ("[DIGEST] * 2", "the CLI wrote the same token twice, but each HSM makes its own\n"),
        ("[bytes([n]) * 32 for n in range(29)]", "the CLI wrote 29 tokens, but a cluster has 1 to 28 HSMs\n"),
    ],
)
def test_not_an_oracle(desk: Desk, digests: str, said: str) -> None:
    """A file with more than a login needs is refused before anything is signed."""
    desk.fake(f"""
def document():
    return {{"version": "2.0", "tokens": [{{"unsigned": text(digest), "signed": ""}} for digest in {digests}]}}
""")
    words = ["tok-login", "--signer", "touch signed", "-p", str(desk.key), *USER, "--cli", "./cli"]
    done = desk.run(*words, "--password", "file:password", "--", "x", env=desk.env, start_new_session=True)
    assert_refused(done, 2, said)
    assert not (desk.cwd / "signed").exists()


# CLIs that are not as they should be.

REGISTRATION = """
def document():
    token = {{"approval_data": text(b"x"), "unsigned": text({}), "signed": ""}}
    return {{"version": "2.0", "tokens": [token]}}
"""
QUORUM = """
def document():
    token = {"approval_data": text(b"x"), "token": text(hashlib.sha256(b"x").digest()), "signatures": []}
    return {"version": "2.0", "service": "user-management", **token}
"""
LOGIN_OF_NOBODY = 'reply("User does not exist", 1)\n    show(READY)\n    hear()'


@pytest.mark.parametrize(
    ("steps", "status", "said", "passwords"),
    [
        (
            "def hear_hidden():\n    hear()",
            2,
            "it asks for a password but would show it on the screen; nothing typed\n",
            0,
        ),
        (
            "def ask_password():\n    for _ in range(3):\n        show(PASSWORD)\n        hear_hidden()",
            2,
            "(press enter if same as the unsigned token file):' was expected; it shows: Enter password:\n",
            1,
        ),
        (
            'def ask_password():\n    show("Confirm password:")\n    hear_hidden()',
            2,
            "'Enter password:' was expected; it shows: Confirm password:\n",
            0,
        ),
        (
            'def ask_password():\n    show("Enter public key PEM file path:")\n    hear()',
            2,
            "'Enter password:' was expected; it shows: Enter public key PEM file path:\n",
            0,
        ),
        (
            "def ask_password():\n    show(READY)\n    hear()",
            2,
            "'Enter password:' was expected; it shows: aws-cloudhsm >",
            0,
        ),
        (f"def ask_password():\n    {LOGIN_OF_NOBODY}", 1, "./cli: refused: User does not exist\n", 0),
        (f"def write_tokens(path):\n    {LOGIN_OF_NOBODY}", 1, "./cli: refused: User does not exist\n", 1),
        ('def answer(path):\n    reply("Bad signature", 1)', 1, "./cli: refused: Bad signature\n", 1),
        ('def answer(path):\n    reply({"why": "a\\x1b[2J"}, 7)', 1, "./cli: refused: ", 1),
        ("def answer(path):\n    show('{\"error_code\": 1}\\n')", 1, "./cli: refused", 1),
        (
            'def answer(path):\n    show("Login successful\\n")',
            2,
            "an answer in JSON was expected; it shows: Login successful\n",
            1,
        ),
        ("def answer(path):\n    pass", 2, "an answer in JSON was expected; it shows: nothing\n", 1),
        ("def answer(path):\n    show('[0]\\n')", 2, "an answer in JSON was expected; it shows: [0]\n", 1),
        (
            "def answer(path):\n    show('{\"data\": 0}\\n')",
            2,
            'an answer in JSON was expected; it shows: {"data": 0}\n',
            1,
        ),
        ('def answer(path):\n    show(\'{"error_code": "0"}\\n\')', 2, "an answer in JSON was expected; it shows: ", 1),
        (
            "def answer(path):\n    show('{\"error_code\": false}\\n')",
            2,
            "an answer in JSON was expected; it shows: ",
            1,
        ),
        ("def answer(path):\n    reply(0)\n    reply(0)", 2, "an answer in JSON was expected; it shows: ", 1),
        ("def answer(path):\n    show('[' * 100000 + '\\n')", 2, "an answer in JSON was expected; it shows: [[[", 1),
        ("def answer(path):\n    show('\\x1b]0;title\\x07\\x1b[31mred\\n')", 2, "it shows: red\n", 1),
        ("def write_tokens(path):\n    pass", 2, "/unsigned-tokens.json: no such file or directory\n", 1),
        ("def write_tokens(path):\n    open(path, 'w').write('{')", 2, "/unsigned-tokens.json: not JSON: line 1", 1),
        ("def write_tokens(path):\n    open(path, 'w')", 2, "/unsigned-tokens.json: an empty file, not JSON\n", 1),
        (
            "def document():\n    return {'version': '3.0', 'tokens': []}",
            2,
            'unknown "version": "3.0"',
            1,
        ),
        (
            REGISTRATION.format("hashlib.sha256(b'x').digest()"),
            2,
            "the CLI wrote a token file for quorum-registration, not for a login\n",
            1,
        ),
        (
            REGISTRATION.format("DIGEST"),
            2,
            "approval_data",
            1,
        ),
        (
            QUORUM,
            2,
            "not for a login\n",
            1,
        ),
        ("def start():\n    raise SystemExit", 2, "./cli: it ended (exit status 0); it shows: nothing\n", 0),
        (
            'def start():\n    show("Segmentation fault\\n")\n    os._exit(3)',
            2,
            "./cli: it ended (exit status 3); it shows: Segmentation",
            0,
        ),
        (
            "def ask_password():\n    os.kill(os.getpid(), 9)",
            2,
            "./cli: it ended (killed by signal 9 (Killed)); it shows: nothing\n",
            0,
        ),
        ("def write_tokens(path):\n    raise SystemExit", 2, "./cli: it ended (exit status 0); it shows: nothing\n", 1),
        (
            "def ask_file(path):\n    show(FILE)\n    raise SystemExit",
            2,
            "./cli: it ended (exit status 0); it shows: ",
            1,
        ),
        (
            "def answer(path):\n    os.kill(os.getpid(), 9)",
            2,
            "./cli: it ended (killed by signal 9 (Killed)); it shows: nothing\n",
            1,
        ),
        ("def run(line):\n    raise SystemExit", 2, "./cli: it ended (exit status 0); it shows: nothing\n", 1),
        (
            f"def answer(path):\n    {LOGIN_OF_NOBODY}\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)",
            1,
            "./cli: refused",
            1,
        ),
    ],
)
def test_a_cli_that_is_not_as_documented(desk: Desk, steps: str, status: int, said: str, passwords: int) -> None:
    """What is not expected is shown in one line and ends it, and the password is typed once, or not at all."""
    desk.fake(steps)
    assert_refused(desk.login(), status, said)
    assert desk.heard() == passwords
    # The command, the password, the empty line for the same file, and a command.
    assert len(desk.lines("heard")) <= 4
    assert "user list" not in desk.lines("heard") or "def run" in steps


@pytest.mark.parametrize("end", ["os._exit(4)", "os.kill(os.getpid(), 9)"])
def test_a_cli_that_does_not_end_well(desk: Desk, end: str) -> None:
    """Where the CLI ends badly after quit, that is trouble, though all was answered."""
    desk.fake(f"def end():\n    {end}")
    said = "./cli: exit status 4\n" if "exit" in end else "./cli: killed by signal 9 ("
    assert_refused(desk.login(), 2, said, out=b'{\n  "error_code": 0,\n  "data": "user list"\n}\n')


# As linenoise and its kin draw: the whole line for each key, and then the cursor at its place.
EDITOR = r"""
import tty
def command():
    before = termios.tcgetattr(0)
    tty.setraw(0)
    line = ""
    while True:
        show(f"\r\x1b[1;36m{READY}\x1b[0m{line}\x1b[0K\r\x1b[{15 + len(line)}C")
        key = os.read(0, 1).decode()
        if key == "\r":
            break
        line += key
    show("\x1b[?2004l\r\n")
    termios.tcsetattr(0, termios.TCSANOW, before)
    note("heard", line)
    return line
"""


@pytest.mark.parametrize(
    "steps",
    [
        EDITOR,
        EDITOR.replace(r"\x1b[0m", r"\x1b(B\x1b[m"),
        EDITOR.replace(r"\r\x1b[{15 + len(line)}C", ""),
        "def answer(path):\n    time.sleep(2)\n    reply(0)",
        "def ask_password():\n    show(PASSWORD)\n    time.sleep(1)\n    hear_hidden()",
        "def ask_file(path):\n    show(FILE[:20])\n    time.sleep(0.5)\n    show(FILE[20:])\n    hear()",
        "def answer(path):\n    os.unlink(path)\n    reply(0)",
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        "DIGEST = b'\\2' * 32",
        """def document():
    digests = [bytes([number]) * 32 for number in range(28)]
    return {'version': '2.0', 'tokens': [{'unsigned': text(digest), 'signed': 'x'} for digest in digests]}""",
    ],
    ids=[
        "a line editor",
        "a line editor with charsets",
        "a line editor without the cursor",
        "a late answer",
        "the echo goes late",
        "a prompt in two pieces",
        "removes the token file itself",
        "ignores SIGHUP",
        "another digest",
        "many tokens that are signed",
    ],
)
def test_a_cli_that_is_a_little_different(desk: Desk, steps: str) -> None:
    """What is no business of tok-login's does not disturb it."""
    desk.fake(steps)
    assert desk.login() == Done(0, b'{\n  "error_code": 0,\n  "data": "user list"\n}\n', "")
    assert desk.heard() == 1


def test_the_token_file_is_private(desk: Desk) -> None:
    """The token file is in a folder that is the user's alone, is signed there, and gone after the login."""
    desk.fake(r"""
def answer(path):
    note("told", path)
    note("told", oct(os.stat(os.path.dirname(path)).st_mode))
    note("told", open(path).read().replace("\n", ""))
    reply(0)
def run(line):
    reply(os.path.exists(os.path.dirname(open("told").readline())))
""")
    done = desk.login().check(0)
    path, mode, content = desk.lines("told")
    assert Path(path).parent.parent == desk.tmp
    assert mode == oct(0o40700)
    assert len(json.loads(content)["tokens"][0]["signed"]) == 344
    assert answers(done.out) == [{"error_code": 0, "data": False}]


def test_a_banner(desk: Desk) -> None:
    """What the CLI shows before its first prompt is told on standard error, without its escape sequences."""
    desk.fake(r"""
def start():
    show("\x1b[1mWelcome\x1b[0m\n\nto \x07it\n")
""")
    assert desk.login() == Done(
        0,
        b'{\n  "error_code": 0,\n  "data": "user list"\n}\n',
        "tok-login: Welcome\ntok-login: \ntok-login: to \\x07it\n",
    )


LESS = """
from toktools import cli
from toktools.login import driver
driver._MAX_OUTPUT = 1 << 17
cli.run("login")
"""
"""The screen takes seconds of work to draw the four megabytes of a real login."""


@pytest.mark.parametrize("word", ["y", "aws-cloudhsm > "])
def test_a_flood(desk: Desk, word: str) -> None:
    """Output without an end is given up; where it seemed to be the prompt for a moment, what follows is told."""
    desk.script(f"echo $$ $PPID >pid; exec yes '{word}'")
    words = desk.words("--password", "file:password", "--", "user list")[1:]
    done = desk.run(desk.bin / "python", "-c", LESS, *words, start_new_session=True).check(2)
    desk.assert_tidy(done.err)
    *told, last = done.err.splitlines()
    assert last == "tok-login: ./cli: more than 131072 bytes of output"
    assert set(told) <= ({f"tok-login: {word.strip()}"} if word.startswith("aws") else set())
    assert done.out == b""


@pytest.mark.parametrize(
    "steps",
    [
        'def answer(path):\n    reply(f"wrong: {heard}", 1)',
        'def answer(path):\n    show(f"wrong: {heard}\\n")',
        "def write_tokens(path):\n    show(heard)\n    raise SystemExit",
        "def write_tokens(path):\n    show(f'[{heard}]\\n{READY}')\n    hear()",
    ],
)
def test_a_cli_that_repeats_the_password(desk: Desk, steps: str) -> None:
    """Where the CLI shows the password, no message of tok-login's does."""
    desk.fake(f"def ask_password():\n    global heard\n    show(PASSWORD)\n    heard = hear_hidden()\n{steps}")
    first, *rest = desk.login().err.splitlines()
    assert first.startswith("tok-login: warning: THE PASSWORD IS SHOWN ")
    assert rest[-1].startswith("tok-login: ./cli: ")


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("start", signal.SIGTERM),
        ("ask_password", signal.SIGINT),
        ("write_tokens", signal.SIGHUP),
        ("answer", signal.SIGTERM),
        ("run", signal.SIGINT),
        ("end", signal.SIGTERM),
    ],
)
def test_a_signal_while_the_cli_works(desk: Desk, step: str, number: signal.Signals) -> None:
    """A signal ends tok-login, with the CLI, whatever that is about, and nothing is left behind."""
    steps = f"""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
def {step}(*_):
    {"original(*_)" if step == "write_tokens" else "pass"}
    os.kill(PARENT, signal.{number.name})
    {FOREVER}
"""
    desk.fake(f"original = {step}\n{steps}")
    done = desk.login()
    assert (done.status, done.err) == (-number, "")


def test_a_signal_while_the_cli_starts(desk: Desk) -> None:
    """The CLI does not outlive tok-login, however early the signal comes."""
    desk.script("trap '' HUP; echo $$ $PPID >>pid; kill -TERM $PPID; exec sleep 300")
    for _ in range(5):
        assert desk.login().status == -signal.SIGTERM


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe(desk: Desk, stream: str) -> None:
    """Where nobody reads the answers or the messages, it ends as cat(1) does, and nothing is left behind."""
    desk.fake('signal.signal(signal.SIGHUP, signal.SIG_IGN)\ndef start():\n    show("Welcome\\n")')
    words = desk.words("--password", "file:password", "-c", "one", "-c", "two")
    reading, writing = os.pipe()
    os.close(reading)
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writing}
    with desk.start(*words, start_new_session=True, **streams) as child:
        os.close(writing)
        assert child.wait(120) == -signal.SIGPIPE
    desk.assert_tidy("")


def test_a_full_disk(desk: Desk) -> None:
    """Where the answers cannot be written, that is not success."""
    desk.fake()
    with Path("/dev/full").open("wb") as full:
        words = desk.words("--password", "file:password", "-c", "one", "-c", "two")
        done = desk.run(*words, stdout=full)
    assert (done.status, done.err) == (2, "tok-login: standard output: no space left on device\n")
    desk.assert_tidy("")


# A lockout, and where the token file is.


@pytest.mark.parametrize(
    ("key", "password", "said"),
    [
        ("pkcs8.pem", "env:PHRASE", "./cli: refused: tok-rehearse: wrong user name, role or password\n"),
        ("other.pem", "file:password", "./cli: refused: tok-rehearse: "),
    ],
)
def test_a_wrong_login_counts_once(desk: Desk, key: str, password: str, said: str) -> None:
    """A failing run is one wrong login, whatever was wrong, and a right one sets the count back."""
    desk.login(key=desk.key.with_name(key), password=password).check(1, said)
    assert desk.failures() == 1
    desk.login().check(0)
    assert desk.failures() == 0


@pytest.mark.parametrize("name", ["a blank", "über", "quo'te"])
def test_a_tmpdir_that_a_cli_may_misread(desk: Desk, name: str) -> None:
    """Where TMPDIR has a character that the CLI may not take for one, nothing is typed."""
    desk.fake()
    folder = desk.tmp / name
    folder.mkdir()
    done = desk.run(*desk.words("--password", "file:password", "--", "one"), env={**desk.env, "TMPDIR": str(folder)})
    assert_refused(
        done,
        2,
        "the CLI may misread this name\n",
        "tok-login: hint: set TMPDIR to a folder with a plain name: letters, digits, '.', '_' and '-'\n",
    )
    assert desk.lines("heard") == []
    folder.rmdir()
    desk.assert_tidy(done.err)


# The driver on its own, whose patience need not be a minute.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., driver.Cli]]:
    """Start CLIs that are not waited for long, and close them."""
    monkeypatch.setattr(driver, "_MAX_OUTPUT", 1 << 14)
    started: list[driver.Cli] = []
    said: list[str] = []

    def start(script: str) -> driver.Cli:
        started.append(driver.Cli(["/bin/sh", "-c", script], "/bin/sh", said.append, 1.0))
        return started[-1]

    def too_long(_number: int, _frame: FrameType | None) -> None:
        pytest.fail("it is waited for without an end")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(30)
    yield start
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    for cli in started:
        cli.close()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sleep 300", "/bin/sh: no 'Enter password:' in 1 seconds; it shows: nothing"),
        ("printf 'Enter new PIN: '; sleep 300", "/bin/sh: no 'Enter password:' in 1 seconds; it shows: Enter new PIN:"),
        ("for i in 1 2 3; do printf .; done; sleep 300", "/bin/sh: no 'Enter password:' in 1 seconds; it shows: ..."),
        ("exec yes .", "/bin/sh: more than 16384 bytes of output"),
        ("printf 'aws-cloudhsm > '; sleep 300", "/bin/sh: 'Enter password:' was expected; it shows: aws-cloudhsm >"),
    ],
)
def test_patience_ends(impatient: Callable[..., driver.Cli], script: str, said: str) -> None:
    """A CLI that does not come to the point is given up, with what it shows."""
    with pytest.raises(ToktoolsError) as caught:
        impatient(script).wait_for("Enter password:")
    assert caught.value.message.startswith(said)
    assert caught.value.status == 2


def test_a_cli_that_does_not_end(impatient: Callable[..., driver.Cli]) -> None:
    """A CLI that does not end after quit is given up, too."""
    cli = impatient("printf 'aws-cloudhsm > '; read line; echo never; sleep 300")
    cli.wait_for("aws-cloudhsm > ")
    cli.type(b"quit")
    with pytest.raises(ToktoolsError, match="/bin/sh: it did not end after quit; it shows: never"):
        cli.end()


def test_a_cli_that_asks_and_does_not_read(
    impatient: Callable[..., driver.Cli], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CLI that asks the terminal in bulk, and never reads the answers, is given up."""
    monkeypatch.setattr(driver, "_MAX_OUTPUT", 1 << 22)
    cli = impatient("stty raw -echo; yes $(printf '\\033[6n') | head -n 40000 | tr -d '\\n'; sleep 300")
    with pytest.raises(ToktoolsError, match="/bin/sh: no 'Enter password:' in 1 seconds"):
        cli.wait_for("Enter password:")


def test_a_cli_that_does_not_read(impatient: Callable[..., driver.Cli]) -> None:
    """A CLI that never reads what is typed is given up, once there is no room for more."""
    cli = impatient("stty raw -echo; printf 'aws-cloudhsm > '; sleep 300")
    cli.wait_for("aws-cloudhsm > ")

    def type_on() -> None:
        for _ in range(1000):
            cli.type(b"x" * 900)

    with pytest.raises(ToktoolsError, match="/bin/sh: it has not read what was typed in 1 seconds"):
        type_on()
