"""The CLI's shell: it reads commands, asks for what they need, and writes the cluster's answers."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toktools import __version__, prompts
from toktools.errors import ToktoolsError
from toktools.parser import Answer
from toktools.rehearsal.cluster import MARK, Cluster, Name, Refused, Session, refusal
from toktools.rehearsal.state import FatalError, State
from toktools.system import files, prompt
from toktools.tokens import approvals, jsonfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

Work = Callable[["Shell", argparse.Namespace], object]

ONLY_CLUSTER = "cluster-rehearsal"
"""The cluster's ID without --cluster-id."""
_MAX_TERM = 40
"""Characters of an option beyond which clap puts its description below it."""


class EndOfInput(FatalError):  # noqa: N818 - an end, no error
    """The input ended at a question."""

    def __init__(self) -> None:
        super().__init__(f"{files.STDIN_NAME}: it ended before all questions were answered")


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
            with files.trouble_at(files.STDIN_NAME):
                line = self._input.readline()
            if not self._is_terminal:
                files.write_stdout(b"\n" if hidden else line.rstrip(b"\n") + b"\n")
        if not line:
            raise EndOfInput
        text = line.rstrip(b"\r\n").decode(errors="surrogateescape")
        return text.replace("\0", "\ufffd")  # no name and no password can have one


# Command lines and their help


class Option:
    """An option of a command, as argparse declares it; exactly one of those with *either* must be there."""

    def __init__(self, flags: str, about: str, *, either: bool = False, **settings: Any) -> None:  # noqa: ANN401
        self.flags = flags.split()
        self.either = either
        self.settings = {"help": about, **settings}


_CLUSTER_ID = Option("--cluster-id", "The cluster to use; the default is the one given at the start")


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
        raise Answer(parser.help_text(brief=flag == "-h"))


class Parser(argparse.ArgumentParser):
    """A command of the CLI, or a group of commands; its help looks like clap's."""

    work: Work | None = None
    """Runs the command, and returns the data of the answer; None for a group."""
    logs_in = True
    """Whether a single command logs in with the user of the environment, if there is one."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(allow_abbrev=False, add_help=False, **settings)
        self.commands: dict[str, Parser] = {}
        self.options: list[argparse.Action] = []
        self.either: list[argparse.Action] = []
        self._adder: Any = None
        self.register("action", None, _Store)
        self.set_defaults(command=self)
        self.add_argument("-h", "--help", action=_Help, nargs=0)

    def add(self, word: str, about: str, work: Work | None = None, *options: Option, logs_in: bool = True) -> Parser:
        """Add a command, or a group of them, below this one."""
        self._adder = self._adder or self.add_subparsers(prog=self.prog, metavar="COMMAND")
        command: Parser = self._adder.add_parser(word, prog=f"{self.prog} {word}".strip(), description=about)
        command.work, command.logs_in = work, logs_in
        either = command.add_mutually_exclusive_group(required=any(option.either for option in options))
        for option in (_CLUSTER_ID, *options) if work else options:
            action = (either if option.either else command).add_argument(*option.flags, **option.settings)
            command.options.append(action)
            if option.either:
                command.either.append(action)
        self.commands[word] = command
        return command

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what a line gives, and in command its own parser. Raises Answer for the help and the version."""
        if words[0] in {"-V", "--version"}:
            raise Answer(f"tok-rehearse (toktools) {__version__}\n")
        if words[0] == "help":
            raise Answer(self.find(words[1:]).help_text(brief=False))
        arguments, rest = self.parse_known_args(words)
        command: Parser = arguments.command
        if rest:
            word = rest[0]
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            command.error(f"option {name} not recognized" if word.startswith("-") else "too many operands")
        return arguments

    def find(self, words: Sequence[str]) -> Parser:
        """Return the command of that name."""
        command = self
        for word in words:
            if word not in command.commands:
                raise ToktoolsError("unrecognized subcommand", "help lists the commands")
            command = command.commands[word]
        return command

    def error(self, message: str) -> NoReturn:
        """Refuse a line. Never repeat a word of it, which may be a password: argparse puts those between quotes."""
        if not self.work:
            raise ToktoolsError("unrecognized subcommand", "help lists the commands")
        said = re.split("['\"]", message)[0].rstrip(" (:")
        raise ToktoolsError(f"{self.prog}: {said.removeprefix('argument ')}", f"try 'help {self.prog}'")

    def help_text(self, *, brief: bool) -> str:
        """Return the help, brief as for -h, or whole."""
        lines = [self.description or "", "", f"Usage: {self._usage()}", ""]
        if self.commands:
            rows = [(word, command.description or "") for word, command in self.commands.items()]
            if not self.prog:
                rows += [("quit", "End the session"), ("exit", "End the session")]
            rows.append(("help", "Print this message or the help of the given subcommand(s)"))
            lines += ["Commands:", *_columns(rows), ""]
        return "\n".join([*lines, "Options:", *self._option_lines(brief=brief)]).rstrip() + "\n"

    def _usage(self) -> str:
        if not self.work:
            return f"{self.prog} <COMMAND>".lstrip()
        parts = [_term(action) for action in self.options if action.required]
        if len(parts) + len(self.either) < len(self.options):
            parts.insert(0, "[OPTIONS]")
        if self.either:
            parts.append(f"<{'|'.join(map(_term, self.either))}>")
        if self.commands:
            parts.append("[COMMAND]")
        return " ".join([self.prog, *parts])

    def _option_lines(self, *, brief: bool) -> list[str]:
        described = any(isinstance(action.choices, dict) for action in self.options)
        whole = described and not brief
        rows = [(f"    {_term(action)}", _about(action, whole=whole)) for action in self.options]
        more = " (see a summary with '-h')" if whole else " (see more with '--help')" if described else ""
        rows.append(("-h, --help", [f"Print help{more}"]))
        if not self.prog:
            rows.append(("-V, --version", ["Print version"]))
        if not whole and max(len(term) for term, _ in rows) <= _MAX_TERM:
            return _columns([(term, about[0]) for term, about in rows])
        lines: list[str] = []
        for term, about in rows:
            lines += [f"  {term}", *(f"          {line}".rstrip() for line in about)]
            if whole:
                lines.append("")
        return lines


