"""Recordings: those in tests/front_ends/recordings/ are CLIs for a login, and what tok-login writes is one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from cli_desk import EDITOR, READY, Desk, answers, desk, seat
from conftest import ROOT, Shell
from hypothesis import given
from hypothesis import strategies as st
from rehearsing import PASSWORD

from toktools.cli import Console
from toktools.login.recording import Recording
from toktools.system import prompt

if TYPE_CHECKING:
    from conftest import Done

__all__ = ["desk"]  # a fixture

FRONT_ENDS = ROOT / "tests" / "front_ends"
RECORDINGS = sorted((FRONT_ENDS / "recordings").glob("*.cast"))
ANSWER = re.compile(r"\x1b\[[^A-Za-z]*[A-Za-z]")  # of the terminal
LOGIN = re.compile(r"login --username (\S+) --role (\S+)( mfa-token-sign)?")


def events(recording: Path) -> list[tuple[float, str, str]]:
    """Return what happened, after the header."""
    return [json.loads(line) for line in recording.read_text().splitlines()[1:]]


def texts(recording: Path, kind: str) -> str:
    return "".join(text for _, each, text in events(recording) if each == kind)


def responses(recording: Path) -> list[Any]:
    """Return the JSON documents in the output."""
    output = texts(recording, "o").replace("\r\n", "\n")
    found = []
    while (begin := output.find("{\n")) >= 0:
        document, end = json.JSONDecoder().raw_decode(output, begin)
        found.append(document)
        output = output[end:]
    return found


def replay(desk: Desk, recording: Path, *more: str | Path) -> Done:
    """Do with the CLI of a recording what was done there: the same user and commands, or one command."""
    keys = ANSWER.sub("", texts(recording, "i"))
    typed = keys.split("\r")
    user = LOGIN.search(keys)
    assert user
    words = ["--username", user[1], "--role", user[2], "--token-dir", "/tmp", "--password", "file:password"]
    if "user change-mfa" in keys:
        old = ["--old-key", str(desk.key.with_name("other.pem"))] if user[3] else []
        words[:0] = ["tok-enroll", "-k", str(desk.key), *old]
    else:
        words[:0] = ["tok-login", *(["-k", str(desk.key)] if user[3] else ["--no-mfa"])]
        first = typed.index(next(filter(LOGIN.search, typed)))
        commands = [line for line in typed[first + 2 + bool(user[3]) :] if line not in {"", "quit"}]
        more += tuple(word for command in commands or ["user list"] for word in ("-c", command))
    desk.script(f'echo $$ $PPID >pid; exec {sys.executable} {FRONT_ENDS / "replay.py"} {recording} 0.2 "$@"')
    done = desk.run(*words, "--cli", "./cli", *more, env=desk.env, own=True)
    desk.assert_nothing_left(done.out.decode() + done.err)
    return done


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_a_recorded_cli(desk: Desk, recording: Path) -> None:
    """What was recorded gives the same responses again; behind its end, any."""
    done = replay(desk, recording)
    recorded = responses(recording)[1:]
    assert done.status == max([int(response["error_code"] != 0) for response in recorded], default=0), done.err
    found = answers(done.out)
    assert found or "enroll" in recording.stem
    assert found[: len(recorded)] == recorded[: len(found)]


def test_a_recording_of_a_recording(desk: Desk) -> None:
    """A login to what was recorded can be recorded, and logged in to again."""
    done = replay(desk, FRONT_ENDS / "recordings" / "stand-in.cast", "--record", "again.cast")
    assert replay(desk, desk.cwd / "again.cast") == done


ECHO = r"""
def answer(path):
    quoted = json.dumps(SECRET)
    others = (quoted.replace("/", "\\/"), quoted.replace("fc", "FC"))
    for text in (SECRET, quoted, *others, repr(SECRET), SECRET[:3] + SECRET):
        for char in f"<{text}>\n":
            show(char)
            time.sleep(0.001)
    reply(SECRET)
"""


@pytest.mark.parametrize(
    ("password", "ask"),
    [
        (PASSWORD, ""),
        ("für/'\"\\übung", ""),
        ("for'\"\\practice", EDITOR + "def ask_password():\n    edit(PASSWORD)"),
    ],
)
def test_no_secret_is_recorded(desk: Desk, password: str, ask: str) -> None:
    """Neither typed nor shown, by the letter or as a quoted string; the file is complete, and the user's alone."""
    desk.write("password", f"{password}\n".encode())
    desk.fake(f"SECRET = {password!r}\n{ask}\n{ECHO}")
    desk.login("--record", "login.cast", commands=("user list", "key list")).check(0)
    recording = desk.cwd / "login.cast"
    assert recording.stat().st_mode & 0o777 == 0o600
    output = texts(recording, "o")
    for spelling in (password, json.dumps(password)[1:-1], repr(password)[1:-1]):
        assert spelling not in output + texts(recording, "i") + recording.read_text()
    assert output.count("(the password)") >= 6
    assert texts(recording, "i").endswith("key list\rquit\r")
    assert desk.login("--record", "login.cast").check(2, "login.cast: file exists").out == b""
    assert desk.heard(password) == 1


