"""The emulated terminal: rows, cursor and answers, whatever pieces the bytes come in; and each sequence."""

from __future__ import annotations

import time

import pytest

from toktools.login.screen import Screen

READY = "aws-cloudhsm > "
FIVE = "one\r\ntwo\r\nthree\r\nfour\r\nfive"


def screen(output: str | bytes, height: int = 5, width: int = 20) -> Screen:
    shown = Screen(height, width)
    shown.feed(output if isinstance(output, bytes) else output.encode())
    return shown


@pytest.mark.parametrize(
    "output",
    [
        READY,
        f"noise\r\n{READY}",
        f"\x1b[1;32m{READY}\x1b[0m",
        f"\r\x1b[2K{READY}\x1b[K",
        f"\x1b[?2004h{READY}",
        f"\x1b]0;a title\x07{READY}",
        f"\x1b]0;a title\x1b\\{READY}",
        f"\x1bPa=b\x1b\\\x1b_APC\x1b\\\x1b^PM\x1b\\\x1bXSOS\x1b\\{READY}",
        f"{READY}hint\x1b[4D",
        f"{READY}\x1b7\x1b[18Gxy\x1b8",
        f"{READY}\r\n toolbar\x1b[A\x1b[16G",
        f"\x1b(B\x1b=\x07{READY}\x0f",
        "aws-cloudhsm >\x1b[C",
        f"old text\r{READY}",
        f"\x1b[H\x1b[2J{READY}",
        f"a\r\nb\x1b[2J\x1b[H{READY}",
        f"\x1b[999;999H\r\n{READY}",
    ],
)
def test_what_is_before_the_cursor(output: str) -> None:
    """A prompt is read as a person reads it, and by the byte as in one piece."""
    assert screen(output).line() == READY
    piecewise = Screen(5, 20)
    for byte in output.encode():
        piecewise.feed(bytes([byte]))
    assert piecewise.line() == READY


@pytest.mark.parametrize(
    ("output", "answers"),
    [
        ("\x1b[6n", b"\x1b[1;1R"),
        ("ab\r\ncd\x1b[6n", b"\x1b[2;3R"),
        ("x" * 20 + "\x1b[6n", b"\x1b[1;20R"),
        ("\n" * 30 + "\x1b[6n", b"\x1b[5;1R"),
        ("\x1b[5n\x1b[c", b"\x1b[?6c"),
        ("\x1b[0c", b"\x1b[?6c"),
        ("\x1b[>c\x1b[?1u\x1b[6;6m", b""),
        ("\x1b]11;?\x1b\\", b""),
    ],
)
def test_what_a_terminal_answers(output: str, answers: bytes) -> None:
    """The cursor's place, the state and the kind are told; what is not known is not."""
    assert Screen(5, 20).feed(output.encode()) == answers


def test_who_asks_too_much() -> None:
    """Questions in bulk, which nobody can want the answers to, are not all answered."""
    shown = screen("")
    assert len(shown.feed(b"\x1b[6n" * 10_000)) < 1000
    assert shown.feed(b"\x1b[6n") == b"\x1b[1;1R"


def test_a_line_that_wraps_is_one() -> None:
    """What wraps is joined again, even after it has scrolled away; a line that only fills its row is not."""
    shown = screen("y" * 20 + "\r\n" + "x" * 150 + "\r\n\r\nend\r\n")
    assert shown.lines(0)[:-1] == ["y" * 20, "x" * 150, "", "end"]


def test_a_row_that_continues_what_is_not_asked_for() -> None:
    """The rest of a line that was typed is left out with it."""
    shown = screen("> " + "t" * 30 + "\r\nanswer\r\n")
    assert shown.lines(1)[:-1] == ["answer"]


def test_without_wrapping() -> None:
    """Where wrapping is off, the last column takes what does not fit."""
    assert screen("\x1b[?7l" + "a" * 30 + "b\r\nc").lines(0) == ["a" * 19 + "b", "c"]


def test_a_cleared_screen_is_kept_above() -> None:
    """The numbers of rows only grow, so that what comes after a place is known for it."""
    shown = screen("one\r\ntwo\x1b[H\x1b[2Jthree")
    assert shown.lines(0) == ["one", "two", "three"]
    assert shown.row == 2
    assert screen("one\r\ntwo\x1b[A\r\x1b[Jthree").lines(0) == ["three"]


def test_to_forget() -> None:
    """After it, rows that have scrolled away are gone, and the window is as it was."""
    shown = screen("\r\n".join(f"line {number}" for number in range(100)))
    shown.forget()
    assert (shown.row, shown.lines(0)) == (4, [f"line {number}" for number in range(95, 100)])
    shown = screen("x" * 40 + "y" * 100)
    shown.forget()
    assert shown.lines(0) == ["y" * 100]
    shown.feed(b"\x1b[H>")
    assert (shown.row, shown.line()) == (0, ">")