def _term(action: argparse.Action) -> str:
    """Return an option and its argument, as clap shows them."""
    flag = action.option_strings[0]
    name = action.metavar or flag.lstrip("-").upper().replace("-", "_")
    if action.nargs == 0:
        return flag
    return f"{flag} [<{name}>...]" if action.nargs else f"{flag} <{name}>"


def _about(action: argparse.Action, *, whole: bool) -> list[str]:
    """Return the lines about an option: one, unless its values are to be described."""
    about, values = action.help or "", action.choices
    if values is None:
        return [about]
    if not whole or not isinstance(values, dict):
        return [f"{about} [possible values: {', '.join(values)}]"]
    width = max(map(len, values)) + 1
    return [about, "", "Possible values:", *(f"- {name + ':':{width}} {text}" for name, text in values.items())]


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
        self.terminal = Terminal()

    def interact(self) -> None:
        """Run commands from the prompt until quit or exit, or the end of the input. Raises FatalError."""
        while True:
            name = self.session.name
            question = f"{name[0]}@{self.cluster_id} > " if name and self.prompt_after_login else prompts.READY
            try:
                line = self.terminal.ask(question)
            except EndOfInput:
                return
            while line.endswith("\\"):
                line = line[:-1] + self.terminal.ask("")
            try:
                words = _words(line)
                if words in (["quit"], ["exit"]):
                    return
                if words:
                    self.run(words, single=False)
            except FatalError:
                raise
            except ToktoolsError as error:
                self.complain(error)

    def run(self, words: Sequence[str], *, single: bool = True) -> int:
        """Run a command; a single one is logged in by CLOUDHSM_ROLE and CLOUDHSM_PIN if these are set.

        Return 0, or 1 if the cluster refuses. Raises ToktoolsError if it is no command, or its input ends.
        """
        try:
            arguments = self.parser.parse(words)
        except Answer as text:
            files.write_stdout(str(text).encode())
            return 0
        command: Parser = arguments.command
        if not command.work:
            files.write_stdout(command.help_text(brief=True).encode())
            raise ToktoolsError(f"{command.prog}: a command is missing", f"try 'help {command.prog}'")
        if single and words[0] == "login":
            hint = "a single command takes the user from CLOUDHSM_ROLE and CLOUDHSM_PIN"
            raise ToktoolsError(f"{command.prog}: it works only in interactive mode", hint)
        credentials = _credentials() if single and command.logs_in else None
        try:
            if credentials:
                self.call(Cluster.login, *credentials)
            code, data = 0, command.work(self, arguments)
        except Refused as refused:
            code, data = 1, str(refused)
        except FatalError:
            raise
        except ToktoolsError as error:
            code, data = 1, f"{MARK}{error.message}"
        files.write_stdout(jsonfile.dump_ascii({"error_code": code, "data": data}))
        return code

    # For the commands

    def cluster(self) -> AbstractContextManager[Cluster]:
        """Return the cluster, for one transaction."""
        return self.state.cluster(self.hsms)

    def call(self, function: Callable[..., T], *arguments: object, **more: object) -> T:
        """Call a function with the cluster, the session and these arguments, as one transaction."""
        with self.cluster() as cluster:
            return function(cluster, self.session, *arguments, **more)

    def password(self, argument: str | None) -> str:
        """Return the password from the command line, or ask for it."""
        return self.terminal.ask(prompts.PASSWORD, hidden=True) if argument is None else argument

    def new_password(self, argument: str | None) -> str:
        """Return the new password from the command line, or ask for it twice."""
        password = self.password(argument)
        if argument is None and self.terminal.ask(prompts.PASSWORD_AGAIN, hidden=True) != password:
            raise refusal("the passwords are not the same")
        return password


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise ToktoolsError(str(error).lower()) from None


def _credentials() -> tuple[Name, str] | None:
    """Return the user that CLOUDHSM_ROLE and CLOUDHSM_PIN name, and the password; None without them."""
    role, pin = os.environ.get("CLOUDHSM_ROLE"), os.environ.get("CLOUDHSM_PIN")
    if role is None and pin is None:
        return None
    username, colon, password = (pin or "").partition(":")
    if role not in approvals.ROLES or not colon:
        raise ToktoolsError("CLOUDHSM_ROLE is admin or crypto-user, and CLOUDHSM_PIN is user:password")
    return (username.lower(), role), password
