"""DER, and BER as PKCS#12 has it: where each value of an encoding begins and ends, and nothing of what it means."""

from __future__ import annotations

from collections.abc import Iterator

INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER, SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30

_CONSTRUCTED = 0x20
_IN_PARTS = OCTET_STRING | _CONSTRUCTED
_MANY_OCTETS = 0x1F
"""A tag of more than one octet, which no key has."""
_INDEFINITE = 0x80
_END = b"\0\0"
_DEEPEST = 24
"""No key nests so deeply; without a bound, neither the time nor the stack would have one."""


def values(content: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the tag and the content of each value that stands in a text, up to the first that is none (X.690)."""
    view, at = memoryview(content), 0
    while place := _place(view, at, _DEEPEST):
        start, end, at_next = place
        yield view[at], view[start:end]
        at = at_next


def nested(content: bytes | memoryview, depth: int = _DEEPEST) -> Iterator[tuple[int, memoryview]]:
    """Yield every value in a text, with those inside it, and inside octet strings, after it."""
    for tag, inner in values(content):
        yield tag, inner
        if depth and (tag & _CONSTRUCTED or tag == OCTET_STRING):
            # An octet string may come in parts, which belong together.
            whole = b"".join(part for _, part in values(inner)) if tag == _IN_PARTS else inner
            yield from nested(whole, depth - 1)


def number(content: memoryview) -> int:
    """Return the INTEGER that has this content, read without a sign."""
    return int.from_bytes(content, "big")


def _place(view: memoryview, at: int, depth: int) -> tuple[int, int, int] | None:
    """Return where the content of the value at this place begins and ends, and where the next value may stand."""
    if at + 2 > len(view) or view[at] & _MANY_OCTETS == _MANY_OCTETS:
        return None
    start, size = at + 2, view[at + 1]
    if size == _INDEFINITE:
        return _indefinite(view, start, depth) if view[at] & _CONSTRUCTED else None
    if size > _INDEFINITE:
        more = size - _INDEFINITE
        start, size = start + more, int.from_bytes(view[start : start + more], "big")
    end = start + size
    return None if end > len(view) else (start, end, end)


def _indefinite(view: memoryview, start: int, depth: int) -> tuple[int, int, int] | None:
    at = start
    while depth and view[at : at + 2] != _END:
        place = _place(view, at, depth - 1)
        if place is None:
            return None
        at = place[2]
    return (start, at, at + 2) if depth else None
