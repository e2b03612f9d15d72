"""What signals do to a tool: end it like cat(1), wait for a moment, or strike after a tidying up."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""The signals that stop a process, and that it can do something about."""

_HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, getattr(signal, "SIGINFO", signal.SIGCHLD)}
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
"""After these there is no going on to the next instruction, where Python looks for signals."""

DEADLY = tuple(
    sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *STOPS} - _HARMLESS - _FAULTS)  # whatever else
)
"""The signals that end a process, and that it can still do something about; those for real time among them."""


def end_like_cat() -> None:
    """Let a closed pipe end the process as it ends cat(1): by the signal; the door plates do the same for Ctrl-C.

    And let the ending of other programs be told, though the parent did not care (trap '' CHLD): their exit status, for
    which the system would keep no place, would be taken for 0.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


@contextmanager
def held(*more: int) -> Iterator[None]:
    """Let deadly signals, and more, wait until the block is done."""
    with masked(signal.SIG_BLOCK, *DEADLY, *more):
        yield


@contextmanager
def masked(how: int, *numbers: int) -> Iterator[None]:
    """Let signals wait (SIG_BLOCK), or wait no more (SIG_UNBLOCK), until the block is done."""
    before = signal.pthread_sigmask(how, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Hold nothing back any more: a process that was started while signals were held has them held too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, DEADLY)


@contextmanager
def tidied(*more: int, tidy: Callable[[], None], again: Callable[[], None] = lambda: None) -> Iterator[None]:
    """When a deadly signal, or one more, comes in the block: tidy, and then let it strike.

    Where it has only stopped the process (STOPS), do it again when the process goes on.
    """
    # All of them before the first is changed: a signal may come between any two lines.
    before = {number: signal.getsignal(number) for number in (*DEADLY, *more)}

    def strike(number: int, _frame: object) -> None:
        with held(*more):
            tidy()
        signal.signal(number, before[number])  # which may tidy too
        os.kill(os.getpid(), number)
        signal.signal(number, strike)
        again()

    # What is ignored stays so, and what is not Python's (None).
    changed = [number for number, handler in before.items() if handler not in {signal.SIG_IGN, None}]
    try:
        for number in changed:
            signal.signal(number, strike)
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])


def ending(status: int) -> str:
    """Say in words how a process ended: with an exit status, or, below zero, by a signal."""
    if status >= 0:
        return f"exit status {status}"
    return f"killed by signal {-status} ({signal.strsignal(-status) or 'unknown'})"
