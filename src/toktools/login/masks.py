"""Masks for the secrets of this run in what a program shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from toktools.errors import shown
from toktools.system import prompt

_MIN_SECRET = 4  # bytes; a name in place of every "a" would show the password to be "a"
_CODE = re.compile(r"(?<=\\u)[0-9a-f]{4}")


def masked(text: str) -> str:
    """Return *text* with a name in place of each known secret."""
    for spelling, name in _spellings():
        text = text.replace(spelling.decode(errors="replace"), f"({name})")
    return text


def mask(output: bytes) -> bytes:
    """Return *output* with a name in place of each known secret."""
    names = dict(_spellings())
    return _pattern(names).sub(lambda found: f"({names[found[0]]})".encode(), output) if names else output


def safe_length(output: bytes) -> int:
    """Return how much of *output* ends before what may be the beginning of a secret, or go on as one."""
    names = dict(_spellings())
    first = max(0, len(output) - max(map(len, names), default=0) + 1)
    for at in range(first, len(output)):
        if any(len(name) > len(output) - at and name.startswith(output[at:]) for name in names):
            inside = (found.start() for found in _pattern(names).finditer(output) if found.start() < at < found.end())
            return next(inside, at)
    return len(output)


def _pattern(names: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, names)))  # the first that matches is the longest


def _spellings() -> list[tuple[bytes, str]]:
    """Return each known secret, as it is and as JSON, Python or Rust quotes it, with its name; the longest first."""
    found: dict[bytes, str] = {}
    for secret, what in prompt.known.items():
        if len(secret) < _MIN_SECRET:
            continue
        text = secret.decode(errors="surrogateescape")
        quoted = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
        quoted |= {repr(text)[1:-1], ascii(text)[1:-1], shown(text)}
        quoted |= {each.replace("/", "\\/") for each in quoted}
        quoted |= {_CODE.sub(lambda code: code[0].upper(), each) for each in quoted}
        quoted |= {each.replace("'", "\\'") for each in quoted} | {each.replace('"', '\\"') for each in quoted}
        found.update({each.encode(errors="surrogateescape"): f"the {what}" for each in quoted})
    return sorted(found.items(), key=lambda item: len(item[0]), reverse=True)
