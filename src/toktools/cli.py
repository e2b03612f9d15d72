"""Run a command: from its arguments to its exit status, and the messages on the way."""

from __future__ import annotations

import os
import sys

from toktools.errors import ToktoolsError, shown

# Nothing else is imported here: run() reports a library that cannot be loaded.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NoReturn, TypeVar

    from toktools.parser import Parser
    from toktools.system.terminal import Progress

    T = TypeVar("T")

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_NEW_OBJECTS = 200_000
"""Objects after which the collector looks for cycles: more than the libraries make while they load.

Nearly all of these stay, so looking at them would only cost each start some milliseconds. So no loop over
files or records may leave cycles that hold what it has read.
"""


def run(name: str) -> NoReturn:
    """Run tok-*name* with the arguments of this process, and end the process with its exit status."""
    console = Console(name)
    status = 2
    fatal = None
    try:
        import gc

        gc.set_threshold(_NEW_OBJECTS)

        from toktools.system import files, process

        process.restore_default_signals()
        process.forbid_core_dumps()
        _fill_closed_descriptors()
        try:
            status = main(name, sys.argv[1:])
            files.close_stdout()
        except process.Terminated as terminated:
            fatal = terminated.number
        fatal = fatal or process.pending_signal()
        if fatal:
            process.end_by_signal(fatal)
        gc.freeze()  # the last search for cycles, when the process ends, finds nothing either
    except KeyboardInterrupt:  # it came before restore_default_signals()
        raise
    except BaseException as error:  # noqa: BLE001 - exit status 1 would be an answer
        status = console.report(error)
    raise SystemExit(status)


def main(name: str, argv: Sequence[str]) -> int:
    """Run tok-*name* without changing this process, and return the exit status.

    0: done; 1: the answer is no; 2: a usage error or another problem, which standard error describes.
    """
    console = Console(name)
    try:
        status = _answer(console, argv)
    except Exception as error:  # noqa: BLE001 - an error of a library is no reason for a traceback
        return console.report(error)
    finally:
        console.end_progress()
    return max(status, console.worst)


def parser(name: str) -> Parser:
    """Return the parser of tok-*name*."""
    from toktools.parser import Parser

    command = _command(name)
    made = Parser(f"tok-{name}", command.PURPOSE, command.EXAMPLE)
    command.add_arguments(made)
    made.add_help_options()
    return made


def _command(name: str) -> Any:  # noqa: ANN401 - a module
    from importlib import import_module

    return import_module(f"toktools.commands.{name}")


def _answer(console: Console, argv: Sequence[str]) -> int:
    from toktools.parser import Answer
    from toktools.system import files

    try:
        options = parser(console.command).parse(argv)
        if hasattr(options, "verbose"):
            from toktools.system import events

            events.show(console.say if options.verbose else None)
        status = _command(console.command).run(options, console)
    except Answer as answer:
        files.write_stdout(str(answer).encode())
        status = 0
    return int(status)


def _fill_closed_descriptors() -> None:
    """Open the null device, the wrong way round, for a standard descriptor that is closed.

    Else the next file that is opened takes its number, and would be read or written in its stead.
    """
    for fd in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == _STDIN else os.O_RDONLY)


class Console:
    """The messages of a command, which go to standard error, and the worst exit status of its files."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.name = f"tok-{command}"
        self.worst = 0
        self._progress: Progress | None = None

    def say(self, message: str) -> None:
        """Write a line after the name of the command."""
        self.end_progress()
        try:
            os.write(_STDERR, f"{self.name}: {message}\n".encode(errors="backslashreplace"))
        except OSError:
            pass  # the exit status still says it

    def warn(self, message: str) -> None:
        """Warn the user; the work goes on."""
        self.say(f"warning: {message}")

    def complain(self, error: ToktoolsError) -> None:
        """Write an error and its hint."""
        self.say(error.message)
        if error.hint:
            self.say(f"hint: {error.hint}")

    def report(self, error: BaseException) -> int:
        """Report any exception, and return the exit status."""
        if os.environ.get("TOKTOOLS_DEBUG") == "1":
            import traceback

            traceback.print_exception(type(error), error, error.__traceback__)
        if isinstance(error, ToktoolsError):
            self.complain(error)
            return error.status
        if isinstance(error, ModuleNotFoundError):
            self.say(f"a part of the installation is missing: {shown(str(error))}")
        elif isinstance(error, ImportError):  # little memory is a reason too
            self.say(f"a part of the installation cannot be loaded: {shown(str(error))}")
        elif isinstance(error, MemoryError):
            self.say("not enough memory")
        elif isinstance(error, OSError):
            name = f"{shown(str(error.filename))}: " if error.filename else ""
            reason = error.strerror or str(error)
            self.say(f"{name}{reason[:1].lower()}{shown(reason[1:])}")
        else:  # its text may hold a secret
            hint = "TOKTOOLS_DEBUG=1 shows where; please report it"
            self.say(f"internal error: {type(error).__name__} ({hint})")
        return 2

    def note_reading_from_terminal(self, what: str) -> None:
        """Say what a command reads from the terminal, if it does: a person may be waiting for the command."""
        if os.isatty(_STDIN):
            self.say(f"reading {what} from the terminal; Ctrl-D ends it")

    def progress(self, done: str) -> Progress | None:
        """Return a progress counter that the terminal shows, or None if there is no terminal."""
        self.end_progress()
        if not os.isatty(_STDERR):
            return None
        from toktools.system import terminal

        self._progress = terminal.progress(self.name, done)
        return self._progress

    def end_progress(self) -> None:
        """Erase the line of progress, if there is one."""
        if self._progress:
            self._progress.erase()

    def each(self, paths: Sequence[str], read: Callable[[str | None], T]) -> Iterator[T]:
        """Yield what *read* makes of each file, or of standard input if there is none.

        A file that it refuses is reported, and the others follow; the exit status is the worst.
        """
        from toktools.system import files

        files.refuse_stdin_twice(paths)
        every: list[str | None] = [*paths] or [None]
        for path in every:
            if path in {None, "-"}:
                self.note_reading_from_terminal("a token file")
            try:
                content = read(path)
            except ToktoolsError as error:
                self.complain(error)
                self.worst = max(self.worst, error.status)
            else:
                yield content
