"""The dialogues with a CLI that only keeps what it is told: in which order, and what is refused before anything."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import OFFICER1_PUB, UNSIGNED

from toktools import prompts
from toktools.errors import ToktoolsError
from toktools.keys.files import read_public_key
from toktools.login import dialogues
from toktools.login.place import File
from toktools.system import files, passphrases

TOKENS = UNSIGNED.read_bytes()
SIGNATURE = b"s" * 255 + b"\xff"


class Cli:
    """Keeps what is typed and waited for, in order; answers are taken from a list."""

    def __init__(self, *answers: str) -> None:
        self.seen: list[str] = []
        self.answers = list(answers)
        self.replies: list[dict[str, Any]] = []

    def wait_for(self, prompt: str) -> None:
        self.seen.append(f"? {prompt}")

    def type(self, line: bytes) -> None:
        self.seen.append(line.decode())

    def type_secret(self, secret: bytes) -> None:
        self.seen.append(f"secret {secret.decode()}")

    def meanwhile(self, ask: Callable[[], Any]) -> Any:
        return ask()

    def knows(self, name: str) -> None:
        self.seen.append(f"knows {name}")

    def watch(self, _seconds: float) -> None:
        self.seen.append("watch")

    def answer(self, replies: dict[str, Any] | None = None, *, text: bool = False) -> str:
        self.replies.append({**(replies or {}), "text": text})
        if replies:
            replies.pop("PIN", None)  # the CLI asks this one
        return self.answers.pop(0) if self.answers else "{}"

    def accept(self, answer: str) -> None:
        self.seen.append(f"accept {answer}")
        if answer == "no":
            raise ToktoolsError("refused", status=1)

    def end(self) -> None:
        self.seen.append("end")


class Signer:
    """Signs anything, or what comes before the digest that it fails at."""

    public = None

    def __init__(self, fails_at: int = -1) -> None:
        self.signed: list[bytes] = []
        self.fails_at = fails_at

    def sign(self, digest: bytes) -> bytes:
        if len(self.signed) == self.fails_at:
            raise ToktoolsError("it fails")
        self.signed.append(digest)
        return SIGNATURE


def user(password: bytes = b"password") -> dialogues.User:
    return dialogues.User("officer1", "admin", lambda _name, _what: password)


def token_file(folder: Path, content: bytes = TOKENS) -> File:
    (folder / "t.json").write_bytes(content)
    return File(str(folder / "t.json"), "/there/t.json")


def refused(call: Callable[[], object]) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        call()
    return raised.value


def test_to_log_in(tmp_path: Path) -> None:
    """The password is asked for when the CLI wants it, and waited for again; the file is signed before the Enter."""
    cli: Any = Cli("in")
    signer: Any = Signer()
    dialogues.log_in(cli, user(), token_file(tmp_path), signer)
    begin = [f"? {prompts.READY}", "login --username officer1 --role admin mfa-token-sign --token /there/t.json"]
    middle = [f"? {prompts.PASSWORD}"] * 2 + ["knows officer1", "secret password"]
    assert cli.seen == [*begin, *middle, f"? {prompts.SIGNED_FILE}", "", "accept in"]
    signed = json.loads((tmp_path / "t.json").read_bytes())["tokens"]
    assert [b64decode(token["signed"]) for token in signed] == [SIGNATURE] * 3
    assert signer.signed == [b64decode(token["unsigned"]) for token in json.loads(TOKENS)["tokens"]]
    cli = Cli("in")
    dialogues.log_in(cli, user(), token_file(tmp_path), None)
    assert cli.seen == [begin[0], "login --username officer1 --role admin", *middle, "accept in"]
    assert (tmp_path / "t.json").read_bytes() == TOKENS


@pytest.mark.parametrize("quorum", [False, True])
def test_to_take_the_factor_away(quorum: bool) -> None:  # noqa: FBT001 - pytest gives it
    """All is answered but the last question; then that."""
    cli: Any = Cli()
    place: Any = SimpleNamespace(file=lambda name: File(name, f"/there/{name}"))
    dialogues.begin_change(cli, user(), place, None, quorum=quorum)
    more = " --change-quorum" if quorum else ""
    line = f"user change-mfa token-sign --deregister --username officer1 --role admin{more}"
    begun = [line, f"? {prompts.PASSWORD}", "secret password", f"? {prompts.PASSWORD_AGAIN}"]
    assert cli.seen == begun
    dialogues.end_change(cli, user(), place, None)
    assert cli.seen == [*begun, "secret password", "accept {}"]
    signer: Any = Signer()
    dialogues.end_change(cli, user(), place, signer)
    assert cli.seen[-2:] == ["/there/new-key.pub", "accept {}"]
    dialogues.log_out(cli)
    assert cli.seen[-2:] == ["logout", "accept {}"]


def test_to_give_a_new_key(tmp_path: Path) -> None:
    """The file of the set-up is signed, and the public key is there, before the last question is waited for."""
    cli: Any = Cli()
    signer: Any = Signer()
    signer.public_key = read_public_key(str(OFFICER1_PUB))
    (tmp_path / "set-up.json").write_bytes(TOKENS)
    place: Any = SimpleNamespace(file=lambda name: File(str(tmp_path / name), f"/there/{name}"))
    dialogues.begin_change(cli, user(), place, signer, quorum=False)
    line = "user change-mfa token-sign --token /there/set-up.json --username officer1 --role admin"
    asked = [f"? {prompts.PASSWORD}", "secret password", f"? {prompts.PASSWORD_AGAIN}", "secret password"]
    assert cli.seen == [line, *asked, f"? {prompts.SIGNED_FILE}", "", f"? {prompts.PUBLIC_KEY}"]
    assert len(signer.signed) == 3
    key = read_public_key(str(tmp_path / "new-key.pub"))
    assert key.public_numbers() == signer.public_key.public_numbers()


@pytest.mark.parametrize(
    ("password", "said"),
    [
        *((password, "") for password in (b"x" * 7, b"x" * 32, "\u00e4".encode() * 32, "a b\u00e4cdef".encode())),
        *(
            (password, "a CloudHSM password has 7 to 32 characters; nothing typed")
            for password in (b"x" * 6, b"x" * 33)
        ),
        (b"pass\x1bword", "the password has a control character, which cannot be typed"),
        (b"password\x7f", "the password has a control character, which cannot be typed"),
    ],
)
def test_passwords(password: bytes, said: str) -> None:
    """One that cannot be right, or would do something at a terminal, is not typed: the HSM would count it."""
    who = user(password)
    assert (refused(who.password).message if said else who.password()) == (said or password)


def test_nobody_is_asked_twice() -> None:
    """A password is kept, once it is known."""
    asked: list[tuple[str, str]] = []

    def ask(name: str, what: str) -> bytes:
        asked.append((name, what))
        return b"password"

    who = dialogues.User("officer1", "admin", ask)
    assert [who.password(), who.password()] == [b"password"] * 2
    assert asked == [("officer1", "password")]


def tokens(*digests: bytes) -> bytes:
    entries = [{"unsigned": b64encode(digest).decode(), "signed": ""} for digest in digests]
    return json.dumps({"version": "2.0", "tokens": entries}).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tokens(*(bytes([number]) * 32 for number in range(28))), ""),
        (tokens(bytes(32)), ""),
        (
            tokens(*(bytes([number]) * 32 for number in range(29))),
            "the CLI wrote 29 tokens, but a cluster has 1 to 28 HSMs",
        ),
        (tokens(bytes(32), bytes(32)), "the CLI wrote the same token twice, but each HSM makes its own"),
        (
            json.dumps(
                {"Version": "1.0", "Data": [{"Digest": b64encode(bytes(32)).decode(), "Signature": ""}]}
            ).encode(),
            "the CLI wrote a token file for authdata, not for a login",
        ),
    ],
)
def test_no_oracle(tmp_path: Path, content: bytes, said: str) -> None:
    """What is not a login's is not signed, not even in part."""
    cli: Any = Cli()
    signer: Any = Signer()
    file = token_file(tmp_path, content)
    if said:
        assert refused(lambda: dialogues.sign(cli, file, signer)).message == said
        assert (signer.signed, (tmp_path / "t.json").read_bytes()) == ([], content)
    else:
        dialogues.sign(cli, file, signer)
        assert len(signer.signed) == content.count(b"unsigned")


