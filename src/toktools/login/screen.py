"""An emulated terminal: the rows that a person would see, the cursor, and the answers to what a program asks of it.

It knows the parts of ECMA-48 and the VT100 that line editors were seen to use, and ignores the rest. Each character
takes one column.
"""

from __future__ import annotations

import codecs
import re
import sys

_PIECE = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f]+)"
    r"|\x1b\[(?P<arguments>[0-?]*)(?P<final>[ -/]*[@-~])"
    r"|(?P<string>\x1b[]PX^_])"
    r"|\x1b(?P<escape>[ -/]*[0-OQ-WYZ\\`-~])"
    r"|(?P<unfinished>\x1b(?:\[[0-?]*)?[ -/]*\Z)"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|(?P<broken>\x1b\[?[0-?]*[ -/]*)"
)
_END_OF_STRING = re.compile(r"\x1b\\|[\x07\x18\x1a]")
_LONGEST = 256
"""The longest unfinished sequence, in characters."""
_TAB = 8
_ROW_BYTES = 17  # of a row that is kept, besides its text: two places in lists
_MAX_DIGITS = 7
"""The most digits of a number in a sequence."""
_MOST_ANSWERS = 256
"""The most bytes of answers to one piece of output; a program that asks for more does not read them."""


class Screen:
    """A window on rows; rows that have scrolled away, or that a clearing of the screen removed, are kept above it.

    Rows have numbers, from 0 for the first since forget().
    """

    def __init__(self, height: int, width: int) -> None:
        self.row = 0
        self._column = 0
        """The column of the next character; the width itself if that is the next row's first."""
        self._height = height
        self._width = width
        self._above: list[str] = []
        """The text of each row above the window."""
        self._rows: list[list[str]] = [[]]
        """The window's cells, of a character each."""
        self._goes_on = [False]
        """Whether a row continues the one above it, for each since forget()."""
        self.size = 0
        """Bytes that the rows above the window take."""
        self._saved = (0, 0)
        self._wraps = True
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
            elif piece := _PIECE.match(text, at):
                at = piece.end()
                self._show(piece)
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def line(self, since: int = 0) -> str:
        """Return the cursor's row from a column on, up to the cursor, with the row that it continues."""
        text = "".join(self._cells()[since : self._column]).ljust(self.column - since)
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
        """Forget the rows above the window, and number the others from 0."""
        del self._goes_on[: self._top]
        self._goes_on[0] = False  # what it would continue is gone
        self.row -= self._top
        self._saved = (max(0, self._saved[0] - self._top), self._saved[1])
        self._above.clear()
        self.size = 0

    def _show(self, piece: re.Match[str]) -> None:
        kind = piece.lastgroup
        if kind == "text":
            self._put(piece[0])
        elif kind == "control":
            self._control(piece[0])
        elif kind == "final":
            self._sequence(piece["arguments"], piece["final"])
        elif kind == "escape" and piece["escape"] == "7":
            self._saved = (self.row, self._column)
        elif kind == "escape" and piece["escape"] == "8":
            self._go(*self._saved)
        elif kind == "string":
            self._in_string = True
        elif kind == "unfinished" and len(piece[0]) < _LONGEST:
            self._unfinished = piece[0]

    def _put(self, text: str) -> None:
        at = 0
        while at < len(text):
            if self._column >= self._width and self._wraps:
                self._down()
                self._column = 0
                self._goes_on[self.row] = True
            self._column = self.column
            part = text[at : at + self._width - self._column]
            at += len(part)
            self._cells()[self._column : self._column + len(part)] = part
            self._column += len(part)

    def _text(self, row: int) -> str:
        """Return the text of a row."""
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
        elif char in "\n\v\f":
            self._down()
        elif char == "\b":
            self._column = max(0, self.column - 1)
        elif char == "\t":
            self._column = min(self._width - 1, (self._column // _TAB + 1) * _TAB)

    def _down(self) -> None:
        self.row += 1
        if self.row == self._top + self._height:
            self._scroll(1)
        self._reach(self.row)

    def _scroll(self, count: int) -> None:
        """Move the window down by a number of existing rows."""
        texts = ["".join(cells) for cells in self._rows[:count]]
        del self._rows[:count]
        self._above += texts
        self.size += sum(map(sys.getsizeof, texts)) + _ROW_BYTES * count

    def _reach(self, row: int) -> None:
        while self._top + len(self._rows) <= row:
            self._rows.append([])
            self._goes_on.append(False)

    def _go(self, row: int, column: int) -> None:
        self.row = max(self._top, min(row, self._top + self._height - 1))
        self._column = max(0, min(column, self._width - 1))
        self._reach(self.row)

    def _sequence(self, arguments: str, final: str) -> None:
        if arguments == "?7" and final in {"h", "l"}:
            self._wraps = final == "h"
        if arguments[:1] in {"<", "=", ">", "?"}:
            return
        parts = arguments.split(";")
        first, second = (*(int(part) if part.isdigit() and len(part) <= _MAX_DIGITS else 0 for part in parts), 0)[:2]
        count = max(1, first)
        row, column = self.row, self.column
        moves = {
            "A": (row - count, column),
            "B": (row + count, column),
            "C": (row, column + count),
            "D": (row, column - count),
            "G": (row, count - 1),
            "H": (self._top + count - 1, max(1, second) - 1),
        }
        if final in moves:
            self._go(*moves[final])
        elif final == "n" and first == 6:  # noqa: PLR2004 - ECMA-48's
            self._answer(f"\x1b[{row - self._top + 1};{column + 1}R")
        elif final == "c":
            self._answer("\x1b[?6c")  # a VT102
        elif final == "J":
            self._clear(first)
        elif final == "K":
            self._clear_row(first)
        elif final == "S":
            for _ in range(min(count, self._height)):
                self._reach(self._top + self._height)
                self._scroll(1)
                self.row += 1

    def _answer(self, text: str) -> None:
        if len(self._answers) < _MOST_ANSWERS:
            self._answers += text.encode()

    def _clear(self, what: int) -> None:
        at = self.row - self._top
        if what == 0:
            del self._rows[at + 1 :], self._goes_on[self.row + 1 :]
            self._clear_row(0)
        elif what == 2:  # noqa: PLR2004 - ECMA-48's
            # All of it scrolls away, so that the numbers of rows only grow and nothing is lost.
            while self._rows and not "".join(self._rows[-1]).strip():
                del self._rows[-1], self._goes_on[-1]
            self._scroll(len(self._rows))
            self.row = self._top + at
            self._reach(self.row)

    def _clear_row(self, what: int) -> None:
        cells = self._cells()
        if what == 0:
            del cells[self._column :]
        elif what == 2:  # noqa: PLR2004 - ECMA-48's
            cells.clear()
        if not cells:
            self._goes_on[self.row] = False
