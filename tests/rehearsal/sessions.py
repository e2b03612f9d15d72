"""Sessions of the stand-in in this process: lines go in, answers come out, and a clock that a test can set."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Union

import pytest
from conftest import key_of
from cryptography.hazmat.primitives.asymmetric import rsa
from rehearsing import PASSWORD

from toktools.keys.files import pem
from toktools.rehearsal import cluster, shell
from toktools.rehearsal.cluster import ADMIN, CRYPTO_USER, MARK, User
from toktools.rehearsal.commands import CLI
from toktools.rehearsal.state import State
from toktools.system import files
from toktools.tokens import tokenfile

HSMS = 2
NEEDS_APPROVAL = (1, "Quorum approval is required for this operation")
QUORUM_FAILED = (1, "Quorum Failed")
BAD_VALUE = (1, "Invalid quorum value provided.")
WITH_PASSWORD = f"--password {PASSWORD}"

Answer = tuple[int, Any]
"""The error code and the data, or 2 and a message."""
Typed = Union[str, Callable[[], object]]
"""What is typed at a question; or what happens before Enter is pressed."""


def own(text: str) -> Answer:
    """Return a refusal in the stand-in's own words."""
    return 1, f"{MARK}{text}"


def too_few(people: int) -> Answer:
    return 1, f"Too few quorum approvals: currently {people} approvals, but 2 approvals required"


def role_of(username: str) -> str:
    return CRYPTO_USER if username.startswith("cu") else ADMIN


def user(username: str) -> dict[str, str]:
    return {"username": username, "role": role_of(username)}


def named(username: str) -> str:
    """Return the options that name a user."""
    return f"--username {username} --role {role_of(username)}"


class Cli:
    """A shell and its terminal."""

    def __init__(self, desk: Rehearsal, **options: Any) -> None:
        usual = {"hsms": HSMS, "cluster_id": "c", "prompt_after_login": False, "registration_signatures": False}
        self._shell = shell.Shell(Namespace(**{**usual, **options}), State("state"), CLI)
        self._shell.terminal = self  # type: ignore[assignment]
        self._desk = desk
        self._lines: Iterator[str] = iter(())
        self._typed: Iterator[Typed] = iter(())
        self.questions: list[str] = []

    def ask(self, question: str, *, hidden: bool = False) -> str:
        self.questions.append(question + ("*" if hidden else ""))
        answer = next(self._lines if question.endswith("> ") else self._typed, None)
        if answer is None:
            raise shell.EndOfInput("the input ended")
        return answer if isinstance(answer, str) else str(answer() or "")

    def type(self, line: str, *typed: Typed) -> Answer:
        """Type a line at the prompt and answers at its questions; return what comes of it."""
        self._lines, self._typed = iter([line]), iter(typed)
        self.questions.clear()
        screen, before = io.BytesIO(), self._desk.screen
        complaints: list[Any] = []
        self._desk.screen = screen
        try:
            self._shell.interact(complaints.append)
        finally:
            self._desk.screen = before
        if complaints:
            return 2, complaints[0].message
        text = screen.getvalue().decode()
        if not text.startswith("{"):
            return 0, text
        answer = json.loads(text)
        assert list(answer) == ["error_code", "data"]
        assert text == json.dumps(answer, indent=2) + "\n"
        return answer["error_code"], answer["data"]

    def do(self, line: str, *typed: Typed) -> Any:
        """Type a line that succeeds, and return the data."""
        code, data = self.type(line, *typed)
        assert code == 0, (line, data)
        return data


class Rehearsal:
    """A directory with a cluster in the file state, and sessions of it."""

    def __init__(self) -> None:
        self.screen = io.BytesIO()
        self.now = 1_700_000_000.0

    def write(self, content: bytes) -> None:
        """Write to the screen of the shell that runs a command now."""
        self.screen.write(content)

    def cli(self, username: str = "", password: str = PASSWORD, **options: Any) -> Cli:
        """Start a shell, and log a user in who has no second factor."""
        cli = Cli(self, **options)
        if username:
            assert cli.do(f"login {named(username)} --password {password}") == user(username)
        return cli

    def mfa_login(self, username: str, key: str = "", file: str = "login.json") -> tuple[Cli, Answer]:
        """Start a shell, and try to log a user in with a second factor, by default with their own key."""
        cli = Cli(self)
        line = f"login {named(username)} {WITH_PASSWORD} mfa-token-sign --token {file}"
        return cli, cli.type(line, lambda: sign(file, key or username))

    def user(self, username: str) -> User:
        with State("state").cluster(HSMS) as state:
            return state.users[username, role_of(username)]

    def users(self) -> list[str]:
        with State("state").cluster(HSMS) as state:
            return [name for name, _ in state.users]

    def approve_all(self, *usernames: str, **values: int) -> None:
        """Register users as approvers, and set quorum values."""
        with State("state").cluster(HSMS) as state:
            for username in usernames:
                approver = state.users[username, role_of(username)]
                approver.public_key, approver.quorum = public_key(username), True
            state.values.update(values)


def public_key(owner: str) -> str:
    key = key_of(_owner(owner)).public_key
    assert key is not None
    return pem(key)


def _owner(username: str) -> str:
    """Return by whose name a user's key is made; a key takes a while, so crypto users have those of admins."""
    return {"cu1": "admin", "cu2": "officer1", "cu3": "officer2"}.get(username, username)


def signatures(file: str, owner: str) -> list[str]:
    found = tokenfile.read(file)[1]
    return [b64encode(key_of(_owner(owner)).sign(digest)).decode() for digest in found.digests]


def sign(file: str, owner: str) -> None:
    """Sign the file of a login, a set-up or a registration."""
    document = json.loads(Path(file).read_text())
    for token, signature in zip(document["tokens"], signatures(file, owner)):
        token["signed"] = signature
    Path(file).write_text(json.dumps(document))


def approve(file: str, *usernames: str, **more: object) -> str:
    """Add approvals to a quorum token; return the option that hands it in."""
    document = json.loads(Path(file).read_text())
    for username in usernames:
        signature = signatures(file, username.lower())[0]
        document["signatures"].append({**user(username), "signature": signature, **more})
    Path(file).write_text(json.dumps(document))
    return f"--approval {file}"


@cache
def _generate(exponent: int, size: int) -> rsa.RSAPrivateKey:
    return _real_generate(exponent, size)


_real_generate = rsa.generate_private_key


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    """A cluster of two HSMs with three admins and three crypto users, and the public keys of the admins."""
    rehearsal = Rehearsal()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "ITERATIONS", 1)
    monkeypatch.setattr(cluster, "time", SimpleNamespace(time=lambda: rehearsal.now))
    monkeypatch.setattr(rsa, "generate_private_key", _generate)
    monkeypatch.setattr(files, "write_stdout", rehearsal.write)
    with State("state").cluster(HSMS) as state:
        state.activate(PASSWORD)
        first = cluster.Session()
        state.login(first, ("admin", ADMIN), PASSWORD)
        for username in ("officer1", "officer2", "cu1", "cu2", "cu3"):
            state.create(first, (username, role_of(username)), PASSWORD)
    for owner in ("admin", "officer1", "officer2"):
        Path(f"{owner}.pub").write_text(public_key(owner))
    return rehearsal


@pytest.fixture
def board(desk: Rehearsal) -> Rehearsal:
    """The same cluster, whose admins are approvers, and where two must approve."""
    desk.approve_all("admin", "officer1", "officer2", user=2, quorum=2)
    return desk
