"""What all tools share: from arguments to exit status, and the one place that says what went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from toktools import files, kernel, signals
from toktools.errors import ToktoolsError, shown
from toktools.options import Answer, CommandLine

_STDERR = 2


class Tool:
    """One command: its command line, and its work.

    The work takes what the command line gave and returns the exit status, 0 or 1; it raises ToktoolsError for the rest.
    While a tool that may have a secret works, a key or a password, nobody else can read its memory.
    """

    def __init__(
        self, command_line: CommandLine, work: Callable[[SimpleNamespace], int], *, has_secrets: bool = False
    ) -> None:
        self.name = command_line.name
        self.command_line = command_line
        self.work = work
        self.has_secrets = has_secrets

    def run(self, argv: Sequence[str] | None) -> int:
        """Run the command with arguments (sys.argv's by default) and return its exit status.

        0: done; 1: the answer is no; 2: usage or trouble, which standard error tells.
        """
        own_process = argv is None  # else this is not all that it does
        try:
            if own_process:
                signals.end_like_cat()
            _fill_closed_descriptors()
            status = self._answer(argv)
            try:
                files.finish_stdout(for_good=own_process)
            except ToktoolsError as error:
                raise files.after_writing(error) from None
        except ToktoolsError as error:
            self.complain(error)
            return error.status
        except ImportError as error:
            self.say(f"a part of the installation is missing: {shown(str(error))}")
        except MemoryError:
            self.say("not enough memory")
        except OSError as error:
            place = f"{shown(str(error.filename))}: " if error.filename else ""
            self.say(f"{place}{files.reason(error)}")
        except KeyboardInterrupt:  # only where the caller wants it so
            raise
        except BaseException as error:  # noqa: BLE001 - 1 would be an answer; and the text may hold a secret
            self.say(f"a defect in this program: {type(error).__name__}")
        else:
            return status
        return 2

    def warn(self, message: str) -> None:
        """Say on standard error what the user should know, though the work goes on."""
        self.say(f"warning: {message}")

    def complain(self, error: ToktoolsError) -> None:
        """Say on standard error what is wrong, and the hint."""
        self.say(error.message)
        if error.hint:
            self.say(f"hint: {error.hint}")

    def _answer(self, argv: Sequence[str] | None) -> int:
        try:
            options = self.command_line.parse(argv)
            if self.has_secrets and argv is None:  # else the process has other work too
                kernel.hide_memory()
            return self.work(options)
        except Answer as answer:
            files.write_stdout(str(answer).encode())
            return 0

    def say(self, message: str) -> None:
        """Say a line on standard error, after the name of the command."""
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
