"""What a person at a terminal sees, and no file or pipe has in it: colours, and how far work of some seconds is."""

from __future__ import annotations

import os
from time import monotonic

_STDERR = 2
_AFTER, _EVERY = 2.0, 0.2
"""Seconds."""
GREEN, RED = 32, 31
"""ECMA-48 section 8.3.117 (SGR)."""


def coloured(fd: int, text: str, colour: int) -> str:
    """Return a text in a colour where a descriptor is a terminal that has some, and nobody set NO_COLOR."""
    if os.environ.get("NO_COLOR") or not _is_screen(fd):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def progress(name: str, done: str) -> Progress | None:
    """Return a line of progress for a tool, or None where standard error is no terminal."""
    return Progress(name, done) if _is_screen(_STDERR) else None


class Progress:
    """A line on standard error, when it has taken two seconds: how many are done.

    It changes only when one is done, so that it does not write over the question of a command that waits for an answer.
    """

    def __init__(self, name: str, done: str) -> None:
        self._name = name
        self._done = done
        self._count = 0
        self._shown = False
        self._next = monotonic() + _AFTER

    def step(self, count: int = 1) -> None:
        """Count so many as done."""
        self._count += count
        now = monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            self._shown = True
            # The cursor waits at the beginning: what comes next, if only a shell's prompt, is written over the line.
            _write(f"\r{self._name}: {self._count} {self._done}\x1b[K\r")

    def erase(self) -> None:
        """Take the line away, until the next one is done."""
        if self._shown:
            self._shown = False
            _write("\r\x1b[K")


def _is_screen(fd: int) -> bool:
    return os.isatty(fd) and os.environ.get("TERM", "") not in {"", "dumb"}


def _write(text: str) -> None:
    try:
        os.write(_STDERR, text.encode())
    except OSError:
        pass  # the work goes on without
