"""JSON of token files: read strictly, and written in the layout of the CloudHSM CLI.

The standard json reads and writes small files, since loading orjson takes longer than that. It also sees members that
occur twice. Of large files only those that equal their own dump are taken, which have no such members.
"""

from __future__ import annotations

import json
import re

from toktools.errors import ToktoolsError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SMALL_SIZE = 1 << 20
MAX_DEPTH = 100
_INTEGERS = range(-(1 << 63), 1 << 64)
_MAX_SHOWN = 40
_NUMBER = re.compile(rb"[\[:,]\s*-?[0-9]")
_SURROGATE = re.compile(r"\\u[dD][89A-Fa-f]")


class NotJsonError(ToktoolsError):
    """The content is not JSON at all."""


def loads(text: bytes) -> object:
    """Return the value of a JSON text (RFC 8259).

    Raises NotJsonError; or ToktoolsError if a member occurs twice in an object, if a number or a string would not come
    out of dumps() as the same value, or if objects and lists are nested too deeply.
    """
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:2]:
        kind = "a byte-order mark" if text.startswith(b"\xef") else "UTF-16"
        hint = (
            "PowerShell redirection (>) causes this; use the file that the CloudHSM CLI wrote, or convert it to UTF-8"
        )
        raise NotJsonError(f"{kind}, but plain UTF-8 is needed", hint)
    if not text.strip():
        raise ToktoolsError("an empty file, not JSON")
    return _read_small(text) if len(text) <= SMALL_SIZE else _read_large(text)


def dumps(value: object, *, like: bytes) -> bytes:
    """Return *value* as the CloudHSM CLI writes it, with a last line feed unless *like*, its old text, has none."""
    is_cut = like.endswith(b"}")
    # The two libraries write fractions differently, and the CLI writes no numbers.
    if len(like) <= SMALL_SIZE and not _NUMBER.search(like):
        return (json.dumps(value, indent=2, ensure_ascii=False) + ("" if is_cut else "\n")).encode()
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | (0 if is_cut else orjson.OPT_APPEND_NEWLINE))


def dump_ascii(value: object) -> bytes:
    """Return *value* as indented JSON in ASCII with a last line feed, so that no text in it moves the cursor."""
    return b"".join(iterate_ascii(value, 2))


def iterate_ascii(value: object, indent: int | None) -> Iterator[bytes]:
    """Yield the same in pieces, on one line if *indent* is None."""
    for piece in json.JSONEncoder(indent=indent).iterencode(value):
        yield piece.encode()
    yield b"\n"


def _read_small(text: bytes) -> object:
    try:
        content = text.decode()
        value = json.loads(
            content,
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise NotJsonError(f"not JSON: line {line}: not UTF-8") from None
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting")
        raise NotJsonError(f"not JSON: line {error.lineno}, column {error.colno}: {reason}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    escape = _SURROGATE.search(content)
    if escape:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ToktoolsError(f"not Unicode: a lone surrogate, such as {escape[0]}...") from None
    return value


def _read_large(text: bytes) -> object:
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    _check_depth(value)
    if dumps(value, like=text) != text:
        raise NotJsonError(
            f"larger than {SMALL_SIZE} bytes, and not JSON in the layout of the CloudHSM CLI",
            "jq . FILE writes that layout",
        )
    return value


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [one for one in level if isinstance(one, (dict, list))]
        if not containers:
            return
        level = [one for container in containers for one in _values(container)]
    raise _too_deep()


def _values(container: dict[str, object] | list[object]) -> Iterable[object]:
    return container.values() if isinstance(container, dict) else container


def _too_deep() -> ToktoolsError:
    return ToktoolsError(f"nested too deeply for a token file: more than {MAX_DEPTH} levels")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise ToktoolsError(f'the member "{shown(name)}" occurs twice in one object')
            names.add(name)
    return members


def _integer(text: str) -> int | float:
    number = int(text) if len(text) <= len(str(_INTEGERS[0])) else None
    # Others would be written as fractions.
    return number if number is not None and number in _INTEGERS else _fraction(text)


def _fraction(text: str) -> float:
    from decimal import Decimal

    number = float(text)
    try:
        is_same = Decimal(text) == Decimal(repr(number))
    except ArithmeticError:  # an exponent that no library takes
        is_same = False
    if not is_same:
        short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
        raise ToktoolsError(f"the number {short} cannot be written with the same value")
    return number


def _constant(text: str) -> object:
    raise NotJsonError(f"not JSON: {text} is not a number")
