"""The CLI's shell: it reads commands, asks for what they need, and writes the cluster's answers."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Sequence

from toktools import __version__, prompts
from toktools.errors import ToktoolsError
from toktools.parser import Answer
from toktools.rehearsal.cluster import Cluster, Name, Refused, Session, refusal
from toktools.system import files, prompt
from toktools.tokens import approvals, jsonfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from contextlib import AbstractContextManager
    from typing import Any, NoReturn, TypeVar

    from toktools.rehearsal.state import State

    T = TypeVar("T")

Work = Callable[["Shell", argparse.Namespace], object]
Option = tuple[tuple[str, ...], "dict[str, Any]"]
"""The flags of an option, and the rest of what argparse's add_argument() takes."""

_MAX_LINE = 1 << 16
"""Characters of a command; shlex takes a minute for a megabyte."""


_SUBCOMMAND = re.compile("invalid choice:( '[a-z][a-z-]{0,29}')")


class EndOfInput(ToktoolsError):  # noqa: N818 - an end, no error
    """The input ended at a question."""


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
            raise EndOfInput(f"{files.STDIN_NAME}: it ended before all questions were answered")
        text = line.rstrip(b"\r\n").decode(errors="surrogateescape")
        return text.replace("\0", "\ufffd")  # no name and no password can have one


# Command lines and their help


def option(*flags: str, **settings: Any) -> Option:  # noqa: ANN401
    """Return an option of a command, as argparse's add_argument() takes it."""
    return flags, settings


_CLUSTER_ID = option("--cluster-id", help="The cluster to use; the default is the one given at the start")


class Parser(argparse.ArgumentParser):
    """A command of the CLI, or a group of commands; its help looks like clap's."""

    work: Work | None = None
    """Runs the command, and returns the data of the answer; None for a group."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(allow_abbrev=False, **settings)
        self.commands: dict[str, Parser] = {}
        self._options: list[argparse.Action] = []
        self._adder: Any = None
        self.set_defaults(command=self)

    def add(self, word: str, about: str, work: Work | None = None, options: Sequence[Option] = ()) -> Parser:
        """Add a command, or a group of them, below this one."""
        self._adder = self._adder or self.add_subparsers(prog=self.prog, metavar="COMMAND")
        command: Parser = self._adder.add_parser(word, prog=f"{self.prog} {word}".strip(), description=about)
        command.work = work
        for flags, settings in (_CLUSTER_ID, *options) if work else ():
            command._options.append(command.add_argument(*flags, **settings))
        self.commands[word] = command
        return command

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what a line gives, and in command its own parser. Raises Answer for the help and the version."""
        if words[0] in {"-V", "--version"}:
            raise Answer(f"tok-rehearse (toktools) {__version__}\n")
        if words[0] == "help":
            raise Answer(self.find(words[1:]).format_help())
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
                command.error(f"invalid choice: {word!r}")
            command = command.commands[word]
        return command

    def error(self, message: str) -> NoReturn:
        """Refuse a line. Argparse puts its words between quotes; none that may be a password is repeated."""
        if not self.work:
            word = _SUBCOMMAND.search(message)
            raise ToktoolsError(f"unrecognized subcommand{word[1] if word else ''}", "help lists the commands")
        said = re.split("['\"]", message)[0].rstrip(" (:")
        raise ToktoolsError(f"{self.prog}: {said.removeprefix('argument ')}", f"try 'help {self.prog}'")

    def print_help(self, _file: object = None) -> NoReturn:
        """Answer -h and --help."""
        raise Answer(self.format_help())

    def format_help(self) -> str:
        """Return the help in clap's layout."""
        lines = [self.description or "", "", f"Usage: {self.format_usage()}", ""]
        if self.commands:
            rows = [(word, command.description or "") for word, command in self.commands.items()]
            if not self.prog:
                rows += [("quit", "End the session"), ("exit", "End the session")]
            rows.append(("help", "Print this message or the help of the given subcommand(s)"))
            lines += ["Commands:", *_columns(rows), ""]
        rows = [(f"    {_term(action)}", _about(action)) for action in self._options]
        rows.append(("-h, --help", "Print help"))
        if not self.prog:
            rows.append(("-V, --version", "Print version"))
        return "\n".join([*lines, "Options:", *_columns(rows), ""])

    def format_usage(self) -> str:
        """Return the line that shows how to type the command."""
        if not self.work:
            return f"{self.prog} <COMMAND>".lstrip()
        required = [_term(action) for action in self._options if action.required]
        return " ".join([self.prog, "[OPTIONS]", *required, *(["[COMMAND]"] if self.commands else [])])


