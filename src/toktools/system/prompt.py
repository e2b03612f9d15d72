"""Secrets: from a variable, a file, a descriptor, or the person at the terminal."""

from __future__ import annotations

import codecs
import os
import signal
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from errno import EINTR
from time import monotonic, sleep

from toktools.errors import ToktoolsError
from toktools.system import files, process

TERMINAL = "/dev/tty"
"""The terminal of this process, independent of its standard streams."""
MAX_BYTES = 1023
"""The longest pass phrase: the limit of OpenSSL, and of a line on a terminal of macOS."""

_CHUNK = 4096  # no terminal keeps a longer line
_LOOK_UP_SECONDS = 0.05
_MAX_LOCK_SECONDS = 60.0  # every user may lock /dev/tty, and must not keep a prompt away for ever
_MAX_DIGITS = 10  # no descriptor has so high a number
_SOURCES = "a source is env:VAR, file:PATH or fd:N"
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

known: dict[bytes, str] = {}
"""Every secret that was fetched, and its name, to mask it in a program's output."""

_taken: dict[str, bytes] = {}
"""The values of variables that options named, which are no longer in the environment."""


def ask(question: str) -> bytes:
    """Ask a question, and return the line that is typed on the terminal with the echo off.

    The line ends with its newline, or without one if Ctrl-D ended it. Text that was typed before the question, or after
    the answer, is discarded. After Ctrl-Z the question is asked again. Raises OSError.
    """
    line = None
    while line is None:
        line = _ask_once(question.encode(errors="replace"))
    return line


def _ask_once(question: bytes) -> bytes | None:
    """Ask a question, and return the answer, or None if a signal came first.

    Signals act when the terminal has its modes back: in between, they would leave it without an echo.
    """
    from toktools.system import terminal

    with ExitStack() as cleanup:
        fd = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        cleanup.callback(os.close, fd)
        _wait_for_turn(fd)
        # The terminal is closed, which gives up the lock, before Ctrl-Z stops this process.
        with process.noted(signal.SIGTSTP) as arrived, cleanup.pop_all(), terminal.without_echo(fd):
            return _exchange(fd, question, arrived)


def _exchange(fd: int, question: bytes, arrived: Sequence[int]) -> bytes | None:
    line = b""
    while not line.endswith(b"\n"):
        if arrived:
            return None
        try:
            if question:
                question = question[os.write(fd, question) :]
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:  # nothing is typed; or Ctrl-S keeps the question
            sleep(_LOOK_UP_SECONDS)  # Python has no ppoll(2)
            continue
        line += chunk
        if not chunk:
            with suppress(BlockingIOError):  # after Ctrl-S
                os.write(fd, b"\n")  # Ctrl-D does not end the line on the screen
            break
    return line


def _wait_for_turn(fd: int) -> None:
    """Wait until this process is in the foreground, and no other of its session asks a question.

    The lock keeps two prompts of a pipeline apart. It is on one byte of /dev/tty, which is one file for all terminals.
    """
    import fcntl
    import termios

    while True:
        try:
            termios.tcdrain(fd)  # changes nothing, and stops a job in the background, as any change would
            break
        except termios.error as error:
            if error.args[0] != EINTR:
                raise OSError(*error.args) from None
    deadline = monotonic() + _MAX_LOCK_SECONDS
    while monotonic() < deadline:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, os.getsid(0))
        except (BlockingIOError, PermissionError):
            sleep(_LOOK_UP_SECONDS)
            continue
        except OSError:
            pass  # a system that has no locks for terminals
        break


