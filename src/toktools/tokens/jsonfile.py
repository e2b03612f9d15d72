"""JSON of token files: read strictly, and written in the layout of the CloudHSM CLI.

The standard json reads small files, since loading orjson takes longer than that; it also sees members that occur twice.
Of large files orjson reads those that equal its own dump, which have no such members.
"""

from __future__ import annotations

import json

from toktools import encoding
from toktools.errors import ToktoolsError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SMALL_SIZE = 1 << 20
MAX_DEPTH = 100
_INTEGERS = range(-(1 << 63), 1 << 64)
"""The integers of orjson."""
_MAX_SHOWN = 40


class NotJsonError(ToktoolsError):
    """The content is not JSON at all."""


def loads(text: bytes) -> object:
    """Return the value of a JSON text (RFC 8259).

    Raises NotJsonError; or ToktoolsError if a member occurs twice in an object, if dump() would not write a number or
    a string as the same value, or if objects and lists are nested too deeply.
    """
    if not text or text.isspace():
        raise NotJsonError("an empty file, not JSON")
    try:
        value = _read_small(text) if len(text) <= SMALL_SIZE else _read_large(text)
        is_deep = _depth(value) > MAX_DEPTH
    except RecursionError:
        is_deep = True
    if is_deep:
        raise ToktoolsError(f"nested too deeply for a token file: more than {MAX_DEPTH} levels")
    return value


def dump(value: object, end: bytes = b"\n") -> Iterator[bytes]:
    """Yield *value* in pieces, in the CloudHSM CLI's layout; bytes become their base64."""
    if _has_fraction(value):  # which json writes in another way, as 1e+16
        import orjson

        yield orjson.dumps(value, _base64, orjson.OPT_INDENT_2)
    else:
        for piece in json.JSONEncoder(indent=2, ensure_ascii=False, default=_base64).iterencode(value):
            yield piece.encode()
    yield end


def dump_ascii(value: object) -> bytes:
    """Return *value* as indented JSON in ASCII with a last line feed, so that no text in it moves the cursor."""
    return b"".join(iterate_ascii(value, 2))


def iterate_ascii(value: object, indent: int | None) -> Iterator[bytes]:
    """Yield the same in pieces, on one line if *indent* is None; functions stand for what they return."""
    for piece in json.JSONEncoder(indent=indent, default=lambda function: function()).iterencode(value):
        yield piece.encode()
    yield b"\n"


def _read_small(text: bytes) -> object:
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_members,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_constant,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise NotJsonError(f"not JSON: line {line}: not UTF-8") from None
    except UnicodeEncodeError as error:
        surrogate = error.object[error.start].encode("unicode_escape").decode()
        raise ToktoolsError(f"not Unicode: a lone surrogate, {surrogate}") from None
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting")
        raise NotJsonError(f"not JSON: line {error.lineno}, column {error.colno}: {reason}") from None
    return value


def _read_large(text: bytes) -> object:
    import orjson

    option = orjson.OPT_INDENT_2 | (orjson.OPT_APPEND_NEWLINE if text.endswith(b"\n") else 0)
    try:
        value = orjson.loads(text)
        if orjson.dumps(value, option=option) == text:
            return value
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    message = f"larger than {SMALL_SIZE} bytes, and not JSON in the layout of the CloudHSM CLI"
    raise NotJsonError(message, "jq . FILE writes that layout")


def _children(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _depth(value: object) -> int:
    return 1 + max(map(_depth, _children(value)), default=0) if isinstance(value, (dict, list)) else 0


def _has_fraction(value: object) -> bool:
    return isinstance(value, float) or any(map(_has_fraction, _children(value)))


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        from collections import Counter

        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ToktoolsError(f'the member "{shown(twice[:_MAX_SHOWN])}" occurs twice in one object')
    return members


def _number(text: str) -> int | float:
    """Return a number that both libraries write with the same value."""
    from decimal import Decimal

    if text.lstrip("-").isdigit() and len(text) <= _MAX_SHOWN and int(text) in _INTEGERS:
        return int(text)
    number = float(text)
    try:
        if Decimal(text) == Decimal(repr(number)):
            return number
    except ArithmeticError:  # an exponent that no library takes
        pass
    short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    raise ToktoolsError(f"the number {short} cannot be written with the same value")


def _constant(text: str) -> object:
    raise NotJsonError(f"not JSON: {text} is not a number")


def _base64(content: object) -> str:
    assert isinstance(content, bytes)  # noqa: S101 - the rest is what loads() returned
    return encoding.encode(content).decode()
