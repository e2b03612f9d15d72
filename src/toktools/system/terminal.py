"""Terminals: temporary modes, waiting for several descriptors, colours, and a line of progress."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from errno import EINTR
from math import ceil
from time import monotonic, sleep

from toktools.system import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Modes = list[Any]
    """The result of tcgetattr(3): flags for input, output, control and lines, two speeds, and the characters."""

_STDERR = 2
_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_HELD = (*process.FATAL, *_STOPS)
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CHARACTERS = 0, 1, 2, 3, 6
_LOCK_SECONDS = 0.05
_MAX_LOCK_SECONDS = 60.0  # every user may lock /dev/tty, and must not keep a prompt away for ever
_PROGRESS_AFTER_SECONDS = 2.0
_PROGRESS_EVERY_SECONDS = 0.2
GREEN, RED = 32, 31
"""ECMA-48 section 8.3.117 (SGR)."""


@contextmanager
def changed_modes(
    fd: int, change: Callable[[Modes], None], again: Callable[[], object], *, discard: bool = False
) -> Iterator[None]:
    """Change the modes of a terminal for the block, then call *again*.

    The old modes return at the end of the block, even after a signal, and while Ctrl-Z stops the process. When it
    continues, they are changed again, and *again* is called. With *discard*, input at either end is discarded: half a
    secret would be the shell's next command. Raises OSError.
    """
    import termios

    turn = _Turn(fd, change, again, discard=discard)
    suspend = signal.getsignal(signal.SIGTSTP)
    try:
        with process.unwind_on_signals():
            _wait_for_turn(fd)
            # Signals come in the block alone: between two lines here, they would leave the terminal changed. While
            # SIGTTOU is held, the modes can be put back from the background too.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            try:
                signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
                turn.take()
                try:
                    if suspend is signal.SIG_DFL:  # else the parent ignores it
                        signal.signal(signal.SIGTSTP, turn.stop)
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                    again()
                    yield
                finally:
                    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
            finally:
                turn.give_back()
                if suspend is signal.SIG_DFL:
                    signal.signal(signal.SIGTSTP, suspend)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except termios.error as error:
        raise OSError(*error.args) from None


class _Turn:
    """The modes of a terminal before this process changed them."""

    def __init__(self, fd: int, change: Callable[[Modes], None], again: Callable[[], object], *, discard: bool) -> None:
        self._fd = fd
        self._change = change
        self._again = again
        self._discard = discard
        self._before: Modes = []

    def take(self) -> None:
        import termios

        self._before = termios.tcgetattr(self._fd)
        modes = [*self._before[:_CHARACTERS], [*self._before[_CHARACTERS]]]
        self._change(modes)
        # Now, and not when all output is out (TCSAFLUSH): after Ctrl-S that is never.
        termios.tcsetattr(self._fd, termios.TCSANOW, modes)
        self._flush()

    def give_back(self) -> None:
        import termios

        try:
            self._flush()
            if self._before:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        except termios.error:
            pass  # the terminal is gone
        _unlock(self._fd)

    def stop(self, number: int, _frame: object) -> None:
        """Restore the terminal, stop as by default, and change the terminal again when this process continues."""
        with process.held(*_STOPS):
            self.give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        _wait_for_turn(self._fd)
        signal.signal(number, self.stop)
        with process.held(*_STOPS):
            self.take()
        self._again()

    def _flush(self) -> None:
        import termios

        if self._discard:
            termios.tcflush(self._fd, termios.TCIFLUSH)


def _wait_for_turn(fd: int) -> None:
    """Wait until this process is in the foreground, and no other of its session has its turn at a terminal.

    The lock keeps two prompts of a pipeline apart. It is on one byte of /dev/tty, which is one file for all terminals.
    """
    import termios

    while True:
        try:
            termios.tcdrain(fd)  # changes nothing, and stops a job in the background, as any change would
            break
        except termios.error as error:
            if error.args[0] != EINTR:
                raise
    deadline = monotonic() + _MAX_LOCK_SECONDS
    while not _lock(fd) and monotonic() < deadline:
        sleep(_LOCK_SECONDS)


def _lock(fd: int) -> bool:
    """Take the lock if no other process has it, and return whether it is taken."""
    import fcntl

    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, os.getsid(0))
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a system that has no locks for terminals
    return True


def _unlock(fd: int) -> None:
    import fcntl

    try:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, os.getsid(0))
    except OSError:
        pass  # the same


def raw(fd: int, again: Callable[[], object]) -> AbstractContextManager[None]:
    """Pass every key of a terminal through unchanged in the block; see changed_modes()."""
    return changed_modes(fd, _raw, again)


def hidden_line(modes: Modes) -> None:
    """Change any modes to those of lines that Enter ends, with the echo off."""
    import termios as t

    modes[_IFLAG] = modes[_IFLAG] & ~(t.IGNCR | t.INLCR) | t.ICRNL
    modes[_LFLAG] = modes[_LFLAG] & ~t.ECHO | t.ECHONL | t.ICANON | t.ISIG


def _raw(modes: Modes) -> None:
    """Change modes as tty.setraw() does, which changes less, and a descriptor, before Python 3.12."""
    import termios as t

    modes[_IFLAG] &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.INPCK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL)
    modes[_IFLAG] &= ~(t.IXON | t.IXANY | t.IXOFF)
    modes[_OFLAG] &= ~t.OPOST
    modes[_CFLAG] = modes[_CFLAG] & ~(t.CSIZE | t.PARENB) | t.CS8
    modes[_LFLAG] &= ~(t.ECHO | t.ECHOE | t.ECHOK | t.ECHONL | t.ICANON | t.IEXTEN | t.ISIG | t.NOFLSH | t.TOSTOP)
    modes[_CHARACTERS][t.VMIN], modes[_CHARACTERS][t.VTIME] = 1, 0


def wait(readers: Sequence[int], writers: Sequence[int], seconds: float) -> tuple[list[int], list[int]]:
    """Wait until descriptors can be read from or written to; return those that can, and none after *seconds*."""
    import select

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