def has_terminal() -> bool:
    """Return whether there is a terminal on which to ask a person."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Source:
    """The source of a secret: env:VAR, file:PATH or fd:N, or the person at the terminal ("ask").

    The first three are those of openssl-passphrase-options(1) that do not show the secret. Messages name *option*.
    """

    def __init__(self, option: str, kind: str, where: str = "") -> None:
        self._option = option
        self._kind = kind
        self._where = where
        self.is_asked = kind == "ask"

    @classmethod
    def ask(cls, option: str) -> Source:
        """Return the person at the terminal; without a terminal, a hint names the option."""
        return cls(option, "ask")

    @classmethod
    def parse(cls, option: str, text: str) -> Source:
        """Return the source that the text of an option names. Raises ToktoolsError.

        No message repeats the text, which may be the secret itself.
        """
        kind, _, where = text.partition(":")
        if kind == "pass":
            raise ToktoolsError(f"{option}: every user of the machine can read a secret on the command line", _SOURCES)
        if kind == "stdin":
            raise ToktoolsError(f"{option}: a secret cannot come from standard input", _SOURCES)
        is_number = where.isascii() and where.isdigit() and len(where) < _MAX_DIGITS
        if not where or kind not in {"env", "file", "fd"} or (kind == "fd" and not is_number):
            raise ToktoolsError(f"{option}: not a source of a secret", _SOURCES)
        variable = os.fsencode(where)
        if kind == "env" and variable in os.environb:
            # No program that is started from here on has any business with it.
            _taken[where] = os.environb.pop(variable)
        return cls(option, kind, where)

    def check(self, name: str, what: str) -> None:
        """Make sure that the secret can be fetched, without reading it.

        *name* is the name of the thing that *what* ("pass phrase", "PIN") opens. Raises ToktoolsError.
        """
        if self._kind == "ask" and not has_terminal():
            sources = f"; {_SOURCES}" if self._option.startswith("--") else ""
            raise ToktoolsError(f"{name}: there is no terminal to ask for the {what}", f"use {self._option}{sources}")
        if self._kind == "env" and self._where not in _taken:
            raise ToktoolsError(f"{self._option}: there is no such environment variable")
        with self._trouble():
            if self._kind == "fd":
                self._refuse_stdin(int(self._where))
            elif self._kind == "file" and not stat.S_ISFIFO(os.stat(self._where).st_mode):  # to open it would spoil it
                open(self._where, "rb", buffering=0).close()

    def read(self, name: str, what: str, *, allow_empty: bool = False) -> bytes:
        """Fetch the secret: the first line, without its end. Raises ToktoolsError, also if it is empty or too long."""
        self.check(name, what)
        line = self._line(f"Enter {what} for {name}: ")
        secret = line.split(b"\n", 1)[0].removesuffix(b"\r")
        if not secret and not allow_empty:
            raise ToktoolsError(f"{name}: the {what} is empty")
        if len(secret) > MAX_BYTES:
            raise ToktoolsError(f"{name}: the {what} is longer than {MAX_BYTES} bytes")
        if secret:
            known.setdefault(secret, what)
        return secret

    def warn_of_exposure(self, warn: Callable[[str], None]) -> None:
        """Warn if the secret is in a file that others can read, or write."""
        if self._kind == "file":
            try:
                status = os.stat(self._where)
            except OSError:
                return  # check() tells it
            files.warn_of_exposure(files.display(self._where), status, "secret", warn)

    def _line(self, question: str) -> bytes:
        if self._kind == "env":
            return _taken[self._where]
        with self._trouble():
            if self._kind == "ask":
                return ask(question)
            if self._kind == "fd":
                return self._first_line(int(self._where))
            with open(self._where, "rb", buffering=0) as file:
                return self._first_line(file.fileno())

    def _first_line(self, fd: int) -> bytes:
        self._refuse_stdin(fd)
        line = b""
        # Byte by byte: the bytes after the line belong to the next reader of the descriptor.
        while not line.endswith(b"\n") and len(line) <= MAX_BYTES + 1 and (byte := os.read(fd, 1)):
            line += byte
        if line.startswith(_MARKS):  # a Windows editor's; it would be a part of the secret, and count as a wrong try
            raise ToktoolsError(
                f"{self._prefix()}: a byte-order mark before the secret", "save it as plain text, without one"
            )
        return line

    def _refuse_stdin(self, fd: int) -> None:
        if fd == files.STDIN or files.is_stdin(os.fstat(fd)):
            raise ToktoolsError(f"{self._option}: a secret cannot come from standard input", _SOURCES)

    def _prefix(self) -> str:
        if self._kind == "ask":
            return TERMINAL
        where = files.display(self._where) if self._kind == "file" else f"descriptor {self._where}"
        return f"{self._option}: {where}"

    def _trouble(self) -> AbstractContextManager[None]:
        return files.trouble_at(self._prefix())
