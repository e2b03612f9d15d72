"""The command line: argparse declares it and writes the help, and argv is read here.

argparse itself takes no argument that begins with a dash (-n -3), reads "--" and "-i3" in other ways in Python 3.9 than
in 3.14, and repeats in its messages what may be a secret.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import takewhile

from toktools import __version__
from toktools.errors import ToktoolsError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Found = tuple[argparse.Action, str]
    """An option that is on the command line, and its argument."""

_MANY_OPTIONS = 16
"""With more of them, a usage that names each fills half a screen."""


class Answer(Exception):  # noqa: N818 - no error
    """The text that --help or --version asks for."""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The same help for every width of the terminal, and for every Python."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80, max_help_position=28)

    def _split_lines(self, text: str, _width: int) -> list[str]:
        return [text]  # argparse would load textwrap, but each help is one line

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = ", ".join(action.option_strings)
        return f"{names} {action.metavar or ''}".strip()  # before Python 3.13: -k KEY, --key KEY


class Parser(argparse.ArgumentParser):
    """The options and operands of a command.

    Options stand before, between and after operands; but if the last operand takes the rest (argparse.REMAINDER), the
    first one ends them. A type raises ToktoolsError, in which it names the option.
    """

    def __init__(self, name: str, purpose: str, example: str) -> None:
        super().__init__(
            prog=name,
            description=purpose,
            epilog=f"example:\n  {example}",
            formatter_class=_HelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.color = False  # Python 3.14 has colours in the help
        self._positionals.title = self._optionals.title = None  # with no headings it fits a screen
        self.needs_dashes = ""
        """The kind of operands that must follow "--" if they have options of their own."""

    def add_help_options(self) -> None:
        """Add --help and --version after the options of the command."""
        self.add_argument("-h", "--help", action="help", help="show this help")
        self.add_argument("-V", "--version", action="version", version=__version__, help="show the version")
        if len(self.options) > _MANY_OPTIONS:
            self.usage = self._short_usage()

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return the value of each option and operand; the flags that are there are in *flags*.

        Raises Answer for --help and --version, and ToktoolsError for a usage error. No message repeats an operand, or
        the argument of an option: it may be a pass phrase in the wrong place.
        """
        try:
            return self._parse(argv)
        except ToktoolsError as error:
            raise ToktoolsError(error.message, error.hint or f"try '{self.prog} --help'") from None

    @property
    def options(self) -> list[argparse.Action]:
        """The options, as they were added."""
        return self._get_optional_actions()

    @property
    def operands(self) -> list[argparse.Action]:
        """The operands, in their order."""
        return self._get_positional_actions()

    @property
    def exclusive(self) -> list[tuple[list[argparse.Action], bool]]:
        """The options that exclude each other, and whether one of them is required."""
        groups = self._mutually_exclusive_groups
        return [(group._group_actions, group.required) for group in groups]  # noqa: SLF001 - nothing public has them

    def _short_usage(self) -> str:
        """Return a usage with nothing but what is required, and the operands."""
        either = [f"({' | '.join(map(_term, members))})" for members, required in self.exclusive if required]
        needed = [_term(action) for action in self.options if action.required]
        operands = [f"[{action.metavar} ...]" for action in self.operands]
        indent = " " * len(f"usage: {self.prog}")
        return "\n".join([" ".join([self.prog, *either]), " ".join([indent, *needed, "[OPTION ...]", *operands])])

    def _parse(self, argv: Sequence[str]) -> argparse.Namespace:
        found, words = self._read(argv)
        actions = [action for action, _ in found]
        if any(action.dest == "help" for action in actions):
            raise Answer(self.format_help())
        if any(action.dest == "version" for action in actions):
            raise Answer(f"{self.prog} (toktools) {__version__}\n")
        self._check(actions, words)
        values = argparse.Namespace(
            **{action.dest: action.default for action in self._actions if action.default is not argparse.SUPPRESS}
        )
        values.flags = {_flag(action) for action in actions}
        for action, text in found:
            action(self, values, _value(action, text), _flag(action))
        for action in self.operands:
            setattr(values, action.dest, words if _takes_many(action) else words[0])
            words = words[1:]
        return values

    def _read(self, argv: Sequence[str]) -> tuple[list[Found], list[str]]:
        """Part *argv* into options with their arguments and operands, as getopt_long(3) does, without abbreviations."""
        takes_rest = any(action.nargs == argparse.REMAINDER for action in self.operands)
        found: list[Found] = []
        operands: list[str] = []
        words = iter(argv)
        for word in words:
            if word == "--":
                operands += words
                break
            _refuse_changed(word)
            if word == "-" or not word.startswith("-"):
                operands += [word, *words] if takes_rest else [word]
            elif operands and self.needs_dashes:
                raise ToktoolsError("an option follows an operand", f"put -- before {self.needs_dashes}")
            elif word.startswith("--"):
                flag, equals, text = word.partition("=")
                action = self._option(flag, flag)
                if equals and action.nargs == 0:
                    raise ToktoolsError(f"option {flag} must not have an argument")
                found.append((action, text if equals else _argument(action, flag, words)))
            else:
                letters = word[1:]
                while letters:
                    flag, letters = f"-{letters[0]}", letters[1:]
                    action = self._option(flag, word if word.startswith(flag) else flag)
                    text, letters = ("", letters) if action.nargs == 0 else (letters, "")
                    found.append((action, text or _argument(action, flag, words)))
        return found, operands

    def _option(self, flag: str, word: str) -> argparse.Action:
        """Return the option of a flag; *word* is how the user wrote it."""
        for action in self.options:
            if flag in action.option_strings:
                return action
        from difflib import get_close_matches

        known = [action.option_strings[-1][2:] for action in self.options]
        meant = _name(word).lstrip("-")  # -version may be meant for --version
        near = [name for name in known if meant and name.startswith(meant)] or get_close_matches(meant, known, n=1)
        hint = f"did you mean {' or '.join(f'--{name}' for name in near)}?" if near else ""
        # The rest of a word that begins with an option may be its argument.
        begun = [f"--{name}..." for name in known if flag.startswith(f"--{name}")]
        raise ToktoolsError(f"option {begun[0] if begun else shown(_name(flag))} not recognized", hint)

    def _check(self, actions: Sequence[argparse.Action], words: Sequence[str]) -> None:
        """Refuse too many operands, and options that are given twice, missing, or exclude each other."""
        single = [action for action in self.operands if not _takes_many(action)]
        takes_many = len(single) < len(self.operands)
        if len(words) > len(single) and not takes_many:
            what = "too many operands" if self.operands else "unexpected operand"
            raise ToktoolsError(what, f"for {self.epilog}".replace("\n ", ""))
        for number, action in enumerate(actions):
            if action.nargs != 0 and action in actions[:number] and not isinstance(action, argparse._AppendAction):  # noqa: SLF001
                raise ToktoolsError(f"{_flag(action)} is given twice")
        missing = []
        for members, required in self.exclusive:
            both = [_flag(action) for action in members if action in actions]
            if len(both) > 1:
                raise ToktoolsError(f"{' and '.join(both)} cannot be used together")
            if required and not both:
                missing.append(_listed([_term(action) for action in members], "or"))
        missing += [_term(action) for action in self.options if action.required and action not in actions]
        missing += [_term(action) for action in single[len(words) :]]
        if missing:
            raise ToktoolsError(f"{_listed(missing, 'and')} {'is' if len(missing) == 1 else 'are'} missing")


