"""The emulated terminal: rows, cursor and answers, whatever pieces the bytes come in."""

from __future__ import annotations

import time

import pytest

from toktools.login.screen import Screen

READY = "aws-cloudhsm > "


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
        f"\x9d0;C1\x9c\x9b1m{READY}",
        f"{READY}hint\x1b[4D",
        f"{READY}\x1b7\x1b[18Gxy\x1b8",
        f"{READY}\x1b[s\x1b[3;5Habc\x1b[u",
        f"{READY}\r\n toolbar\x1b[A\x1b[16G",
        f"\x1b(B\x1b=\x07{READY}\x0f",
        "aws-cloudhsm >\x1b[C",
        f"old text\r{READY}",
        f"xx{READY}\r\x1b[2P\x1b[15C",
        f"\x1b[H\x1b[2J{READY}",
        f"a\r\nb\x1b[2J\x1b[H{READY}",
        f"\x1bc{READY}",
        f"three\x1b[2D\x1b[2@\r\x1b[J{READY}",
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
        ("世界\x1b[6n", b"\x1b[1;5R"),
        ("e\u0301\x1b[6n", b"\x1b[1;2R"),
        ("\x1b[?6n", b"\x1b[?1;1R"),
        ("\x1b[5n\x1b[c", b"\x1b[0n\x1b[?6c"),
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


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        ("one\r\ntwo\r\nthree\x1b[2;1H\x1b[M", ["one", "three"]),
        ("one\r\ntwo\x1b[1;1H\x1b[L0", ["0", "one", "two"]),
        ("one\r\ntwo\x1b[1;2H\x1bM0", [" 0", "one", "two"]),
        ("abcdef\x1b[3D\x1b[2X", ["abc  f"]),
        ("abcdef\x1b[3D\x1b[1K", ["    ef"]),
        ("ab\x1b[3b|\tc\b\bd", ["abbbb| dc"]),
    ],
)
def test_edits(output: str, lines: list[str]) -> None:
    """Lines and characters are inserted and deleted where the cursor is."""
    assert screen(output + f"\x1b[{len(lines)};20H").lines(0) == lines


def test_a_cleared_screen_is_kept_above() -> None:
    """The numbers of rows only grow, so that what comes after a place is known for it."""
    shown = screen("one\r\ntwo\x1b[H\x1b[2Jthree")
    assert shown.lines(0) == ["one", "two", "three"]
    assert shown.row == 2
    assert screen("one\r\ntwo\x1b[A\r\x1b[Jthree").lines(0) == ["three"]
    assert screen("one\x1b[H\x1b[Jthree").lines(0) == ["three"]
    shown = screen("one\r\ntwo\x1b[H\x1b[Jthree")
    assert shown.lines(0) == ["one", "two", "three"]


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


def test_what_nobody_sees_is_still_told() -> None:
    """A bell stays in the text for who is shown it escaped, and is in no prompt."""
    shown = screen("to \x07it\r\n>\x07 ")
    assert shown.lines(0)[:1] == ["to \x07it"]
    assert shown.line() == "> "


@pytest.mark.parametrize(
    "output", [b"\x1b[", b"\x1b]0;", b"\x1b[" + b"1" * 300, b"\x9b;;;;\x01", b"\xff\xfe\x80", b"\x1b[99999999999A"]
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
