"""The one exception, and how text from outside is shown in it."""

from __future__ import annotations

import pytest

from toktools.errors import ToktoolsError, quoted, shown


def test_an_error() -> None:
    """It stops a tool with status 2; prefix and remark stand around its message, and the rest stays."""
    error = ToktoolsError("no digests")
    assert (str(error), error.message, error.hint, error.status) == ("no digests", "no digests", "", 2)
    answer = ToktoolsError("no", "a hint", 1)
    for other, said in ((answer.at("f"), "f: no"), (answer.also("all the same"), "no; all the same")):
        assert (other.message, other.hint, other.status) == (said, "a hint", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("f.json", "f.json"),
        ("grün ñ 木", "grün ñ 木"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\\n", r"\\n"),
        ("\\", r"\\"),
        ("\u202e", r"\u202e"),
        ("\udc7f\udc80\udcff\udd00", r"\udc7f\x80\xff\udd00"),
        ('"', '"'),
    ],
)
def test_foreign_text(text: str, said: str) -> None:
    """What could move the cursor, colour the screen, or be taken for an escape is escaped; bytes of names are hex."""
    assert shown(text) == said
    assert quoted(text) == '"' + said.replace('"', r"\"") + '"'


def test_long_text() -> None:
    """Start and end of a text are shown; a path that the system takes is whole."""
    path = f"/{'d' * 4094}f"
    assert shown(path) == path
    assert shown(f"{path}more") == f"/{'d' * 2047} ... {'d' * 2043}fmore"
    lines = "\\n" * 149
    assert quoted("a" + "\n" * 10_000 + "z") == f'"a{lines} ... {lines}z"'
