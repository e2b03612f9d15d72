"""Masks for the secrets of this run in what a program shows."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from toktools.errors import shown
from toktools.system import prompt

_MIN_SECRET = 4  # bytes; a name in place of every "a" would show the password to be "a"
_CODE = re.compile(r"(?<=\\u)[0-9a-f]{4}")


def masked(text: str) -> str:
    """Return *text* with a name in place of each known secret."""
    for spelling, name in _spellings().items():
        text = text.replace(spelling.decode(errors="replace"), name.decode())
    return text


def mask(output: bytes) -> bytes:
    """Return *output* with a name in place of each known secret."""
    for spelling, name in _spellings().items():
        output = output.replace(spelling, name)
    return output


def safe_length(output: bytes) -> int:
    """Return how much of *output* ends before what may be the beginning of a secret, and is not inside of one."""
    spellings = _spellings()

    def is_beginning(at: int) -> bool:
        return any(len(each) > len(output) - at and each.startswith(output[at:]) for each in spellings)

    first = max(0, len(output) - max(map(len, spellings), default=0) + 1)
    length = next(filter(is_beginning, range(first, len(output))), len(output))
    for each in spellings:
        at = output.find(each, max(0, length - len(each) + 1))
        if 0 <= at < length < at + len(each):
            length = at
    return length


def _spellings() -> dict[bytes, bytes]:
    """Return each spelling of each known secret, the longest first, and the name that takes its place."""
    return _all_spellings(tuple(prompt.known.items()))


@lru_cache(maxsize=1)
def _all_spellings(known: tuple[tuple[bytes, str], ...]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for secret, what in known:
        if len(secret) >= _MIN_SECRET:
            found.update(dict.fromkeys(_quoted(secret), f"(the {what})".encode()))
    return dict(sorted(found.items(), key=lambda item: len(item[0]), reverse=True))


def _quoted(secret: bytes) -> set[bytes]:
    """Return a secret as it is, and as JSON, Python or Rust quotes it."""
    text = secret.decode(errors="surrogateescape")
    quoted = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    quoted |= {repr(text)[1:-1], ascii(text)[1:-1], shown(text)}
    quoted |= {each.replace("/", "\\/") for each in quoted}
    quoted |= {_CODE.sub(lambda code: code[0].upper(), each) for each in quoted}
    quoted |= {each.replace("'", "\\'") for each in quoted} | {each.replace('"', '\\"') for each in quoted}
    return {each.encode(errors="surrogateescape") for each in quoted}
