"""The CloudHSM CLI as a person uses it: its prompts are seen on the screen, and its answers are read there."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Sequence

from toktools import prompts
from toktools.errors import ToktoolsError, shown
from toktools.login.program import Program
from toktools.login.screen import Screen
from toktools.system import process

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import TypeVar

    from toktools.system.prompt import Source

    T = TypeVar("T")

_SIZE = (24, 1000)
"""Rows and columns while nobody watches: a line that is typed must not be wrapped."""
MAX_LINE = 900
"""Bytes of a line that, after a prompt, still fits a row."""
_MAX_OUTPUT = 1 << 22
_MAX_SHOWN = 300
_SOON = 5.0
"""Seconds from asking for a password to turning the echo off."""
_UNKNOWN = 3.0
"""Seconds of silence after which what is not a known prompt is a question."""
_GRACE = 0.5
"""Seconds of silence after which a prompt that is not the right one is no passing sight."""
_SETTLE = 0.05
"""Seconds in which a line editor takes the terminal, if there is one; it may have drawn its prompt before."""
_LOOK_UP = 0.005
"""Seconds between looks at the terminal's mode, whose change tells nobody; and in which a passing sight has passed."""
_MAX_TRIES = 64
_WATCHED = 1 << 16
"""Characters after a secret in which it is looked for."""
_MARK = r"(?:\([\w+-]{1,8}\)|[^\w\s{}]{1,3})?\s*"
"""What a line editor puts before a prompt to show its mode: (ins), @, +."""
_QUESTIONS = {
    question: re.compile(_MARK + re.escape(question.rstrip()) + r"\s*")
    for question in (prompts.PASSWORD, prompts.PASSWORD_AGAIN, prompts.SIGNED_FILE, prompts.PUBLIC_KEY)
}

_HIDDEN = {prompts.PASSWORD, prompts.PASSWORD_AGAIN}
_ASKS_SECRET = re.compile(r"(?!.*\by(es)?/no?\b).*(password|phrase|\bPIN\b)", re.IGNORECASE | re.DOTALL)
_SHORTEST = 4
"""Characters of a secret that is looked for: a shorter one is in many a text by chance."""
_USERS = "the password"
"""What the secret of who logs in is called."""
_TEXT = "--text accepts an answer that is not JSON"
_QUESTION = "--answer QUESTION=SOURCE answers what a command asks"
_ANSWER = "the answer"
_DELETE = 0x7F


class _EndedError(Exception):
    """The CLI has ended."""


