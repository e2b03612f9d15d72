"""What signals do to a tool: end it like cat(1), wait for a moment, or come after a tidying up."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

DEADLY = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""The signals that end a process, and that it can still do something about."""


def end_like_cat() -> None:
    """Let a closed pipe and Ctrl-C end the process as they end cat(1): by the signal, without a traceback."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent had it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def held() -> Iterator[None]:
    """Let deadly signals wait until the block is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DEADLY)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Caught(BaseException):
    """A signal that came in a block of tidied()."""


@contextmanager
def tidied(*more: signal.Signals) -> Iterator[None]:
    """Leave the block, through its own finally clauses, when a deadly signal (or one more) comes; then let it strike.

    After a signal that only stopped the process (SIGTSTP) the block has ended early, and the code after it goes on.
    """

    def catch(number: int, _frame: object) -> None:
        raise _Caught(number)

    numbers = [number for number in (*DEADLY, *more) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, catch) for number in numbers}
    caught = None
    try:
        yield
    except _Caught as signalled:
        caught = signalled.args[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught is not None:
        os.kill(os.getpid(), caught)
