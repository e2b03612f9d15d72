"""Terminals: temporary modes, waiting for several descriptors, colours, and a line of progress."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from time import monotonic

from toktools.system import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STDERR = 2
_IFLAG, _LFLAG = 0, 3  # of tcgetattr()
_PROGRESS_AFTER_SECONDS = 2.0
_PROGRESS_EVERY_SECONDS = 0.2
GREEN, RED = 32, 31
"""ECMA-48 section 8.3.117 (SGR)."""


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Pass every key of a terminal through unchanged in the block. Raises OSError."""
    with process.unwind_on_signals(), _restored(fd):
        tty.setraw(fd, termios.TCSANOW)
        yield


@contextmanager
def without_echo(fd: int) -> Iterator[None]:
    """Change any modes of a terminal, in the block, to those of lines that Enter ends, with the echo off.

    Input at either end of the block is discarded: half a secret would be the shell's next command. Raises OSError.
    """
    with _restored(fd):
        modes = termios.tcgetattr(fd)
        modes[_IFLAG] = modes[_IFLAG] & ~(termios.IGNCR | termios.INLCR) | termios.ICRNL
        modes[_LFLAG] = modes[_LFLAG] & ~termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG
        # Now, and not when all output is out (TCSAFLUSH): after Ctrl-S that is never.
        termios.tcsetattr(fd, termios.TCSANOW, modes)
        discard_typed_ahead(fd)
        try:
            yield
        finally:
            discard_typed_ahead(fd)


@contextmanager
def _restored(fd: int) -> Iterator[None]:
    """Give a terminal its modes back at the end of the block, after a signal too. Raises OSError."""
    try:
        before = termios.tcgetattr(fd)
        try:
            yield
        finally:
            try:
                _set_modes(fd, before)
            except process.Terminated:  # begin again; a second signal ends this process at once
                _set_modes(fd, before)
                raise
    except termios.error as error:
        raise OSError(*error.args) from None


def _set_modes(fd: int, modes: list[Any]) -> None:
    with process.held(signal.SIGTTOU):  # which would stop a process in the background
        termios.tcsetattr(fd, termios.TCSANOW, modes)


def discard_typed_ahead(fd: int) -> None:
    """Discard the keys that wait at a terminal, if it is one."""
    try:
        with process.held(signal.SIGTTOU):
            termios.tcflush(fd, termios.TCIFLUSH)
    except termios.error:
        pass  # not a terminal, or gone


def wait(readers: Sequence[int], writers: Sequence[int], seconds: float) -> tuple[list[int], list[int]]:
    """Wait until descriptors can be read from or written to; return those that can, and none after *seconds*."""
    if sys.platform == "darwin":  # where poll(2) does not work on terminals; select(2) takes 1,024 descriptors
        return select.select(readers, writers, [], seconds)[:2]
    poll = select.poll()
    for fd in {*readers, *writers}:
        poll.register(fd, (select.POLLIN if fd in readers else 0) | (select.POLLOUT if fd in writers else 0))
    # An end or an error is met by the reading or the writing.
    events = dict(poll.poll(ceil(seconds * 1000)))
    readable, writable = ~select.POLLOUT, ~select.POLLIN
    return (
        [fd for fd in readers if events.get(fd, 0) & readable],
        [fd for fd in writers if events.get(fd, 0) & writable],
    )


def coloured(fd: int, text: str, colour: int) -> str:
    """Return a text in a colour if a descriptor is a terminal with colours, and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or not _is_screen(fd):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def progress(name: str, done: str) -> Progress | None:
    """Return a line of progress for a command, or None if standard error is no terminal."""
    return Progress(name, done) if _is_screen(_STDERR) else None


class Progress:
    """A line on standard error with the number of records done, after two seconds of work.

    It changes only when a record is done, so that it does not overwrite the question of a command.
    """

    def __init__(self, name: str, done: str) -> None:
        self._name = name
        self._done = done
        self._count = 0
        self._shown = False
        self._next = monotonic() + _PROGRESS_AFTER_SECONDS

    def step(self, count: int = 1) -> None:
        """Add to the number of records done."""
        self._count += count
        now = monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_EVERY_SECONDS
            self._shown = True
            # The cursor waits at the beginning: what comes next, if only a shell's prompt, is written over the line.
            _show(f"\r{self._name}: {self._count} {self._done}\x1b[K\r")

    def erase(self) -> None:
        """Erase the line, until the next record is done."""
        if self._shown:
            self._shown = False
            _show("\r\x1b[K")


def _is_screen(fd: int) -> bool:
    return os.isatty(fd) and os.environ.get("TERM", "") not in {"", "dumb"}


def _show(text: str) -> None:
    try:
        os.write(_STDERR, text.encode())
    except OSError:
        pass  # the work goes on without
