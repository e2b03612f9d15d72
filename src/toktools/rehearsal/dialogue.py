"""The shell of the CloudHSM CLI: it takes commands, asks for what they need, and writes what the cluster answers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

from toktools import approvers, files, prompts, replacing, tokenfile
from toktools.errors import ToktoolsError
from toktools.keys import public
from toktools.options import Answer, CommandLine
from toktools.rehearsal.cluster import MARK, Cluster, Name, Refused, Session, own
from toktools.rehearsal.console import Console, EndOfInput
from toktools.rehearsal.state import State, StateError

_MAX_KEY = 1 << 16


@dataclass(frozen=True)
class Command:
    """A command of the CLI: its command line, and what it does, which returns the data of the answer."""

    line: CommandLine
    work: Callable[[Dialogue, SimpleNamespace], object]
    check: Callable[[SimpleNamespace], None] = lambda _given: None
    """What else must be right with the command line; raises ToktoolsError."""
    needs_user: bool = True
    """Whether somebody must be logged in."""

    @property
    def words(self) -> list[str]:
        """The words of its name."""
        return self.line.name.split()


class Dialogue:
    """One shell, with one session in the cluster."""

    def __init__(
        self, state: State, hsms: int, commands: Sequence[Command], complain: Callable[[ToktoolsError], None]
    ) -> None:
        self.session = Session()
        self._state = state
        self._hsms = hsms
        self._commands = commands
        self._complain = complain
        self._console = Console()

    def interact(self) -> None:
        """Take commands at the prompt until quit, or the end of the input."""
        try:
            while (words := self._words()) != ["quit"]:
                try:
                    if words:
                        self._run(words)
                except ToktoolsError as error:
                    self._complain(error)
        except EndOfInput as end:
            if end.question != prompts.READY:
                raise _cut_short() from None
        finally:
            self._leave()

    def run(self, words: Sequence[str]) -> int:
        """Run a single command, logged in by CLOUDHSM_ROLE and CLOUDHSM_PIN where these are set.

        Returns 0, or 1 where the cluster refuses. Raises ToktoolsError where it is no command, or its input ends.
        """
        try:
            return self._run(words, by_environment=True)
        except EndOfInput:
            raise _cut_short() from None
        finally:
            self._leave()

    # What commands use

    @contextmanager
    def cluster(self) -> Iterator[Cluster]:
        """Yield the cluster, for one transaction; where that cannot be kept, nobody is logged in any more."""
        try:
            with self._state.cluster(self._hsms) as cluster:
                yield cluster
        except StateError:
            self.session.become(None)
            raise

    def password(self, given: str | None) -> str:
        """Return the password from the command line, or ask for it."""
        return self._console.ask(prompts.PASSWORD, hidden=True) if given is None else given

    def new_password(self, given: str | None) -> str:
        """Return the new password from the command line, or ask for it twice."""
        if given is not None:
            return given
        answers = [self._console.ask(question, hidden=True) for question in (prompts.PASSWORD, prompts.PASSWORD_AGAIN)]
        if len(set(answers)) > 1:
            raise own("the passwords are not the same")
        return answers[0]

    def write(self, path: str, document: object) -> None:
        """Write a token file for the user to sign."""
        replacing.replace({path: tokenfile.dump_json(document)})

    def signed_file(self, unsigned: str) -> tokenfile.TokenFile:
        """Ask for the signed token file, by default the unsigned one."""
        return read(self._console.ask(prompts.SIGNED_FILE).strip() or unsigned)

    def public_key(self) -> str:
        """Ask for the file with the public key, and return its PEM."""
        return read_public_key(self._console.ask(prompts.PUBLIC_KEY).strip())

    # How it goes

    def _words(self) -> list[str]:
        line = self._console.ask(prompts.READY)
        while line.endswith("\\"):
            line = line[:-1] + self._console.ask("")
        try:
            return shlex.split(line)
        except ValueError as error:
            self._complain(ToktoolsError(str(error).lower()))
            return []

    def _run(self, words: Sequence[str], *, by_environment: bool = False) -> int:
        if words[0] == "help":
            files.write_stdout(self._help(words[1:]).encode())
            return 0
        command = next((command for command in self._commands if _begins(words, command.words)), None)
        if command is None:
            raise ToktoolsError("no such command", "help lists the commands")
        arguments = list(words[len(command.words) :])
        if arguments == ["-h"]:
            arguments = ["--help"]
        try:
            options = command.line.parse(arguments)
            command.check(options)
        except Answer as answer:
            files.write_stdout(str(answer).encode())
            return 0
        except ToktoolsError as error:
            raise ToktoolsError(f"{command.line.name}: {error.message}", f"try 'help {command.line.name}'") from None
        credentials = _credentials() if by_environment and command.needs_user else None
        try:
            if credentials:
                with self.cluster() as cluster:
                    cluster.login(self.session, *credentials)
            code, data = 0, command.work(self, options)
        except Refused as refused:
            code, data = 1, str(refused)
        except StateError:
            raise
        except ToktoolsError as error:
            code, data = 1, f"{MARK}{error.message}"
        files.write_stdout(tokenfile.dump_json({"error_code": code, "data": data}))
        return code

    def _help(self, words: Sequence[str]) -> str:
        exact = [command for command in self._commands if command.words == list(words)]
        if exact:
            return exact[0].line.help()
        rows = [(command.line.name, command.line.purpose) for command in self._commands]
        rows += [("help [COMMAND]", "List the commands, or say how one is used."), ("quit", "End the session.")]
        found = [(name, purpose) for name, purpose in rows if _begins(name.split(), words)]
        if not found:
            raise ToktoolsError("no such command", "help lists the commands")
        width = max(len(name) for name, _ in found)
        return "".join(f"  {name:{width}}  {purpose}\n" for name, purpose in found)

    def _leave(self) -> None:
        if self.session.name is not None:
            try:
                with self.cluster() as cluster:
                    cluster.logout(self.session)
            except Refused:
                pass  # another shell has deleted the user, and the tokens with it


def read(path: str) -> tokenfile.TokenFile:
    """Read a token file; - is a name like any other here."""
    return tokenfile.read(os.path.join(".", path) if path == "-" else path)[1]


def read_public_key(path: str) -> str:
    """Read a public key as AWS asks for it, PEM with BEGIN PUBLIC KEY, and return it in that form."""
    file = files.read(os.path.join(".", path) if path == "-" else path, _MAX_KEY)
    if b"-----BEGIN PUBLIC KEY-----" not in file.content:
        raise ToktoolsError(f"{file.name}: not a public key in PEM, as openssl rsa -pubout writes it")
    return public.pem(public.parse(file.content.decode(errors="replace"), file.name))


def refuse_other(path: str) -> None:
    """Refuse to overwrite what is no token file: a slip of the pen must not cost a key.

    In no transaction, since the file may be the state file: to close it would drop SQLite's locks.
    """
    if not os.path.exists(path):
        return
    files.refuse_irregular(path)
    file = files.read(path, tokenfile.MAX_SIZE)
    try:
        if file.content:
            tokenfile.parse(file.content)
    except ToktoolsError:
        raise ToktoolsError(f"{file.name}: there is a file that is no token file; not overwritten") from None


def _cut_short() -> ToktoolsError:
    return ToktoolsError(f"{files.STDIN_NAME}: it ended before all was answered")


def _begins(words: Sequence[str], start: Iterable[str]) -> bool:
    start = list(start)
    return list(words[: len(start)]) == start


def _credentials() -> tuple[Name, str] | None:
    role, pin = os.environ.get("CLOUDHSM_ROLE"), os.environ.get("CLOUDHSM_PIN")
    if role is None and pin is None:
        return None
    username, colon, password = (pin or "").partition(":")
    if role not in approvers.ROLES or not colon:
        raise ToktoolsError("CLOUDHSM_ROLE is admin or crypto-user, and CLOUDHSM_PIN is user:password")
    return (username.lower(), role), password
