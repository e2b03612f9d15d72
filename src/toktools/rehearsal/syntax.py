"""How the CLI's commands are written: their rows, the words of a line, and help in the layout of clap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import CommandLine, Option

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import Any

HELP = ("-h", "--help")
VERSION = ("-V", "--version")
UNKNOWN = "unrecognized subcommand"
_MAX_TERM = 40
"""Characters of an option beyond which clap puts what it says of options below them."""
_HELP_COMMAND = ("help", "Print this message or the help of the given subcommand(s)")


class Choice(Option):
    """An option that takes one of a few words, each of which may have a line of its own in the help."""

    def __init__(self, flag: str, about: str, values: Mapping[str, str], *, required: bool = True) -> None:
        def convert(text: str) -> str:
            if text not in values:
                raise ToktoolsError(f"{flag} takes {', '.join(values)}")
            return text

        super().__init__(flag, flag[2:].upper().replace("-", "_"), about, convert=convert, required=required)
        self.values = values


class Several(Option):
    """An option that takes all words up to the next option."""

    def __init__(self, flag: str, argument: str, about: str, *, required: bool = False) -> None:
        super().__init__(flag, argument, about, required=required, repeated=True)


@dataclass(frozen=True)
class Command:
    """A command of the CLI: its command line, and what it does, which returns the data of the answer."""

    line: CommandLine
    work: Callable[[Any, SimpleNamespace], object]
    """Takes the shell and what the command line gave."""
    check: Callable[[SimpleNamespace], None] = lambda _given: None
    """What else must be right with the command line; raises ToktoolsError."""
    needs_user: bool = True
    """Whether somebody must be logged in."""
    either: tuple[tuple[Option, ...], ...] = ()
    """Options of which exactly one is given."""
    interactive: bool = False
    """Whether it makes no sense as a single command."""
    hidden: tuple[Option, ...] = ()
    """Options that the help leaves to a subcommand."""

    @property
    def words(self) -> list[str]:
        """The words of its name."""
        return self.line.name.split()

    def parse(self, words: Sequence[str]) -> SimpleNamespace:
        """Return what the words after the name give. Raises ToktoolsError, with the name before and a hint."""
        try:
            given = self.line.parse(list(self._spread(words)))
            for options in self.either:
                if sum(bool(getattr(given, option.name)) for option in options) != 1:
                    raise ToktoolsError(f"either {' or '.join(map(str, options))}")
            self.check(given)
        except ToktoolsError as error:
            raise ToktoolsError(f"{self.line.name}: {error.message}", f"try 'help {self.line.name}'") from None
        return given

    def _spread(self, words: Sequence[str]) -> Iterator[str]:
        """Repeat an option that takes several words before each of them: clap's way in getopt's."""
        several = {option.flag for option in self.line.options if isinstance(option, Several)}
        flag, waiting = "", False
        for word in words:
            if word.startswith("-") and word != "-":
                flag, waiting = (word, True) if word in several else ("", False)
            elif flag and not waiting:
                yield flag
            else:
                waiting = False
            yield word


def begins(words: Sequence[str], start: Sequence[str]) -> bool:
    """Say whether words begin with some."""
    return list(words[: len(start)]) == list(start)


def find(commands: Sequence[Command], words: Sequence[str]) -> Command | None:
    """Return the command that a line begins with."""
    return next((command for command in commands if begins(words, command.words)), None)


def helped(words: Sequence[str]) -> tuple[list[str], bool] | None:
    """Return what a line asks for help with, and whether for the summary; None where it asks for none."""
    if words[:1] == ["help"]:
        return list(words[1:]), False
    flag = next((word for word in words if word in HELP), "")
    if not flag:
        return None
    # Of a command with a subcommand of its own, only the words that are names: login --username U mfa-token-sign -h
    return _names(words[: words.index(flag)]), flag == HELP[0]


def help_text(commands: Sequence[Command], groups: Mapping[str, str], words: Sequence[str], *, brief: bool) -> str:
    """Return the help for a command or a group of them, brief (-h) or whole. Raises ToktoolsError for other words."""
    command = next((command for command in commands if command.words == list(words)), None)
    members = _members(commands, groups, words)
    if command is None and not members:
        raise ToktoolsError(UNKNOWN, "help lists the commands")
    name = " ".join(words)
    about = command.line.purpose.removesuffix(".") if command else groups.get(name, "")
    usage = _usage(command, members=bool(members)) if command else f"{name} <COMMAND>".lstrip()
    parts = [about, "", f"Usage: {usage}", ""]
    if members:
        if not words:
            members += [("quit", "End the session"), ("exit", "End the session")]
        parts += ["Commands:", *_columns([*members, _HELP_COMMAND]), ""]
    options = _shown(command) if command else []
    return "\n".join([*parts, "Options:", *_options(options, brief=brief, root=not words)]) + "\n"


def _names(words: Sequence[str]) -> list[str]:
    names, skip = [], False
    for word in words:
        if word.startswith("-"):
            skip = "=" not in word
        elif skip:
            skip = False
        else:
            names.append(word)
    return names


def _members(commands: Sequence[Command], groups: Mapping[str, str], words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the next words after some, in the table's order, each with its line."""
    found: dict[str, str] = {}
    for command in commands:
        if begins(command.words, words) and len(command.words) > len(words):
            word = command.words[len(words)]
            name = " ".join([*words, word])
            about = command.line.purpose.removesuffix(".") if command.line.name == name else groups.get(name, "")
            found.setdefault(word, about)
    return list(found.items())


