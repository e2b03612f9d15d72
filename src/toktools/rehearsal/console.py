"""The other side of the dialogue: a person at a terminal, or a script at a pipe."""

from __future__ import annotations

import os

from toktools.errors import ToktoolsError
from toktools.system import files, prompt

_CHUNK = 1 << 12
_MAX_LINE = 1 << 16


class EndOfInput(Exception):  # noqa: N818 - an end, no error
    """Nobody is there to answer a question."""

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = question


class Console:
    """Standard input and output.

    At a terminal, what is hidden is typed with the echo off. At a pipe, what is read is written out as a terminal would
    show it, so that the output reads as a session, but for what is hidden.
    """

    def __init__(self) -> None:
        self._is_terminal = os.isatty(files.STDIN)
        self._ahead = b""

    def ask(self, question: str, *, hidden: bool = False) -> str:
        """Return the line that answers a question. Raises EndOfInput, and ToktoolsError for other trouble."""
        if self._is_terminal and hidden:
            with files.trouble_at(prompt.TERMINAL):
                line = prompt.ask(question, files.write_stdout)
        else:
            files.write_stdout(question.encode())
            line = self._line()
        if not line:
            if not self._is_terminal:
                files.write_stdout(b"\n")
            raise EndOfInput(question)
        if not self._is_terminal:
            files.write_stdout(b"\n" if hidden else line.removesuffix(b"\n") + b"\n")
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="surrogateescape")
        return text.replace("\0", "\ufffd")  # no name and no password can have one

    def _line(self) -> bytes:
        while b"\n" not in self._ahead:
            with files.trouble_at(files.STDIN_NAME):
                chunk = os.read(files.STDIN, _CHUNK)
            if not chunk:
                break
            self._ahead += chunk
            if len(self._ahead) > _MAX_LINE and b"\n" not in self._ahead:
                raise ToktoolsError(f"{files.STDIN_NAME}: a line of more than {_MAX_LINE} bytes")
        line, newline, self._ahead = self._ahead.partition(b"\n")
        return line + newline