def _term(action: argparse.Action) -> str:
    """Return an option and its argument, as clap shows them."""
    flag = action.option_strings[0]
    name = action.metavar or flag.lstrip("-").upper().replace("-", "_")
    if action.nargs == 0:
        return flag
    return f"{flag} [<{name}>...]" if action.nargs else f"{flag} <{name}>"


def _about(action: argparse.Action) -> str:
    values = f" [possible values: {', '.join(action.choices)}]" if action.choices else ""
    return f"{action.help}{values}"


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(term) for term, _ in rows)
    return [f"  {term:{width}}  {about}" for term, about in rows]


# The shell


class Shell:
    """One shell, with one session; *options* are those of tok-rehearse."""

    def __init__(self, options: Namespace, state: State, parser: Parser) -> None:
        self.options = options
        self.session = Session()
        self.terminal = Terminal()
        self._state = state
        self._parser = parser

    def interact(self, complain: Callable[[ToktoolsError], None]) -> None:
        """Run commands from the prompt until quit or exit, or the end of the input.

        A line that is no command is complained of. Raises ToktoolsError for what ends the shell.
        """
        while True:
            name = self.session.name if self.options.prompt_after_login else None
            question = f"{name[0]}@{self.options.cluster_id} > " if name else prompts.READY
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
                arguments = self._parse(words) if words else None
            except ToktoolsError as error:
                complain(error)
            else:
                if arguments:
                    self._answer(arguments)

    def run(self, words: Sequence[str]) -> int:
        """Run a single command, as the user of CLOUDHSM_ROLE and CLOUDHSM_PIN if these are set.

        Return 0, or 1 if the cluster refuses. Raises ToktoolsError for trouble.
        """
        arguments = self._parse(words)
        if arguments is None:
            return 0
        if words[0] == "login":
            hint = "a single command takes the user from CLOUDHSM_ROLE and CLOUDHSM_PIN"
            raise ToktoolsError(f"{arguments.command.prog}: it works only in interactive mode", hint)
        return self._answer(arguments, _credentials())

    def _parse(self, words: Sequence[str]) -> argparse.Namespace | None:
        """Return what a line gives, or None if it asks for help, which is written. Raises ToktoolsError."""
        try:
            arguments = self._parser.parse(words)
        except Answer as text:
            files.write_stdout(str(text).encode())
            return None
        command: Parser = arguments.command
        if command.work:
            return arguments
        files.write_stdout(command.format_help().encode())
        raise ToktoolsError(f"{command.prog}: a command is missing", f"try 'help {command.prog}'")

    def _answer(self, arguments: argparse.Namespace, credentials: tuple[Name, str] | None = None) -> int:
        """Run a command, and write its answer."""
        code = 0
        try:
            if credentials:
                with self.cluster() as cluster:
                    if cluster.users:  # before the activation there is nobody to log in
                        cluster.login(self.session, *credentials)
            data = arguments.command.work(self, arguments)
        except Refused as refused:
            code, data = 1, str(refused)
        files.write_stdout(jsonfile.dump_ascii({"error_code": code, "data": data}))
        return code

    # For the commands

    def cluster(self) -> AbstractContextManager[Cluster]:
        """Return the cluster, for one transaction."""
        return self._state.cluster(self.options.hsms)

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
    if len(line) > _MAX_LINE:
        raise ToktoolsError(f"the line is longer than {_MAX_LINE} characters")
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
