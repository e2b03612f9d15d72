"""The CloudHSM CLI as a person uses it: read its prompts and responses on the screen, and type."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Sequence
from math import inf

from toktools import prompts
from toktools.errors import ToktoolsError, shown
from toktools.login.host import cannot_start
from toktools.login.masks import masked
from toktools.login.pty import Pty
from toktools.login.screen import Screen
from toktools.system import files, terminal
from toktools.system.events import HINT, event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.login.host import LocalHost
    from toktools.login.recording import Recording

MAX_LINE = 900  # bytes of a line that, after a prompt, still fits a row
SIZE = (24, 1000)  # rows and columns while nobody watches: a line that is typed must not be wrapped
_REPORT = f'{HINT}; to report it, see "If your CLI is not understood" in README.md'
_MAX_OUTPUT = 1 << 22  # bytes that the CLI writes after a line is typed
_MAX_SCREEN = 3 << 23  # bytes that the screen keeps of it
_MAX_SHOWN = 300  # characters of the screen in a message
_MAX_ROWS = 200  # in which a prompt with a log line behind it is looked for
_ECHO_SECONDS = 5.0  # from asking for a password to turning the echo off
_PROMPT_SECONDS = 0.005  # after which a prompt is one, and not a moment of drawing
_UNEXPECTED_PROMPT_SECONDS = 0.5  # after which an unexpected prompt, or one with a log line behind it, counts
_PERSON_SECONDS = 1.0  # after which, before the first prompt, a person at the terminal is in charge
_QUESTION_SECONDS = 3.0  # after which an unknown question is one
_QUIT_SECONDS = 1.0
_POLL_SECONDS = 0.5
_END_SECONDS = 5.0  # from the end of the output to that of the program
_MARK = r"(?:\([\w+-]{1,8}\)|[^\w\s{}]{1,3})?\s*"  # a line editor's mode before a prompt: (ins), @, +
_ASKED = (prompts.PASSWORD, prompts.PASSWORD_AGAIN, prompts.SIGNED_FILE, prompts.PUBLIC_KEY)
_QUESTIONS = {question: re.compile(_MARK + re.escape(question.rstrip()) + r"\s*") for question in _ASKED}
_HIDDEN = {prompts.PASSWORD, prompts.PASSWORD_AGAIN}
_UNKNOWN_QUESTION = re.compile(r"[:?>\])]\s*$")
_OBJECT = re.compile(r"^[ \t]*\{", re.MULTILINE)
_LINE_END = re.compile(r"[ \t]*(?:\n|\Z)")
_MAX_TRIES = 64  # to read an object that is none
_DELETE = 0x7F
_PASSWORD_OPTION = re.compile(r"""(--[\w-]*password[ =]+)("[^"]*"|'[^']*'|\S+)""")


