"""What all tools share: from arguments to exit status, and the one place that says what went wrong."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

from toktools.errors import ToktoolsError, shown
from toktools.options import Answer, CommandLine
from toktools.system import files, process, terminal

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

_STDERR = 2
_NEW_OBJECTS = 200_000
"""The collector runs after so many: more than the libraries make while they load, nearly all of which stay.

So no loop over files or records may leave cycles behind, which hold what it has read: see tests/test_several.py.
"""


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
        self._worst = 0
        """Of the files that each() could not read, the exit status."""
        self._progress: terminal.Progress | None = None

    def run(self, argv: Sequence[str] | None) -> int:  # noqa: C901 - a line for each kind of end
        """Run the command with arguments (sys.argv's by default) and return its exit status.

        0: done; 1: the answer is no; 2: usage or trouble, which standard error tells.
        """
        own_process = argv is None  # else this is not all that it does
        self._worst = 0
        try:
            if own_process:
                process.restore_default_signals()
                gc.set_threshold(_NEW_OBJECTS)
            _fill_closed_descriptors()
            status = self._answer(argv)
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
        except process.Terminated as fatal:
            if own_process:
                process.end_by_signal(fatal.number)
            raise
        except KeyboardInterrupt:  # only where the caller wants it so
            raise
        except BaseException as error:  # noqa: BLE001 - 1 would be an answer; and the text may hold a secret
            self.say(f"a defect in this program: {type(error).__name__}")
        else:
            return max(status, self._worst)
        finally:
            self.end_progress()
            if own_process:
                # No last search for garbage, which would take some milliseconds. So nothing may count on a
                # finalizer that comes with the end: see keys/pkcs11.py.
                gc.freeze()
        return 2

    def progress(self, done: str) -> terminal.Progress | None:
        """Return what counts on the terminal how many are done, or None where there is no terminal."""
        self.end_progress()
        self._progress = terminal.progress(self.name, done)
        return self._progress

    def end_progress(self) -> None:
        """Take the line of progress away, if there is one."""
        if self._progress:
            self._progress.erase()

    def tell_typist(self, awaited: str) -> None:
        """Say what standard input is read for, where it is a terminal: a person may wait for the program."""
        if os.isatty(files.STDIN):
            self.say(f"reading {awaited} from the terminal; Ctrl-D ends it")

    def each(self, paths: Sequence[str], read: Callable[[str | None], T]) -> Iterator[T]:
        """Yield what read() makes of each file, or of standard input where there is none.

        A file that it refuses is told, and the others follow; the exit status is the worst.
        """
        files.refuse_stdin_twice(paths)
        every: list[str | None] = [*paths] or [None]
        for path in every:
            if path in {None, "-"}:
                self.tell_typist("a token file")
            try:
                content = read(path)
            except ToktoolsError as error:
                self.complain(error)
                self._worst = max(self._worst, error.status)
            else:
                yield content

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
                process.hide_memory()
            status = self.work(options)
        except Answer as answer:
            files.write_stdout(str(answer).encode())
            status = 0
        try:
            files.finish_stdout(for_good=argv is None)
        except ToktoolsError as error:
            raise files.after_writing(error) from None
        return status

    def say(self, message: str) -> None:
        """Say a line on standard error, after the name of the command."""
        self.end_progress()
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
