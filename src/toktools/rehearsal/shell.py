"""The CLI's shell: it reads commands, asks for what they need, and writes the cluster's answers."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from toktools import __version__, prompts
from toktools.errors import ToktoolsError
from toktools.keys.files import parse_public_key, pem
from toktools.rehearsal.cluster import MARK, Cluster, Name, Refused, Session, own
from toktools.rehearsal.state import State, StateError
from toktools.system import files, prompt
from toktools.system.atomic import write_atomically
from toktools.tokens import approvals, jsonfile, tokenfile

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import Any, NoReturn

Work = Callable[["Shell", argparse.Namespace], object]

ONLY_CLUSTER = "cluster-rehearsal"
"""The cluster's ID, if none is given."""
_MAX_KEY = 1 << 16
_MAX_LINE = 1 << 16
_MAX_TERM = 40
"""Characters of an option beyond which clap puts its description below it."""


# The other side


class EndOfInput(Exception):  # noqa: N818 - an end, no error
    """The input ended at a question."""

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = question


class Terminal:
    """Standard input and output.

    At a terminal, a hidden answer is typed with the echo off. At a pipe, each line that is read is written out as a
    terminal would show it, so that the output reads as a session; a hidden one is not.
    """

    def __init__(self) -> None:
        self._is_terminal = os.isatty(files.STDIN)
        self._input = open(files.STDIN, "rb", closefd=False)  # noqa: SIM115 - it stays open

    def ask(self, question: str, *, hidden: bool = False) -> str:
        """Return the line that answers a question. Raises EndOfInput."""
        if self._is_terminal and hidden:
            with files.trouble_at(prompt.TERMINAL):
                line = prompt.ask(question, files.write_stdout)
        else:
            files.write_stdout(question.encode())
            line = self._line()
            if not self._is_terminal:
                files.write_stdout(b"\n" if hidden or not line else line.removesuffix(b"\n") + b"\n")
        if not line:
            raise EndOfInput(question)
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="surrogateescape")
        return text.replace("\0", "\ufffd")  # no name and no password can have one

    def _line(self) -> bytes:
        with files.trouble_at(files.STDIN_NAME):
            line = self._input.readline(_MAX_LINE)
        if len(line) == _MAX_LINE:
            raise ToktoolsError(f"{files.STDIN_NAME}: a line of {_MAX_LINE} bytes or more")
        return line


# The commands' words


class UsageError(ToktoolsError):
    """A line that is no command of the CLI."""


class Shown(Exception):  # noqa: N818 - no error
    """Text to write instead of running a command: help, or the version."""


@dataclass(frozen=True)
class Option:
    """An option of a command, and its line in the help."""

    flag: str
    about: str
    required: bool = False
    convert: Callable[[str], Any] = str
    """Raises argparse.ArgumentTypeError, without the text."""
    default: Any = None
    values: Mapping[str, str] = field(default_factory=dict)
    """The only values, each with a description, which may be empty."""
    several: str = ""
    """For an option that takes all words up to the next option, the name of one of them."""
    is_flag: bool = False
    either: bool = False
    """Whether exactly one of the command's options with this is given."""
    alias: str = ""

    @property
    def term(self) -> str:
        """The option and its argument, as clap shows them."""
        if self.is_flag:
            return self.flag
        name = self.flag.lstrip("-").upper().replace("-", "_")
        return f"{self.flag} [<{self.several}>...]" if self.several else f"{self.flag} <{name}>"

    def description(self, *, brief: bool) -> list[str]:
        """Return the lines about it in the help."""
        if not self.values:
            return [self.about]
        if brief or not any(self.values.values()):
            return [f"{self.about} [possible values: {', '.join(self.values)}]"]
        width = max(map(len, self.values)) + 1
        return [self.about, "", "Possible values:", *(f"- {k + ':':{width}} {text}" for k, text in self.values.items())]

    def read(self, text: str) -> Any:  # noqa: ANN401 - whatever the option converts to
        """Return the value of an argument."""
        if self.values and text not in self.values:
            raise argparse.ArgumentTypeError(f"takes {', '.join(self.values)}")
        return self.convert(text)