class Cli:
    """A CloudHSM CLI, which start() starts.

    It is *ready* for a command, at a *question*, at work on a *response*, or *ended*. Each step waits for a state other
    than *response*, until a deadline. Output that is not a response goes to *say*.
    """

    def __init__(self, name: str, say: Callable[[str], None], seconds: float, host: LocalHost) -> None:
        self.name = files.display(name)
        self._say = say
        self._seconds = seconds
        self._host = host
        self._pty = Pty(*SIZE)
        self._screen = Screen(*SIZE)
        self._mark = (-1, 0)  # row and column where the last line was typed
        self._typed = ""
        self._typed_at = ""  # the prompt there
        self._told = 0  # the first row that *say* did not get
        self._has_person = True  # at the terminal, until the contrary is known
        self._size = 0
        self._set_ready_prompt("")

    def start(self, argv: Sequence[str], recording: Recording | None = None) -> None:
        """Start the CLI. Raises ToktoolsError."""
        self._pty.recording = recording
        try:
            pid = self._pty.start(argv)
        except OSError as error:
            raise cannot_start(self.name, error, "name the CLI with --cli") from None
        event(f"CLI started: {masked(' '.join(argv))}, pid {pid}")

    def knows(self, username: str) -> None:
        """Accept USERNAME@CLUSTER-ID > as the prompt too, as it may be after a login ("user replicate")."""
        self._set_ready_prompt(username)

    def expect(self, prompt: str) -> None:
        """Wait until the CLI is ready, or asks the question *prompt*.

        Raises ToktoolsError, with what is shown, if it asks for something else, ends, or takes too long; with the
        status 1 if it has refused the last command.
        """
        found = self._wait(repr(prompt), {prompt})
        if found != prompt:
            for response in self._responses():
                self.accept(response)
            raise self._unexpected(f"expected {prompt!r}", self._everything())
        self._tell(self._lines(self._told))
        self._told = self._screen.row

    def response(self, new_password: Callable[[str], bytes] | None = None) -> str:
        """Wait for the response to a command and return its JSON, which accept() may yet refuse.

        The response is the one JSON object with an error_code that begins a line and ends one. A question for a
        password is answered by *new_password*, which is called with the question, once for each.
        Raises ToktoolsError as expect() does.
        """
        asked = _HIDDEN if new_password else set()
        while (question := self._wait("response", asked)) != prompts.READY:
            if not new_password or question not in asked:
                raise self._unexpected("expected a response in JSON", self._everything())
            asked = asked - {question}
            self._tell(self._lines(self._told))
            self.type_secret(new_password(question))
        responses, other_lines = _responses(self._lines(self._mark[0]))
        if len(responses) != 1:
            what = f"{len(responses)} responses to one command" if responses else "expected a response in JSON"
            wrong = self._unexpected(what, self._lines(self._mark[0]))
            if new_password and not responses:  # it is the user's own command
                wrong.hint = "check the command; the CLI's help lists them"
            raise wrong
        self._told = self._screen.row
        self._tell(other_lines)
        event(f"response: {len(responses[0])} characters")
        return responses[0]

    def accept(self, response: str) -> None:
        """Raise ToktoolsError, with the status 1, if a response is a refusal: its error_code is not 0."""
        parsed = json.loads(response)
        if parsed["error_code"]:
            raise ToktoolsError(f"{self.name}: refused: {self._brief(str(parsed.get('data', response)))}", status=1)

    def type(self, line: bytes, shown_as: str = "") -> None:
        """Type a line and the Enter key, and forget what was shown before. A secret is *shown_as* something else.

        Raises ToktoolsError for a line that is too long.
        """
        if len(line) > MAX_LINE:
            raise ToktoolsError(f"a line of more than {MAX_LINE} bytes for the CLI; nothing typed")
        self._typed_at = self._prompt()
        self._typed = line.decode(errors="replace")
        text = shown_as or masked(_PASSWORD_OPTION.sub(r"\1(hidden)", self._typed))
        event(f"typed: {text or 'Enter'}")
        self._screen.forget()
        self._mark = (self._screen.row, self._screen.column)
        self._told = self._screen.row + 1
        self._size = 0
        if not self._pty.write(line + b"\r"):
            raise ToktoolsError(f"{self.name}: it does not read its input")

    def type_secret(self, secret: bytes) -> None:
        """Type a secret, once the echo is off. Raises ToktoolsError if it stays on."""
        deadline = time.monotonic() + _ECHO_SECONDS
        while self._pty.mode()[1]:
            if time.monotonic() > deadline:
                raise ToktoolsError(f"{self.name}: it asks for a password, but would show it; nothing typed")
            self.watch(_PROMPT_SECONDS)
        if self._pty.recording:
            self._pty.recording.hide()
        self.type(secret, "(the password)")

    def watch(self, seconds: float) -> None:
        """Show the next output, if some comes within *seconds*. Raises ToktoolsError if the CLI has ended."""
        if self._has_ended_within(seconds):
            _, text, hint = self._exit()
            error = self._unexpected(f"it ended ({text})", self._everything())
            raise ToktoolsError(error.message, hint)

    def watch_until_readable(self, fd: int) -> None:
        """Read what the CLI shows until there is something to read elsewhere. Raises ToktoolsError if it ends."""
        while fd not in terminal.wait([fd, self._pty.fileno()], [], _POLL_SECONDS)[0]:
            self.watch(0)

    def hand_over(self, *, record: bool = False) -> int:
        """Connect the CLI to the user's terminal until it ends, and return its exit status.

        Unless *record* is true, the recording ends before that. Raises ToktoolsError if a signal has ended the CLI, or
        the connection is lost.
        """
        if self._pty.recording and not record:
            self._pty.recording.close()
            self._pty.recording = None
        event("the terminal is handed over")
        self._mark = (self._screen.row, self._screen.column)  # no prompt is known from here on
        self._pty.hand_over()
        status, text, _ = self._exit()
        if status < 0 or self._host.is_lost(status):  # the exit status that a shell gives
            raise ToktoolsError(f"{self.name}: {text}", status=128 - status if status < 0 else 2)
        return status

    def quit(self, seconds: float | None = None) -> None:
        """Leave the CLI. Raises ToktoolsError if it does not end, or not well."""
        self.type(b"quit")
        deadline = time.monotonic() + (seconds or self._seconds)
        while not self._has_ended_within(deadline - time.monotonic()):
            if time.monotonic() > deadline:
                raise self._unexpected("it did not end after quit", self._everything())
        status, text, _ = self._exit()
        if status:
            raise ToktoolsError(f"{self.name}: {text}")

    def leave(self) -> None:
        """Type quit if the CLI is ready and nothing is typed at its prompt, and wait a little.

        So the session ends at once, and its quorum tokens with it.
        """
        if self._pty.has_ended() or self._prompt() != prompts.READY:
            return
        try:
            self.quit(_QUIT_SECONDS)
        except ToktoolsError:
            pass  # what was in the way is told already

    def close(self) -> None:
        """End the CLI, if it has not ended."""
        self._pty.close()

    def _wait(self, awaited: str, expected: Collection[str]) -> str:
        """Wait until the CLI is ready or asks a question, and return the prompt.

        Raises ToktoolsError, which says that nothing like *awaited* came, if it takes too long.
        """
        deadline = time.monotonic() + self._seconds
        sight: tuple[str, bool, str] | None = None
        since = 0.0
        while True:
            prompt, is_covered = self._sight()
            now = time.monotonic()
            seen = prompt, is_covered, "" if prompt else self._screen.line()
            if seen != sight:
                sight, since = seen, now
            # The time from which what is shown counts, if nothing changes; else it is only a moment of drawing.
            due = since + self._patience(prompt, is_expected=not is_covered and self._is_expected(prompt, expected))
            if now < min(due, deadline):
                self.watch(min(due, deadline) - now)
            elif now < due:
                raise self._unexpected(f"no {awaited} within {self._seconds:g} seconds", self._everything())
            elif prompt:
                event(f"seen: {prompt!r}" + (", with other output after it" if is_covered else ""))
                return prompt
            elif self._is_persons():
                self._let_person_answer()
                self.watch(0)  # the program may have ended meanwhile
                deadline = time.monotonic() + self._seconds
            else:
                raise self._unexpected("it asks an unknown question", self._everything())

    def _is_expected(self, prompt: str, expected: Collection[str]) -> bool:
        """Return whether a prompt is an expected question, or the prompt for a command, below the response."""
        return self._is_answered() if prompt == prompts.READY else prompt in expected

    def _patience(self, prompt: str, *, is_expected: bool) -> float:
        """Return after how many seconds without a change the CLI waits at what is shown; infinity: it does not."""
        if prompt:
            return _PROMPT_SECONDS if is_expected else _UNEXPECTED_PROMPT_SECONDS
        if self._is_persons():
            return _PERSON_SECONDS
        is_question = self._screen.row > self._mark[0] and _UNKNOWN_QUESTION.search(self._screen.line())
        return _QUESTION_SECONDS if is_question else inf

    def _is_persons(self) -> bool:
        """Return whether the program may be asking something before the first prompt, with a person there to answer."""
        is_asking = bool(self._screen.line().strip()) or self._pty.mode() == (True, False)
        return self._mark[0] < 0 and self._has_person and is_asking

    def _let_person_answer(self) -> None:
        """Connect the program to the user's terminal, if there is one, until the first prompt.

        The program may be sudo(8), or a CLI whose own key has a pass phrase.
        """

        def until(output: bytes) -> bool:
            self._show(output)
            return self._prompt() == prompts.READY

        lines = [*self._screen.lines(self._told)[:-1], self._screen.line()]
        event("the terminal is connected until the first prompt")
        self._has_person = self._pty.connect("\n".join(map(shown, lines)).encode(), until)
        if self._has_person:
            self._told = self._screen.row

    def _is_answered(self) -> bool:
        """Return whether there is a response to the last line, or no line has been typed."""
        return self._mark[0] < 0 or bool(self._responses())

    def _responses(self) -> list[str]:
        return _responses(self._lines(self._mark[0]))[0]

    def _has_ended_within(self, seconds: float) -> bool:
        """Show the next output, if some comes within *seconds*, or return true if the CLI has ended."""
        output = self._pty.read(max(seconds, 0.0))
        if output:
            self._pty.write(self._show(output))  # as far as there is room: who asks without reading gets no more
        return output is None

    def _show(self, output: bytes) -> bytes:
        """Show output, and return a terminal's answers to it."""
        self._size += len(output)
        answers = self._screen.feed(output)
        if self._size > _MAX_OUTPUT or self._screen.size > _MAX_SCREEN:
            raise ToktoolsError(f"{self.name}: more than {_MAX_OUTPUT} bytes of output")
        return answers

    def _sight(self) -> tuple[str, bool]:
        """Return the prompt that the CLI waits at, or nothing, and whether other output has come behind it."""
        prompt = self._prompt()
        return (prompt, False) if prompt else (self._covered_prompt(), True)

    def _prompt(self) -> str:
        """Return the prompt at the cursor, below or after what was typed, or an empty string."""
        screen = self._screen
        if screen.row < self._mark[0] or (screen.row, screen.column) == self._mark:
            return ""
        if screen.row > self._mark[0]:
            return self._match(screen.line())
        # It stands behind what was typed, or in its place. The same one is only drawn again.
        found = self._match(screen.line(self._mark[1])) or self._match(screen.line())
        return "" if found == self._typed_at else found

    def _covered_prompt(self) -> str:
        """Return the last prompt that a line, as of a log, stands behind, with the cursor below it."""
        if _UNKNOWN_QUESTION.search(self._screen.line()):
            return ""
        first = max(self._mark[0] + 1, self._screen.row - _MAX_ROWS)
        for line in reversed(self._screen.lines(first)[:-1]):
            for prompt, pattern in (*self._begins.items(), *_QUESTIONS.items()):
                found = pattern.match(line)
                rest = line[found.end() :].strip() if found else ""
                # A line editor may show once more what was typed.
                if not rest or (self._typed and rest.startswith(self._typed)):
                    continue
                return "" if prompt in _HIDDEN and self._pty.mode()[1] else prompt
        return ""

    def _match(self, line: str) -> str:
        if self._ready.search(line):
            return prompts.READY
        return next((question for question, pattern in _QUESTIONS.items() if pattern.fullmatch(line)), "")

    def _set_ready_prompt(self, username: str) -> None:
        names = "aws-cloudhsm" + (rf"|{re.escape(username)}@[\w.-]+" if username else "")
        prompt = rf"(?:{names}) >\s*"
        self._ready = re.compile(rf"(?:^{_MARK}|(?P<brace>\}})\s*){prompt}$")
        self._begins = {prompts.READY: re.compile(_MARK + prompt)}

    def _lines(self, first: int) -> list[str]:
        """Return the lines from a row to the prompt, without what was typed."""
        lines = self._screen.lines(max(first, 0))
        last = self._ready.search(lines.pop()) if lines else None
        if last and last["brace"]:  # the prompt stands behind the end of a response
            lines.append(last.string[: last.end("brace")])
        if first == self._mark[0] >= 0 and lines:
            # A CLI may write nothing where a hidden line ends, not even a new line.
            rest = lines[0][self._mark[1] :].lstrip()
            lines[0] = rest if rest.startswith("{") else ""
        return lines

    def _everything(self) -> list[str]:
        lines = self._lines(self._mark[0])
        return [*lines, self._screen.line(self._mark[1] if self._screen.row == self._mark[0] else 0)]

    def _tell(self, lines: Sequence[str]) -> None:
        for line in "\n".join(lines).strip().splitlines():
            self._say(self._brief(line))

    def _exit(self) -> tuple[int, str, str]:
        """Return the exit status of the CLI, what messages say about it, and a hint."""
        status = self._pty.wait(_END_SECONDS)
        text, hint = self._host.ending(status)
        event(f"CLI ended: {text}")
        return status, text, hint

    def _unexpected(self, what: str, lines: Sequence[str]) -> ToktoolsError:
        text = " / ".join(line.strip() for line in lines if line.strip())
        return ToktoolsError(f"{self.name}: {what}; it shows: {self._brief(text) or 'nothing'}", _REPORT)

    def _brief(self, text: str) -> str:
        text = masked(text)
        # The last words most often say why.
        return shown(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN // 3]} ... {text[-_MAX_SHOWN:]}")


def refuse_controls(secret: bytes, what: str) -> None:
    """Refuse a secret with a control character, on which a terminal would act."""
    if any(byte < ord(" ") or byte == _DELETE for byte in secret):
        raise ToktoolsError(f"{what} has a control character, which cannot be typed")


def _responses(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the JSON objects with an error_code that begin and end at line ends, and the other lines."""
    decoder = json.JSONDecoder(object_pairs_hook=_members)
    text = "\n".join(lines)
    responses: list[str] = []
    other_lines: list[str] = []
    tries = end = 0
    for begin in _OBJECT.finditer(text):
        if begin.start() < end or tries == _MAX_TRIES:
            continue  # it is inside the last response
        try:
            parsed, stop = decoder.raw_decode(text, begin.end() - 1)
        except (ValueError, RecursionError):
            tries += 1
            continue
        line_end = _LINE_END.match(text, stop)
        if line_end and type(parsed.get("error_code")) is int:
            other_lines += text[end : begin.start()].splitlines()
            responses.append(text[begin.end() - 1 : stop])
            end = line_end.end()
    return responses, other_lines + text[end:].splitlines()


def _members(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return the members of an object. Raises ValueError if one occurs twice: which of them counts is not known."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError
    return members
