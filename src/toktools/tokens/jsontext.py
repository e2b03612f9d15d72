"""JSON as it is written: read strictly, and edited so that what has not changed keeps its every byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from io import BytesIO

import orjson

from toktools.errors import ToktoolsError, shown

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import Union

    Container = Union[dict[str, object], list[object]]

_CONTAINERS = (dict, list)
MAX_DEPTH = 250
"""Levels of objects and lists."""
_FEW, _SHORT = 8, 256
"""Members, and characters of all their names together, of an object that one pattern reads."""
_S = r"[ \t\r\n]"
_SPACE = re.compile(f"{_S}*")
# These begin at the opening bracket, or where the value before ends, and end where a value begins.
_ELEMENT = re.compile(rf"({_S}*[\[{{,]{_S}*)(?=[^ \t\r\n\]}}])")
_MEMBER = re.compile(rf'({_S}*[{{,]{_S}*)"([^"\\]*)"(?P<colon>{_S}*:{_S}*)')
_COLON = re.compile(rf"(?P<colon>{_S}*:{_S}*)")
# A number is kept as the bytes of its spelling, since a float would lose digits; no other value is bytes.
_number = str.encode


def parse(text: bytes) -> object:
    """Return the one value of a JSON text (RFC 8259), each number in it as the bytes of its spelling.

    Raises ToktoolsError where it is not JSON in UTF-8, where a member name occurs twice in one object, and where it
    is nested more than 250 levels deep.
    """
    if text.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:2]:
        kind = "a byte-order mark" if text.startswith(b"\xef") else "UTF-16"
        hint = (
            "PowerShell redirection (>) causes this; use the file that the CloudHSM CLI wrote, or convert it to UTF-8"
        )
        raise ToktoolsError(f"{kind}, but plain UTF-8 is needed", hint)
    if not text.strip():
        raise ToktoolsError("an empty file, not JSON")
    try:
        content = text.decode()
        try:
            orjson.loads(content)
        except orjson.JSONDecodeError:
            if not _is_good_on_one_line(content):
                raise
        # orjson keeps the last of two equal names, and rounds long numbers: this second reading sees both.
        return _value(content)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ToktoolsError(f"not JSON: line {line}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ToktoolsError(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None


def edit(text: bytes, value: Container, touched: Iterable[Container]) -> bytes:
    """Return a text that parse() takes with only what differs from value changed, in the style of what stands there.

    A string may be another one; an object may have more members, and a list more elements, at its end. touched are the
    objects and lists in value in which that may be so, also in the objects of such a list, and those that they are in;
    value itself is one of them.
    """
    edits = _Edits(text.decode(), {id(container) for container in touched})
    edits.walk(edits.root(), value)
    return edits.text()


def spell(value: object) -> str:
    """Return a value on one line, in ASCII, so that no text moves the cursor."""
    return _ONE_LINE.spell(value)


class _Layout:
    """White space in an object or a list, as it is after the opening bracket, around the last comma, and so on.

    unit is by how much a level is indented; inside is the layout of what is in it, where something is.
    """

    def __init__(self, lead: str, comma: str, colon: str, trail: str, unit: str = "  ") -> None:
        self.lead = lead
        self.comma = comma
        self.colon = colon
        self.trail = trail
        self.unit = unit
        self.inside: _Layout | None = None

    def inner(self) -> _Layout:
        """Return the layout of an object or a list in it."""
        line = _last_line(self.lead)
        if self.inside:
            return self.inside
        if not line:
            comma = _comma("", self.colon) if _last_line(self.comma) else self.comma
            return _Layout(self.lead, comma, self.colon, self.lead, self.unit)
        return _Layout(line + self.unit, f",{line}{self.unit}", self.colon, line, self.unit)

    def spell(self, value: object) -> str:
        """Return a value so laid out."""
        if isinstance(value, bytes):
            return value.decode()
        if not isinstance(value, (dict, list)) or not value:
            return _spell(value)
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        return f"{opening}{self.lead}{self.between(value)}{self.trail}{closing}"

    def between(self, value: Container) -> str:
        """Return the members or elements with their commas."""
        inner = self.inner()
        if isinstance(value, dict):
            parts = [f"{_spell(name)}{self.colon}{inner.spell(member)}" for name, member in value.items()]
        else:
            parts = [inner.spell(element) for element in value]
        return self.comma.join(parts)


_ONE_LINE = _Layout("", ", ", ": ", "")


class _Container:
    """An object or a list in a text, as far as it was read: up to the end of a member or an element."""

    __slots__ = ("_outer", "colon", "end", "first", "inside", "last", "trail")

    def __init__(self, begin: int, outer: _Container | _Layout) -> None:
        self._outer = outer
        self.end = begin
        self.first: re.Match[str] | None = None
        """What stands before its first member or element."""
        self.last: re.Match[str] | None = None
        """What stands before the one that was read last."""
        self.colon: re.Match[str] | None = None
        """What stands between the name and the value of that."""
        self.inside: _Container | None = None
        """That value, where it is a container."""
        self.trail = ""
        """The white space before its closing bracket, once that is found."""

    def layout(self) -> _Layout:
        """Return how it is laid out; where nothing is in it, how it would be."""
        outer = self._outer.layout() if isinstance(self._outer, _Container) else self._outer
        if not self.first or not self.last:
            return outer.inner()
        lead = self.first[1][1:]
        line = _last_line(lead)
        colon = self.colon["colon"] if self.colon else outer.colon
        comma = self.last[1] if self.last is not self.first else _comma(line, colon)
        outside = _indentation(_last_line(self.trail) or _last_line(outer.lead))
        unit = _indentation(line)[len(outside) :] if line and _indentation(line).startswith(outside) else outer.unit
        return _Layout(lead, comma, colon, self.trail, unit)


class _Edits:
    """A text that is written anew, the same but for the edits."""

    def __init__(self, content: str, touched: set[int]) -> None:
        self._content = content
        self._touched = touched
        self._written = BytesIO()
        self._place = 0

    def text(self) -> bytes:
        """Return the whole text with the edits."""
        self._written.write(self._content[self._place :].encode())
        return self._written.getvalue()

    def root(self) -> _Container:
        """Return the container that the text is."""
        begin = _space(self._content, 0)
        return _Container(begin, _Layout(f"\n{_indentation(self._content[:begin])}", ", ", ": ", ""))

    def walk(self, container: _Container, value: Container) -> None:
        """Give a container a value, and go to its end."""
        count = 0 if isinstance(value, dict) else self._objects(container, value)
        for name, start in self._starts(container, named=isinstance(value, dict)):
            new = value[name] if isinstance(value, dict) else value[count]
            count += 1
            container.inside = None
            if not isinstance(new, (dict, list)):
                old, container.end = _DECODER.raw_decode(self._content, start)
                if old != new:
                    self._put(start, container.end, _spell(new))
                continue
            container.inside = _Container(start, container)
            if id(new) in self._touched or (isinstance(value, list) and isinstance(new, dict)):
                self.walk(container.inside, new)
                container.end = container.inside.end
            else:
                _, container.end = _DECODER.raw_decode(self._content, start)
        end = container.end if count else container.end + 1
        close = _space(self._content, end)
        container.trail = self._content[end:close]
        if count < len(value):
            layout = container.layout()
            if container.inside:
                layout.inside = self._read(container.inside)
            added = layout.between(dict(list(value.items())[count:]) if isinstance(value, dict) else value[count:])
            if count:
                self._put(end, end, f"{layout.comma}{added}")
            else:
                self._put(end, close, f"{layout.lead}{added}{layout.trail}")
        container.end = close + 1

    def _objects(self, container: _Container, elements: list[object]) -> int:
        """Give the objects at the beginning of a list their values, as far as they are plain; return how many are.

        Those are plain that have the names of the first, and texts without an escape, as the entries of token files
        do: one pattern reads the whole of each, in a third of the time that going through it takes.
        """
        first = elements[0] if elements else None
        # To make a pattern of very many names takes longer than going through them.
        if not isinstance(first, dict) or len(first) > _FEW or len("".join(first)) > _SHORT:
            return 0
        members = [f'"{re.escape(name)}"{_S}*:{_S}*"([^"\\\\]*)"' for name in first]
        entry = re.compile(rf"({_S}*[\[,]{_S}*){{{_S}*{f'{_S}*,{_S}*'.join(members)}{_S}*}}")
        last, end, count = None, container.end, 0
        for element in elements:
            found = entry.match(self._content, end)
            if not found or not isinstance(element, dict) or len(element) > len(first):
                break
            for group, new in enumerate(element.values(), start=2):
                if found[group] != new:
                    start, end = found.span(group)
                    self._put(start - 1, end + 1, _spell_text(str(new)))
            container.first = container.first or found
            last, end, count = found, found.end(), count + 1
        if last:
            container.last, container.end = last, end
            container.inside = _Container(last.end(1), container)
        return count

    def _starts(self, container: _Container, *, named: bool) -> Iterator[tuple[str, int]]:
        """Yield the name of each member, or nothing for an element, and where its value begins."""
        content = self._content
        pattern = _MEMBER if named else _ELEMENT
        while found := pattern.match(content, container.end) or _ELEMENT.match(content, container.end):
            container.last = found
            container.first = container.first or found
            name, start = "", found.end()
            if found.re is _MEMBER:
                name = found[2]
                container.colon = found
            elif named:  # a name with an escape
                name, after = _DECODER.raw_decode(content, start)
                container.colon = _COLON.match(content, after)
                start = container.colon.end() if container.colon else after
            yield name, start

    def _read(self, container: _Container) -> _Layout | None:
        """Return the layout of a container, read anew if it was passed by; None where nothing is in it."""
        if not container.first:
            for _, start in self._starts(container, named=self._content[container.end] == "{"):
                _, container.end = _DECODER.raw_decode(self._content, start)
            container.trail = self._content[container.end : _space(self._content, container.end)]
        return container.layout() if container.first else None

    def _put(self, start: int, end: int, text: str) -> None:
        self._written.write(f"{self._content[self._place : start]}{text}".encode())
        self._place = end


def _comma(line: str, colon: str) -> str:
    """Return a comma as it is where a line is begun anew, or where it goes with such a colon."""
    return f",{line or ' ' * colon.endswith(' ')}"


def _indentation(space: str) -> str:
    return space.rpartition("\n")[2].rpartition("\r")[2]


def _last_line(space: str) -> str:
    """Return the last line break in white space with the indentation after it; nothing where there is none."""
    before = space.rstrip(" \t")
    return ("\r\n" if before.endswith("\r\n") else before[-1:]) + space[len(before) :] if before else ""


def _space(content: str, begin: int) -> int:
    """Return where the white space that begins there ends."""
    found = _SPACE.match(content, begin)
    return found.end() if found else begin


def _is_good_on_one_line(content: str) -> bool:
    """Say whether orjson takes the same value on one line.

    orjson 3.11.9 to 3.13.0 runs out of the memory that it guesses where a list on one line is in a file of many.
    """
    try:
        orjson.loads(spell(_value(content)))
    except json.JSONDecodeError:
        return False
    return True


def _value(content: str) -> object:
    try:
        value = json.loads(content, object_pairs_hook=_members, parse_int=_number, parse_float=_number)
    except RecursionError:
        raise ToktoolsError("nested too deeply for a token file") from None
    level: list[Container] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _CONTAINERS)
        ]
        if not level:
            return value
    raise ToktoolsError("nested too deeply for a token file")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ToktoolsError(f'the member "{shown(twice)}" occurs twice in one object')
    return members


_spell = json.JSONEncoder().encode
_spell_text = json.encoder.encode_basestring_ascii
_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_number)
