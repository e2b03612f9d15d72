"""A recording of what a program shows and is typed, as asciinema's asciicast v2, without secrets."""

from __future__ import annotations

import codecs
import json
import os
import re
import time

from toktools import __version__
from toktools.errors import ToktoolsError
from toktools.login import masks
from toktools.system import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.cli import Console

_MAX_LINE = 512  # bytes of a line in which a question for a secret is looked for
_CHARACTER = re.compile(rb"(\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1a\x1c-\x1f])|[^\x80-\xbf][\x80-\xbf]*|[\x80-\xbf]+")
_SECRET_QUESTION = re.compile(rb'(?i)^[^"{]*(?:pass ?(?:word|phrase|code)|\bpin\b)[^":?]{0,100}[:?]')


class Recording:
    """A new file, in which each line is written at once. Known secrets are masked.

    From the first key of the answer to a question for a secret, or from hide(), up to the end of the line on the
    screen, there is a star for each character. Raises ToktoolsError if the file is there already; if it cannot be
    written later, a warning says so.
    """

    def __init__(self, path: str, rows: int, columns: int, console: Console) -> None:
        self._name = files.display(path)
        self._console = console
        with files.trouble_at(self._name):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._started = time.monotonic()
        self._kept_back = b""
        self._line = b""
        self._asks_secret = False
        self._is_hidden = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        size = {"width": columns, "height": rows}
        title = f"{console.name} (toktools) {__version__}"
        self._write({"version": 2, **size, "timestamp": int(time.time()), "title": title})

    def hide(self) -> None:
        """Record only stars until the end of the line, because a secret is typed."""
        self._is_hidden = True

    def resize(self, rows: int, columns: int) -> None:
        """Record the terminal's new size."""
        self._event("r", f"{columns}x{rows}")

    def input(self, keys: bytes) -> None:
        """Record what is typed."""
        if self._asks_secret and _stars(keys) != keys:  # else it is an answer of the terminal
            self._is_hidden = True
        text = masks.mask(keys)
        self._event("i", (_stars(text) if self._is_hidden else text).decode(errors="replace"))

    def output(self, output: bytes) -> None:
        """Record what the program shows."""
        output = self._kept_back + output
        length = masks.safe_length(output)
        self._kept_back = output[length:]
        self._show(masks.mask(output[:length]))

    def close(self) -> None:
        """End the recording, with what was kept back; it may be called again."""
        if self._fd >= 0:
            self._show(_stars(self._kept_back))
            self._kept_back = b""
            os.close(self._fd)
            self._fd = -1

    def _show(self, output: bytes) -> None:
        shown = b""
        for piece in re.findall(rb"[^\n]*\n|[^\n]+", output):
            shown += _stars(piece) if self._is_hidden else piece
            self._line = (self._line + piece)[-_MAX_LINE:]
            self._asks_secret = bool(_SECRET_QUESTION.match(self._line))
            if piece.endswith(b"\n"):
                self._line, self._asks_secret, self._is_hidden = b"", False, False
        self._event("o", self._decoder.decode(shown))

    def _event(self, kind: str, text: str) -> None:
        if text:
            self._write([round(time.monotonic() - self._started, 6), kind, text])

    def _write(self, line: object) -> None:
        if self._fd < 0:
            return
        try:
            files.write(self._fd, json.dumps(line).encode() + b"\n")
        except (OSError, ToktoolsError):
            self._console.warn(f"{self._name}: the recording cannot be written, and ends here")
            os.close(self._fd)
            self._fd = -1


def _stars(text: bytes) -> bytes:
    """Return text with a star for each character; what only moves the cursor or changes colours stays."""
    return _CHARACTER.sub(lambda found: found[1] or b"*", text)
