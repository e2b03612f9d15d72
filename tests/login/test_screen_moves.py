"""Each sequence of the emulated terminal: where the cursor goes, and what becomes of the cells."""

from __future__ import annotations

import pytest

from toktools.login.screen import Screen

FIVE = "one\r\ntwo\r\nthree\r\nfour\r\nfive"


def screen(output: str, height: int = 5, width: int = 20) -> Screen:
    shown = Screen(height, width)
    shown.feed(output.encode())
    return shown


@pytest.mark.parametrize(
    ("output", "row", "column"),
    [
        ("", 0, 0),
        ("ab\r", 0, 0),
        ("ab\n", 1, 2),
        ("ab\v", 1, 2),
        ("ab\f", 1, 2),
        ("ab\r\n", 1, 0),
        ("ab\x84", 1, 2),
        ("ab\x85", 1, 0),
        ("ab\x1bD", 1, 2),
        ("ab\x1bE", 1, 0),
        ("ab\n\x8d", 0, 2),
        ("ab\n\x1bM", 0, 2),
        ("ab\b", 0, 1),
        ("ab\b\b\b", 0, 0),
        ("\t", 0, 8),
        ("1234567\t", 0, 8),
        ("12345678\t", 0, 16),
        ("\t\t\t", 0, 19),
        ("x" * 20, 0, 19),
        ("x" * 20 + "\b", 0, 18),
        ("x" * 20 + "\r", 0, 0),
        ("x" * 21, 1, 1),
        ("x" * 40, 1, 19),
        ("x" * 18 + "世", 0, 19),
        ("x" * 19 + "世", 1, 2),
        ("\x1b[?7l" + "x" * 19 + "世y", 0, 19),
        ("\x1b[?7l\x1b[?7h" + "x" * 21, 1, 1),
        ("\x1b[?7l\x1bc" + "x" * 21, 1, 1),
        (FIVE + "\x1b[A", 3, 4),
        (FIVE + "\x1b[2A", 2, 4),
        (FIVE + "\x1b[99A", 0, 4),
        (FIVE + "\x1b[0A", 3, 4),
        ("\x1b[B", 1, 0),
        ("\x1b[2B", 2, 0),
        ("\x1b[9B", 4, 0),
        ("\x1b[2e", 2, 0),
        ("\x1b[C", 0, 1),
        ("\x1b[3C", 0, 3),
        ("\x1b[3a", 0, 3),
        ("\x1b[99C", 0, 19),
        ("\x1b[99Cx", 0, 19),
        ("\x1b[20C", 0, 19),
        ("\x1b[19C", 0, 19),
        ("abc\x1b[D", 0, 2),
        ("abc\x1b[2D", 0, 1),
        ("abc\x1b[9D", 0, 0),
        ("abc\x1b[2E", 2, 0),
        (FIVE + "\x1b[2F", 2, 0),
        ("\x1b[7G", 0, 6),
        ("\x1b[7`", 0, 6),
        ("abc\x1b[G", 0, 0),
        ("abc\x1b[3d", 2, 3),
        ("abc\x1b[d", 0, 3),
        ("abc\x1b[H", 0, 0),
        ("\x1b[3;4H", 2, 3),
        ("\x1b[3;4f", 2, 3),
        ("\x1b[3H", 2, 0),
        ("\x1b[;4H", 0, 3),
        ("\x1b[3;H", 2, 0),
        ("\x1b[5;20H", 4, 19),
        ("\x1b[6;21H", 4, 19),
        ("\x1b[3;4;5H", 2, 3),
        ("abc\x1b[u", 0, 0),
        ("abc\x1b8", 0, 0),
        ("ab\n\x1b[sxyz\n\x1b[u", 1, 2),
        ("ab\n\x1b7xyz\n\x1b8", 1, 2),
        (FIVE + "\n\x1b[A", 4, 4),
        (FIVE + "\n\x1b[9A", 1, 4),
        (FIVE + "\n\x1b[H", 1, 0),
        (FIVE + "\n\x1b[2d", 2, 4),
        (FIVE + "\x1b[2S", 6, 4),
        (FIVE + "\x1b[99S", 9, 4),
        ("\x1b[9999999C", 0, 19),
        ("\x1b[99999999C", 0, 1),
        ("ab\x1bc", 1, 0),
        ("ab\x1b[?25l\x1b[>4;1m\x1b[=5u\x1b[<u", 0, 2),
        ("ab\x1b[4m\x1b[1;2r\x1b(B\x1b=", 0, 2),
    ],
)
def test_where_the_cursor_is(output: str, row: int, column: int) -> None:
    """As ECMA-48, and xterm where that is silent, have it; a program that asks is told so."""
    shown = screen(output)
    assert (shown.row, shown.column) == (row, column)
    top = max(0, row - 4) if "S" not in output and "\x1bc" not in output else None
    if output.startswith(FIVE + "\n"):
        top = 1
    if top is not None:
        assert shown.feed(b"\x1b[6n") == f"\x1b[{row - top + 1};{column + 1}R".encode()


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        ("abcdef\x1b[3D\x1b[@", ["abc def"]),
        ("abcdef\x1b[3D\x1b[2@", ["abc  def"]),
        ("x" * 20 + "\r\x1b[2@", ["  " + "x" * 18]),
        ("abcdef\x1b[4D\x1b[P", ["abdef"]),
        ("abcdef\x1b[4D\x1b[2P", ["abef"]),
        ("abcdef\x1b[4D\x1b[99P", ["ab"]),
        ("abcdef\x1b[4D\x1b[X", ["ab def"]),
        ("abcdef\x1b[4D\x1b[3X", ["ab   f"]),
        ("abcdef\x1b[4D\x1b[99X", ["ab"]),
        ("ab\x1b[b", ["abb"]),
        ("ab\x1b[3b", ["abbbb"]),
        ("\x1b[3b", [""]),
        ("ab\x1b[99b", ["a" + "b" * 21]),
        ("abcdef\x1b[3D\x1b[K", ["abc"]),
        ("abcdef\x1b[3D\x1b[0K", ["abc"]),
        ("abcdef\x1b[3D\x1b[1K", ["    ef"]),
        ("abcdef\x1b[3D\x1b[99999999K", ["abc"]),
        ("abcdef\x1b[3D\x1b[2K", [""]),
        ("abcdef\x1b[3D\x1b[3K", [""]),
        (FIVE + "\x1b[3;3H\x1b[J", ["one", "two", "th"]),
        (FIVE + "\x1b[3;3H\x1b[1J", ["", "", "   ee", "four", "five"]),
        (FIVE + "\x1b[3;3H\x1b[L", ["one", "two", "", "three", "four"]),
        (FIVE + "\x1b[3;3H\x1b[2L", ["one", "two", "", "", "three"]),
        (FIVE + "\x1b[3;3H\x1b[99L", ["one", "two", "", "", ""]),
        (FIVE + "\x1b[3;3H\x1b[M", ["one", "two", "four", "five", ""]),
        (FIVE + "\x1b[3;3H\x1b[2M", ["one", "two", "five", "", ""]),
        (FIVE + "\x1b[3;3H\x1b[99M", ["one", "two", "", "", ""]),
        (FIVE + "\x1b[H\x1bM", ["", "one", "two", "three", "four"]),
        ("e\u0301x", ["e\u0301x"]),
        ("世\u0301x", ["世\u0301x"]),
        ("\u0301x", ["x"]),
        ("世界\x1b[4D\x1b[P", ["界"]),
        ("ab\x1b[9Gc", ["ab      c"]),
        ("\x1b[?7l" + "x" * 25 + "y", ["x" * 19 + "y"]),
        ("a\x1b[\x01b", ["ab"]),
        ("a\x1b]title\x07b\x1bPq\x9cc\x1b_x\x1b\\d\x9d0;\x18e\x1b^\x1af", ["abcdef"]),
    ],
)
def test_what_becomes_of_the_cells(output: str, lines: list[str]) -> None:
    """Nothing but what the sequence names changes."""
    shown = screen(output + "\x1b[5;20H")
    found = [line.replace("\x01", "") for line in shown.lines(0)]
    assert found == lines + [""] * (len(found) - len(lines))