def test_a_signature_that_cannot_be_made(tmp_path: Path) -> None:
    """It is named by its token, and the file stays as it was."""
    cli: Any = Cli()
    signer: Any = Signer(1)
    file = token_file(tmp_path)
    assert refused(lambda: dialogues.sign(cli, file, signer)).message == "token 2: it fails"
    assert (tmp_path / "t.json").read_bytes() == TOKENS


def test_a_token_file_that_comes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for again, for a while, in which the CLI is watched; then it is told why it cannot be read."""
    monkeypatch.setattr(dialogues, "_LATE", 3600.0)
    cli: Any = Cli()
    signer: Any = Signer()
    cli.watch = lambda _seconds: token_file(tmp_path)
    dialogues.sign(cli, File(str(tmp_path / "t.json"), "/there/t.json"), signer)
    assert len(signer.signed) == 3
    monkeypatch.setattr(dialogues, "_LATE", -1.0)
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("none", "no such file or directory"), ("pipe", "not a regular file")):
        file = File(str(tmp_path / name), "/there/t.json")
        assert refused(lambda file=file: dialogues.sign(cli, file, signer)).message.endswith(said)  # type: ignore[misc]


@pytest.mark.parametrize("command", ["user list", "x", "x" * 900, "\u00e4" * 450, "a \\ b"])
def test_what_is_a_command(command: str) -> None:
    """One line of text, which fits a terminal's."""
    dialogues.refuse_command(command)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        *((command, "a command for the CLI must be one line of text") for command in ("", " ", "a\nb", "a\tb", "a\\")),
        *(
            (command, "a command for the CLI must not have more than 900 bytes")
            for command in ("x" * 901, "\u00e4" * 451)
        ),
    ],
)
def test_what_is_no_command(command: str, said: str) -> None:
    """It is refused."""
    assert refused(lambda: dialogues.refuse_command(command)).message == said


