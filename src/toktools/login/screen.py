"""An emulated terminal: the rows that a person would see, the cursor, and the answers to what a program asks of it.

It knows what line editors use of ECMA-48, ECMA-35 and the VT102; all else is passed over.
"""

from __future__ import annotations

import codecs
import re
import sys
import unicodedata

_PIECE = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?:\x1b\[|\x9b)(?P<arguments>[0-?]*)(?P<final>[ -/]*[@-~])"
    r"|(?P<string>\x1b[]PX^_]|[\x90\x98\x9d-\x9f])"
    r"|\x1b(?P<escape>[ -/]*[0-OQ-WYZ\\`-~])"
    r"|(?P<unfinished>(?:\x1b(?:\[[0-?]*)?[ -/]*|\x9b[0-?]*[ -/]*)\Z)"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x8f\x91-\x97\x99\x9a\x9c])"
    r"|(?P<broken>(?:\x1b\[|\x9b|\x1b)[0-?]*[ -/]*)"
)
_END_OF_STRING = re.compile(r"\x1b\\|[\x07\x18\x1a\x9c]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST = 256
"""Characters of a sequence that is still waited for."""
_TAB = 8
_MAX_COMBINED = 16  # characters in a cell
_ROW_BYTES = 17  # of a row that is kept, besides its text: two places in lists
_MAX_DIGITS = 7
"""Of a number in a sequence: a longer one is none."""
_MOST_ANSWERS = 256
"""Bytes of answers to one piece of output: who asks for more does not read them."""


class Screen:
    """A window on rows, of which those that have scrolled away, or were cleared all at once, are kept above it.

    A row is known by its number, from 0 for the first that there ever was since forget().
    """

    def __init__(self, height: int, width: int) -> None:
        self.row = 0
        self._column = 0
        """Where the next character goes; the width itself where that is the next row's first."""
        self._height = height
        self._width = width
        self._above: list[str] = []
        """The text of each row above the window."""
        self._rows: list[list[str]] = [[]]
        """The window's cells: a character and what combines with it, or nothing in the right half of a wide one."""
        self._goes_on = [False]
        """Whether a row continues the one above it, for each since forget()."""
        self.size = 0
        """Bytes that the rows above the window take."""
        self._saved = (0, 0)
        self._wraps = True
        self._homed = False
        """Whether the cursor was sent to the first place, and nothing was written since."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unfinished = ""
        self._in_string = False
        self._answers = bytearray()

    @property
    def _top(self) -> int:
        """The number of the window's first row."""
        return len(self._above)

    @property
    def column(self) -> int:
        """The cursor's column, from 0."""
        return min(self._column, self._width - 1)

    def feed(self, output: bytes) -> bytes:
        """Show what a program writes, and return what a terminal would answer to it."""
        text = self._unfinished + self._decoder.decode(output)
        self._unfinished = ""
        at = 0
        while at < len(text):
            if self._in_string:
                end = _END_OF_STRING.search(text, at)
                if not end:
                    self._unfinished = "\x1b" if text.endswith("\x1b") else ""
                    break
                self._in_string = False
                at = end.end()
                continue
            piece = _PIECE.match(text, at)
            if piece is None:
                at += 1
                continue
            at = piece.end()
            self._show(piece)
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def line(self, since: int = 0) -> str:
        """Return the cursor's row from a column on, up to the cursor, with the row that it continues."""
        text = _CONTROLS.sub("", "".join(self._cells()[since : self._column]).ljust(self.column - since))
        return text if since or not self._goes_on[self.row] else self._text(self.row - 1) + text

    def lines(self, first: int) -> list[str]:
        """Return what is shown from a row on up to the cursor, as lines; a row that continues another is joined to it.

        The rows that continue the one before the first are left out: they are its own.
        """
        while first <= self.row and self._goes_on[first]:
            first += 1
        found: list[str] = []
        line: list[str] = []
        for number in range(first, self.row + 1):
            if line and not self._goes_on[number]:
                found.append("".join(line).rstrip(" "))
                line.clear()
            line.append(self._text(number) if number < self.row else "".join(self._cells()[: self._column]))
        if line:
            found.append("".join(line).rstrip(" "))
        return found

    def forget(self) -> None:
        """Forget what is above the cursor's row, which becomes number 0 where it is at the window's top."""
        del self._goes_on[: self._top]
        self._goes_on[0] = False  # what it would continue is gone
        self.row -= self._top
        self._saved = (max(0, self._saved[0] - self._top), self._saved[1])
        self._above.clear()
        self.size = 0

    def _show(self, piece: re.Match[str]) -> None:
        kind = piece.lastgroup
        if kind in {"text", "control"}:
            self._homed = False
        if kind == "text":
            self._put(piece[0])
        elif kind == "control":
            self._control(piece[0])
        elif kind == "final":
            self._sequence(piece["arguments"], piece["final"])
        elif kind == "escape":
            self._escape(piece["escape"])
        elif kind == "string":
            self._in_string = True
        elif kind == "unfinished" and len(piece[0]) < _LONGEST:
            self._unfinished = piece[0]

    def _put(self, text: str) -> None:
        if not text.isascii():
            for char in text:
                if char.isascii():
                    self._put_cells(char)
                elif unicodedata.category(char) in {"Mn", "Me", "Cf"}:
                    self._combine(char)
                else:
                    wide = unicodedata.east_asian_width(char) in {"W", "F"}
                    if wide and self._column == self._width - 1 and self._wraps:
                        self._column = self._width
                    self._put_cells([char, ""] if wide else char)
            return
        self._put_cells(text)

    def _put_cells(self, text: str | list[str]) -> None:
        at = 0
        while at < len(text):
            if self._column >= self._width and self._wraps:
                self._down()
                self._column = 0
                self._goes_on[self.row] = True
            self._column = self.column if self._column >= self._width else self._column
            room = self._width - self._column
            part = text[at : at + room]
            at += room
            cells = self._cells()
            cells[self._column : self._column + len(part)] = part
            self._column += len(part)

    def _combine(self, char: str) -> None:
        cells = self._rows[self.row - self._top]
        if 0 < self._column <= len(cells):
            at = self._column - 1
            at -= not cells[at] and at > 0
            if len(cells[at]) < _MAX_COMBINED:
                cells[at] += char

    def _text(self, row: int) -> str:
        """Return the whole row of that number."""
        return self._above[row] if row < self._top else "".join(self._rows[row - self._top])

    def _cells(self) -> list[str]:
        """Return the cursor's row, filled up to the cursor."""
        cells = self._rows[self.row - self._top]
        if len(cells) < self._column:
            cells += " " * (self._column - len(cells))
        return cells

    def _control(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char in "\n\v\f\x84\x85":
            self._down()
            if char == "\x85":
                self._column = 0
        elif char == "\b":
            self._column = max(0, self.column - 1)
        elif char == "\t":
            self._column = min(self._width - 1, (self._column // _TAB + 1) * _TAB)
        elif char == "\x8d":
            self._up()
        else:
            self._combine(char)  # nobody sees it; who is shown the text sees that it was there

    def _down(self) -> None:
        self.row += 1
        if self.row == self._top + self._height:
            self._scroll(1)
        self._reach(self.row)

    def _scroll(self, count: int) -> None:
        """Move the window down by so many rows, which are there."""
        texts = ["".join(cells) for cells in self._rows[:count]]
        del self._rows[:count]
        self._above += texts
        self.size += sum(map(sys.getsizeof, texts)) + _ROW_BYTES * count

    def _up(self) -> None:
        if self.row > self._top:
            self.row -= 1
        else:
            self._insert(1)

    def _reach(self, row: int) -> None:
        while self._top + len(self._rows) <= row:
            self._rows.append([])
            self._goes_on.append(False)

    def _go(self, row: int, column: int) -> None:
        self.row = max(self._top, min(row, self._top + self._height - 1))
        self._column = max(0, min(column, self._width - 1))
        self._reach(self.row)

    def _escape(self, name: str) -> None:
        if name == "7":
            self._saved = (self.row, self._column)
        elif name == "8":
            self._go(*self._saved)
        elif name in {"D", "E"}:
            self._control("\x84" if name == "D" else "\x85")
        elif name == "M":
            self._up()
        elif name == "c":
            self._clear(2)
            self._go(self._top, 0)
            self._wraps = True

    def _sequence(self, arguments: str, final: str) -> None:
        if arguments[:1] in {"<", "=", ">", "?"}:
            self._private(arguments, final)
            return
        numbers = [int(part or 0) if len(part) <= _MAX_DIGITS else 0 for part in _split(arguments)]
        first, second = (*numbers, 0, 0)[:2]
        count = max(1, first)
        row, column = self.row, self.column
        moves = {
            "A": (row - count, column),
            "B": (row + count, column),
            "C": (row, column + count),
            "D": (row, column - count),
            "E": (row + count, 0),
            "F": (row - count, 0),
            "G": (row, count - 1),
            "`": (row, count - 1),
            "a": (row, column + count),
            "e": (row + count, column),
            "d": (self._top + count - 1, column),
            "H": (self._top + count - 1, max(1, second) - 1),
            "f": (self._top + count - 1, max(1, second) - 1),
            "u": self._saved,
        }
        if final in moves:
            self._go(*moves[final])
            self._homed = final in {"H", "f"}
        elif final == "s":
            self._saved = (self.row, self._column)
        elif final == "n" and first in {5, 6}:
            self._answer(f"\x1b[{row - self._top + 1};{column + 1}R" if first != 5 else "\x1b[0n")  # noqa: PLR2004 - ECMA-48's
        elif final == "c":
            self._answer("\x1b[?6c")  # a VT102
        else:
            self._edit(final, first, count)

    def _private(self, arguments: str, final: str) -> None:
        if arguments == "?6" and final == "n":
            self._answer(f"\x1b[?{self.row - self._top + 1};{self.column + 1}R")
        elif arguments == "?7" and final in {"h", "l"}:
            self._wraps = final == "h"

    def _answer(self, text: str) -> None:
        if len(self._answers) < _MOST_ANSWERS:
            self._answers += text.encode()

    def _edit(self, final: str, first: int, count: int) -> None:
        if final == "J":
            self._clear(first)
        elif final == "K":
            self._clear_row(first)
        elif final == "L":
            self._insert(count)
        elif final == "M":
            self._delete(count)
        elif final == "S":
            for _ in range(min(count, self._height)):
                self._reach(self._top + self._height)
                self._scroll(1)
                self.row += 1
        elif final in {"@", "P", "X", "b"}:
            self._edit_row(final, min(count, self._width))

    def _edit_row(self, final: str, count: int) -> None:
        cells, column = self._cells(), self.column
        if final == "@":
            cells[column:column] = " " * count
            del cells[self._width :]
        elif final == "P":
            del cells[column : column + count]
        elif final == "X":
            end = min(column + count, len(cells))
            cells[column:end] = " " * (end - column)
        elif self._column:
            self._put_cells(cells[self._column - 1 : self._column] * count)

    def _clear(self, what: int) -> None:
        at = self.row - self._top
        if what == 1:
            self._rows[:at] = [[] for _ in range(at)]
            self._clear_row(1)
        elif what == 2 or (what == 0 and self._is_home() and any(map(_is_seen, self._rows[1:]))):  # noqa: PLR2004 - ECMA-48's
            # All of it scrolls away, so that the numbers of rows only grow and nothing is lost.
            while self._rows and not _is_seen(self._rows[-1]):
                del self._rows[-1], self._goes_on[-1]
            self._scroll(len(self._rows))
            self.row = self._top + at
            self._reach(self.row)
        elif what == 0:
            del self._rows[at + 1 :], self._goes_on[self.row + 1 :]
            self._clear_row(0)

    def _is_home(self) -> bool:
        return self._homed and (self.row, self._column) == (self._top, 0)

    def _clear_row(self, what: int) -> None:
        cells = self._cells()
        if what == 0:
            del cells[self._column :]
        elif what == 1:
            end = self.column + 1
            cells[:end] = " " * end
        else:
            cells.clear()
        if not cells:
            self._goes_on[self.row] = False

    def _insert(self, count: int) -> None:
        for _ in range(min(count, self._height)):
            self._rows.insert(self.row - self._top, [])
            self._goes_on.insert(self.row, False)
        del self._rows[self._height :], self._goes_on[self._top + self._height :]

    def _delete(self, count: int) -> None:
        at = self.row - self._top
        del self._rows[at : at + count], self._goes_on[self.row : self.row + count]
        self._reach(self.row)


def _is_seen(cells: list[str]) -> bool:
    return bool("".join(cells).strip())


def _split(arguments: str) -> list[str]:
    return [part if part.isdigit() else "" for part in arguments.split(";")]
