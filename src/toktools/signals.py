"""What signals do to a tool: end it like cat(1), wait for a moment, or strike after a tidying up."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DEADLY = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""The signals that end a process, and that it can still do something about."""

ALSO_DEADLY = (signal.SIGPIPE, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Those that end a process if it does nothing about them, though they seldom come."""


def end_like_cat() -> None:
    """Let a closed pipe and Ctrl-C end the process as they end cat(1): by the signal, without a traceback.

    And let the ending of other programs be told, though the parent did not care (trap '' CHLD): their exit status, for
    which the system would keep no place, would be taken for 0.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent had it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def held(*more: signal.Signals) -> Iterator[None]:
    """Let deadly signals, and more, wait until the block is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*DEADLY, *more))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def tidied(*more: signal.Signals, tidy: Callable[[], None], again: Callable[[], None] = lambda: None) -> Iterator[None]:
    """When a deadly signal, or one more, comes in the block: tidy, and then let it strike.

    Where it has only stopped the process (SIGTSTP), do it again when the process goes on.
    """

    def strike(number: int, _frame: object) -> None:
        with held(*more):
            tidy()
        signal.signal(number, before[signal.Signals(number)])  # which may tidy too
        os.kill(os.getpid(), number)
        signal.signal(number, strike)
        again()

    numbers = [number for number in (*DEADLY, *more) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, strike) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending(status: int) -> str:
    """Say in words how a process ended: with an exit status, or, below zero, by a signal."""
    if status >= 0:
        return f"exit status {status}"
    return f"killed by signal {-status} ({signal.strsignal(-status) or 'unknown'})"