class _Store(argparse.Action):
    """Keep an argument, and refuse a second one."""

    def __call__(self, _parser: object, namespace: argparse.Namespace, values: object, _flag: object = None) -> None:
        if getattr(namespace, self.dest) is not self.default:
            raise argparse.ArgumentError(self, "given twice")
        setattr(namespace, self.dest, values)


class _Help(argparse.Action):
    """Show the help, brief for -h."""

    def __call__(self, parser: object, _namespace: object, _values: object, flag: str | None = None) -> NoReturn:
        assert isinstance(parser, Parser)  # noqa: S101 - it has no others
        raise Shown(parser.help_text(brief=flag == "-h"))


class Parser(argparse.ArgumentParser):
    """A command of the CLI, or a group of commands; its help looks like clap's."""

    def __init__(  # noqa: PLR0913 - what there is to know of a command
        self,
        prog: str,
        about: str,
        work: Work | None = None,
        options: Sequence[Option] = (),
        *,
        logs_in: bool = True,
        interactive: bool = False,
        **more: Any,  # noqa: ANN401 - argparse's own
    ) -> None:
        super().__init__(prog, allow_abbrev=False, add_help=False, **more)
        self.about = about
        self.work = work
        """Runs the command, and returns the data of the answer; None for a group."""
        self.logs_in = logs_in
        """Whether a single command logs in with the user of the environment, if there is one."""
        self.interactive = interactive
        """Whether it makes no sense as a single command."""
        self.commands: dict[str, Parser] = {}
        self._options = options
        self._adder: Any = None
        self.set_defaults(command=self)
        self.add_argument("-h", "--help", action=_Help, nargs=0)
        either = self.add_mutually_exclusive_group(required=any(option.either for option in options))
        for option in options:
            kind: dict[str, Any] = {"type": option.read, "default": option.default, "action": _Store}
            if option.is_flag:
                kind = {"action": "store_true"}
            elif option.several:
                kind.update(action="extend", nargs="+")
            if option.required:
                kind["required"] = True
            (either if option.either else self).add_argument(*filter(None, (option.flag, option.alias)), **kind)

    def add(self, word: str, about: str, work: Work | None = None, *options: Option, **more: bool) -> Parser:
        """Add a command, or a group of them, below this one."""
        self._adder = self._adder or self.add_subparsers(prog=self.prog, metavar="COMMAND")
        prog = f"{self.prog} {word}".strip()
        command: Parser = self._adder.add_parser(word, prog=prog, about=about, work=work, options=options, **more)
        self.commands[word] = command
        return command

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what a line gives, and in command its own parser. Raises UsageError and Shown."""
        if words[0] in {"-V", "--version"}:
            raise Shown(f"tok-rehearse (toktools) {__version__}\n")
        if words[0] == "help":
            raise Shown(self.find(words[1:]).help_text(brief=False))
        given, rest = self.parse_known_args(words)
        command: Parser = given.command
        if rest:
            word = rest[0]
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            command.error(f"option {name} not recognized" if word.startswith("-") else "too many operands")
        return given

    def find(self, words: Sequence[str]) -> Parser:
        """Return the command of that name."""
        command = self
        for word in words:
            if word not in command.commands:
                raise UsageError("unrecognized subcommand", "help lists the commands")
            command = command.commands[word]
        return command

    def error(self, message: str) -> NoReturn:
        """Refuse a line. Never repeat a word of it, which may be a password: argparse puts those between quotes."""
        if not self.work:
            raise UsageError("unrecognized subcommand", "help lists the commands")
        said = re.split("['\"]", message)[0].rstrip(" (:")
        raise UsageError(f"{self.prog}: {said.removeprefix('argument ')}", f"try 'help {self.prog}'")

    def help_text(self, *, brief: bool) -> str:
        """Return the help, brief as for -h, or whole."""
        lines = [self.about, "", f"Usage: {self._usage()}", ""]
        if self.commands:
            rows = [(word, command.about) for word, command in self.commands.items()]
            if not self.prog:
                rows += [("quit", "End the session"), ("exit", "End the session")]
            rows.append(("help", "Print this message or the help of the given subcommand(s)"))
            lines += ["Commands:", *_columns(rows), ""]
        return "\n".join([*lines, "Options:", *self._option_lines(brief=brief)]) + "\n"

    def _usage(self) -> str:
        if not self.work:
            return f"{self.prog} <COMMAND>".lstrip()
        needed = [option.term for option in self._options if option.required]
        either = [option.term for option in self._options if option.either]
        parts = [self.prog]
        if len(needed) + len(either) < len(self._options):
            parts.append("[OPTIONS]")
        parts += needed
        if either:
            parts.append(f"<{'|'.join(either)}>")
        if self.commands:
            parts.append("[COMMAND]")
        return " ".join(parts)

    def _option_lines(self, *, brief: bool) -> list[str]:
        long = any(any(option.values.values()) for option in self._options)
        summary = " (see more with '--help')" if brief else " (see a summary with '-h')"
        rows = [(f"    {option.term}", option.description(brief=brief)) for option in self._options]
        rows.append(("-h, --help", ["Print help" + (summary if long else "")]))
        if not self.prog:
            rows.append(("-V, --version", ["Print version"]))
        spaced = long and not brief
        if not spaced and max(len(term) for term, _ in rows) <= _MAX_TERM:
            return _columns([(term, about[0]) for term, about in rows])
        lines: list[str] = []
        for term, about in rows:
            lines += [f"  {term}", *(f"          {line}".rstrip() for line in about), *([""] if spaced else [])]
        return lines[:-1] if spaced else lines


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(term) for term, _ in rows)
    return [f"  {term:{width}}  {about}".rstrip() for term, about in rows]


# The shell


@dataclass
class Shell:
    """One shell, with one session."""

    state: State
    hsms: int
    parser: Parser
    complain: Callable[[ToktoolsError], None]
    cluster_id: str = ONLY_CLUSTER
    prompt_after_login: bool = False
    registration_signatures: bool = False

    def __post_init__(self) -> None:
        self.session = Session()
        self._terminal = Terminal()

    def interact(self) -> None:
        """Run commands from the prompt until quit or exit, or the end of the input.

        Raises ToktoolsError if the input ends at a question, and StateError if there is no cluster any more.
        """
        prompt = ""
        try:
            while True:
                name = self.session.name
                prompt = f"{name[0]}@{self.cluster_id} > " if name and self.prompt_after_login else prompts.READY
                line = self._line(prompt)
                try:
                    words = _words(line)
                    if words in (["quit"], ["exit"]):
                        return
                    if words:
                        self._run(words)
                except StateError:
                    raise
                except ToktoolsError as error:
                    self.complain(error)
        except EndOfInput as end:
            if end.question != prompt:
                raise _cut_short() from None

    def run(self, words: Sequence[str]) -> int:
        """Run a single command, logged in by CLOUDHSM_ROLE and CLOUDHSM_PIN if these are set.

        Return 0, or 1 if the cluster refuses. Raises ToktoolsError if it is no command, or its input ends.
        """
        try:
            return self._run(words, single=True)
        except EndOfInput:
            raise _cut_short() from None

    # For the commands

    @contextmanager
    def cluster(self) -> Iterator[Cluster]:
        """Yield the cluster, for one transaction; if that cannot be kept, nobody is logged in any more."""
        try:
            with self.state.cluster(self.hsms) as cluster:
                yield cluster
        except StateError:
            self.session.become(None)
            raise

    def password(self, given: str | None) -> str:
        """Return the password from the command line, or ask for it."""
        return self._terminal.ask(prompts.PASSWORD, hidden=True) if given is None else given

    def new_password(self, given: str | None) -> str:
        """Return the new password from the command line, or ask for it twice."""
        if given is not None:
            return given
        first = self._terminal.ask(prompts.PASSWORD, hidden=True)
        if self._terminal.ask(prompts.PASSWORD_AGAIN, hidden=True) != first:
            raise own("the passwords are not the same")
        return first

    def signed_file(self, unsigned: str) -> tokenfile.TokenFile:
        """Ask for the signed token file, by default the unsigned one."""
        return read_token(self._terminal.ask(prompts.SIGNED_FILE).strip() or unsigned)

    def public_key(self) -> str:
        """Ask for the file with the public key, and return its PEM."""
        return read_public_key(self._terminal.ask(prompts.PUBLIC_KEY).strip())

    # Parts of these

    def _line(self, prompt: str) -> str:
        line = self._terminal.ask(prompt)
        while line.endswith("\\"):
            line = line[:-1] + self._terminal.ask("")
        return line

    def _run(self, words: Sequence[str], *, single: bool = False) -> int:
        try:
            given = self.parser.parse(words)
        except Shown as text:
            files.write_stdout(str(text).encode())
            return 0
        command: Parser = given.command
        if not command.work:
            files.write_stdout(command.help_text(brief=True).encode())
            raise UsageError(f"{command.prog}: a command is missing", f"try 'help {command.prog}'")
        if single and command.interactive:
            hint = "a single command takes the user from CLOUDHSM_ROLE and CLOUDHSM_PIN"
            raise UsageError(f"{command.prog}: it works only in interactive mode", hint)
        credentials = _credentials() if single and command.logs_in else None
        try:
            if credentials:
                with self.cluster() as cluster:
                    cluster.login(self.session, *credentials)
            code, data = 0, command.work(self, given)
        except Refused as refused:
            code, data = 1, str(refused)
        except (StateError, UsageError):
            raise
        except ToktoolsError as error:
            code, data = 1, f"{MARK}{error.message}"
        files.write_stdout(jsonfile.dump_ascii({"error_code": code, "data": data}))
        return code


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ToktoolsError(str(error).lower()) from None


def read_token(path: str) -> tokenfile.TokenFile:
    """Read a token file; - is a name like any other here."""
    return tokenfile.read(os.path.join(".", path) if path == "-" else path)[1]


def write_token(path: str, document: object) -> None:
    """Write a token file for the user to sign."""
    write_atomically({path: jsonfile.dump_ascii(document)})


def refuse_other(path: str) -> None:
    """Refuse to overwrite a file that is no token file: a slip of the pen must not cost a key."""
    if not os.path.exists(path):
        return
    files.refuse_irregular(path)
    file = files.read(path, tokenfile.MAX_SIZE)
    try:
        if file.content:
            tokenfile.parse(file.content)
    except ToktoolsError:
        raise ToktoolsError(f"{file.name}: the file exists and is not a token file; not overwritten") from None


def read_public_key(path: str) -> str:
    """Read a public key as AWS asks for it, PEM with BEGIN PUBLIC KEY, and return it in that form."""
    file = files.read(os.path.join(".", path) if path == "-" else path, _MAX_KEY)
    if b"-----BEGIN PUBLIC KEY-----" not in file.content:
        raise ToktoolsError(f"{file.name}: not a public key in PEM, as openssl rsa -pubout writes it")
    return pem(parse_public_key(file.content, file.name))


def _cut_short() -> ToktoolsError:
    return ToktoolsError(f"{files.STDIN_NAME}: it ended before all questions were answered")


def _credentials() -> tuple[Name, str] | None:
    """Return the user that CLOUDHSM_ROLE and CLOUDHSM_PIN name, and the password; None without them."""
    role, pin = os.environ.get("CLOUDHSM_ROLE"), os.environ.get("CLOUDHSM_PIN")
    if role is None and pin is None:
        return None
    username, colon, password = (pin or "").partition(":")
    if role not in approvals.ROLES or not colon:
        raise ToktoolsError("CLOUDHSM_ROLE is admin or crypto-user, and CLOUDHSM_PIN is user:password")
    return (username.lower(), role), password
