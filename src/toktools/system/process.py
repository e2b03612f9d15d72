"""Signals, core dumps, and the ends of processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen
    from typing import NoReturn

FATAL = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""The signals with which a person, a shell or a supervisor ends a process."""

_GRACE_SECONDS = 0.3  # that a child gets to end by a signal
_TOGETHER_SECONDS = 1.0
"""Signals in this time are one event: who closes a terminal's window sends SIGHUP twice."""
_COREDUMP_FILTER = "/proc/self/coredump_filter"  # core(5)


class Terminated(BaseException):
    """A signal that ends this process after `finally` has cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Pending:
    """The state of unwind_on_signals()."""

    number: int | None = None
    """The signal that has arrived in the block."""
    since = 0.0
    """The time of its arrival."""
    in_block = False


def restore_default_signals() -> None:
    """Let Ctrl-C end this process as it ends cat(1), and let this process see how its children end.

    A parent that ignores SIGCHLD (trap '' CHLD) passes that on, and the system would forget their exit status.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def unwind_on_signals() -> Iterator[None]:
    """Raise Terminated in the main thread for a fatal signal in the block, so that `finally` cleans up.

    Outside it, such a signal ends the process at once, and so does a second one inside, unless it comes within a
    second of the first. Ignored signals stay so.
    Blocks nest; in another thread than the main one, the block does nothing. The end of the outermost block raises
    Terminated again, if something has swallowed it.
    """
    import threading

    if _Pending.in_block or threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, _frame: object) -> None:
        if _Pending.number is None:
            _Pending.number, _Pending.since = number, time.monotonic()
            raise Terminated(number)
        if time.monotonic() - _Pending.since > _TOGETHER_SECONDS:
            end_by_signal(number)

    _Pending.number = None
    _Pending.in_block = True
    try:
        with _handled(unwind, FATAL):
            yield
    finally:
        _Pending.in_block = False
        if _Pending.number is not None:
            raise Terminated(_Pending.number)


@contextmanager
def _handled(handler: Callable[[int, object], object], numbers: Sequence[int]) -> Iterator[None]:
    """Let *handler* handle those of these signals that are not ignored, in the block."""
    before = {number: signal.getsignal(number) for number in numbers}
    changed = [number for number, action in before.items() if action not in {signal.SIG_IGN, None}]
    try:
        for number in changed:
            signal.signal(number, handler)
        yield
    finally:
        with held():  # the interpreter complains of a signal that comes while its handler is changed
            for number in changed:
                signal.signal(number, before[number])


@contextmanager
def held(*more: int) -> Iterator[None]:
    """Block fatal signals, and *more*, in the block; a child that starts there calls release().

    Only for a process without other threads, since one of these would get the signal.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, (*FATAL, *more))  # may raise Terminated once it has set the mask
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def noted(*more: int) -> Iterator[list[int]]:
    """Yield a list that gets fatal signals, and *more*, in the block; the first of them acts after it.

    Unlike held(), this works beside the threads of a PKCS#11 module too, which would take a blocked signal.
    """
    arrived: list[int] = []
    try:
        with _handled(lambda number, _frame: arrived.append(number), (*FATAL, *more)):
            yield arrived
    finally:
        if arrived:
            signal.raise_signal(arrived[0])


def release() -> None:
    """Unblock fatal signals, in a child that was started in held()."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FATAL)


def pending_signal() -> int | None:
    """Return the signal that Terminated was last raised for, or None."""
    return _Pending.number


def end_by_signal(number: int) -> NoReturn:
    """End this process by the default action of a signal."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container does not end by a signal of its own


def forbid_core_dumps() -> None:
    """Leave no core dump of this process, which may hold a secret.

    Children can raise their limit again. The limit does not apply if core dumps go to a program, so on Linux a
    filter keeps the memory out of them.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError), open(_COREDUMP_FILTER, "wb", buffering=0) as file:  # Linux has it
        file.write(b"0")


def end(child: Popen[bytes], numbers: Sequence[int]) -> None:
    """End a child, if it has not ended, by each of these signals, with a moment between them."""
    from subprocess import TimeoutExpired

    for number in numbers:
        child.send_signal(number)  # does nothing if it has ended
        with suppress(TimeoutExpired):
            child.wait(_GRACE_SECONDS)


def cores() -> int:
    """Return the number of cores on which this process may run."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def exit_text(returncode: int) -> str:
    """Return how a process ended; *returncode* is that of subprocess, below zero for a signal."""
    if returncode >= 0:
        return f"exit status {returncode}"
    return f"killed by signal {-returncode} ({signal.strsignal(-returncode) or 'unknown'})"