def run(
    cli: Any, *lines: str | None, replies: dict[str, Any] | None = None, compact: bool = False, text: bool = False
) -> tuple[list[bytes], list[str]]:
    """Run commands, and return what is written and what is warned of."""
    written: list[bytes] = []
    warned: list[str] = []
    commands = dialogues.Commands(replies or {}, warned.append, compact=compact, text=text)
    with suppress(_StopError):
        commands.run(cli, lines, written.append)
    return written, warned


class _StopError(Exception):
    pass


def test_to_run_commands() -> None:
    """Each answer is a line or more, as it came; in one line where that is wanted and it is JSON."""
    answer = '{\n  "error_code": 0,\n  "data": "a  \\" b"\n}'
    cli = Cli(answer)
    assert run(cli, "user list") == ([f"{answer}\n".encode()], [])
    assert cli.seen == ["user list", f"accept {answer}", "quit", "end"]
    assert cli.replies == [{"text": False}]
    assert run(Cli(answer, " a  b"), "a", "b", compact=True)[0] == [b'{"error_code":0,"data":"a  \\" b"}\n', b" a  b\n"]
    cli = Cli("a  b")
    assert run(cli, "a", text=True)[0] == [b"a  b\n"]
    assert cli.replies == [{"text": True}]


@pytest.mark.parametrize("word", ["quit", "exit", " quit "])
def test_to_leave(word: str) -> None:
    """What stands after it is not run."""
    cli = Cli()
    assert run(cli, "a", word, "b")[0] == [b"{}\n"]
    assert cli.seen == ["a", "accept {}", "quit", "end"]
    cli = Cli()
    run(cli, "quit now")
    assert cli.seen == ["quit now", "accept {}", "quit", "end"]


