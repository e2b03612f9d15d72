"""The events of a run that -v shows: one line each, with the seconds since the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from toktools.errors import ToktoolsError, shown

HINT = "-v shows each step"

_started = monotonic()
_say: Callable[[str], None] | None = None


def show(say: Callable[[str], None] | None) -> None:
    """Show events by *say* from now on, or no more."""
    global _say  # noqa: PLW0603 - signers, hosts and the driver have events, and no other need of the console
    _say = say


def event(text: str) -> None:
    """Show an event, escaped, if -v asks for it. The text has no secret."""
    if _say:
        _say(f"{monotonic() - _started:.3f} s: {shown(text)}")


@contextmanager
def hinted() -> Iterator[None]:
    """Let an error that has no hint name -v, unless that is there."""
    try:
        yield
    except ToktoolsError as error:
        if not _say:
            error.hint = error.hint or HINT
        raise
