"""What signals do, in this process: which are held, and that a tidying up comes before the strike."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from threading import get_ident
from typing import Any

import pytest

from toktools.system import signals


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Handlers and mask are afterwards what they were before."""
    numbers = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    before = [signal.getsignal(number) for number in numbers]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    after = [signal.getsignal(number) for number in numbers]
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in zip(numbers, before):
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)
    assert after == before


def held() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_which_are_deadly() -> None:
    """Those that end a process by themselves, and that it can do something about."""
    deadly = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1}
    others = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD}
    others |= {signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE}
    assert deadly <= set(signals.DEADLY)
    assert not (others | {signal.SIGILL}) & set(signals.DEADLY)
    assert list(signals.DEADLY) == sorted(signals.DEADLY)
    assert set(signals.STOPS) == {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def test_what_is_held_comes_afterwards() -> None:
    """Signals wait until the block is done, in a block of blocks too, and whatever is raised in it."""
    came: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    before = held()
    with suppress(ValueError), signals.held(signal.SIGTSTP):
        assert held() == before | {*signals.DEADLY, signal.SIGTSTP}
        with signals.held():
            signal.pthread_kill(get_ident(), signal.SIGUSR1)  # not another thread of the runner, which does not wait
        assert not came
        raise ValueError
    assert held() == before
    assert came == [signal.SIGUSR1]
    with signals.held(signal.SIGTSTP):
        signals.let_through()
        assert held() == before | {signal.SIGTSTP}
    signal.signal(signal.SIGUSR1, old)


def test_tidied_before_the_strike() -> None:
    """The tidying comes first, with nothing in between, then what the signal did before, and then once more."""
    told: list[Any] = []
    old = signal.signal(signal.SIGUSR1, lambda *_: told.append("strike"))

    def tidy() -> None:
        told.append(("tidy", {signal.SIGTERM, signal.SIGTSTP} <= held()))

    with signals.tidied(signal.SIGTSTP, tidy=tidy, again=lambda: told.append("again")):
        assert signal.getsignal(signal.SIGTSTP) not in {signal.SIG_DFL, signal.SIG_IGN}
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGUSR1)
    assert told == [("tidy", True), "strike", "again"] * 2
    os.kill(os.getpid(), signal.SIGUSR1)
    assert told[6:] == ["strike"]
    with signals.tidied(tidy=tidy):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert told[7:] == [("tidy", True), "strike"] or told[7:] == [("tidy", False), "strike"]
    signal.signal(signal.SIGUSR1, old)


def test_what_is_ignored_stays_so() -> None:
    """Nobody tidies for a signal that does nothing."""
    told: list[str] = []
    old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with signals.tidied(tidy=lambda: told.append("tidy")):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    assert told == []
    signal.signal(signal.SIGUSR1, old)


def test_end_like_cat() -> None:
    """A closed pipe ends the process, and the ending of others is told."""
    old = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGPIPE, signal.SIGCHLD)]
    signals.end_like_cat()
    assert [signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGCHLD)] == [signal.SIG_DFL] * 2
    for number, handler in zip((signal.SIGPIPE, signal.SIGCHLD), old):
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-15, "killed by signal 15 (Terminated)"),
        (-1, "killed by signal 1 (Hangup)"),
    ],
)
def test_how_a_process_ended(status: int, said: str) -> None:
    """In words."""
    assert signals.ending(status) == said


def test_a_signal_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unknown."""
    monkeypatch.setattr(signal, "strsignal", lambda _number: None)
    assert signals.ending(-99) == "killed by signal 99 (unknown)"