class Cli:
    """A CLI that was started. What is no answer to us is told on standard error, by say."""

    def __init__(self, argv: Sequence[str], name: str, say: Callable[[str], None], timeout: float = 60.0) -> None:
        self.name = shown(name) or "''"
        self._say = say
        self._timeout = timeout
        self._screen = Screen(*_SIZE)
        self._mark = (-1, 0)
        """The row and the column where the last line was typed."""
        self._typed = ""
        self._typed_at = ""
        """The prompt there."""
        self._was_plain = False
        self._told = 0
        """The first row that nobody was told of."""
        self._asked: tuple[int, str] | None = None
        """The row of the question that was waited for, and the question."""
        self._secrets: dict[str, str] = {}
        """What was typed while the echo was off, and what it is called."""
        self._question = ""
        """The one that is not known, and was shown."""
        """Whether nobody at the terminal wants to answer."""
        self._sought: list[str] = []
        """Those that the CLI must not show, and has not shown yet."""
        self._size = 0
        self._last = time.monotonic()
        self._edits: bool | None = None
        """Whether a line editor draws the prompt: the terminal is not left to gather lines."""
        self._ready, self._ready_begins = _ready("")
        try:
            self._program = Program(argv, *_SIZE)
        except (OSError, ValueError):
            raise ToktoolsError(f"{self.name}: not found, or not executable", "name the CLI with --cli") from None

    def knows(self, username: str) -> None:
        """Take also USERNAME@CLUSTER-ID > for the prompt, as it may be after a login ("user replicate")."""
        self._ready, self._ready_begins = _ready(username)

    def wait_for(self, prompt: str) -> None:
        """Wait for a prompt; what is shown before it is told.

        Raises ToktoolsError, with what is shown, where the CLI waits for something else, ends, or is silent for too
        long; with the status 1 where it has refused.
        """
        self._wait(prompt, lambda: True)
        self._tell(self._lines(self._told))
        self._told = self._screen.row
        self._asked = (self._screen.row, prompt)

    def answer(self, replies: dict[str, Source] | None = None, *, text: bool = False) -> str:
        """Wait for the answer to a command, and return its JSON, which accept() may yet refuse.

        It is the one JSON object with an error_code that begins a row and ends one; or, where text will do, all that
        is shown instead. A question on the way is answered by the reply that has its words, without the colon, which is
        then taken out.
        Raises ToktoolsError as wait_for() does.
        """
        answers: list[str] = []
        noise: list[str] = []

        def is_there() -> bool:
            answers[:], noise[:] = _answers(self._lines(self._mark[0]))
            return len(answers) == 1 or (text and not answers)

        self._wait(prompts.READY, is_there, replies)
        self._told = self._screen.row
        if not answers:
            return "\n".join(noise).strip("\n")
        self._tell(noise)
        return answers[0]

    def accept(self, answer: str) -> None:
        """Raise ToktoolsError, with the status 1, where an answer is a refusal: its error_code is not 0."""
        for text in _answers([answer])[0]:
            parsed = json.loads(text)
            if parsed["error_code"]:
                raise ToktoolsError(f"{self.name}: refused: {self._brief(str(parsed.get('data', text)))}", status=1)

    def type(self, line: bytes, secret: str = "") -> None:
        """Type a line, and the Enter key, and forget what was shown before.

        Of a secret, messages have only the name that is given. Raises ToktoolsError for a line that is too long.
        """
        if len(line) > MAX_LINE:
            raise ToktoolsError(f"a line of more than {MAX_LINE} bytes for the CLI; nothing typed")
        self._typed_at = self._prompt()
        if self._typed_at == prompts.READY and not secret:
            self._settle()
        self._typed = line.decode(errors="replace")
        if secret:
            self._secrets.setdefault(self._typed, secret)
        self._screen.forget()
        self._mark = (self._screen.row, self._screen.column)
        self._told = self._screen.row + 1
        self._asked = None
        self._size = 0
        self._was_plain = self._program.mode() == (True, True)
        self._program.flushed = False
        if not self._program.write(line + b"\r", self._timeout):
            raise ToktoolsError(f"{self.name}: it has not read what was typed in {self._timeout:g} seconds")
        self._last = time.monotonic()

    def type_secret(self, secret: bytes, name: str = _USERS) -> None:
        """Type a secret; where the CLI shows it nevertheless, that is told.

        Raises ToktoolsError where it would be seen: the terminal's echo stays on.
        """
        deadline = time.monotonic() + _SOON
        while self._program.mode()[1]:
            if time.monotonic() > deadline:
                asked = "a password" if name == _USERS else "a secret"
                raise ToktoolsError(f"{self.name}: it asks for {asked} but would show it on the screen; nothing typed")
            self.watch(_LOOK_UP)
        text = secret.decode(errors="replace")
        if text not in self._secrets and len(text) >= _SHORTEST:
            self._sought.append(text)
        self.type(secret, name)

    def watch(self, seconds: float) -> None:
        """Look at what the CLI shows for a while. Raises ToktoolsError where it ends."""
        try:
            self._read(seconds)
        except _EndedError:
            raise self._gone() from None

    def meanwhile(self, ask: Callable[[], T]) -> T:
        """Ask a person, and return what is answered. Raises ToktoolsError where the CLI ends meanwhile."""
        waits = False

        def look(*_: object) -> None:
            nonlocal waits
            if waits and self._program.has_ended() and not self._program.is_closed:
                waits = False  # once is enough, and what tidies up after it is not disturbed
                raise _EndedError

        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        before = signal.signal(signal.SIGCHLD, look)
        try:
            try:
                waits = True
                look()
                return ask()
            finally:
                waits = False
        except _EndedError:
            raise self._gone() from None
        finally:
            signal.signal(signal.SIGCHLD, before)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # it may have been raised while this was changed

    def hand_over(self) -> int:
        """Connect the CLI to the user's terminal until it ends, and return its exit status.

        Raises ToktoolsError where a signal has ended it.
        """
        self._program.connect()
        status = self._program.wait()
        if status < 0:
            # The exit status that a shell gives.
            raise ToktoolsError(f"{self.name}: {process.exit_text(status)}", status=128 - status)
        return status

    def end(self) -> None:
        """Wait for the CLI's end. Raises ToktoolsError where that is not a good one."""
        try:
            while time.monotonic() - self._last < self._timeout:
                self._read(self._timeout)
        except _EndedError:
            status = self._program.wait()
            if status:
                raise ToktoolsError(f"{self.name}: {process.exit_text(status)}") from None
            return
        raise self._unexpected("it did not end after quit", self._everything())

    def close(self) -> None:
        """End the CLI, if it has not ended, kindly and then by force."""
        self._program.close()

    def _wait(self, prompt: str, is_done: Callable[[], bool], replies: dict[str, Source] | None = None) -> None:
        """Read until the cursor stands at a prompt, and what belongs to it is there."""
        self._question = ""
        again = False
        try:
            while True:
                found = self._prompt()
                if found and self._read(_LOOK_UP):
                    continue
                if found == prompt and is_done():
                    return
                if self._reply(replies or {}):
                    continue
                quiet = time.monotonic() - self._last
                if quiet >= _GRACE and not found and self._is_covered(prompt) and is_done():
                    return
                if quiet >= _GRACE and not again and self._is_lost(found):
                    again = True
                    self.type(self._typed.encode())
                    continue
                self._refuse(prompt, found, quiet, is_command=replies is not None)
                if not found and quiet >= _UNKNOWN and self._is_answered():
                    continue
                next_look = _GRACE if quiet < _GRACE else _UNKNOWN if quiet < _UNKNOWN else self._timeout
                self._read(min(next_look, self._timeout) - quiet)
        except _EndedError:
            raise self._gone() from None

    def _reply(self, replies: dict[str, Source]) -> bool:
        """Answer the question at the cursor, if there is a reply to it, and say whether there was."""
        if not replies or self._screen.row <= self._mark[0]:
            return False
        question = plain(self._screen.line())
        if question not in replies or self._read(_LOOK_UP):
            return False
        line = replies.pop(question).read(question, "answer")
        refuse_controls(line, f"{question}: the answer")
        self._settle_echo()
        gathers, shows = self._program.mode()
        if _ASKS_SECRET.match(question) or (gathers and not shows):
            self.type_secret(line, _ANSWER)
        else:
            # A line editor may show it or not: who can tell?
            self.type(line, "" if shows else _ANSWER)
        return True

    def _refuse(self, prompt: str, found: str, quiet: float, *, is_command: bool) -> None:
        """Raise ToktoolsError where what is found instead of a prompt, or of all that belongs to it, is the end."""
        if found == prompts.READY:
            for answer in _answers(self._lines(self._mark[0]))[0]:
                self.accept(answer)
        if found and quiet >= _GRACE:
            if found == prompt:
                wrong = self._unexpected("an answer in JSON was expected", self._lines(self._mark[0]))
                wrong.hint = _TEXT if is_command else ""
            else:
                wrong = self._unexpected(f"{prompt!r} was expected", self._everything())
                wrong.hint = _QUESTION if is_command else ""
            raise wrong
        if quiet >= self._timeout:
            raise self._unexpected(f"no {prompt!r} in {self._timeout:g} seconds", self._everything())

    def _read(self, patience: float) -> bool:
        """Show what comes next, within so many seconds, and say whether something has come."""
        output = self._program.read(max(patience, 0.0))
        if output is None:
            raise _EndedError
        if output:
            self._last = time.monotonic()
            self._size += len(output)
            if self._size > _MAX_OUTPUT:
                raise ToktoolsError(f"{self.name}: more than {_MAX_OUTPUT} bytes of output")
            answers = self._screen.feed(output)
            if answers:
                self._program.write(answers)  # as far as there is room: who asks without reading gets no more
            self._look_for_secret()
        return bool(output)

    def _prompt(self) -> str:
        """Return the prompt that the cursor stands at, below or behind what was typed; or nothing."""
        screen = self._screen
        if screen.row < self._mark[0] or (screen.row, screen.column) == self._mark:
            return ""
        line = screen.line()
        if screen.row > self._mark[0]:
            found = self._match(line)
        else:
            # It stands behind what was typed, or in its place, where it must be another.
            found = self._match(screen.line(self._mark[1])) or self._match(line)
            found = "" if found == self._typed_at else found
        if found:
            return found
        if self._asked and not line and screen.row > self._asked[0] and self._program.mode() == (True, False):
            return self._asked[1]  # a line has come behind it, and what is typed is still hidden
        return ""

    def _is_covered(self, prompt: str) -> bool:
        """Say whether a line, as of a log, has come behind a prompt before it was seen; the cursor stands below it."""
        if self._screen.line() or (prompt in _HIDDEN and self._program.mode()[1]):
            return False
        begin = self._ready_begins if prompt == prompts.READY else _QUESTIONS[prompt]
        found = [begin.match(line) for line in self._screen.lines(self._mark[0] + 1)]
        # A line editor may show once more what was typed.
        return any(start and start.string[start.end() :].strip() not in {"", self._typed} for start in found)

    def _match(self, line: str) -> str:
        if self._ready.search(line):
            return prompts.READY
        return next((question for question, pattern in _QUESTIONS.items() if pattern.fullmatch(line)), "")

    def _lines(self, first: int) -> list[str]:
        """Return the lines from a row on that are before the prompt, without what was typed."""
        lines = self._screen.lines(max(first, 0))
        last = self._ready.search(lines.pop()) if lines else None
        if last and last[1]:
            lines.append(last.string[: last.end(1)])
        if first == self._mark[0] >= 0 and lines:
            # A CLI may say nothing where a hidden line ends, not even a new line.
            rest = lines[0][self._mark[1] :].lstrip()
            lines[0] = rest if rest.startswith("{") else ""
        return lines

    def _everything(self) -> list[str]:
        lines = self._lines(self._mark[0])
        return [*lines, self._screen.line(self._mark[1] if self._screen.row == self._mark[0] else 0)]

    def _is_lost(self, found: str) -> bool:
        """Say whether the line was thrown away by a line editor that began only then.

        Either it was never seen, or the terminal showed it before there was an editor, whose bare prompt has come.
        """
        if not self._typed or self._typed_at != prompts.READY or self._typed in self._secrets:
            return False
        if (self._screen.row, self._screen.column) == self._mark:
            return self._program.flushed
        is_bare = found == prompts.READY and not "".join(self._lines(self._mark[0])).strip()
        return is_bare and self._was_plain and not self._program.mode()[0]

    def _settle(self) -> None:
        """Wait a little for a line editor that may still have to take the terminal."""
        deadline = time.monotonic() + (0.0 if self._edits is False else _SETTLE)
        while self._program.mode()[0] and time.monotonic() < deadline:
            self.watch(_LOOK_UP)
        self._edits = not self._program.mode()[0]

    def _settle_echo(self) -> None:
        """Wait a little for a CLI that turns the echo off only after its question."""
        deadline = time.monotonic() + _SETTLE
        while self._program.mode()[1] and time.monotonic() < deadline:
            self._read(_LOOK_UP)

    def _is_answered(self) -> bool:
        """Show a question that is not known, and have who is at the terminal answer it, before any secret was typed.

        Say whether that was done.
        """
        question = self._screen.line()
        if question.strip() and question != self._question:
            self._say(f"{self.name}: it asks: {self._brief(question.strip())}")
        self._question = question
        return False

    def _look_for_secret(self) -> None:
        if not self._sought or self._size > _WATCHED:
            return
        lines = self._screen.lines(max(self._mark[0], 0))
        for secret in [secret for secret in self._sought if any(secret in line for line in lines)]:
            self._sought.remove(secret)
            name = self._secrets[secret].upper()
            self._say(f"warning: {name} IS SHOWN on the CLI's screen; change it if anyone may have seen or recorded it")

    def _tell(self, lines: Sequence[str]) -> None:
        for line in "\n".join(lines).strip().splitlines():
            self._say(shown(self._hidden(line)))

    def _gone(self) -> ToktoolsError:
        return self._unexpected(f"it ended ({process.exit_text(self._program.wait())})", self._everything())

    def _unexpected(self, what: str, lines: Sequence[str]) -> ToktoolsError:
        text = " / ".join(line.strip() for line in lines if line.strip())
        return ToktoolsError(f"{self.name}: {what}; it shows: {self._brief(text) or 'nothing'}")

    def _brief(self, text: str) -> str:
        text = self._hidden(text)
        # What comes last is most often why.
        return shown(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 3]} ... {text[-_MAX_SHOWN:]}")

    def _hidden(self, text: str) -> str:
        for secret, name in self._secrets.items():
            for spelling in _spellings(secret):
                text = text.replace(spelling, f"({name})")
        return text