def test_what_was_saved_and_scrolled_away() -> None:
    """To forget what is above keeps the cursor, and the place that was saved, where they are in the window."""
    shown = screen(FIVE + "\x1b[4;3H\x1b[s\x1b[5H\n\n")
    shown.forget()
    assert (shown.row, shown.column) == (4, 0)
    shown.feed(b"\x1b[u")
    assert (shown.row, shown.column) == (1, 2)
    shown = screen(FIVE + "\x1b[H\x1b[s\x1b[5H\n\n")
    shown.forget()
    shown.feed(b"\x1b[u")
    assert shown.row == 0


def test_a_clearing_from_the_first_place() -> None:
    """It keeps above what was seen, if there is something below the row; else the row alone is cleared."""
    for clear in ("\x1b[H\x1b[J", "\x1b[f\x1b[0J", "\x1b[2J\x1b[H"):
        shown = screen("one\r\ntwo" + clear + "new")
        assert (shown.row, shown.lines(0)) == (2, ["one", "two", "new"])
    for clear in ("\x1b[H\x1b[C\x1b[D\x1b[J", "\x1b[A\r\x1b[J"):
        assert screen("one\r\ntwo" + clear + "new").lines(0) == ["new"]
    assert screen("one\r\n\r\n\x1b[H\x1b[Jnew").lines(0) == ["new"]
    assert screen("one\r\ntwo\x1b[H\x07\x1b[Jnew").lines(0) == ["new"]


def test_a_row_that_is_cleared_continues_none() -> None:
    """What is written there then is a line of its own."""
    assert screen("x" * 25 + "\x1b[2Knew").lines(0) == ["x" * 20, "     new"]
    assert screen("x" * 25 + "\x1b[0Knew").lines(0) == ["x" * 25 + "new"]
    assert screen("x" * 25 + "\r\x1b[Knew").lines(0) == ["x" * 20, "new"]


def test_the_line_before_the_cursor() -> None:
    """It is read from a column on, with the row that it continues, and as long as the cursor is far."""
    assert screen("abc\x1b[5G").line() == "abc "
    assert screen("abcdef\x1b[3D").line(1) == "bc"
    assert screen("x" * 20 + "ab").line() == "x" * 20 + "ab"
    assert screen("x" * 20 + "ab").line(1) == "b"
    assert screen("x" * 20).line() == "x" * 20


def test_what_is_too_long_is_passed_by() -> None:
    """A sequence is waited for up to 256 characters."""
    for count, left in ((253, ""), (254, "m")):
        shown = Screen(5, 20)
        shown.feed(b"\x1b[" + b"1" * count)
        shown.feed(b"m")
        assert shown.line() == left
