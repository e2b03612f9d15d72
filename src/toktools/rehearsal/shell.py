"""The CLI's shell: reads commands, asks for what they need, and writes the cluster's answers."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Sequence

from toktools import __version__, prompts
from toktools.errors import ToktoolsError, shown
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
"""Bytes of a line; shlex takes a minute for a megabyte."""
_SUBCOMMAND = re.compile("invalid choice:( '[a-z][a-z-]{0,29}')")


class EndOfInput(ToktoolsError):  # noqa: N818 - an end, no error
    """The input ended at a question."""


class Terminal:
    """Standard input and output.

    At a terminal, the echo is off for a hidden answer. At a pipe, each line of input but a hidden one is repeated as
    a terminal would show it, so that the output reads like a session.
    """

    def __init__(self) -> None:
        self._is_terminal = os.isatty(files.STDIN)
        self._input = open(files.STDIN, "rb", closefd=False)  # noqa: SIM115 - it stays open

    def ask(self, question: str, *, hidden: bool = False) -> str:
        """Return the line that answers a question. Raises EndOfInput."""
        if self._is_terminal and hidden:
            with files.trouble_at(prompt.TERMINAL):
                line = prompt.ask(question)
        else:
            files.write_stdout(question.encode())
            with files.trouble_at(files.STDIN_NAME):
                line = self._input.readline(_MAX_LINE + 1)
        if len(line) > _MAX_LINE:
            raise ToktoolsError(f"{files.STDIN_NAME}: a line is longer than {_MAX_LINE} bytes")
        text = line.rstrip(b"\r\n").decode(errors="surrogateescape")
        if not self._is_terminal:
            files.write_stdout(("" if hidden else "".join(map(_echoed, text))).encode() + b"\n")
        if not line:
            raise EndOfInput(f"{files.STDIN_NAME}: it ended before all questions were answered")
        return text.replace("\0", "\ufffd")  # no name and no password can have one


def _echoed(char: str) -> str:
    """Return a character as a terminal echoes it, or escaped if even that could act on a terminal."""
    if char in "\t\\":
        return char
    return f"^{chr(ord(char) ^ 0x40)}" if char < " " or char == "\x7f" else shown(char)


# Command lines and their help


def option(*flags: str, **settings: Any) -> Option:  # noqa: ANN401
    """Return an option of a command, as argparse's add_argument() takes it."""
    return flags, settings


_CLUSTER_ID = option("--cluster-id", help="The cluster to use; the default is the one given at the start")


class Parser(argparse.ArgumentParser):
    """A command of the CLI, or a group of commands."""

    work: Work | None = None
    """Runs the command, and returns the data of the answer; None for a group."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(allow_abbrev=False, add_help=False, **settings)
        self.add_argument("-h", "--help", action="help", help="Print help")
        self.commands: dict[str, Parser] = {}
        self._adder: Any = None
        self.set_defaults(command=self)

    def command(self, name: str, about: str, *options: Option) -> Callable[[Work], Work]:
        """Return a decorator that makes a function a command of the CLI."""

        def register(work: Work) -> Work:
            group = self
            *groups, word = name.split()
            for each in groups:
                group = group.commands.get(each) or group.add(each)
            command = group.add(word, description=about)
            command.work = work
            for flags, settings in (_CLUSTER_ID, *options):
                command.add_argument(*flags, **settings)
            return work

        return register

    def add(self, word: str, **settings: str) -> Parser:
        """Add a group, or a command."""
        self._adder = self._adder or self.add_subparsers(prog=self.prog, metavar="COMMAND")
        self.commands[word] = self._adder.add_parser(word, prog=f"{self.prog} {word}".strip(), **settings)
        return self.commands[word]

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what a line gives, and in command its own parser. Raises Answer for the help and the version."""
        if words[0] in {"-V", "--version"}:
            raise Answer(f"tok-rehearse (toktools) {__version__}\n")
        arguments, rest = self.parse_known_args([*words[1:], "--help"] if words[0] == "help" else words)
        command: Parser = arguments.command
        if rest:
            word = rest[0]
            name = word.partition("=")[0] if word.startswith("--") else word[:2]
            command.error(f"option {name} not recognized" if word.startswith("-") else "too many operands")
        if not command.work:
            files.write_stdout(command.format_help().encode())
            raise ToktoolsError(f"{command.prog}: a command is missing", f"try 'help {command.prog}'")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Refuse a line, without repeating its words, which argparse quotes, since one may be a password."""
        if not self.work:
            word = _SUBCOMMAND.search(message)
            raise ToktoolsError(f"unrecognized subcommand{word[1] if word else ''}", "help lists the commands")
        said = re.split("['\"]", message)[0].rstrip(" (:")
        raise ToktoolsError(f"{self.prog}: {said.removeprefix('argument ')}", f"try 'help {self.prog}'")

    def print_help(self, _file: object = None) -> NoReturn:
        """Answer -h and --help."""
        raise Answer(self.format_help())

    def format_help(self) -> str:
        """Return the help, under the headings of clap, which scripts look for."""
        actions = self._get_optional_actions()
        commands = [(word, each.description or ", ".join(each.commands)) for word, each in self.commands.items()]
        options = [(_term(action), action.help or "") for action in actions]
        required = [_term(action) for action in actions if action.required]
        after = ["[COMMAND]"] if self.commands else []
        usage = [self.prog, "[OPTIONS]", *required, *after] if self.work else [self.prog, "<COMMAND>"]
        lines = [self.description or "", "", f"Usage: {' '.join(filter(None, usage))}"]
        for heading, rows in (("Commands", commands), ("Options", options)):
            if rows:
                lines += ["", f"{heading}:", *(f"  {term:32}  {about}" for term, about in rows)]
        return "\n".join([*lines, ""])


def _term(action: argparse.Action) -> str:
    """Return an option and its argument, as clap shows them."""
    flags = ", ".join(action.option_strings)
    return flags if action.nargs == 0 else f"{flags} <{action.dest.upper()}>"


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

        It reports a line that is no command, and goes on. Raises ToktoolsError if the shell must end.
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
            arguments = None
            try:
                words = _words(line)
                if words in (["quit"], ["exit"]):
                    return
                if words:
                    arguments = self._parser.parse(words)
            except Answer as answer:
                files.write_stdout(str(answer).encode())
            except ToktoolsError as error:
                complain(error)
            if arguments:
                self._answer(arguments)

    def run(self, words: Sequence[str]) -> int:
        """Run a single command, as the user of CLOUDHSM_ROLE and CLOUDHSM_PIN if these are set.

        Return 0, or 1 if the cluster refuses. Raises ToktoolsError for trouble, and Answer for help.
        """
        arguments = self._parser.parse(words)
        if words[0] == "login":
            hint = "a single command takes the user from CLOUDHSM_ROLE and CLOUDHSM_PIN"
            raise ToktoolsError(f"{arguments.command.prog}: it works only in interactive mode", hint)
        return self._answer(arguments, _credentials())

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
        """Return the password of the command line, or ask for it."""
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