def test_a_secret_of_a_letter(desk: Desk) -> None:
    """It is not looked for, since the masks would tell it; where it is typed, it is not shown."""
    desk.write("new", b"a\n")
    desk.fake("def run(line):\n    ask_password()\n    reply(0)")
    done = desk.login("--new-password", "file:new", "--record", "login.cast", "-v").check(0, "typed: user list\n")
    assert "typed: a\n" not in done.err
    assert "aws-cloudhsm > " in texts(desk.cwd / "login.cast", "o")
    assert "user list\r*\rquit" in texts(desk.cwd / "login.cast", "i")


def test_a_recording_ends_at_the_hand_over(desk: Desk) -> None:
    """Unless the session is recorded too, where a password that is typed is stars."""
    for name, more in (("login.cast", []), ("session.cast", ["--record-session"])):
        with seat(desk, "--password", "file:password", "--record", name, *more) as person:
            person.wait_for("logged in as officer1 (admin)", READY)
            person.type("user change-password --username officer1 --role admin")
            person.wait_for("Enter password:")
            person.type("another-one")
            person.wait_for("Confirm password:")
            person.type("not-the-same")
            person.wait_for("not the same", READY)
            person.type("quit")
            person.end(0)
    assert texts(desk.cwd / "login.cast", "i").endswith("\r\r")
    typed = texts(desk.cwd / "session.cast", "i")
    assert typed.endswith("user change-password --username officer1 --role admin\r***********\r************\rquit\r")
    assert "another-one" not in (desk.cwd / "session.cast").read_text()
    assert texts(desk.cwd / "session.cast", "r") == "100x40"


PIECES = [b"for-", b"practice", b"practical", b"!x", b"f", b"or", b"-p", b" ", b"for-pract\n", b"\xc3", b"Enter PIN:"]

SECRETS = {b"for-practice": "password", b"for-practical": "PIN", b"for-practice!x": "new password"}


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_a_secret_in_any_pieces(pieces: list[bytes]) -> None:
    """The masks do not hang on where the output is cut, and no part of a secret is left at the end."""
    with (
        mock.patch.dict(prompt.known, SECRETS, clear=True),
        TemporaryDirectory() as directory,
    ):
        found = []
        for name, parts in (("pieces", pieces), ("whole", [b"".join(pieces)])):
            path = Path(directory, name)
            recording = Recording(str(path), 24, 80, Console("login"))
            for part in parts:
                recording.output(part)
            recording.close()
            found.append(texts(path, "o"))
    assert found[0] == found[1]
    assert "for-practic" not in found[0]
    assert b"for-practice!x" not in b"".join(pieces) or "(the password)!x" not in found[0]


def test_a_secret_in_a_hidden_answer(tmp_path: Path) -> None:
    """All that is typed there is stars, whatever it has in common with a secret that is known."""
    with mock.patch.dict(prompt.known, {b"Winter24": "password"}, clear=True):
        recording = Recording(str(tmp_path / "cast"), 24, 80, Console("login"))
        recording.output(b"Enter password:")
        recording.input(b"Winter24and25\r")
        recording.close()
    assert re.fullmatch(r"\*+\r", texts(tmp_path / "cast", "i"))


STEPS = [
    "CLI started: ./cli interactive, pid ",
    "seen: 'aws-cloudhsm > '",
    "typed: login --username officer1 --role admin mfa-token-sign --token /",
    "seen: 'Enter password:'",
    "typed: (the password)",
    "seen: 'Enter signed token file path",
    "token file fetched: /",
    "digest signed",
    "digests signed: 1",
    "token file handed back: /",
    "typed: Enter",
    "seen: 'aws-cloudhsm > '",
    "response: 58 characters",
    "typed: quit",
    "CLI ended: exit status 0",
]


def test_each_step_is_shown(desk: Desk) -> None:
    """With -v, in order, with the seconds; no secret is."""
    desk.fake("def answer(path):\n    reply('\\x1b[1m' + open('password').read())")
    done = desk.login("-v").check(0)
    steps = iter(re.findall(r"^tok-login: \d+\.\d{3} s: (.*)$", done.err, re.MULTILINE))
    for step in STEPS:
        assert any(each.startswith(step) for each in steps), (step, done.err)
    done = desk.login("-v", commands=("user create --password 'of another' --role admin",)).check(0)
    assert "typed: user create --password (hidden) --role admin\n" in done.err


def test_each_step_of_a_filter_is_shown(shell: Shell, keys: Path) -> None:
    """The start and the end of a command, and each signature."""
    signer = f"openssl pkeyutl -sign -inkey {keys / 'pkcs8.pem'} -pkeyopt digest:sha256"
    for words in (["tok-exec", "-v", "--", *signer.split()], ["tok-sign", "-v", "-k", str(keys / "pkcs8.pem")]):
        done = shell.run(*words, stdin=b"A" * 43 + b"=\n").check(0, "digest signed\n")
        assert all(re.match(rf"{words[0]}: \d+\.\d{{3}} s: ", line) for line in done.err.splitlines())
    done = shell.run("tok-exec", "-v", "--", "false", stdin=b"A" * 43 + b"=\n").check(2)
    assert re.search(r" s: false started, pid (\d+)\n.* s: false ended, pid \1: exit status 1, 0 bytes", done.err)
