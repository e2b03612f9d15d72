"""The dialogues with the CLI, as the AWS CloudHSM User Guide shows them ("Log in with MFA to an HSM")."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from toktools import prompts
from toktools.errors import ToktoolsError, quoted
from toktools.login.driver import MAX_LINE, plain, refuse_controls
from toktools.system import files
from toktools.system.atomic import write_atomically
from toktools.tokens import tokenfile

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.keys.signer import Signer
    from toktools.login.driver import Cli
    from toktools.login.place import File, Here
    from toktools.system.prompt import Source

_PASSWORD_SIZES = range(7, 32 + 1)
"""Characters, as AWS documents them now (8 to 32), or did (7 to 32)."""
_MOST_HSMS = 28
"""In a cluster, as AWS documents it ("AWS CloudHSM quotas")."""
_LATE = 3.0
"""Seconds that the token file may come after the question for it."""
_LOOK_UP = 0.01
_SET_UP = "set-up.json"
_NEW_KEY = "new-key.pub"
_LEAVE = (["quit"], ["exit"])
"""The commands that end the CLI, and have no answer."""
_BETWEEN = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
"""A string of JSON, which stays, or white space between."""


class User:
    """Who logs in: the name, the role, and where the password comes from when it is asked for.

    Raises ToktoolsError where it cannot come from there.
    """

    def __init__(self, name: str, role: str, password: Source) -> None:
        password.check(name, "password")
        self.name = name
        self.role = role
        self._password = password
        self._known: bytes | None = None

    def password(self) -> bytes:
        """Return the password as it is typed: 7 to 32 characters. Raises ToktoolsError for any other.

        Nobody is asked twice.
        """
        if self._known is None:
            self._known = self._fetched()
        return self._known

    def _fetched(self) -> bytes:
        secret = self._password.read(self.name, "password")
        if len(secret.decode(errors="replace")) not in _PASSWORD_SIZES:
            # The HSM would count it as a wrong one.
            sizes = f"{_PASSWORD_SIZES.start} to {_PASSWORD_SIZES.stop - 1}"
            raise ToktoolsError(f"a CloudHSM password has {sizes} characters; nothing typed")
        refuse_controls(secret, "the password")
        return secret


def log_in(cli: Cli, user: User, tokens: File, signer: Signer | None) -> None:
    """Log in with a second factor, for which the CLI writes the token file; or, with no signer, without.

    Raises ToktoolsError, with the status 1 where the CLI refuses.
    """
    cli.wait_for(prompts.READY)
    second = f" mfa-token-sign --token {tokens.path}" if signer else ""
    cli.type(f"login --username {user.name} --role {user.role}{second}".encode())
    cli.wait_for(prompts.PASSWORD)
    secret = cli.meanwhile(user.password)
    cli.wait_for(prompts.PASSWORD)  # still: a person may take longer than the CLI waits
    cli.knows(user.name)
    cli.type_secret(secret)
    if signer:
        cli.wait_for(prompts.SIGNED_FILE)
        sign(cli, tokens, signer)
        cli.type(b"")
    cli.accept(cli.answer())


def begin_change(cli: Cli, user: User, place: Here, signer: Signer | None, *, quorum: bool) -> None:
    """Begin to give the second factor of who is logged in a new key, or, with no signer, to take the factor away.

    All is answered but the last question, so nothing is changed yet. The password is set to what it is. With quorum,
    the key of the approver goes with it. Raises ToktoolsError, with the status 1 where the CLI refuses.
    """
    tokens = place.file(_SET_UP)
    what = f"--token {tokens.path}" if signer else "--deregister"
    more = " --change-quorum" if quorum else ""
    cli.type(f"user change-mfa token-sign {what} --username {user.name} --role {user.role}{more}".encode())
    cli.wait_for(prompts.PASSWORD)
    cli.type_secret(user.password())
    cli.wait_for(prompts.PASSWORD_AGAIN)
    if signer:
        from toktools.keys.files import pem

        cli.type_secret(user.password())
        cli.wait_for(prompts.SIGNED_FILE)
        sign(cli, tokens, signer)
        place.file(_NEW_KEY).write(pem(signer.public_key).encode())  # type: ignore[arg-type] # session.signer() knows it
        cli.type(b"")
        cli.wait_for(prompts.PUBLIC_KEY)


def end_change(cli: Cli, user: User, place: Here, signer: Signer | None) -> None:
    """Answer the last question, and make sure that the change is accepted. Raises as begin_change() does."""
    if signer:
        cli.type(place.file(_NEW_KEY).path.encode())
    else:
        cli.type_secret(user.password())
    cli.accept(cli.answer())


def log_out(cli: Cli) -> None:
    """Log out. Raises ToktoolsError, with the status 1 where the CLI refuses."""
    cli.type(b"logout")
    cli.accept(cli.answer())


def sign(cli: Cli, file: File, signer: Signer) -> None:
    """Sign every digest of the CLI's token file, in place.

    Raises ToktoolsError before the first where the file is not that of a login: it would be an oracle. With the status
    1 where a signature does not verify.
    """
    source, tokens = _token_file(cli, file)
    if tokens.kind.name != "mfa":
        raise ToktoolsError(f"the CLI wrote a token file for {tokens.kind.name}, not for a login")
    digests = tokens.digests
    if len(digests) > _MOST_HSMS:
        raise ToktoolsError(f"the CLI wrote {len(digests)} tokens, but a cluster has 1 to {_MOST_HSMS} HSMs")
    if len({*digests}) < len(digests):
        raise ToktoolsError("the CLI wrote the same token twice, but each HSM makes its own")
    for index, digest in enumerate(digests):
        try:
            tokens.put(index, signer.sign(digest))
        except ToktoolsError as error:
            raise error.at(f"token {index + 1}") from None
    write_atomically({file.local: tokens.dump()}, seen=source)
    file.send()


def _token_file(cli: Cli, file: File) -> tuple[files.Snapshot, tokenfile.TokenFile]:
    deadline = time.monotonic() + _LATE
    while True:
        try:
            file.fetch()
            files.refuse_irregular(file.local)
            return tokenfile.read(file.local)
        except ToktoolsError:
            if time.monotonic() > deadline:
                raise
        cli.watch(_LOOK_UP)


class Commands:
    """How commands are run: what answers their questions, and in what shape their answers are written.

    What the user should know about the answers is told by warn. Raises ToktoolsError where an answer cannot come from
    its source.
    """

    def __init__(
        self, replies: Mapping[str, Source], warn: Callable[[str], None], *, compact: bool, text: bool
    ) -> None:
        for question, secret in replies.items():
            secret.check(question, "answer")
            secret.warn_of_exposure(warn)
        self._replies = {plain(question): secret for question, secret in replies.items()}
        self._unasked = [*self._replies]
        self._warn = warn
        self._compact = compact
        self._text = text

    def run(self, cli: Cli, commands: Sequence[str | None], write: Callable[[bytes], None]) -> None:
        """Have the CLI run commands and leave; write each answer and a line feed: JSON as it came, or in one line.

        None stands for the lines of standard input. What stands after quit or exit is not run. Raises ToktoolsError,
        with the status 1 where the CLI refuses, which says of several commands which one it was.
        """
        try:
            for where, line in _each(cli, commands):
                if line.split() in _LEAVE:
                    break
                self._run(cli, where, line, write)
        finally:
            for question in self._unasked:
                self._warn(f"--answer: no command asked {quoted(question)}")
        leave(cli)

    def _run(self, cli: Cli, place: str, command: str, write: Callable[[bytes], None]) -> None:
        replies = dict(self._replies)
        try:
            with _at(place):
                cli.type(command.encode())
                answer = cli.answer(replies, text=self._text)
        finally:
            self._unasked = [question for question in self._unasked if question in replies]
        shown = _BETWEEN.sub(r"\1", answer) if self._compact and answer.startswith("{") else answer
        write(f"{shown}\n".encode())
        with _at(place):
            cli.accept(answer)


@contextmanager
def _at(place: str) -> Iterator[None]:
    try:
        yield
    except ToktoolsError as error:
        raise error.at(place) if place else error from None


def refuse_command(command: str) -> None:
    """Raise ToktoolsError where a command is not one line of text that can be typed."""
    if not command.strip() or not command.isprintable() or command.endswith("\\"):
        raise ToktoolsError("a command for the CLI must be one line of text")
    if len(command.encode(errors="replace")) > MAX_LINE:
        raise ToktoolsError(f"a command for the CLI must not have more than {MAX_LINE} bytes")


def _each(cli: Cli, commands: Sequence[str | None]) -> Iterator[tuple[str, str]]:
    """Yield commands, with their places where there are several; None stands for the lines of standard input."""
    for number, command in enumerate(commands, 1):
        if command is None:
            yield from _lines(cli)
        else:
            yield (f"command {number}" if len(commands) > 1 else ""), command


def _lines(cli: Cli) -> Iterator[tuple[str, str]]:
    """Read commands from standard input, each as soon as it is there, with its place; the CLI may end meanwhile.

    Raises ToktoolsError, which names the line.
    """
    ahead = b""
    number = 0
    more = True
    while more or ahead:
        while more and b"\n" not in ahead and len(ahead) <= MAX_LINE:
            chunk = cli.meanwhile(lambda: os.read(files.STDIN, MAX_LINE))
            ahead += chunk
            more = bool(chunk)
        line, _, ahead = ahead.partition(b"\n")
        number += 1
        if line.strip():
            place = f"{files.STDIN_NAME}: line {number}"
            command = line.decode(errors="surrogateescape").rstrip("\r")
            with _at(place):
                refuse_command(command)
            yield place, command


def leave(cli: Cli) -> None:
    """Have the CLI end, and make sure that it ends well. Raises ToktoolsError."""
    cli.type(b"quit")
    cli.end()
