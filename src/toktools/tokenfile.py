"""The shapes of token files: parse, list the digests, put signatures in, dump."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from toktools import encoding, files
from toktools.errors import ToktoolsError, shown

_MAX_SHOWN = 40
MAX_SIZE = 1 << 26
"""Bytes of the largest file that is read; a full cluster of 28 HSMs needs 13 thousand."""


@dataclass(frozen=True)
class Shape:
    """One kind of token file: how it is known by its members, and where its digests and signatures stand."""

    title: str
    version: tuple[str, str]
    """The member with the version, and the one that is known."""
    root: tuple[str, ...]
    """The top-level members that tell this kind; the first holds the entries, where there are entries."""
    entry: tuple[str, ...] = ()
    """The members that every entry has."""
    never: tuple[str, ...] = ()
    """The members that no entry has: with them it is another kind."""
    digest: str = ""
    """The entry's member with the digest; empty where this version knows the kind but cannot sign it."""
    signature: str = ""
    """The entry's member that the signature goes into."""


SHAPES = (
    Shape(
        title="an MFA login or set-up file",
        version=("version", "2.0"),
        root=("tokens",),
        entry=("unsigned", "signed"),
        never=("approval_data",),
        digest="unsigned",
        signature="signed",
    ),
    Shape(
        title="a quorum registration file",
        version=("version", "2.0"),
        root=("tokens",),
        entry=("approval_data", "unsigned", "signed"),
    ),
    Shape(title="a quorum token", version=("version", "2.0"), root=("token", "approval_data")),
    Shape(title="a CMU authdata file", version=("Version", "1.0"), root=("Data",)),
)


class TokenFile:
    """A token file: its digests (32 bytes each), and the texts that stand where the signatures go."""

    def __init__(self, shape: Shape, document: object, entries: Sequence[dict[str, object]]) -> None:
        self.digests = [_digest(entry, shape, number) for number, entry in enumerate(entries, start=1)]
        self._shape = shape
        self._document = document
        self._entries = entries

    def signed(self, index: int) -> str:
        """Return the text in a signature's place: base64, or empty where the token is unsigned."""
        return str(self._entries[index][self._shape.signature])

    def put(self, index: int, signature: bytes) -> None:
        """Put a signature in its place."""
        self._entries[index][self._shape.signature] = encoding.encode(signature).decode()

    def dump(self) -> bytes:
        """Return the file as the CloudHSM CLI writes it: two spaces a level, and a last newline."""
        return _dump(self._document)


def read(path: str | None) -> tuple[files.Snapshot, TokenFile]:
    """Read a token file, or standard input where path is None or "-". Raises ToktoolsError."""
    source = files.read(path, MAX_SIZE)
    files.refuse_as_stdout(source)
    try:
        return source, parse(source.content)
    except ToktoolsError as error:
        raise error.at(source.name) from None


def parse(text: bytes) -> TokenFile:
    """Take a token file apart. Raises ToktoolsError where it is not valid or of a kind that is not known."""
    document = _load(text)
    if not isinstance(document, dict):
        raise ToktoolsError("not a token file: not a JSON object")
    candidates = _candidates(document)
    _check_version(document, *candidates[0].version)
    if not any(shape.digest for shape in candidates):
        raise _unsupported(candidates[0])
    entries = document.get(candidates[0].root[0])
    if not isinstance(entries, list) or not entries:
        raise ToktoolsError(f'"{candidates[0].root[0]}" holds no tokens')
    shapes = {_shape_of(entry, candidates, number) for number, entry in enumerate(entries, start=1)}
    if len(shapes) > 1:
        raise ToktoolsError("tokens of several kinds of token file in one")
    shape = shapes.pop()
    if not shape.digest:
        raise _unsupported(shape)
    return TokenFile(shape, document, entries)


def _load(text: bytes) -> object:
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:2]:
        kind = "a byte-order mark" if text.startswith(b"\xef") else "UTF-16"
        hint = (
            "PowerShell redirection (>) writes it so; use the file that the CloudHSM CLI wrote, or convert it to UTF-8"
        )
        raise ToktoolsError(f"{kind} where plain UTF-8 is needed", hint)
    if not text.strip():
        raise ToktoolsError("an empty file, not JSON")
    try:
        content = text.decode()
        # orjson is the judge of what is JSON; it keeps the last of two equal names, and rounds long numbers.
        orjson.loads(content)
        # This second reading sees the names, and keeps every number as it is written.
        document = json.loads(
            content, object_pairs_hook=_members, parse_int=orjson.Fragment, parse_float=orjson.Fragment
        )
        # What cannot be written is refused while it is read, so that what one tool takes the next takes too.
        _dump(document)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ToktoolsError(f"not JSON: line {line}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ToktoolsError(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (RecursionError, orjson.JSONEncodeError):
        raise ToktoolsError("nested too deeply for a token file") from None
    return document


def _dump(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ToktoolsError(f'the member "{shown(twice)}" is there twice in one object')
    return members


def _candidates(document: dict[str, object]) -> list[Shape]:
    roots = dict.fromkeys(shape.root for shape in SHAPES)
    there = [[name for name in root if name in document] for root in roots]
    if not any(there):
        wanted = " or ".join(f'"{root[0]}"' for root in roots)
        raise ToktoolsError(f"not a token file: no member {wanted}")
    first, *others = [names[0] for names in there if names]
    if others:
        mixed = " and ".join(f'"{name}"' for name in (first, *others))
        raise ToktoolsError(f"not a token file: {mixed} are members of different kinds of it")
    return [shape for shape in SHAPES if first in shape.root]


def _check_version(document: dict[str, object], member: str, known: str) -> None:
    if member not in document:
        raise ToktoolsError(f'no member "{member}"')
    if document[member] != known:
        raise ToktoolsError(f'unknown "{member}": {_json(document[member])}; this toktools knows "{known}"')


def _shape_of(entry: object, candidates: Sequence[Shape], number: int) -> Shape:
    if not isinstance(entry, dict):
        raise ToktoolsError(f"token {number}: not a JSON object")
    for shape in candidates:
        if all(name in entry for name in shape.entry) and not any(name in entry for name in shape.never):
            for name in shape.entry:
                if not isinstance(entry[name], str):
                    raise ToktoolsError(f'token {number}: "{name}" is not a string')
            return shape
    missing = next((name for name in candidates[0].entry if name not in entry), "")
    raise ToktoolsError(f'token {number}: no member "{missing}"' if missing else f"token {number}: of no known kind")


def _digest(entry: dict[str, object], shape: Shape, number: int) -> bytes:
    try:
        return encoding.digest(str(entry[shape.digest]).encode())
    except ToktoolsError as error:
        raise error.at(f'token {number}: "{shape.digest}"') from None


def _unsupported(shape: Shape) -> ToktoolsError:
    able = " or ".join(other.title for other in SHAPES if other.digest)
    return ToktoolsError(f"{shape.title}; this version of toktools takes {able}")


def _json(value: object) -> str:
    text = f'"{shown(value)}"' if isinstance(value, str) else shown(orjson.dumps(value).decode())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
