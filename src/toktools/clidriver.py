"""The CloudHSM CLI in a terminal of its own: what it shows is read, and what it waits for is typed."""

from __future__ import annotations

import json
import os
import re
import signal
import termios
import time
from collections.abc import Callable, Sequence

import pexpect

from toktools import files, prompts, signals, terminal
from toktools.errors import ToktoolsError, shown

_PROMPTS = (prompts.READY, prompts.PASSWORD, prompts.PASSWORD_AGAIN, prompts.SIGNED_FILE, prompts.PUBLIC_KEY)
_SIZE = (24, 1000)
"""Rows and columns while nobody watches: a line must not be wrapped."""
MAX_LINE = 900
"""Bytes of a line that, after a prompt, still fits a row."""
_PATIENCE = 60.0
"""Seconds that an answer may take."""
_SILENCE = 0.2
"""Seconds without output after which a prompt is one: a line editor may draw it once more before what is typed."""
_CHUNK = 1 << 12
_MAX_OUTPUT = 1 << 22
_MAX_SHOWN = 300
_SOON = 5.0
"""Seconds from asking for a password to turning the echo off, and from the last output to the end."""
_PAUSE = 0.01
_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*.")
"""The escape sequences of a terminal (ECMA-48, ECMA-35)."""


class Cli:
    """A CLI that was started. Everything that it shows is read; what is not expected ends the matter."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.name = shown(argv[0]) or "''"
        self._output = bytearray()
        self._typed = ""
        self._secret = ""
        try:
            self._child: pexpect.spawn[bytes] = pexpect.spawn(
                argv[0], list(argv[1:]), dimensions=_SIZE, preexec_fn=_unblock
            )
        except (pexpect.ExceptionPexpect, OSError):
            raise ToktoolsError(f"{self.name}: not found, or not executable", "--cli names the CLI") from None
        self._child.delaybeforesend = None

    def wait_for(self, prompt: str) -> str:
        """Wait for a prompt, and return what is shown before it, less the line that was typed.

        Raises ToktoolsError, with what is shown, where the CLI waits for something else, ends, or takes too long; with
        the status 1 where it has refused.
        """
        try:
            self._wait(prompt)
        except pexpect.EOF:
            raise self._unexpected(f"it ended ({signals.ending(self._ended())})", self._lines()) from None
        except pexpect.TIMEOUT:
            raise self._unexpected(f"no {prompt!r} in {_PATIENCE:.0f} seconds", self._lines()) from None
        *lines, last = self._lines()
        text = "\n".join(lines).strip()
        if last.strip() != prompt.strip():
            self.accept(text)
            raise self._unexpected(f"{prompt!r} was expected", [*lines, last])
        return text

    def expect(self, prompt: str) -> None:
        """Wait for a prompt with nothing before it. Raises ToktoolsError as wait_for() does."""
        text = self.wait_for(prompt)
        if text:
            raise self._unexpected(f"{prompt!r} was expected, and nothing else", [text])

    def answer(self) -> str:
        """Wait for the answer to a command, and return its JSON, which accept() may yet refuse.

        Raises ToktoolsError as wait_for() does.
        """
        text = self.wait_for(prompts.READY)
        if _error_code(text) is None:
            raise self._unexpected("an answer in JSON was expected", [text])
        return text

    def accept(self, answer: str) -> None:
        """Raise ToktoolsError, with the status 1, where an answer is a refusal: its error_code is not 0."""
        if _error_code(answer):
            data = json.loads(answer).get("data", answer)
            raise ToktoolsError(f"{self.name}: refused: {self._brief(str(data))}", status=1)

    def type(self, line: bytes, *, secret: bool = False) -> None:
        """Type a line, and the Enter key, and forget what was shown before.

        What is secret is in no message, though the CLI may show it. Raises ToktoolsError for a line that is too long.
        """
        if len(line) > MAX_LINE:
            raise ToktoolsError(f"a line of more than {MAX_LINE} bytes for the CLI; nothing typed")
        self._typed = line.decode(errors="replace")
        if secret:
            self._secret = self._typed
        self._output = bytearray()
        self._child.send(line + b"\r")

    def refuse_echo(self) -> None:
        """Raise ToktoolsError where what is typed would be seen."""
        if not _soon(lambda: not self._child.getecho()):
            raise ToktoolsError(f"{self.name}: it asks for a password, and would show it; nothing typed")

    def hand_over(self) -> None:
        """Connect the CLI to the terminal of standard input and output until it ends, whatever its size becomes."""

        def fit(*_: object) -> None:
            columns, rows = os.get_terminal_size(files.STDIN)
            self._child.setwinsize(rows, columns)

        def typed(keys: bytes) -> bytes:
            if not keys:
                raise OSError  # the terminal is gone, and SIGHUP is ignored
            return keys

        signal.signal(signal.SIGWINCH, fit)
        try:
            with terminal.raw(files.STDIN, again=fit):
                self._child.interact(escape_character=None, input_filter=typed)
        except (OSError, termios.error):
            raise ToktoolsError("the terminal is gone") from None
        finally:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        # interact() leaves what a CLI shows just before its end; the terminal adds a CR of its own again.
        try:
            while chunk := self._child.read_nonblocking(_CHUNK, _SILENCE):
                files.write_stdout(chunk.replace(b"\r\n", b"\n"))
        except (pexpect.EOF, pexpect.TIMEOUT):
            pass

    def end(self) -> None:
        """Wait for the CLI's end. Raises ToktoolsError where that is not a good one."""
        try:
            while True:
                self._read(_PATIENCE)
        except pexpect.EOF:
            status = self._ended()
        except pexpect.TIMEOUT:
            raise self._unexpected("it does not end", self._lines()) from None
        if status:
            raise ToktoolsError(f"{self.name}: {signals.ending(status)}")

    def close(self) -> None:
        """End the CLI, if it has not ended, kindly and then by force."""
        self._child.close(force=True)

    def _ended(self) -> int:
        """Return how it ended, below zero for a signal, now that all that it showed is read; and close it."""
        _soon(lambda: not self._child.isalive())
        self.close()
        return -self._child.signalstatus if self._child.signalstatus else self._child.exitstatus or 0

    def _wait(self, prompt: str) -> None:
        """Read until the last line is some prompt, and stays so."""
        deadline = time.monotonic() + _PATIENCE
        known = {text.strip() for text in (*_PROMPTS, prompt)}
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise pexpect.TIMEOUT("")
            if _screen_line(self._output[self._output.rfind(b"\n") + 1 :]).strip() not in known:
                self._read(left)
                continue
            try:
                self._read(_SILENCE)
            except pexpect.TIMEOUT:
                return

    def _read(self, patience: float) -> None:
        self._output += self._child.read_nonblocking(_CHUNK, patience)
        if len(self._output) > _MAX_OUTPUT:
            raise ToktoolsError(f"{self.name}: more than {_MAX_OUTPUT} bytes of output")

    def _lines(self) -> list[str]:
        """Return the lines as they stand on the screen, less the one that was typed."""
        lines = [_screen_line(line) for line in self._output.split(b"\n")]
        return lines[1:] if self._typed and len(lines) > 1 and lines[0].endswith(self._typed) else lines

    def _unexpected(self, what: str, lines: Sequence[str]) -> ToktoolsError:
        text = " / ".join(line.strip() for line in "\n".join(lines).split("\n") if line.strip())
        return ToktoolsError(f"{self.name}: {what}; it shows: {self._brief(text) or 'nothing'}")

    def _brief(self, text: str) -> str:
        text = text.replace(self._secret, "(the password)") if self._secret else text
        # What comes last is most often why.
        return shown(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 3]} ... {text[-_MAX_SHOWN:]}")


def _error_code(text: str) -> int | None:
    """Return the error code of an answer, or None where the text is no answer."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    code = answer.get("error_code") if isinstance(answer, dict) else None
    return code if type(code) is int else None


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SOON
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return met


def _screen_line(line: bytearray) -> str:
    return _CONTROLS.sub("", line.decode(errors="replace")).rstrip("\r").rpartition("\r")[2]


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.DEADLY)
