"""The command line: a table of options and operands, read as getopt(3) reads it, and cut(1)'s list."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from types import SimpleNamespace

from toktools import __version__
from toktools.errors import ToktoolsError, shown

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import Any


_WIDTH = 80


class Answer(Exception):  # noqa: N818 - no error
    """What --help and --version have to say."""


class Option:
    """An option: its flag, the name of its argument (if it takes one), its line in --help, and its other flag.

    The flag is the one that messages and the usage line show; -k may also be --key, and --help also -h.
    """

    def __init__(  # noqa: PLR0913 - a row of a table
        self,
        flag: str,
        argument: str,
        about: str,
        *,
        also: str = "",
        convert: Callable[[str], Any] = str,
        default: Any = None,  # noqa: ANN401
        required: bool = False,
        repeated: bool = False,
    ) -> None:
        self.flag = flag
        self.flags = sorted(filter(None, (flag, also)), key=len)
        self.name = flag.lstrip("-").replace("-", "_")
        self.argument = argument
        self.about = about
        self.convert = convert
        self.default = ([] if repeated else default) if argument else False
        self.required = required
        self.repeated = repeated

    def __str__(self) -> str:
        return f"{self.flag} {self.argument}".rstrip()

    @property
    def head(self) -> str:
        """Return all that it may be called, short first, and its argument."""
        return f"{', '.join(self.flags)} {self.argument}".rstrip()


class Operand:
    """An operand: its name, its line in --help, and whether it must be there, or there may be many.

    One that is a command takes all words from itself on, its own options among them. The usage line shows it as its
    name, unless there is more to say.
    """

    def __init__(  # noqa: PLR0913 - a row of a table
        self,
        name: str,
        about: str,
        *,
        required: bool = False,
        many: bool = False,
        command: bool = False,
        usage: str = "",
    ) -> None:
        self.name = name
        self.about = about
        self.required = required or command
        self.many = many or command
        self.command = command
        self.usage = usage

    @property
    def head(self) -> str:
        """Return its name."""
        return self.name


HELP = Option("--help", "", "show this help", also="-h")
COMMON = (HELP, Option("--version", "", "show the version", also="-V"))


class CommandLine:
    """What a tool takes: options (a tuple of them excludes each other) and operands, in the order of the usage line."""

    def __init__(self, name: str, purpose: str, example: str, *parts: Option | tuple[Option, ...] | Operand) -> None:
        self.name = name
        self.purpose = purpose
        self.example = example
        self.choices = [part for part in parts if isinstance(part, tuple)]
        self.operands = [part for part in parts if isinstance(part, Operand)]
        self.options = [
            option
            for part in parts
            if not isinstance(part, Operand)
            for option in (part if isinstance(part, tuple) else (part,))
        ]
        self.usage = " ".join([name, *(_usage(part) for part in parts)])
        self._usage_lines = _wrapped(["usage:", name, *(_usage(part) for part in parts)])

    def help(self) -> str:
        """Return what --help says."""
        rows: list[Option | Operand] = [*self.operands, *self.options, *COMMON]
        width = max(len(row.head) for row in rows)
        lines = [f"  {row.head:{width}}  {row.about}\n" for row in rows]
        return f"{self._usage_lines}\n\n{self.purpose}\n\n{''.join(lines)}\nexample:\n  {self.example}\n"

    def parse(self, argv: Sequence[str] | None) -> SimpleNamespace:
        """Return each option and operand by its name; options may stand before, between and after operands.

        Raises Answer for --help and --version, and ToktoolsError for a usage error. No message repeats an argument of
        an option, or an operand: it may be a pass phrase in the wrong place.
        """
        words = sys.argv[1:] if argv is None else argv
        try:
            return self._parse(words)
        except ToktoolsError as error:
            hint = _of_a_file(words) or error.hint or f"try '{self.name} --help'"
            raise ToktoolsError(error.message, hint) from None

    def _parse(self, argv: Sequence[str]) -> SimpleNamespace:
        known = {flag: option for option in (*self.options, *COMMON) for flag in option.flags}
        takes_command = any(operand.command for operand in self.operands)
        given, words = _read(argv, known, mixed=not takes_command)
        values: dict[str, Any] = {option.name: option.default for option in self.options}
        for option, argument in given:
            if option in COMMON:
                raise Answer(self.help() if option is HELP else f"{self.name} (toktools) {__version__}\n")
            value = option.convert(argument) if option.argument else True
            values[option.name] = [*values[option.name], value] if option.repeated else value
        self._check([option.flag for option, _ in given])
        return SimpleNamespace(**values, **self._named(words))

    def _check(self, given: Sequence[str]) -> None:
        for option in self.options:
            if option.required and option.flag not in given:
                raise ToktoolsError(f"{option} is missing")
            if given.count(option.flag) > 1 and option.argument and not option.repeated:
                raise ToktoolsError(f"{option.flag} is given twice")
        for choice in self.choices:
            both = [option.flag for option in choice if option.flag in given]
            if len(both) > 1:
                raise ToktoolsError(f"{' and '.join(both)} cannot be used together")

    def _named(self, words: list[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for operand in self.operands:
            if operand.required and not words:
                raise ToktoolsError(f"{operand.name} is missing")
            end = len(words) if operand.many else 1
            first, words = words[:end], words[end:]
            values[operand.name] = first if operand.many else first[0] if first else None
        if words:
            raise ToktoolsError(
                "too many operands", "" if self.operands else f"it reads standard input: {self.name} ... < FILE"
            )
        return values


def _read(argv: Sequence[str], known: dict[str, Option], *, mixed: bool) -> tuple[list[tuple[Option, str]], list[str]]:
    """Part options, each with its argument, from operands, which may be mixed with them.

    It is getopt_long(3) as GNU has it, whatever POSIXLY_CORRECT says. The getopt module would cost a tenth of this
    program's start-up time.
    """
    given: list[tuple[Option, str]] = []
    operands: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            operands += words
        elif word == "-" or not word.startswith("-"):
            operands += [word] if mixed else [word, *words]
        elif word.startswith("--"):
            flag, equals, argument = word.partition("=")
            flag = long_flag(flag, known)
            option = known[flag]
            if equals and not option.argument:
                raise _wrong(flag, "must not have an argument")
            given.append((option, argument if equals else _argument(flag, option, words)))
        else:
            letters = word[1:]
            while letters:
                flag, letters = f"-{letters[0]}", letters[1:]
                if flag not in known:
                    # -version may be meant for --version, and -u for --username
                    meant = _nearest(f"-{word}", known) if word.startswith(flag) else []
                    raise _wrong(flag, "not recognized", meant or _beginning_with(flag[1], known))
                option = known[flag]
                rest, letters = (letters, "") if option.argument else ("", letters)
                given.append((option, rest or _argument(flag, option, words)))
    return given, operands


def long_flag(flag: str, known: dict[str, Option]) -> str:
    """Return the long flag that a word begins: what has no other form comes before another form of a letter.

    But --help and --version, which do nothing and succeed, are not taken for what may have been meant for work.
    """
    found = [flag] if flag in known else [name for name in known if name.startswith(flag)]
    if not found:
        raise _wrong(flag, "not recognized", _nearest(flag, known))
    if not any(known[name] in COMMON for name in found):
        found = [name for name in found if name == known[name].flag] or found
    if len(found) > 1:
        raise _wrong(flag, "not a unique prefix", found)
    return found[0]


def _nearest(flag: str, known: Iterable[str]) -> list[str]:
    """Return the long flag that is most like a wrong one, if any is."""
    from difflib import get_close_matches

    words = [name[2:] for name in known if name.startswith("--")]
    return [f"--{word}" for word in get_close_matches(_before_argument(flag)[2:], words, n=1)]


def _beginning_with(letter: str, known: Iterable[str]) -> list[str]:
    return [name for name in known if name.lower().startswith(f"--{letter.lower()}")]


def _argument(flag: str, option: Option, words: Iterator[str]) -> str:
    argument = next(words, None) if option.argument else ""
    if argument is None:
        raise _wrong(flag, "requires an argument")
    return argument


def _wrong(flag: str, reason: str, meant: Sequence[str] = ()) -> ToktoolsError:
    hint = f"did you mean {' or '.join(meant)}?" if meant else ""
    return ToktoolsError(f"option {shown(_before_argument(flag))} {reason}", hint)


def _of_a_file(words: Sequence[str]) -> str:
    """Return a hint where one of the words was read as options, but is the name of a file."""
    name = next((word for word in words if word.startswith("-") and "." in word and os.path.exists(word)), "")
    return name and f"for the file {shown(name)}, write ./{shown(name)}"


def _before_argument(flag: str) -> str:
    """Return a flag without what stands behind it, which may be a secret."""
    return "".join(takewhile(lambda char: char not in ":=", flag))


def _wrapped(words: Sequence[str]) -> str:
    """Put words, which may have blanks in them, into lines that fit a terminal."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{'':{len(words[0])}} {word}")
    return "\n".join(lines)


def _usage(part: Option | tuple[Option, ...] | Operand) -> str:
    if isinstance(part, tuple):
        return f"[{' | '.join(map(str, part))}]"
    if isinstance(part, Operand):
        if part.usage:
            return part.usage
        name = f"{part.name}..." if part.many else part.name
        return name if part.required else f"[{name}]"
    return f"{part if part.required else f'[{part}]'}{'...' if part.repeated else ''}"