def refuse_controls(secret: bytes, what: str) -> None:
    """Raise ToktoolsError, about what it is, where a secret has a control character: a terminal acts on it."""
    if any(byte < ord(" ") or byte == _DELETE for byte in secret):
        raise ToktoolsError(f"{what} has a control character, which cannot be typed")


def plain(question: str) -> str:
    """Return the words of a question."""
    return question.strip().rstrip(":").rstrip()


def _ready(username: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what a line is that ends with the prompt for commands, and one that begins with it."""
    names = "aws-cloudhsm" + (rf"|{re.escape(username)}@[\w.-]+" if username else "")
    prompt = rf"(?:{names}) >\s*"
    return re.compile(rf"(?:^{_MARK}|(\}})\s*){prompt}$"), re.compile(_MARK + prompt)


def _spellings(secret: str) -> list[str]:
    """Return a secret as it is, and as JSON, Python or Rust would quote it, the longest first."""
    quoted = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    quoted |= {repr(secret)[1:-1], ascii(secret)[1:-1], shown(secret)}
    quoted |= {text.replace("/", "\\/") for text in quoted}
    quoted |= {text.replace("'", "\\'") for text in quoted} | {text.replace('"', '\\"') for text in quoted}
    quoted |= {json.dumps(text)[1:-1] for text in quoted}
    return sorted(quoted - {""}, key=len, reverse=True)


def _answers(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the JSON objects with an error_code that begin a line and end one, and the lines besides."""
    text = "\n".join(lines)
    decoder = json.JSONDecoder()
    answers: list[str] = []
    noise: list[str] = []
    tries = at = 0
    while at < len(text):
        end = _end_of_line(text, at)
        start = at + len(text[at:end]) - len(text[at:end].lstrip())
        if text.startswith("{", start) and tries < _MAX_TRIES:
            try:
                parsed, stop = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                tries += 1
            else:
                after = _end_of_line(text, stop)
                if type(parsed.get("error_code")) is int and not text[stop:after].strip():
                    answers.append(text[start:stop])
                    at = after + 1
                    continue
        noise.append(text[at:end])
        at = end + 1
    return answers, noise


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
