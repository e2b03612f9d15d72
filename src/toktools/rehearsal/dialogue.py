"""The shell of the CloudHSM CLI: it takes commands, asks for what they need, and writes what the cluster answers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from toktools import __version__, prompts
from toktools.errors import ToktoolsError
from toktools.keys import files as key_files
from toktools.rehearsal.answers import MARK, Refused, own
from toktools.rehearsal.cluster import Cluster, Name, Session
from toktools.rehearsal.console import Console, EndOfInput
from toktools.rehearsal.state import State, StateError
from toktools.rehearsal.syntax import VERSION, Command, find, help_text, helped
from toktools.system import files
from toktools.system.atomic import write_atomically
from toktools.tokens import approvals, jsonfile, tokenfile

_MAX_KEY = 1 << 16
_LEAVE = (["quit"], ["exit"])
_ONLY = "cluster-rehearsal"
"""The cluster's id where none is configured."""


_SINGLE = "a single command takes the user from CLOUDHSM_ROLE and CLOUDHSM_PIN"


@dataclass(frozen=True)
class Start:
    """How the CLI was started: the configured clusters, and what versions of it differ in."""

    clusters: Sequence[str] = ()
    cluster_id: str = ""
    prompt_after_login: bool = False
    registration_signatures: bool = False

    @property
    def configured(self) -> Sequence[str]:
        """Return the clusters that there are."""
        return self.clusters or (self.cluster_id or _ONLY,)

    def check(self, *, single: bool) -> None:
        """Refuse to start without knowing the cluster. Raises ToktoolsError.

        A single command may name it itself.
        """
        for name in self.configured:
            if not (name.isascii() and name.replace("-", "").isalnum()):
                raise ToktoolsError("a cluster ID has only letters, digits and hyphens")
        if len(set(self.clusters)) < len(self.clusters):
            raise ToktoolsError("--known-cluster: the same cluster twice")
        if self.cluster_id or not single:
            self.chosen(None)

    def chosen(self, cluster_id: str | None) -> str:
        """Return the cluster that a command is for. Raises ToktoolsError where that is not said, or not one of them."""
        found = cluster_id or self.cluster_id
        if not self.clusters:
            return self.configured[0]
        if not found and len(self.clusters) > 1:
            raise ToktoolsError("several clusters are configured: specify one with --cluster-id")
        if found and found not in self.clusters:
            raise ToktoolsError("--cluster-id: no such cluster is configured")
        return found or self.clusters[0]


