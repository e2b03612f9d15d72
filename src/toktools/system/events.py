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
    """Show events with *say* from now on, or stop showing them."""
    global _say  # noqa: PLW0603 - signers, hosts and the driver have events, and no other need of the console
    _say = say


def event(text: str) -> None:
    """Show an event, escaped, if -v is given. The text has no secret."""
    if _say:
        _say(f"{monotonic() - _started:.3f} s: {shown(text)}")


@contextmanager
def hinted() -> Iterator[None]:
    """Add a hint at -v to an error without a hint, unless -v is given."""
    try:
        yield
    except ToktoolsError as error:
        if not _say:
            error.hint = error.hint or HINT
        raise