def _shown(command: Command) -> list[Option]:
    return [option for option in command.line.options if option not in command.hidden]


def _term(option: Option) -> str:
    name = f"<{option.flag.lstrip('-').upper().replace('-', '_')}>"
    if isinstance(option, Several):
        name = f"[<{option.argument}>...]"
    return f"{option.flag} {name}" if option.argument else option.flag


def _usage(command: Command, *, members: bool) -> str:
    either = [option for options in command.either for option in options]
    required = [option for option in _shown(command) if option.required]
    parts = [command.line.name]
    if any(option not in (*required, *either) for option in _shown(command)):
        parts.append("[OPTIONS]")
    parts += map(_term, required)
    parts += [f"<{'|'.join(map(_term, options))}>" for options in command.either]
    return " ".join([*parts, *(["[COMMAND]"] if members else [])])


def _options(options: Sequence[Option], *, brief: bool, root: bool) -> list[str]:
    long = any(isinstance(option, Choice) and any(option.values.values()) for option in options)
    printed = "Print help"
    if long:
        printed += " (see more with '--help')" if brief else " (see a summary with '-h')"
    rows = [(f"    {_term(option)}", _about(option, brief=brief or not long)) for option in options]
    rows.append((", ".join(HELP), [printed]))
    if root:
        rows.append((", ".join(VERSION), ["Print version"]))
    wide = max(len(term) for term, _ in rows) > _MAX_TERM
    if not wide and (brief or not long):
        return _columns([(term, about[0]) for term, about in rows])
    lines: list[str] = []
    for term, about in rows:
        lines += [f"  {term}", *(f"          {line}".rstrip() for line in about), *([""] if long and not brief else [])]
    return lines[:-1] if long and not brief else lines


def _about(option: Option, *, brief: bool) -> list[str]:
    about = option.about[:1].upper() + option.about[1:]
    if not isinstance(option, Choice):
        return [about]
    if brief or not any(option.values.values()):
        return [f"{about} [possible values: {', '.join(option.values)}]"]
    width = max(map(len, option.values)) + 1
    return [about, "", "Possible values:", *(f"- {name + ':':{width}} {text}" for name, text in option.values.items())]


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(term) for term, _ in rows)
    return [f"  {term:{width}}  {about}".rstrip() for term, about in rows]