@dataclass
class Dialogue:
    """One shell, with one session in each cluster."""

    state: State
    hsms: int
    commands: Sequence[Command]
    complain: Callable[[ToktoolsError], None]
    groups: Mapping[str, str] = field(default_factory=dict)
    start: Start = field(default_factory=Start)

    def __post_init__(self) -> None:
        self._console = Console()
        self._sessions = {name: Session() for name in self.start.configured}
        self.cluster_id = self.start.configured[0]
        """The cluster that the command under way is for."""
        self.is_single = False
        """Whether the command under way is a single one."""

    @property
    def session(self) -> Session:
        """Return the session in the cluster that the command under way is for."""
        return self._sessions[self.cluster_id]

    def session_in(self, cluster_id: str) -> Session:
        """Return the session in a cluster. Raises ToktoolsError where it is not configured."""
        return self._sessions[self.start.chosen(cluster_id)]

    def interact(self) -> None:
        """Take commands at the prompt until quit or exit, or the end of the input.

        Raises ToktoolsError where the input ends at a question, and StateError where there is no cluster any more.
        """
        question = ""
        try:
            while True:
                question = self._prompt()
                words = self._words(question)
                if words in _LEAVE:
                    break
                try:
                    if words:
                        self._run(words)
                except StateError:
                    raise
                except ToktoolsError as error:
                    self.complain(error)
        except EndOfInput as end:
            if end.question != question:
                raise _cut_short() from None
        finally:
            self._leave()

    def run(self, words: Sequence[str]) -> int:
        """Run a single command, logged in by CLOUDHSM_ROLE and CLOUDHSM_PIN where these are set.

        Returns 0, or 1 where the cluster refuses. Raises ToktoolsError where it is no command, or its input ends.
        """
        try:
            return self._run(words, single=True)
        except EndOfInput:
            raise _cut_short() from None
        finally:
            self._leave()

    # What commands use

    @contextmanager
    def cluster(self) -> Iterator[Cluster]:
        """Yield the cluster, for one transaction; where that cannot be kept, nobody is logged in any more."""
        try:
            with self.state.cluster(self.hsms) as cluster:
                yield cluster
        except StateError:
            for session in self._sessions.values():
                session.become(None)
            raise

    def disturb(self, username: str) -> None:
        """Let some HSMs of the cluster, or of the last one that is configured, not know a user."""
        try:
            with self.cluster() as cluster:
                cluster.disturb(username, self.start.cluster_id or self.start.configured[-1])
        except Refused as refused:
            raise ToktoolsError(f"--inconsistent: {str(refused).removeprefix(MARK)}") from None

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
        write_atomically({path: jsonfile.dump_ascii(document)})

    def signed_file(self, unsigned: str) -> tokenfile.TokenFile:
        """Ask for the signed token file, by default the unsigned one."""
        return read(self._console.ask(prompts.SIGNED_FILE).strip() or unsigned)

    def public_key(self) -> str:
        """Ask for the file with the public key, and return its PEM."""
        return read_public_key(self._console.ask(prompts.PUBLIC_KEY).strip())

    # How it goes

    def _prompt(self) -> str:
        if self.start.prompt_after_login:
            self.cluster_id = self.start.cluster_id or self.start.configured[0]
            if self.session.name:
                return f"{self.session.name[0]}@{self.cluster_id} > "
        return prompts.READY

    def _words(self, question: str) -> list[str]:
        line = self._console.ask(question)
        while line.endswith("\\"):
            line = line[:-1] + self._console.ask("")
        try:
            return shlex.split(line)
        except ValueError as error:
            self.complain(ToktoolsError(str(error).lower()))
            return []

    def _run(self, words: Sequence[str], *, single: bool = False) -> int:
        asked = helped(words)
        if asked is not None:
            topic, brief = asked
            files.write_stdout(help_text(self.commands, self.groups, topic, brief=brief).encode())
            return 0
        if words[0] in VERSION:
            files.write_stdout(f"tok-rehearse (toktools) {__version__}\n".encode())
            return 0
        command = find(self.commands, words)
        if command is None:
            return self._group(words)
        options = command.parse(words[len(command.words) :])
        if single and command.interactive:
            raise ToktoolsError(f"{command.line.name}: it works only in interactive mode", _SINGLE)
        if hasattr(options, "cluster_id"):  # user replicate names its two in its own way
            self.cluster_id = self.start.chosen(options.cluster_id)
        self.is_single = single
        credentials = credentials_in("") if single and command.needs_user else None
        try:
            if credentials:
                self._log_in(self.session, credentials)
            code, data = 0, command.work(self, options)
        except Refused as refused:
            code, data = 1, str(refused)
        except StateError:
            raise
        except ToktoolsError as error:
            code, data = 1, f"{MARK}{error.message}"
        files.write_stdout(jsonfile.dump_ascii({"error_code": code, "data": data}))
        return code

    def enter(self, session: Session, prefix: str) -> None:
        """Log in with credentials from the environment, if they are there."""
        credentials = credentials_in(prefix)
        if credentials:
            self._log_in(session, credentials)

    def _log_in(self, session: Session, credentials: tuple[Name, str]) -> None:
        with self.cluster() as cluster:
            cluster.login(session, *credentials)

    def _group(self, words: Sequence[str]) -> int:
        """List the commands of a group that is named without one, which is no command yet."""
        files.write_stdout(help_text(self.commands, self.groups, words, brief=True).encode())
        raise ToktoolsError(f"{' '.join(words)}: a command is missing", f"try 'help {' '.join(words)}'")

    def _leave(self) -> None:
        for session in self._sessions.values():
            if session.name is not None:
                try:
                    with self.cluster() as cluster:
                        cluster.logout(session)
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
    return key_files.pem(key_files.parse_public_key(file.content.decode(errors="replace"), file.name))


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
        raise ToktoolsError(f"{file.name}: the file exists and is not a token file; not overwritten") from None


def _cut_short() -> ToktoolsError:
    return ToktoolsError(f"{files.STDIN_NAME}: it ended before all questions were answered")


def credentials_in(prefix: str) -> tuple[Name, str] | None:
    """Return the user that CLOUDHSM_ROLE and CLOUDHSM_PIN name, or other variables with a prefix; None without them."""
    role, pin = os.environ.get(f"{prefix}CLOUDHSM_ROLE"), os.environ.get(f"{prefix}CLOUDHSM_PIN")
    if role is None and pin is None:
        return None
    username, colon, password = (pin or "").partition(":")
    if role not in approvals.ROLES or not colon:
        raise ToktoolsError(f"{prefix}CLOUDHSM_ROLE is admin or crypto-user, and {prefix}CLOUDHSM_PIN is user:password")
    return (username.lower(), role), password