@pytest.mark.parametrize(
    ("lines", "more", "place"), [(["a"], [], ""), (["a", "b"], [], "command 2: "), (["a"], ["c"], "command 1: ")]
)
def test_a_refusal(lines: list[str], more: list[str], place: str) -> None:
    """Of several commands it says which it was; the answer is written nevertheless, and nothing comes after it."""
    cli: Any = Cli(*["{}"] * (len(lines) - 1), "no")
    written: list[bytes] = []
    commands = dialogues.Commands({}, print, compact=False, text=False)
    error = refused(lambda: commands.run(cli, [*lines, *more], written.append))
    assert (error.message, error.status) == (f"{place}refused", 1)
    assert written[-1] == b"no\n"
    assert cli.seen[-2:] == [lines[-1], "accept no"]


def test_replies(tmp_path: Path) -> None:
    """Each is there for every command, by its words; one that no command has asked for is told of."""
    pin, other = (passphrases.file(f"{tmp_path}/f", "--answer") for _ in range(2))
    (tmp_path / "f").write_bytes(b"1234")
    (tmp_path / "f").chmod(0o644)
    cli = Cli()
    warned = run(cli, "a", "b", replies={"PIN: ": pin, " Other:": other})[1]
    assert cli.replies == [{"PIN": pin, "Other": other, "text": False}] * 2
    exposed = f"{tmp_path}/f: others can read this secret (mode 0644; chmod 600 closes it)"
    assert warned == [exposed, exposed, '--answer: no command asked "Other"']
    (tmp_path / "f").unlink()
    with pytest.raises(ToktoolsError, match="no such file or directory"):
        run(cli, "a", replies={"PIN": pin})


@pytest.mark.parametrize(
    ("content", "commands"),
    [
        (b"", []),
        (b"\n  \n", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\nb", ["a", "b"]),
        (b"a b\nquit\nc\n", ["a b"]),
        (b"x" * 900 + b"\n" + b"y" * 900 + b"\nz\n" * 300, ["x" * 900, "y" * 900, *["z"] * 300]),
    ],
)
def test_lines_of_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes, commands: list[str]) -> None:
    """Each is a command, but for the empty ones, and the last line need not end."""
    cli = Cli()
    reader, writer = os.pipe()
    monkeypatch.setattr(files, "STDIN", reader)
    os.write(writer, content)
    os.close(writer)
    run(cli, "first", None)
    os.close(reader)
    assert [line for line in cli.seen if not line.startswith("accept")] == ["first", *commands, "quit", "end"]


@pytest.mark.parametrize(
    ("content", "said", "typed"),
    [
        (b"a\nb\tc\n", "line 2: a command for the CLI must be one line of text", ["a"]),
        (b"\n\xff\n", "line 2: a command for the CLI must be one line of text", []),
        (b"a\n" + b"x" * 5000, "line 2: a command for the CLI must not have more than 900 bytes", ["a"]),
    ],
)
def test_a_bad_line_of_standard_input(
    monkeypatch: pytest.MonkeyPatch, content: bytes, said: str, typed: list[str]
) -> None:
    """It is named, after those before it have run."""
    cli = Cli()
    reader, writer = os.pipe()
    monkeypatch.setattr(files, "STDIN", reader)
    os.write(writer, content)
    os.close(writer)
    assert refused(lambda: run(cli, None)).message == f"standard input: {said}"
    os.close(reader)
    assert [line for line in cli.seen if not line.startswith("accept")] == typed


def test_a_line_comes_as_soon_as_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command runs while the next is not written yet."""
    reader, writer = os.pipe()
    monkeypatch.setattr(files, "STDIN", reader)
    cli = Cli()
    accept = cli.accept

    def go_on(answer: str) -> None:
        accept(answer)
        if cli.seen.count(f"accept {answer}") == 1:
            os.write(writer, b"b\n")
            os.close(writer)

    monkeypatch.setattr(cli, "accept", go_on)
    os.write(writer, b"a\n")
    run(cli, None)
    os.close(reader)
    assert cli.seen == ["a", "accept {}", "b", "accept {}", "quit", "end"]
