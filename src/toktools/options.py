"""The command line: a parser whose trouble is a ToktoolsError, and cut(1)'s list."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from toktools import __version__
from toktools.errors import ToktoolsError, shown

_WIDTH = 80

TYPE_CHECKING = False  # see cli.py
if TYPE_CHECKING:
    from typing import NoReturn


class Answer(Exception):  # noqa: N818 - no error
    """What --help and --version have to say."""


class Parser(argparse.ArgumentParser):
    """A parser that never prints and never exits."""

    def __init__(self, name: str, purpose: str, example: str, add_options: Callable[[Parser], None]) -> None:
        super().__init__(
            prog=name,
            description=purpose,
            epilog=f"example:\n  {example}",
            # With a width of its own, the formatter does not import shutil to ask the terminal.
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=_WIDTH),
            add_help=False,
            allow_abbrev=False,
        )
        add_options(self)
        self.usage = self.format_usage().removeprefix("usage: ").rstrip()
        # These two, which every tool has, stay out of the usage line.
        version = f"{name} (toktools) {__version__}\n"
        self.add_argument("-h", "--help", action=_Say, const=self.format_help, help="show this help")
        self.add_argument("--version", action=_Say, const=lambda: version, help="show the version")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse options before, between and after operands. Raises Answer, or ToktoolsError for a usage error."""
        return self.parse_intermixed_args(argv)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print; control characters in it may come from an argument."""
        raise ToktoolsError(shown(message), f"try '{self.prog} --help'")


class _Say(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, const: Callable[[], str], help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, const=const, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_: object) -> None:
        raise Answer(self.const())


class Selection:
    """A list of numbers from 1, as cut(1) takes it: 2 or 1,3-5 or 2- or -3."""

    def __init__(self, text: str) -> None:
        self._ranges = [self._range(part) for part in text.split(",")]

    @staticmethod
    def _range(part: str) -> tuple[int, int | None]:
        first, dash, last = part.partition("-")
        digits = first + last
        # int() would take signs, underscores, other scripts' digits and any length.
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):  # noqa: PLR2004
            raise ToktoolsError("-n: a list of tokens is 2 or 1,3-5 or 2-")
        low = int(first or "1")
        high = (int(last) if last else None) if dash else low
        if not low or (high is not None and high < low):
            raise ToktoolsError("-n: tokens are counted upwards from 1")
        return low, high

    def indices(self, count: int) -> list[int]:
        """Return the indices from 0 of the selected tokens, in order; ToktoolsError where one of them is not there."""
        selected: set[int] = set()
        for low, high in self._ranges:
            if max(low, high or low) > count:
                raise ToktoolsError(f"-n names token {max(low, high or low)}, but there {tokens_are(count)}")
            selected.update(range(low - 1, high or count))
        return sorted(selected)


def tokens_are(count: int) -> str:
    """Say how many tokens there are."""
    return "is 1 token" if count == 1 else f"are {count} tokens"