def _refuse_changed(word: str) -> None:
    """Refuse an option whose hyphen or blank a page or a mail has changed into another character."""
    start = word.partition("=")[0] if word.startswith("--") else word[:3] if word.startswith("-") else word[:1]
    if start.isascii():
        return
    from unicodedata import category, name

    for char in start:
        if not char.isascii() and (category(char) in {"Pd", "Zs", "Cf"} or char == "\N{MINUS SIGN}"):
            what = f"an option is written with {name(char).lower()} (U+{ord(char):04X})"
            raise ToktoolsError(what, "type its hyphens and blanks again: a web page or a mail changed them")


def _argument(action: argparse.Action, flag: str, words: Iterator[str]) -> str:
    text = "" if action.nargs == 0 else next(words, None)
    if text is None:
        raise ToktoolsError(f"option {flag} requires an argument")
    return text


def _value(action: argparse.Action, text: str) -> Any:  # noqa: ANN401 - what the type makes of it
    if action.choices and text not in action.choices:
        raise ToktoolsError(f"{_flag(action)}: expected {_listed(list(action.choices), 'or')}")
    return action.type(text) if callable(action.type) else text


def _takes_many(action: argparse.Action) -> bool:
    return action.nargs in {argparse.ZERO_OR_MORE, argparse.REMAINDER}


def _flag(action: argparse.Action) -> str:
    """Return the flag that messages use for an option."""
    return action.option_strings[0]


def _term(action: argparse.Action) -> str:
    return " ".join(filter(None, (*action.option_strings[:1], str(action.metavar or ""))))


def _listed(terms: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(terms[:-1]), terms[-1])))


def _name(flag: str) -> str:
    """Return a flag without the text behind it, which may be a secret."""
    return "".join(takewhile(lambda char: char not in ":= ", flag))
