"""JSON of token files: read strictly, and written in the layout of the CloudHSM CLI.

That of the CLI differs from json's only in fractions such as 1e+16, and the CLI writes no numbers.
"""

from __future__ import annotations

import json
from collections import Counter

from toktools.errors import ToktoolsError, shown

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 100
_MAX_DIGITS = 640  # of an integer that Python always takes (sys.int_info.str_digits_check_threshold)
_MAX_SHOWN = 40


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
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise NotJsonError(f"not JSON: line {line}: not UTF-8") from None
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise NotJsonError(f"not JSON: line {error.lineno}, column {error.colno}: {reason}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value, MAX_DEPTH)
    if b"\\u" in text:  # only an escape can stand for half of a character
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ToktoolsError(f"not Unicode: a lone surrogate, {error.object[error.start]!a}") from None
    return value


def dumps(value: object, *, like: bytes) -> bytes:
    """Return *value* as the CloudHSM CLI writes it, with a last line feed unless *like*, its old text, has none."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + ("" if like.endswith(b"}") else "\n")).encode()


def dump_ascii(value: object) -> bytes:
    """Return *value* as indented JSON in ASCII with a last line feed, so that no text in it moves the cursor."""
    return b"".join(iterate_ascii(value, 2))


def iterate_ascii(value: object, indent: int | None) -> Iterator[bytes]:
    """Yield the same in pieces, on one line if *indent* is None."""
    for piece in json.JSONEncoder(indent=indent).iterencode(value):
        yield piece.encode()
    yield b"\n"


def _check_depth(value: object, levels: int) -> None:
    if not isinstance(value, (dict, list)):
        return
    if not levels:
        raise _too_deep()
    for inner in value.values() if isinstance(value, dict) else value:
        _check_depth(inner, levels - 1)


def _too_deep() -> ToktoolsError:
    return ToktoolsError(f"nested too deeply for a token file: more than {MAX_DEPTH} levels")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ToktoolsError(f'the member "{shown(name)}" occurs twice in one object')
    return members


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _not_kept(text)
    return int(text)


def _fraction(text: str) -> float:
    from decimal import Decimal

    number = float(text)
    try:
        is_same = Decimal(text) == Decimal(repr(number))
    except ArithmeticError:  # an exponent that no library takes
        is_same = False
    if not is_same:
        raise _not_kept(text)
    return number


def _not_kept(text: str) -> ToktoolsError:
    short = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return ToktoolsError(f"the number {short} cannot be written with the same value")


def _constant(text: str) -> object:
    raise NotJsonError(f"not JSON: {text} is not a number")
