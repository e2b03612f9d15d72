"""JSON as it is written: what is refused, and edits that change nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toktools.errors import ToktoolsError
from toktools.tokens import jsontext

some = settings(max_examples=50, deadline=None)
TEXT = st.text(max_size=8)
SHORT = {"/": [r"\/"]}
SPACE = st.text(" \t\r\n", max_size=4)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
LEVELS = 250


@st.composite
def spelled(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXT) -> str:
    """Return a string in JSON, each character of it in one of the ways that there are to write it."""

    def ways(character: str) -> list[str]:
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        units = memoryview(character.encode("utf-16-le")).cast("H")  # two for what is beyond 16 bits
        return [
            plain,
            *("".join(f"\\u{unit:{form}}" for unit in units) for form in ("04x", "04X")),
            *SHORT.get(character, []),
        ]

    return '"' + "".join(draw(st.sampled_from(ways(character))) for character in draw(texts)) + '"'


@st.composite
def containers(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """Return an object or a list of values, with any white space anywhere."""

    def spaced(text: str) -> str:
        return f"{draw(SPACE)}{text}{draw(SPACE)}"

    listed = draw(st.lists(values, max_size=3))
    if draw(st.booleans()):
        return f"[{','.join(map(spaced, listed)) or draw(SPACE)}]"
    names = draw(st.lists(st.text(max_size=4), min_size=len(listed), max_size=len(listed), unique=True))
    pairs = [f"{spaced(draw(spelled(st.just(name))))}:{spaced(value)}" for name, value in zip(names, listed)]
    return f"{{{','.join(pairs) or draw(SPACE)}}}"


VALUES = st.recursive(NUMBERS | spelled() | st.sampled_from(["true", "false", "null"]), containers, max_leaves=8)


@st.composite
def entries(draw: st.DrawFn) -> str:
    """Return a list of objects that have the same names and plain texts, as tokens have, but for some."""
    names = draw(st.lists(st.sampled_from(["a", ".", "é", ""]), min_size=1, max_size=2, unique=True))
    plain = st.tuples(*(st.sampled_from([f'"{name}" :"x"', f'"{name}":""']) for name in names)).map(",".join)
    like = plain.map("{{{} }}".format)
    return f"[{','.join(draw(st.lists(like | like | like | VALUES, min_size=1, max_size=5)))}]"


TEXTS = st.tuples(SPACE, containers(VALUES | entries()), SPACE).map("".join).map(str.encode)


def edit(text: bytes, value: Any) -> bytes:
    """Return a text with a value in which anything may have changed."""
    touched, level = [], [value]
    while level:
        containers = [one for one in level if isinstance(one, (dict, list))]
        touched += containers
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    return jsontext.edit(text, value, touched)


def unchanged(text: bytes) -> bool:
    """Say whether a text without an edit comes out as it is."""
    value: Any = jsontext.parse(text)
    return edit(text, value) == text


def mutated(draw: Callable[..., Any], value: Any) -> Any:
    """Return a value with other strings, and more members and elements; in the same order."""
    if isinstance(value, dict):
        new = {name: mutated(draw, member) for name, member in value.items()}
        return new | draw(
            st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=1).filter(new.keys().isdisjoint)
        )
    if isinstance(value, list):
        return [mutated(draw, element) for element in value] + draw(
            st.lists(st.just({"a": "b", "c": [[]]}), max_size=2)
        )
    return draw(st.text(max_size=5) | st.just(value)) if isinstance(value, str) else value


@some
@given(TEXTS)
def test_without_an_edit_the_text_is_the_text(text: bytes) -> None:
    """However it is laid out and spelled, what has not changed is the same byte for byte."""
    assert unchanged(text)


@some
@given(TEXTS, st.data())
def test_an_edited_text_has_the_value(text: bytes, data: st.DataObject) -> None:
    """The text that comes out has the value that was asked for, and the same edit again changes nothing."""
    new = mutated(data.draw, jsontext.parse(text))
    edited = edit(text, new)
    assert jsontext.parse(edited) == new
    assert edit(edited, new) == edited


@some
@given(TEXTS, st.data())
def test_all_but_the_spans_is_the_same(text: bytes, data: st.DataObject) -> None:
    """A string that is put in the place of another changes its own bytes and no others."""
    content = text.decode()
    strings = list(spans(content))
    edits = [data.draw(st.none() | st.text(max_size=5)) for _ in strings]
    pieces: list[str] = []
    place = 0
    for (start, end), new in zip(strings, edits):
        if new is not None and json.loads(content[start:end]) != new:
            pieces += content[place:start], json.dumps(new)
            place = end
    left = iter(edits)

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: replaced(member) for name, member in value.items()}
        if isinstance(value, list):
            return [replaced(element) for element in value]
        if not isinstance(value, str):
            return value
        new = next(left)
        return value if new is None else new

    assert edit(text, replaced(jsontext.parse(text))).decode() == "".join([*pieces, content[place:]])


def spans(content: str) -> Any:
    """Yield where the strings that are no names begin and end, found one character after the other."""
    place = 0
    while place < len(content):
        start = place
        place += 1
        if content[start] != '"':
            continue
        while content[place] != '"':
            place += 2 if content[place] == "\\" else 1
        place += 1
        if not content[place:].lstrip(" \t\r\n").startswith(":"):
            yield start, place


DOCUMENTS = st.recursive(
    st.text(max_size=3),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=8,
)


@some
@given(
    st.dictionaries(st.text(max_size=3), DOCUMENTS, min_size=1, max_size=3),
    st.none() | st.integers(0, 8) | st.just("\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([":", ": "]),
    st.data(),
)
def test_what_is_added_takes_the_style(
    old: Any,
    indent: int | str | None,
    newline: str,
    colon: str,
    data: st.DataObject,
) -> None:
    """In a text as json, jq and others write it, what is added looks as if it had been there from the start."""

    def laid_out(value: Any) -> bytes:
        comma = "," if colon == ":" or indent is not None else ", "
        return json.dumps(value, indent=indent, separators=(comma, colon)).replace("\n", newline).encode()

    new = mutated(data.draw, old)
    assert edit(laid_out(old), new) == laid_out(new)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"s": []}', '{"s": [{"a": "b"}]}'),
        ('{"s":[]}', '{"s":[{"a":"b"}]}'),
        ('{ "s" : [ ] }', '{ "s" : [ { "a" : "b" } ] }'),
        ('{\n\t"s": []\n}', '{\n\t"s": [\n\t\t{\n\t\t\t"a": "b"\n\t\t}\n\t]\n}'),
        ('{\r\n "s": [\r\n ]\r\n}\r\n', '{\r\n "s": [\r\n  {\r\n   "a": "b"\r\n  }\r\n ]\r\n}\r\n'),
        ('{\n  "s": [{"x": 1}]\n}', '{\n  "s": [{"x": 1}, {"a": "b"}]\n}'),
        (
            '{\n  "s": [\n    {"x":1},\n    {"x":2}\n  ]\n}',
            '{\n  "s": [\n    {"x":1},\n    {"x":2},\n    {"a":"b"}\n  ]\n}',
        ),
        ('{\n  "s": [\n    { "x": 1 }\n  ]\n}', '{\n  "s": [\n    { "x": 1 },\n    { "a": "b" }\n  ]\n}'),
        ('{"s": [{"x": 1} , {"x": 2}]}', '{"s": [{"x": 1} , {"x": 2} , {"a": "b"}]}'),
        ('{"s": [{\n  "x": 1\n}]}', '{"s": [{\n  "x": 1\n}, {\n  "a": "b"\n}]}'),
        ('{ "a": 1\n, "s": []\n}', '{ "a": 1\n, "s": [ { "a": "b" } ]\n}'),
        ('  {\n    "s": []\n  }', '  {\n    "s": [\n      {\n        "a": "b"\n      }\n    ]\n  }'),
        ('{"s": [{"x": 1}, {}]}', '{"s": [{"x": 1}, {}, {"a": "b"}]}'),
        ('{\n"s": []\n}', '{\n"s": [\n{\n"a": "b"\n}\n]\n}'),
    ],
)
def test_an_element_beside_others(text: str, expected: str) -> None:
    """A list on one line stays on one line, and one on several takes another line."""
    value: Any = jsontext.parse(text.encode())
    value["s"].append({"a": "b"})
    assert edit(text.encode(), value).decode() == expected


def test_what_is_not_touched_is_passed_by() -> None:
    """Where nothing was touched nothing changes, and what stands last there still shows the style."""
    text = b'{"a\\u0062": [{"n": 1}], "s": [[1.0, {"x": [2]}], { "y":3 }]}'
    value: Any = jsontext.parse(text)
    value["ab"][0]["n"] = "not touched"
    value["s"].append({"a": "b", "c": "d"})
    assert jsontext.edit(text, value, [value, value["s"]]) == text[:-2] + b', { "a":"b","c":"d" }]}'


def test_what_is_added_is_ascii() -> None:
    """Text that would move the cursor is escaped where it is put in, and kept as it is where it stood."""
    text = '{"a": "\x9b", "b": ""}'.encode()
    assert edit(text, {"a": "\x9b", "b": "\x9b\u202e"}) == '{"a": "\x9b", "b": "\\u009b\\u202e"}'.encode()


@pytest.mark.parametrize("names", [[str(number) for number in range(10_000)], ["x" * 100_000, "y"], []])
def test_entries_with_odd_names(names: list[str]) -> None:
    """Very many names, very long ones and none are edited like any others."""
    value: Any = {"e": [dict.fromkeys(names, "a"), dict.fromkeys(names, "b")]}
    text = json.dumps(value).encode()
    for name in names[-1:]:
        value["e"][1][name] = "c"
    assert edit(text, value) == json.dumps(value).encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[ {"b": "[", "c":', "}]")])
def test_depth(opening: str, closing: str) -> None:
    """250 levels are read and edited; 251 are refused, whatever they are made of, and so are very many."""
    levels = opening.count("[ ") + 1

    def nested(count: int) -> bytes:
        return (opening * count + "1" + closing * count).encode()

    text = nested(LEVELS // levels)
    assert unchanged(text)
    for count in (LEVELS // levels + 1, 500, 1_100, 100_000):
        with pytest.raises(ToktoolsError, match="nested too deeply"):
            jsontext.parse(nested(count))


def test_depth_is_not_length() -> None:
    """Brackets beside each other, or in strings, are no levels."""
    text = b'[%s, "%s"]' % (b", ".join([b"[]"] * 1_000), b"[" * 1_000)
    assert unchanged(text)


@pytest.mark.parametrize("count", [10, 3_700, 4_000, 100_000])
@pytest.mark.parametrize("element", ["1", '""', "[]"])
def test_whatever_orjson_is_there(count: int, element: str) -> None:
    """A compact list in an indented file is taken, which orjson 3.11.9 to 3.13.0 have no memory for."""
    text = '{\n  "a": {\n    "b": [' + ",".join([element] * count) + "]\n  }\n}\n"
    value: Any = jsontext.parse(text.encode())
    assert len(value["a"]["b"]) == count
    value["c"] = "d"
    assert edit(text.encode(), value).decode() == text[:-3] + ',\n  "c": "d"\n}\n'


@pytest.mark.parametrize("wrong", ["1e999", "NaN", "-Infinity", r'"\ud800"', "01", '"\t"', "'x'", "1 2", '{"x": 1,}'])
def test_wrong_beside_a_long_list(wrong: str) -> None:
    """What orjson refuses is refused there too."""
    text = '{\n  "a": {\n    "b": [' + ",".join(["1"] * 5_000) + f'],\n    "c": {wrong}\n  }}\n}}\n'
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(text)
    with pytest.raises(ToktoolsError, match="not JSON: line"):
        jsontext.parse(text.encode())


def test_spelling() -> None:
    """A value for a message is on one line, in ASCII, its numbers as they were."""
    value = jsontext.parse('[{"\x9b": 1.10}, -0, 12345678901234567890123, "é", null, [], {}]'.encode())
    assert jsontext.spell(value) == r'[{"\u009b": 1.10}, -0, 12345678901234567890123, "\u00e9", null, [], {}]'
    assert os.linesep not in jsontext.spell("\n")


@pytest.mark.parametrize(
    ("text", "added", "expected"),
    [
        ('{\n\n  "a": []\n}', {"a": ["x"]}, '{\n\n  "a": [\n    "x"\n  ]\n}'),
        ('{\r\n\r\n  "a": []\r\n}', {"a": ["x"]}, '{\r\n\r\n  "a": [\r\n    "x"\r\n  ]\r\n}'),
        ('{"a": "",\n"b": []}', {"a": "", "b": [{"c": "", "d": ""}]}, '{"a": "",\n"b": [{"c": "", "d": ""}]}'),
    ],
)
def test_lines_that_are_not_taken_over(text: str, added: Any, expected: str) -> None:
    """What is added inside has no empty lines, and a line of its own only where what is around it has."""
    assert edit(text.encode(), added).decode() == expected
