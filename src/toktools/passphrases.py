"""Where a pass phrase comes from: a source named on the command line, or the person at the terminal."""

import os
from collections.abc import Callable

from toktools import files, signals
from toktools.errors import ToktoolsError

MAX_SIZE = 1024
"""Bytes of the longest pass phrase; OpenSSL's own limit."""

_MAX_DIGITS = 10  # no descriptor has so high a number
_SOURCES = "a source is env:VAR, file:PATH or fd:N"


Secret = Callable[[str, str], bytes]
"""A function that fetches a secret: for the name of what is locked, and what opens it ("pass phrase", "PIN")."""


def source(text: str) -> Secret:
    """Return the function that fetches a secret from env:VAR, file:PATH or fd:N.

    These are openssl-passphrase-options(1), less those that show the secret. Raises ToktoolsError where the text is
    not a source; no message repeats the text, which may be the pass phrase itself.
    """
    kind, _, where = text.partition(":")
    if kind == "pass":
        raise ToktoolsError("--passin: every user of the machine can read a pass phrase on the command line", _SOURCES)
    if kind == "stdin":
        raise ToktoolsError("--passin: standard input carries the digests", _SOURCES)
    is_number = where.isascii() and where.isdigit() and len(where) < _MAX_DIGITS
    if not where or kind not in _READERS or (kind == "fd" and not is_number):
        raise ToktoolsError("--passin: not a source of a pass phrase", _SOURCES)
    reader = _READERS[kind]
    return lambda name, what: _checked(reader(where), name, what)


def file(path: str, place: str) -> Secret:
    """Return the function that fetches a secret from a file; messages begin with the place that named it."""
    return lambda name, what: _checked(_from_file(path, place), name, what)


def prompt(name: str, what: str) -> bytes:
    """Ask on the terminal itself, with the echo off, whatever standard input and output are.

    Raises ToktoolsError where there is no terminal, or no answer.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        raise ToktoolsError(
            f"{name}: there is no terminal to ask for the {what}", f"use --passin; {_SOURCES}"
        ) from None
    try:
        with files.trouble_at("/dev/tty"):
            return _checked(_ask(terminal, f"Enter {what} for {name}: "), name, what)
    finally:
        os.close(terminal)


def _checked(line: bytes, name: str, what: str) -> bytes:
    phrase = line.split(b"\n", 1)[0].removesuffix(b"\r")
    if not phrase:
        raise ToktoolsError(f"{name}: the {what} is empty")
    if len(phrase) > MAX_SIZE:
        raise ToktoolsError(f"{name}: the {what} is longer than {MAX_SIZE} bytes")
    return phrase


def _from_environment(variable: str) -> bytes:
    try:
        return os.environb[os.fsencode(variable)]
    except KeyError:
        raise ToktoolsError("--passin: there is no such environment variable") from None


def _from_file(path: str, place: str = "--passin") -> bytes:
    with files.trouble_at(f"{place}: {files.display(path)}"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _first_line(fd, place)
        finally:
            os.close(fd)


def _from_descriptor(number: str) -> bytes:
    with files.trouble_at(f"--passin: descriptor {number}"):
        return _first_line(int(number), "--passin")


_READERS: dict[str, Callable[[str], bytes]] = {"env": _from_environment, "file": _from_file, "fd": _from_descriptor}


def _first_line(fd: int, place: str) -> bytes:
    if files.is_stdin(os.fstat(fd)):
        raise ToktoolsError(f"{place}: standard input carries the digests", _SOURCES)
    line = b""
    # Byte by byte: what stands after the line belongs to whoever reads the descriptor next.
    while not line.endswith(b"\n") and len(line) <= MAX_SIZE + 1 and (byte := os.read(fd, 1)):
        line += byte
    return line


def _ask(terminal: int, question: str) -> bytes:
    import termios
    from signal import SIGTSTP

    def ask() -> None:
        # First the echo, then the question: who sees the question may answer at once.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
        os.write(terminal, question.encode(errors="replace"))

    def restore() -> None:
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, echoing)
        except termios.error:
            pass  # the terminal is gone

    try:
        echoing = termios.tcgetattr(terminal)
        silent = [*echoing]
        silent[3] = silent[3] & ~termios.ECHO | termios.ECHONL
        # Whatever ends or stops the process, the person must see again what is typed.
        with signals.tidied(SIGTSTP, tidy=restore, again=ask):
            try:
                ask()
                answer = os.read(terminal, MAX_SIZE + 2)
                if not answer:
                    os.write(terminal, b"\n")  # Ctrl-D does not end the line
                return answer
            finally:
                restore()
    except termios.error as error:
        raise OSError(*error.args) from None
