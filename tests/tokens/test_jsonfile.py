"""JSON of token files: what is refused, and what comes back, whichever library reads it."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toktools.errors import ToktoolsError
from toktools.tokens import jsonfile

some = settings(max_examples=60, deadline=None)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.text(max_size=6) | st.booleans() | st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | FLOATS
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=4), values, max_size=3),
    max_leaves=8,
)


@pytest.fixture(params=["json", "orjson"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read with each of the libraries, as if every file were small or large."""
    name: str = request.param
    if name == "orjson":
        monkeypatch.setattr(jsonfile, "SMALL_SIZE", 0)
    return name


def as_the_cli(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def rewritten(text: bytes) -> bytes:
    """Return the text of a value that was read, as it is written again."""
    return b"".join(jsonfile.dump(jsonfile.loads(text), b"\n" if text.endswith(b"\n") else b""))


def nested(depth: int, value: object) -> object:
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value


@some
@given(value=VALUES, is_cut=st.booleans())
def test_the_layout_of_the_cli_comes_back(value: object, is_cut: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """A file in that layout comes back byte for byte from both libraries, without its last line feed too."""
    text = as_the_cli({"x": value})
    text = text[:-1] if is_cut else text
    for size in (0, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jsonfile, "SMALL_SIZE", size)
            assert rewritten(text) == text


@some
@given(value=VALUES, indent=st.sampled_from([None, 0, 4, "\t"]), is_ascii=st.booleans())
def test_any_other_layout_becomes_that_one(value: object, indent: Any, is_ascii: bool) -> None:  # noqa: FBT001
    """Members, their order and their values stay."""
    text = json.dumps({"x": value}, indent=indent, ensure_ascii=is_ascii).encode() + b"\r\n"
    assert json.dumps(jsonfile.loads(text)) == json.dumps({"x": value})
    assert rewritten(text) == as_the_cli({"x": value})


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("levels", "inner"), [(100, "x"), (99, [])])
def test_deep_nesting(levels: int, inner: object) -> None:
    """A hundred levels are read, and one more is refused by name."""
    text = as_the_cli(nested(levels, inner))
    assert rewritten(text) == text
    with pytest.raises(ToktoolsError, match=r"^nested too deeply for a token file: more than 100 levels$"):
        jsonfile.loads(as_the_cli(nested(levels + 1, inner)))


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"x":', "}")], ids=["lists", "objects"])
def test_very_deep_nesting(left: str, right: str) -> None:
    """However deep it is, there is no crash."""
    for depth in (101, 1_100, 5_000, 100_000):
        with pytest.raises(ToktoolsError, match=r"^nested too deeply"):
            jsonfile.loads(f"{left * depth}0{right * depth}".encode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "an empty file, not JSON"),
        (b" \r\n\t", "an empty file, not JSON"),
        (b"not JSON", "not JSON: line 1, column 1: "),
        (b"{}\n{}", "not JSON: line 2, column 1: "),
        (b'["\t"]', "not JSON: line 1, column "),
        (b"{}\0", "not JSON: line 1, column 3: "),
        (b'["\xff"]', "not JSON: line 1: not UTF-8"),
        (b'\n{"x":\n"\xff"}', "not JSON: line 3: not UTF-8"),
        (b"[NaN]", "not JSON: NaN is not a number"),
        (b"[-Infinity]", "not JSON: -Infinity is not a number"),
    ],
)
def test_not_json(text: bytes, said: str) -> None:
    """What is not one JSON value is refused, with its line where the library knows it."""
    with pytest.raises(ToktoolsError) as caught:
        jsonfile.loads(text)
    assert caught.value.message.startswith(said)
    assert isinstance(caught.value, jsonfile.NotJsonError)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r'["\ud800"]', r"a lone surrogate, \ud800"),
        (r'{"\uDfFf x": 1}', r"a lone surrogate, \udfff"),
        ("[1e400]", "the number 1e400 cannot be written with the same value"),
        ("[-1E999999999999999999999]", "the number -1E999999999999999999999 cannot"),
        ("[1e-400]", "the number 1e-400 cannot"),
        ("[0.1000000000000000055511151231257827]", "the number 0.1000000000000000055511151231257827 cannot"),
        ("[18446744073709551616]", "the number 18446744073709551616 cannot"),
        ("[-9223372036854775809]", "the number -9223372036854775809 cannot"),
        (f"[{'9' * 5_000}]", f"the number {'9' * 40}... cannot"),
        ('{"x": 1, "x": 1}', 'the member "x" occurs twice in one object'),
        ('{"x": 1, "\\u0078": 2}', 'the member "x" occurs twice'),
        ('[[{"y": {"z": 1, "z": 1}}]]', 'the member "z" occurs twice'),
        (f'{{"{"x" * 50}": 1, "{"x" * 50}": 2}}', f'the member "{"x" * 40}" occurs twice'),
        ('{"": 1, "": 2}', 'the member "" occurs twice'),
        ('{"\\u001b[2J": 1, "\\u001b[2J": 2}', r'the member "\x1b[2J" occurs twice'),
    ],
)
def test_what_would_not_come_back(text: str, said: str) -> None:
    """A value that would come out as another one is refused by name."""
    with pytest.raises(ToktoolsError) as caught:
        jsonfile.loads(text.encode())
    assert said in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("number", ["0", "-0", "-0.0", "1.10", "1E5", "20000000000000000000", "18446744073709551615"])
def test_numbers_keep_their_value(number: str) -> None:
    """However a number is spelled, it is written with the same value, and after that with the same spelling."""
    written = rewritten(f"[{number}]".encode())
    assert json.loads(written) == [float(number) if "." in number or "E" in number else int(number)]
    assert rewritten(written) == written


@pytest.mark.parametrize("element", ["1", '""', "[]"])
def test_whatever_orjson_is_there(element: str) -> None:
    """A compact list in an indented file is read, which orjson 3.11.9 to 3.13.0 have no memory for."""
    text = '{\n  "a": {\n    "b": [' + ",".join([element] * 100_000) + "]\n  }\n}\n"
    assert len(jsonfile.loads(text.encode())["a"]["b"]) == 100_000  # type: ignore[index]


@pytest.mark.parametrize("extra", ['"x": 1, "x": 1', '"x":1', '"x": [1e400]', '"x": "', '"x": "\\ud800"'])
def test_large_files(extra: str) -> None:
    """Above a megabyte only the layout of the CLI is read; a hint says what makes it."""
    padding = "x" * (1 << 20)
    text = as_the_cli({"x": padding})
    assert jsonfile.loads(text) == {"x": padding}
    with pytest.raises(
        jsonfile.NotJsonError, match=r"^larger than 1048576 bytes, and not JSON in the layout"
    ) as caught:
        jsonfile.loads(text.replace(b'"x":', extra.encode() + b',\n  "y":'))
    assert "jq" in caught.value.hint


def test_ascii() -> None:
    """Output for scripts moves no cursor."""
    assert b"".join(jsonfile.iterate_ascii({"x": "\x9b\u202e"}, None)) == b'{"x": "\\u009b\\u202e"}\n'
    assert jsonfile.dump_ascii({"x": []}) == b'{\n  "x": []\n}\n'
