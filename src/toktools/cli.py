"""What all tools share: from arguments to exit status, and the one place that says what went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from toktools import files, signals
from toktools.errors import ToktoolsError

TYPE_CHECKING = False  # see options.py
if TYPE_CHECKING:
    # The commands take this name from here.
    from toktools.options import CommandLine as CommandLine  # noqa: PLC0414

_STDERR = 2


class Tool:
    """One command: its name, its command line, and its work.

    The work takes what the command line gave and returns the exit status, 0 or 1; it raises ToktoolsError for the rest.
    """

    def __init__(
        self, name: str, command_line: Callable[[str], CommandLine], work: Callable[[SimpleNamespace], int]
    ) -> None:
        self.name = name
        self.command_line = command_line
        self.work = work

    def run(self, argv: Sequence[str] | None) -> int:
        """Run the command with arguments (sys.argv's by default) and return its exit status.

        0: done; 1: the answer is no; 2: usage or trouble, which standard error tells.
        """
        signals.end_like_cat()
        _fill_closed_descriptors()
        try:
            status = self._answer(argv)
            files.finish_stdout()
        except ToktoolsError as error:
            self._say(error.message)
            if error.hint:
                self._say(f"hint: {error.hint}")
            return error.status
        except ImportError as error:
            self._say(f"a part of the installation is missing: {error}")
        except MemoryError:
            self._say("not enough memory")
        else:
            return status
        return 2

    def warn(self, message: str) -> None:
        """Say on standard error what the user should know, though the work goes on."""
        self._say(f"warning: {message}")

    def _answer(self, argv: Sequence[str] | None) -> int:
        # Before the signals are set, Ctrl-C would print a traceback: so nothing slow is imported until then.
        from toktools.options import Answer  # noqa: PLC0415

        try:
            options = self.command_line(self.name).parse(argv)
        except Answer as answer:
            files.write_stdout(str(answer).encode())
            return 0
        return self.work(options)

    def _say(self, message: str) -> None:
        try:
            os.write(_STDERR, f"{self.name}: {message}\n".encode(errors="backslashreplace"))
        except OSError:
            pass  # the exit status still says it


def _fill_closed_descriptors() -> None:
    """Open the null device, the wrong way round, for a standard descriptor that is closed.

    Else the next file that is opened takes its number, and would be read or written in its stead.
    """
    for fd in (files.STDIN, files.STDOUT, _STDERR):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == files.STDIN else os.O_RDONLY)
