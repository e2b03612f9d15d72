"""What all tools share: from arguments to exit status, and the one place that says what went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from toktools import files
from toktools.errors import ToktoolsError

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    # The commands take these two names from here.
    from argparse import Namespace as Namespace  # noqa: PLC0414

    from toktools.options import Parser as Parser  # noqa: PLC0414

_STDERR = 2


class Tool:
    """One command: its name, its one-line purpose and an example for --help, its options, and its work.

    The work takes the parsed options and returns the exit status, 0 or 1; it raises ToktoolsError for the rest.
    """

    def __init__(
        self,
        name: str,
        purpose: str,
        example: str,
        add_options: Callable[[Parser], None],
        work: Callable[[Namespace], int],
    ) -> None:
        self.name = name
        self.purpose = purpose
        self.example = example
        self.add_options = add_options
        self.work = work

    def run(self, argv: Sequence[str] | None) -> int:
        """Run the command with arguments (sys.argv's by default) and return its exit status.

        0: done; 1: the answer is no; 2: usage or trouble, which standard error tells.
        """
        _end_like_cat()
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

    def parser(self) -> Parser:
        """Return the parser of the command line."""
        # argparse is slow to import, and until the signals are set Ctrl-C would print a traceback.
        from toktools.options import Parser  # noqa: PLC0415

        return Parser(self.name, self.purpose, self.example, self.add_options)

    def warn(self, message: str) -> None:
        """Say on standard error what the user should know, though the work goes on."""
        self._say(f"warning: {message}")

    def _answer(self, argv: Sequence[str] | None) -> int:
        from toktools.options import Answer  # noqa: PLC0415 - see parser()

        try:
            options = self.parser().parse(argv)
        except Answer as answer:
            files.write_stdout(str(answer).encode())
            return 0
        return self.work(options)

    def _say(self, message: str) -> None:
        try:
            os.write(_STDERR, f"{self.name}: {message}\n".encode(errors="backslashreplace"))
        except OSError:
            pass  # the exit status still says it


def _end_like_cat() -> None:
    """Let a closed pipe and Ctrl-C end the process as they end cat(1): by the signal, without a traceback."""
    import signal  # noqa: PLC0415 - start-up counts

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent had it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _fill_closed_descriptors() -> None:
    """Open the null device, the wrong way round, for a standard descriptor that is closed.

    Else the next file that is opened takes its number, and would be read or written in its stead.
    """
    for fd in (files.STDIN, files.STDOUT, _STDERR):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == files.STDIN else os.O_RDONLY)
