"""The command line: declared in the words of argparse, which writes the help; argv is read here.

argparse itself takes no argument that begins with a dash (-n -3), reads "--" and "-i3" in other ways in Python 3.9 than
in 3.14, and repeats in its messages what may be a secret. It also takes as long to start as the rest of a filter, so
only the help loads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from toktools import __version__
from toktools.errors import ToktoolsError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    Found = tuple["Argument", str]
    """An option that is on the command line, and its argument."""


class Answer(Exception):  # noqa: N818 - no error
    """The text that --help or --version asks for."""


class Options:
    """The value of each option and operand, by its name; *flags* are those that are there, by their first names."""

    flags: set[str]

    def __init__(self, **values: object) -> None:
        vars(self).update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401


class Argument:
    """An option or an operand, as argparse's add_argument() takes it."""

    def __init__(self, *names: str, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        self.names = names
        self.settings = settings
        self.flags = names if names[0].startswith("-") else ()
        self.dest = names[-1].lstrip("-").replace("-", "_")
        self.action = settings.get("action", "store")
        self.is_switch = self.action not in {"store", "append"}
        """Whether it is an option that takes no argument."""
        self.nargs = settings.get("nargs")
        """For operands: "*" if there may be any number, "..." if they end the options too."""
        self.default = settings.get("default", False if self.is_switch else None)
        self.required = settings.get("required", False)
        self.choices: Sequence[str] = settings.get("choices", ())
        self.metavar: str = settings.get("metavar", "")

    @property
    def term(self) -> str:
        """The name in messages: the flag and the name of its argument, or that of the operand."""
        return " ".join(filter(None, (*self.flags[:1], self.metavar)))

    def value(self, text: str) -> Any:  # noqa: ANN401 - what the type makes of it
        """Return what the text on the command line means. Raises ToktoolsError."""
        if self.choices and text not in self.choices:
            raise ToktoolsError(f"{self.flags[0]}: expected {_listed(self.choices, 'or')}")
        return True if self.is_switch else self.settings.get("type", str)(text)


class Group:
    """Arguments; with *parser*, options that exclude each other."""

    def __init__(self, parser: Parser, *, required: bool) -> None:
        self._parser = parser
        self.members: list[Argument] = []
        self.required = required

    def add_argument(self, *names: str, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        """Add an option."""
        self._parser.add_argument(*names, **settings)
        self.members.append(self._parser.arguments[-1])


class Parser:
    """The options and operands of a command.

    Options stand before, between and after operands; but if the last operand takes the rest ("..."), the first one ends
    them. A type raises ToktoolsError, in which it names the option.
    """

    def __init__(self, name: str, purpose: str, example: str) -> None:
        self.prog = name
        self.purpose = purpose
        self.example = example
        self.arguments: list[Argument] = []
        self.exclusive: list[Group] = []
        self.needs_dashes = ""
        """The kind of operands that must stand behind "--" if they have options of their own."""

    def add_argument(self, *names: str, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        """Add an option or an operand, as argparse does."""
        self.arguments.append(Argument(*names, **settings))

    def add_mutually_exclusive_group(self, *, required: bool = False) -> Group:
        """Add options that exclude each other."""
        self.exclusive.append(Group(self, required=required))
        return self.exclusive[-1]

    def add_help_options(self) -> None:
        """Add --help and --version, which stand behind the options of the command."""
        self.add_argument("-h", "--help", action="help", help="show this help")
        self.add_argument("-V", "--version", action="version", version=__version__, help="show the version")

    @property
    def options(self) -> list[Argument]:
        """The options, as they were added."""
        return [argument for argument in self.arguments if argument.flags]

    @property
    def operands(self) -> list[Argument]:
        """The operands, in their order."""
        return [argument for argument in self.arguments if not argument.flags]

    def argparse(self) -> argparse.ArgumentParser:
        """Return the same as a parser of argparse, for the help and the completions."""
        import argparse

        class Formatter(argparse.RawDescriptionHelpFormatter):
            """The same help for every width of the terminal, and for every Python."""

            def __init__(self, prog: str) -> None:
                super().__init__(prog, width=80, max_help_position=28)

            def _split_lines(self, text: str, width: int) -> list[str]:
                return [text] if len(text) <= width else super()._split_lines(text, width)  # which loads textwrap

            def _format_action_invocation(self, action: argparse.Action) -> str:
                names = ", ".join(action.option_strings)
                return f"{names} {action.metavar or ''}".strip()  # before Python 3.13: -k KEY, --key KEY

        made = argparse.ArgumentParser(
            prog=self.prog,
            description=self.purpose,
            epilog=f"example:\n  {self.example}",
            formatter_class=Formatter,
            add_help=False,
        )
        made.color = False  # type: ignore[attr-defined] # Python 3.14 has colours in the help
        # With no headings it fits a screen.
        groups: dict[object, argparse._ActionsContainer] = {None: made.add_argument_group()}
        options = made.add_argument_group()
        for argument in self.operands:
            groups[None].add_argument(*argument.names, **argument.settings)
        for argument in self.options:
            group = next((group for group in self.exclusive if argument in group.members), None)
            if group and group not in groups:
                groups[group] = options.add_mutually_exclusive_group(required=group.required)
            (groups[group] if group else options).add_argument(*argument.names, **argument.settings)
        return made

    def parse(self, argv: Sequence[str]) -> Options:
        """Return the value of each option and operand; the flags that are there are in *flags*.

        Raises Answer for --help and --version, and ToktoolsError for a usage error. No message repeats an operand, or
        the argument of an option: it may be a pass phrase in the wrong place.
        """
        try:
            return self._parse(argv)
        except ToktoolsError as error:
            raise ToktoolsError(error.message, error.hint or f"try '{self.prog} --help'") from None

    def _parse(self, argv: Sequence[str]) -> Options:
        found, words = self._read(argv)
        arguments = [argument for argument, _ in found]
        if any(argument.action == "help" for argument in arguments):
            raise Answer(self.argparse().format_help())
        if any(argument.action == "version" for argument in arguments):
            raise Answer(f"{self.prog} (toktools) {__version__}\n")
        self._check(arguments, words)
        values = Options(**{argument.dest: argument.default for argument in self.arguments})
        values.flags = {argument.flags[0] for argument in arguments}
        for argument, text in found:
            value = argument.value(text)
            if argument.action == "append":
                value = [*getattr(values, argument.dest), value]
            setattr(values, argument.dest, value)
        for argument in self.operands:
            setattr(values, argument.dest, words if argument.nargs else words[0])
            words = words[1:]
        return values

    def _read(self, argv: Sequence[str]) -> tuple[list[Found], list[str]]:
        """Part *argv* into options with their arguments and operands, as getopt_long(3) does, without abbreviations."""
        takes_rest = any(argument.nargs == "..." for argument in self.operands)
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
                raise ToktoolsError("an option stands behind an operand", f"put -- before {self.needs_dashes}")
            elif word.startswith("--"):
                flag, equals, text = word.partition("=")
                option = self._option(flag, flag)
                if equals and option.is_switch:
                    raise ToktoolsError(f"option {flag} must not have an argument")
                found.append((option, text if equals else _argument(option, flag, words)))
            else:
                letters = word[1:]
                while letters:
                    flag, letters = f"-{letters[0]}", letters[1:]
                    option = self._option(flag, word if word.startswith(flag) else flag)
                    text, letters = ("", letters) if option.is_switch else (letters, "")
                    found.append((option, text or _argument(option, flag, words)))
        return found, operands

    def _option(self, flag: str, word: str) -> Argument:
        """Return the option of a flag; *word* is how the user wrote it."""
        for option in self.options:
            if flag in option.flags:
                return option
        from difflib import get_close_matches

        known = [option.flags[-1][2:] for option in self.options]
        meant = _name(word).lstrip("-")  # -version may be meant for --version
        near = [name for name in known if meant and name.startswith(meant)] or get_close_matches(meant, known, n=1)
        hint = f"did you mean {' or '.join(f'--{name}' for name in near)}?" if near else ""
        # The rest of a word that begins with an option may be its argument.
        name = next((f"--{name}..." for name in known if flag.startswith(f"--{name}")), shown(_name(flag)))
        raise ToktoolsError(f"option {name} not recognized", hint)

    def _check(self, arguments: Sequence[Argument], words: Sequence[str]) -> None:
        """Raise ToktoolsError for what is too much, given twice, missing, or excludes each other."""
        single = [operand for operand in self.operands if not operand.nargs]
        if len(words) > len(single) == len(self.operands):
            what = "too many operands" if self.operands else f"{self.prog} takes no file names"
            raise ToktoolsError(what, f"for example: {self.example}")
        for number, argument in enumerate(arguments):
            if argument.action == "store" and argument in arguments[:number]:
                raise ToktoolsError(f"{argument.flags[0]} is given twice")
        missing = []
        for group in self.exclusive:
            both = [argument.flags[0] for argument in group.members if argument in arguments]
            if len(both) > 1:
                raise ToktoolsError(f"{' and '.join(both)} cannot be used together")
            if group.required and not both:
                missing.append(_listed([argument.term for argument in group.members], "or"))
        missing += [option.term for option in self.options if option.required and option not in arguments]
        missing += [operand.term for operand in single[len(words) :]]
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
            raise ToktoolsError(what, "type its hyphens and blanks again: a page or a mail has changed them")


def _argument(option: Argument, flag: str, words: Iterator[str]) -> str:
    text = "" if option.is_switch else next(words, None)
    if text is None:
        raise ToktoolsError(f"option {flag} requires an argument")
    return text


def _listed(terms: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(terms[:-1]), terms[-1])))


def _name(flag: str) -> str:
    """Return a flag without the text behind it, which may be a secret."""
    return "".join(takewhile(lambda char: char not in ":= ", flag))
