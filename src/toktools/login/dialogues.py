"""The dialogues with the CLI, as the AWS CloudHSM User Guide shows them ("Log in with MFA to an HSM")."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile

from toktools import prompts
from toktools.errors import ToktoolsError, shown
from toktools.keys import stream
from toktools.login.driver import MAX_LINE, refuse_controls
from toktools.login.host import NEW_KEY
from toktools.system import events, files
from toktools.system.atomic import write_atomically
from toktools.system.prompt import Source
from toktools.tokens import approvals, kinds, tokenfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.keys.signer import Signer
    from toktools.login.driver import Cli
    from toktools.login.host import LocalHost

_PEM = "-----BEGIN "
_PASSWORD_SIZES = range(7, 32 + 1)  # characters, as AWS documents them now (8 to 32), or did (7 to 32)
_LEAVE = (["quit"], ["exit"])  # the commands that end the CLI, and have no response
_STRING_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')  # in JSON
_UNUSABLE = re.compile("permission denied|no such file", re.IGNORECASE)
_LABEL = re.compile(r"password\s*[:=]", re.IGNORECASE)
_QUOTES = "\"'\u2018\u2019\u201c\u201d"


class User:
    """A CloudHSM user: name, role and password. A person is asked for the password only when it is needed.

    Raises ToktoolsError if the password cannot be fetched, or cannot be right.
    """

    def __init__(self, name: str, role: str, password: Source, warn: Callable[[str], None]) -> None:
        self.name = name
        self.role = role
        self._source = password
        self._warn = warn
        self._password = b""
        password.check(name, "password")
        if not password.is_asked:
            self.password()

    def password(self) -> bytes:
        """Return the password, which is fetched once. Raises ToktoolsError if it cannot be right."""
        if not self._password:
            password = self._source.read(self.name, "password")
            refuse_controls(password, "the password")
            text = password.decode(errors="replace")
            # The HSM would count it as a wrong one.
            if len(text) not in _PASSWORD_SIZES or ":" in text or text.startswith(_PEM):
                sizes = f"{_PASSWORD_SIZES.start} to {_PASSWORD_SIZES.stop - 1}"
                raise ToktoolsError(
                    f"a CloudHSM password has {sizes} characters and no ':'; nothing typed", _meant(text)
                )
            for doubt in _doubts(text):
                self._warn(f"the password {doubt}, and is typed with it")
            self._password = password
        return self._password


def _doubts(text: str) -> Iterator[str]:
    """Yield what a password seems to have by mistake."""
    if text != text.strip(f" {_QUOTES}"):
        yield "begins or ends with a blank or a quote"
    if not text.isprintable():
        yield "has an invisible character"
    if _LABEL.match(text):
        yield "begins with 'password='"


def _meant(text: str) -> str:
    """Return a hint about a text that cannot be a password."""
    if text.startswith(_PEM):
        return "this looks like a key; give the file with the password"
    if text.startswith("{"):
        return "this looks like JSON, as a secrets store keeps it; give the password alone"
    if _LABEL.match(text):
        return "this begins with a label; give the password alone"
    username, _, password = text.partition(":")
    is_pin = approvals.is_user_name(username) and password
    return "CLOUDHSM_PIN holds USER:PASSWORD; give the password alone" if is_pin else ""


@events.hinted()
def log_in(cli: Cli, user: User, host: LocalHost, tokens: str, signer: Signer | None) -> None:
    """Log in with a second factor, for which the CLI writes the file *tokens*; without a signer, log in without it.

    Raises ToktoolsError, with the status 1 if the CLI refuses.
    """
    cli.expect(prompts.READY)
    path = host.path(tokens)
    second = f" mfa-token-sign --token {path}" if signer else ""
    with _out_of_reach(path):
        cli.type(f"login --username {user.name} --role {user.role}{second}".encode())
        cli.expect(prompts.PASSWORD)
        password = user.password()
        cli.expect(prompts.PASSWORD)  # still: a person may take longer than the CLI waits
        cli.knows(user.name)
        cli.type_secret(password)
        if signer:
            cli.expect(prompts.SIGNED_FILE)
            sign(host, tokens, signer)
            cli.type(b"")
        cli.accept(cli.response())


@contextmanager
def _out_of_reach(path: str) -> Iterator[None]:
    """Give a hint if an error says that the CLI, or this process, cannot use the file at *path*."""
    try:
        yield
    except ToktoolsError as error:
        if path in error.message and _UNUSABLE.search(error.message):
            error.hint = "if the CLI runs in a container or as another user, see 'A CLI ELSEWHERE' in tok-login(1)"
        raise


def begin_change(cli: Cli, user: User, host: LocalHost, signer: Signer | None, *, quorum: bool) -> None:
    """Begin to change the key of the logged-in user's second factor or, without a signer, to remove it.

    It answers all questions but the last, so nothing changes yet. The password stays the same. With *quorum*, the key
    for approvals changes too. Raises ToktoolsError, with the status 1 if the CLI refuses.
    """
    tokens = "set-up.json"
    what = f"--token {host.path(tokens)}" if signer else "--deregister"
    more = " --change-quorum" if quorum else ""
    cli.type(f"user change-mfa token-sign {what} --username {user.name} --role {user.role}{more}".encode())
    cli.expect(prompts.PASSWORD)
    cli.type_secret(user.password())
    cli.expect(prompts.PASSWORD_AGAIN)
    if signer:
        from toktools.keys.files import pem

        cli.type_secret(user.password())
        cli.expect(prompts.SIGNED_FILE)
        sign(host, tokens, signer)
        host.write(NEW_KEY, pem(signer.public_key).encode())  # type: ignore[arg-type] # options.open_signer() knows it
        cli.type(b"")
        cli.expect(prompts.PUBLIC_KEY)


def end_change(cli: Cli, user: User, host: LocalHost, signer: Signer | None) -> None:
    """Answer the last question, and make sure that the change is accepted. Raises as begin_change() does."""
    if signer:
        cli.type(host.path(NEW_KEY).encode())
    else:
        cli.type_secret(user.password())
    cli.accept(cli.response())


def log_out(cli: Cli) -> None:
    """Log out. Raises ToktoolsError, with the status 1 if the CLI refuses."""
    cli.type(b"logout")
    cli.accept(cli.response())


def sign(host: LocalHost, name: str, signer: Signer) -> None:
    """Sign every digest of the CLI's token file, in place.

    Raises ToktoolsError before the first signature if the file is not for a login, so that the CLI cannot get other
    digests signed; with the status 1 if a signature does not verify.
    """
    host.fetch(name)
    files.refuse_irregular(host.local(name))
    source, tokens = tokenfile.read(host.local(name))
    events.event(f"token file fetched: {host.path(name)}")
    if tokens.kind.name != "mfa":
        raise ToktoolsError(f"the CLI wrote a token file for {tokens.kind.name}, not for a login")
    digests = tokens.digests
    if len(digests) > kinds.MAX_HSMS:
        raise ToktoolsError(f"the CLI wrote {len(digests)} tokens, but a cluster has 1 to {kinds.MAX_HSMS} HSMs")
    if len({*digests}) < len(digests):
        raise ToktoolsError("the CLI wrote the same token twice, but each HSM makes its own")
    for index, digest in enumerate(digests):
        try:
            tokens.put(index, stream.sign_apart(signer.sign, digest))
        except ToktoolsError as error:
            raise error.at(f"token {index + 1}") from None
    events.event(f"digests signed: {len(digests)}")
    write_atomically(host.local(name), tokens.dump(), seen=source)
    host.send(name)
    events.event(f"token file handed back: {host.path(name)}")


class Commands:
    """Run commands in the CLI, and write each response, as it came or in one line, and a line feed.

    *new_password* is for commands that ask for one; without it, the person at the terminal is asked.
    Raises ToktoolsError, with the status 1 if the CLI refuses.
    """

    def __init__(self, new_password: Source | None, write: Callable[[bytes], None], *, compact: bool) -> None:
        self._source = new_password
        self._password = b""
        self._write = write
        self._compact = compact

    def run(self, cli: Cli, commands: Sequence[str | None]) -> None:
        """Run commands, or the lines of standard input if *commands* is None, and leave.

        Commands after quit or exit are not run. The error of one of several commands names it.
        """
        for prefix, command in _each(cli, commands):
            if command.split() in _LEAVE:
                break
            with _at(prefix):
                cli.type(command.encode())
                response = cli.response(partial(self._new_password, _name(command)))
            self._write(self._shown(response).encode())
            with _at(prefix):
                cli.accept(response)
        cli.quit()

    def _new_password(self, name: str, question: str) -> bytes:
        """Return the answer to a command's question for a password, from a person each time, or from a source."""
        if self._source is None:
            # Not every command that asks sets a new one.
            what = "password" if question == prompts.PASSWORD else "password again"
            password = Source.ask("--new-password").read(name, what)
        else:
            password = self._password = self._password or self._source.read(name, "new password")
        refuse_controls(password, "the new password")
        return password

    def _shown(self, response: str) -> str:
        text = _STRING_OR_SPACE.sub(r"\1", response) if self._compact else response
        if os.isatty(files.STDOUT):
            # Others act on a terminal, are invisible, or change the order of what it shows.
            shows = (char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
            text = "".join(shows)
        return f"{text}\n"


@contextmanager
def _at(prefix: str) -> Iterator[None]:
    try:
        yield
    except ToktoolsError as error:
        raise error.at(prefix) if prefix else error from None


def _name(command: str) -> str:
    """Return the words of a command before its options."""
    return " ".join(takewhile(lambda word: not word.startswith("-"), command.split()))


def refuse_command(command: str) -> None:
    """Refuse a command that is not one line of text, or too long to be typed."""
    odd = next((char for char in command if not char.isprintable()), "")
    if not command.strip():
        raise ToktoolsError("a command for the CLI is empty")
    if odd:
        raise ToktoolsError(f"a command for the CLI has the character {shown(odd)}, which cannot be typed")
    if command.endswith("\\"):
        raise ToktoolsError("a command for the CLI ends in a backslash")
    if len(command.encode()) > MAX_LINE:
        raise ToktoolsError(f"a command for the CLI has more than {MAX_LINE} bytes")


def _each(cli: Cli, commands: Sequence[str | None]) -> Iterator[tuple[str, str]]:
    """Yield each command with the prefix of its messages, which is empty for a single one; None means stdin."""
    for number, command in enumerate(commands, 1):
        if command is None:
            yield from _lines(cli)
        else:
            yield (f"command {number}" if len(commands) > 1 else ""), command


def _lines(cli: Cli) -> Iterator[tuple[str, str]]:
    """Yield commands from standard input as they come, each with a prefix; the CLI may end meanwhile.

    A line that ends in a backslash continues in the next one, as on AWS's pages. Raises ToktoolsError, which names
    the line.
    """
    ahead = command = b""
    number = first = 0
    more = True
    while more or ahead:
        while more and b"\n" not in ahead and len(ahead) <= MAX_LINE:
            cli.watch_until_readable(files.STDIN)
            with files.trouble_at(files.STDIN_NAME):
                chunk = os.read(files.STDIN, MAX_LINE)
            ahead += chunk
            more = bool(chunk)
        line, _, ahead = ahead.partition(b"\n")
        number += 1
        first = first or number
        command += line.removesuffix(b"\r")
        if command.endswith(b"\\") and (more or ahead) and len(command) <= MAX_LINE:
            command = command[:-1]
            continue
        if command.strip():
            prefix = f"{files.STDIN_NAME}: line {first}"
            text = command.decode(errors="surrogateescape")
            with _at(prefix):
                refuse_command(text)
            yield prefix, text
        command, first = b"", 0