@pytest.mark.parametrize(
    "output", [b"\x1b[", b"\x1b]0;", b"\x1b[" + b"1" * 300, b"\x1b[;;;;\x01", b"\xff\xfe\x80", b"\x1b[99999999999A"]
)
def test_nonsense(output: bytes) -> None:
    """What is not a sequence, or never ends, does not stop it."""
    shown = screen(output)
    shown.feed(b"\x07\x18\r\x1b[2K> ")
    assert shown.line() == "> "


@pytest.mark.parametrize(
    "output", [b"x" * 3_000_000, b"\x1b]" + b"x" * 3_000_000, b"{}\r\n" * 100_000, "ü".encode() * 200_000]
)
def test_its_cost_is_linear(output: bytes) -> None:
    """Megabytes, in the pieces in which a terminal passes them on, take seconds at the most."""
    shown = Screen(24, 1000)
    before = time.process_time()
    for at in range(0, len(output), 4096):
        shown.feed(output[at : at + 4096])
        shown.line()
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    ("output", "row", "column"),
    [
        ("", 0, 0),
        ("ab\r", 0, 0),
        ("ab\n", 1, 2),
        ("ab\f", 1, 2),
        ("ab\r\n", 1, 0),
        ("ab\b\b\b", 0, 0),
        ("\t", 0, 8),
        ("12345678\t", 0, 16),
        ("\t\t\t", 0, 19),
        ("x" * 20, 0, 19),
        ("x" * 20 + "\b", 0, 18),
        ("x" * 21, 1, 1),
        ("x" * 40, 1, 19),
        ("\x1b[?7l\x1b[?7h" + "x" * 21, 1, 1),
        (FIVE + "\x1b[2A", 2, 4),
        (FIVE + "\x1b[99A", 0, 4),
        (FIVE + "\x1b[0A", 3, 4),
        ("\x1b[2B", 2, 0),
        ("\x1b[9B", 4, 0),
        ("\x1b[3C", 0, 3),
        ("\x1b[99C", 0, 19),
        ("\x1b[99Cx", 0, 19),
        ("\x1b[19C", 0, 19),
        ("abc\x1b[2D", 0, 1),
        ("abc\x1b[9D", 0, 0),
        ("\x1b[7G", 0, 6),
        ("abc\x1b[G", 0, 0),
        ("\x1b[3;4H", 2, 3),
        ("\x1b[3H", 2, 0),
        ("\x1b[;4H", 0, 3),
        ("\x1b[6;21H", 4, 19),
        ("\x1b[3;4;5H", 2, 3),
        ("abc\x1b8", 0, 0),
        ("ab\n\x1b7xyz\n\x1b8", 1, 2),
        (FIVE + "\n\x1b[A", 4, 4),
        (FIVE + "\n\x1b[9A", 1, 4),
        (FIVE + "\n\x1b[H", 1, 0),
        (FIVE + "\x1b[2S", 6, 4),
        (FIVE + "\x1b[99S", 9, 4),
        ("\x1b[9999999C", 0, 19),
        ("\x1b[99999999C", 0, 1),
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
        ("abcdef\x1b[3D\x1b[K", ["abc"]),
        ("abcdef\x1b[3D\x1b[0K", ["abc"]),
        ("abcdef\x1b[3D\x1b[99999999K", ["abc"]),
        ("abcdef\x1b[3D\x1b[2K", [""]),
        (FIVE + "\x1b[3;3H\x1b[J", ["one", "two", "th"]),
        ("ab\x1b[9Gc", ["ab      c"]),
        ("\x1b[?7l" + "x" * 25 + "y", ["x" * 19 + "y"]),
        ("a\x1b[\x01b", ["ab"]),
        ("a\x1b]title\x07b\x1bPq\x1b\\c\x1b_x\x18d\x1b^\x1ae", ["abcde"]),
    ],
)
def test_what_becomes_of_the_cells(output: str, lines: list[str]) -> None:
    """Nothing but what the sequence names changes."""
    shown = screen(output + "\x1b[5;20H")
    found = [line.replace("\x01", "") for line in shown.lines(0)]
    assert found == lines + [""] * (len(found) - len(lines))


def test_what_was_saved_and_scrolled_away() -> None:
    """To forget what is above keeps the cursor, and the place that was saved, where they are in the window."""
    shown = screen(FIVE + "\x1b[4;3H\x1b7\x1b[5H\n\n")
    shown.forget()
    assert (shown.row, shown.column) == (4, 0)
    shown.feed(b"\x1b8")
    assert (shown.row, shown.column) == (1, 2)
    shown = screen(FIVE + "\x1b[H\x1b7\x1b[5H\n\n")
    shown.forget()
    shown.feed(b"\x1b8")
    assert shown.row == 0


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
