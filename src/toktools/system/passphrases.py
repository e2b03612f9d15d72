"""Where a secret comes from: a source named on the command line, or the person at the terminal."""

import os
import stat
from collections.abc import Callable

from toktools.errors import ToktoolsError
from toktools.system import files, terminal

MAX_SIZE = 1024
"""Bytes of the longest pass phrase; OpenSSL's own limit."""

_taken: dict[str, bytes] = {}
"""What stood in the variables that options have named, and have taken out of the environment."""

_MAX_DIGITS = 10  # no descriptor has so high a number
_SOURCES = "a source is env:VAR, file:PATH or fd:N"


Secret = Callable[[str, str], bytes]
"""A function that fetches a secret: for the name of what is locked, and what opens it ("pass phrase", "PIN")."""


def source(option: str, text: str) -> Secret:
    """Return the function that fetches a secret from env:VAR, file:PATH or fd:N; messages begin with the option.

    These are openssl-passphrase-options(1), less those that show the secret. Raises ToktoolsError where the text is
    not a source; no message repeats the text, which may be the secret itself.
    """
    kind, _, where = text.partition(":")
    if kind == "pass":
        raise ToktoolsError(f"{option}: every user of the machine can read a secret on the command line", _SOURCES)
    if kind == "stdin":
        raise ToktoolsError(f"{option}: a secret cannot come from standard input", _SOURCES)
    is_number = where.isascii() and where.isdigit() and len(where) < _MAX_DIGITS
    if not where or kind not in _READERS or (kind == "fd" and not is_number):
        raise ToktoolsError(f"{option}: not a source of a secret", _SOURCES)
    variable = os.fsencode(where)
    if kind == "env" and variable in os.environb:
        # No program that is started from here on has any business with it.
        _taken[where] = os.environb.pop(variable)
    return _Named(_READERS[kind], where, option)


def file(path: str, place: str) -> Secret:
    """Return the function that fetches a secret from a file; messages begin with the place that named it."""
    return _Named(_from_file, path, place)


def warn_of_exposure(secret: Secret, warn: Callable[[str], None]) -> None:
    """Warn where a secret is in a file that others can read, or write."""
    if isinstance(secret, _Named) and secret.reader is _from_file:
        try:
            status = os.stat(secret.where)
        except OSError:
            return  # who reads it says so
        files.warn_of_exposure(files.display(secret.where), status, "secret", warn)


def require(secret: Secret, name: str, what: str) -> None:
    """Make sure, before anything begins that will need a secret, that it can be fetched; nothing is read, nobody asked.

    Raises ToktoolsError as the function itself would.
    """
    if isinstance(secret, (_Asked, _Named)):
        secret.require(name, what)


def prompt(option: str) -> Secret:
    """Return the function that asks on the terminal itself, with the echo off, whatever standard input and output are.

    It raises ToktoolsError where there is no terminal, with a hint at the option, or no answer.
    """
    return _Asked(option)


class _Asked:
    """A function that fetches a secret from the person at the terminal."""

    def __init__(self, option: str) -> None:
        self._option = option

    def __call__(self, name: str, what: str) -> bytes:
        self.require(name, what)
        with files.trouble_at(terminal.OWN):
            try:
                line = terminal.ask(f"Enter {what} for {name}: ")
            except ToktoolsError as error:
                raise error.at(name) from None
        return _checked(line, name, what)

    def require(self, name: str, what: str) -> None:
        if not terminal.exists():
            hint = f"use {self._option}; {_SOURCES}"
            raise ToktoolsError(f"{name}: there is no terminal to ask for the {what}", hint)


class _Named:
    """A function that fetches a secret from where an option says."""

    def __init__(self, reader: Callable[[str, str], bytes], where: str, place: str) -> None:
        self.reader = reader
        self.where = where
        self._place = place

    def __call__(self, name: str, what: str) -> bytes:
        return _checked(self.reader(self.where, self._place), name, what)

    def require(self, _name: str, _what: str) -> None:
        _FINDERS[self.reader](self.where, self._place)


def _checked(line: bytes, name: str, what: str) -> bytes:
    phrase = line.split(b"\n", 1)[0].removesuffix(b"\r")
    if not phrase:
        raise ToktoolsError(f"{name}: the {what} is empty")
    if len(phrase) > MAX_SIZE:
        raise ToktoolsError(f"{name}: the {what} is longer than {MAX_SIZE} bytes")
    return phrase


def _from_environment(variable: str, place: str) -> bytes:
    try:
        return _taken[variable]
    except KeyError:
        raise ToktoolsError(f"{place}: there is no such environment variable") from None


def _from_file(path: str, place: str) -> bytes:
    with files.trouble_at(f"{place}: {files.display(path)}"):
        fd = os.open(path, os.O_RDONLY)
        try:
            return _first_line(fd, place)
        finally:
            os.close(fd)


def _find_file(path: str, place: str) -> None:
    with files.trouble_at(f"{place}: {files.display(path)}"):
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return  # to open it would spoil it
        fd = os.open(path, os.O_RDONLY)
        try:
            os.read(fd, 0)  # which a folder refuses
        finally:
            os.close(fd)


def _from_descriptor(number: str, place: str) -> bytes:
    with files.trouble_at(f"{place}: descriptor {number}"):
        return _first_line(int(number), place)


def _find_descriptor(number: str, place: str) -> None:
    with files.trouble_at(f"{place}: descriptor {number}"):
        os.fstat(int(number))


_READERS: dict[str, Callable[[str, str], bytes]] = {
    "env": _from_environment,
    "file": _from_file,
    "fd": _from_descriptor,
}
_FINDERS: dict[Callable[[str, str], bytes], Callable[[str, str], object]] = {
    _from_environment: _from_environment,
    _from_file: _find_file,
    _from_descriptor: _find_descriptor,
}


def _first_line(fd: int, place: str) -> bytes:
    if files.is_stdin(os.fstat(fd)):
        raise ToktoolsError(f"{place}: a secret cannot come from standard input", _SOURCES)
    line = b""
    # Byte by byte: what stands after the line belongs to whoever reads the descriptor next.
    while not line.endswith(b"\n") and len(line) <= MAX_SIZE + 1 and (byte := os.read(fd, 1)):
        line += byte
    return line
