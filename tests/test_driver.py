"""The driver with a program that only plays its part, and a clock that only its silence moves on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from toktools import prompts
from toktools.errors import ToktoolsError
from toktools.login import driver
from toktools.system import terminal

READY, PASSWORD = prompts.READY, prompts.PASSWORD
TYPED, ENDS = object(), None


class Program:
    """Plays steps: what it shows, seconds of silence, a wait for a line that is typed, a change of mode, its end."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.now = 0.0
        self.typed: list[bytes] = []
        self.typed_in: list[tuple[bool, bool]] = []
        """The modes then."""
        self.heard = 0
        self.modes = (True, False)
        self.flushed = False
        self.has_room = True
        self.status = 0
        self.is_closed = False
        self.size = (0, 0)
        self.reads = 0

    def read(self, patience: float) -> bytes | None:
        self.reads += 1
        assert self.reads < 20_000
        while self.steps:
            step = self.steps[0]
            if step is ENDS:
                return None
            if isinstance(step, float) and step > patience:
                self.steps[0] -= patience
                break
            if step is TYPED and self.heard >= len(self.typed):
                break
            self.steps.pop(0)
            if isinstance(step, float):
                self.now += step
                patience -= step
            elif step is TYPED:
                self.heard += 1
            elif isinstance(step, str):
                return step.encode()
            else:
                step(self)
        self.now += patience + 1e-6  # to look takes a moment
        return b""

    def write(self, keys: bytes, _patience: float = 0.0) -> bool:
        self.typed.append(keys)
        self.typed_in.append(self.modes)
        return self.has_room

    def mode(self) -> tuple[bool, bool]:
        return self.modes

    def has_ended(self) -> bool:
        return self.steps[:1] == [ENDS]

    def fileno(self) -> int:
        return 99

    def connect(self) -> None:
        self.typed.append(b"connected")

    def wait(self) -> int:
        return self.status

    def close(self) -> None:
        self.is_closed = True


def echo(program: Program) -> None:
    program.modes = (True, True)


def no_echo(program: Program) -> None:
    program.modes = (True, False)


def edits(program: Program) -> None:
    program.modes = (False, False)


class Started:
    """A CLI with its program, and what it has said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Any, timeout: float = 60.0) -> None:
        self.program = Program(*steps)
        self.said: list[str] = []
        monkeypatch.setattr(driver, "Program", lambda _argv, *size: self._begin(size))
        monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: self.program.now))
        self.cli = driver.Cli(["cli"], "cli", self.said.append, timeout)

    def _begin(self, size: tuple[int, int]) -> Program:
        self.program.size = size
        return self.program


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Started]:
    """Start a CLI of these steps; nobody is at a terminal."""
    monkeypatch.setattr(terminal, "is_in_front", lambda: False)
    return lambda *steps, **more: Started(monkeypatch, *steps, **more)


def refused(call: Callable[[], object]) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        call()
    return raised.value


@pytest.mark.parametrize("mark", ["", "(ins)", "(vi-mode) ", "@ ", "+", ">>> ", "  "])
def test_a_prompt(start: Callable[..., Started], mark: str) -> None:
    """It may have the mark of a line editor before it; what stands above is told."""
    started = start(f"one\r\n\r\ntwo\r\n{mark}{READY}")
    started.cli.wait_for(READY)
    assert started.said == ["one", "", "two"]
    assert started.program.now < 0.5
    assert started.program.size == (24, 1000)


@pytest.mark.parametrize("line", ["abcd", "a ", "(a b)", "{}", ">>>>", "(123456789)"])
def test_what_is_no_prompt(start: Callable[..., Started], line: str) -> None:
    """Other words before it are not."""
    error = refused(lambda: start(f"{line}{PASSWORD}").cli.wait_for(PASSWORD))
    assert error.message == f"cli: no 'Enter password:' in 60 seconds; it shows: {line}Enter password:".replace(
        "  ", " "
    )


def test_a_passing_sight(start: Callable[..., Started]) -> None:
    """A prompt that goes on to something else at once is none; one that stays is."""
    started = start(READY, 0.004, "\r\x1b[K", 0.4, PASSWORD, 0.004, "\r\nnoted\r\n", 0.1, READY)
    started.cli.wait_for(READY)
    assert started.program.steps == []
    started = start(PASSWORD, 0.006, "\r\nlate")
    started.cli.wait_for(PASSWORD)
    assert started.program.steps != []


def test_another_prompt(start: Callable[..., Started]) -> None:
    """It may be a passing one for half a second; then it is told."""
    started = start(READY, 0.45, f"\r\n{PASSWORD}")
    started.cli.wait_for(PASSWORD)
    started = start(READY, 0.55, f"\r\n{PASSWORD}")
    error = refused(lambda: started.cli.wait_for(PASSWORD))
    assert error.message == "cli: 'Enter password:' was expected; it shows: aws-cloudhsm >"
    assert (error.status, error.hint) == (2, "")


@pytest.mark.parametrize("timeout", [60.0, 2.5])
def test_silence(start: Callable[..., Started], timeout: float) -> None:
    """It is waited for from the last sign of life on."""
    started = start(timeout - 0.1, "a", timeout - 0.1, "b", timeout=timeout)
    error = refused(lambda: started.cli.wait_for(READY))
    assert error.message == f"cli: no 'aws-cloudhsm > ' in {timeout:g} seconds; it shows: ab"
    assert started.program.now == pytest.approx(3 * timeout - 0.2)
    assert refused(lambda: start(timeout=timeout).cli.wait_for(READY)).message.endswith("it shows: nothing")


def test_an_end(start: Callable[..., Started]) -> None:
    """It is told with what was shown, wherever it comes."""
    started = start("a\r\nb", ENDS)
    started.program.status = 3
    said = "cli: it ended (exit status 3); it shows: a / b"
    assert refused(lambda: started.cli.wait_for(READY)).message == said
    assert refused(lambda: started.cli.watch(1.0)).message == said
    asked: list[int] = []
    assert refused(lambda: started.cli.meanwhile(lambda: asked.append(1))).message == said
    assert asked == []
    started.cli.close()
    assert started.program.is_closed
    assert started.cli.meanwhile(lambda: 5) == 5  # what it has ended itself surprises nobody


def test_an_end_while_a_person_is_asked(start: Callable[..., Started]) -> None:
    """The question is broken off; another child's end, or the handler's before, is nothing to it."""
    started = start("a", 1.0)
    before = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    tidied: list[int] = []

    def ask() -> int:
        signal.raise_signal(signal.SIGCHLD)
        started.program.steps[:] = [ENDS]
        try:
            signal.raise_signal(signal.SIGCHLD)
        finally:
            signal.raise_signal(signal.SIGCHLD)  # once is enough
            tidied.append(1)
        return 1

    started.cli.watch(0.1)
    assert refused(lambda: started.cli.meanwhile(ask)).message == "cli: it ended (exit status 0); it shows: a"
    assert tidied == [1]
    assert (signal.getsignal(signal.SIGCHLD), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == (before, mask)


def test_to_type(start: Callable[..., Started]) -> None:
    """A line goes with Enter; one that a row would wrap is refused; a CLI that does not read is given up."""
    started = start(edits, READY, TYPED, f"{READY}a\r\n", PASSWORD)
    started.cli.wait_for(READY)
    started.cli.type(b"a")
    started.cli.wait_for(PASSWORD)
    started.cli.type(b"x" * 900)
    assert started.program.typed == [b"a\r", b"x" * 900 + b"\r"]
    assert refused(lambda: started.cli.type(b"x" * 901)).message == (
        "a line of more than 900 bytes for the CLI; nothing typed"
    )
    assert len(started.program.typed) == 2
    started.program.has_room = False
    assert refused(lambda: started.cli.type(b"")).message == "cli: it has not read what was typed in 60 seconds"


@pytest.mark.parametrize(("name", "what"), [("the password", "a password"), ("the answer", "a secret")])
def test_the_echo_before_a_secret(start: Callable[..., Started], name: str, what: str) -> None:
    """It has five seconds to go off; where it stays on, nothing is typed."""
    started = start(echo, PASSWORD, 4.9, no_echo)
    started.cli.wait_for(PASSWORD)
    started.cli.type_secret(b"secret", name)
    assert started.program.typed == [b"secret\r"]
    started = start(echo, PASSWORD, 5.2, no_echo)
    started.cli.wait_for(PASSWORD)
    assert refused(lambda: started.cli.type_secret(b"secret", name)).message == (
        f"cli: it asks for {what} but would show it on the screen; nothing typed"
    )
    assert started.program.typed == []


@pytest.mark.parametrize(
    ("secret", "shown", "told"),
    [
        (b"four", "\r\nis four\r\n", 1),
        (b"four", "four", 1),
        (b"fou", "\r\nis fou\r\n", 0),
        (b"four", f"\r\n{'x' * 65530}\r\n four\r\n", 0),
        (b"four", f"\r\n{'x' * 65520}\r\n four\r\n", 1),
        (b"four", "\r\nfou\r\n", 0),
    ],
)
def test_a_secret_that_is_shown(start: Callable[..., Started], secret: bytes, shown: str, told: int) -> None:
    """That is told once, unless it is so short that it may be chance; and no message shows it."""
    started = start(PASSWORD, TYPED, shown, 1.0, shown)
    started.cli.wait_for(PASSWORD)
    started.cli.type_secret(secret)
    error = refused(lambda: started.cli.wait_for(READY))
    warning = "warning: THE PASSWORD IS SHOWN on the CLI's screen; change it if anyone may have seen or recorded it"
    assert [said for said in started.said if "warning" in said] == [warning] * told
    assert secret.decode() not in error.message.partition("it shows: ")[2].replace("(the password)", "")


GOOD = '{\r\n  "error_code": 0,\r\n  "data": "a"\r\n}'
BAD = '{"error_code": 1, "data": "not so"}'


def asked(start: Callable[..., Started], *steps: Any, **more: Any) -> Started:
    """A CLI that was told to do something."""
    started = start(edits, READY, TYPED, "do\r\n", *steps, **more)
    started.cli.wait_for(READY)
    started.cli.type(b"do")
    return started


def test_an_answer(start: Callable[..., Started]) -> None:
    """It is the one JSON object with an error_code on lines of its own; what is shown besides is told."""
    started = asked(start, f"note\r\n{GOOD}\r\n", 0.3, f"{{}}\r\n{READY}")
    assert started.cli.answer() == GOOD.replace("\r", "")
    assert started.said == ["note", "{}"]
    started.cli.accept(GOOD)
    assert asked(start, f"{BAD} {READY}").cli.answer() == BAD
    error = refused(lambda: started.cli.accept(BAD))
    assert (error.message, error.status) == ("cli: refused: not so", 1)
    error = refused(lambda: started.cli.accept('{"error_code": 2}'))
    assert error.message == 'cli: refused: {"error_code": 2}'
    started.cli.accept("text")


def test_an_answer_that_is_text(start: Callable[..., Started]) -> None:
    """Where that will do, all that is shown is the answer; but JSON stays the one answer."""
    assert asked(start, f"\r\n one\r\ntwo \r\n\r\n{READY}").cli.answer(text=True) == " one\ntwo"
    assert asked(start, f"one\r\n{BAD}\r\n{READY}").cli.answer(text=True) == BAD
    assert asked(start, READY).cli.answer(text=True) == ""


@pytest.mark.parametrize("shown", ["text", f"{BAD.replace('1', '0')}\r\n{BAD.replace('1', '0')}", "x {} x"])
def test_no_answer(start: Callable[..., Started], shown: str) -> None:
    """With the prompt again, and no answer or two, it is told after half a second."""
    started = asked(start, f"{shown}\r\n{READY}")
    began = started.program.now
    error = refused(lambda: started.cli.answer({}))
    assert error.message.startswith("cli: an answer in JSON was expected; it shows: ")
    assert error.hint == "--text accepts an answer that is not JSON"
    assert 0.5 <= started.program.now - began < 0.7


def test_a_refusal_in_place_of_a_question(start: Callable[..., Started]) -> None:
    """It is the CLI's answer, with the status of one, and its text is cut where it is long."""
    started = asked(start, f"{BAD}\r\n{READY}")
    assert refused(lambda: started.cli.wait_for(PASSWORD)).message == "cli: refused: not so"
    for size, text in ((300, "x" * 300), (301, "x" * 100 + " ... " + "x" * 300)):
        assert refused(lambda size=size: started.cli.accept(BAD.replace("not so", "x" * size))).message == (  # type: ignore[misc]
            f"cli: refused: {text}"
        )


def test_replies(start: Callable[..., Started]) -> None:
    """A question is answered by its words, once; a secret one once its echo is off."""
    started = asked(start, "Name: ", TYPED, "\r\nEnter PIN:", 0.02, no_echo, TYPED, f"\r\n{GOOD}\r\n{READY}")
    started.program.modes = (True, True)
    replies = {name: lambda what, _kind: f"my {what}".encode() for name in ("Name", "Enter PIN", "Other")}
    assert started.cli.answer(replies) == GOOD.replace("\r", "")
    assert started.program.typed[1:] == [b"my Name\r", b"my Enter PIN\r"]
    assert [*replies] == ["Other"]
    assert started.cli._hidden("my Name, my Enter PIN") == "my Name, (the answer)"  # noqa: SLF001 - what messages go through
    started = asked(start, "Name: ")
    error = refused(lambda: started.cli.answer({"Name": lambda _name, _what: b"a\tb"}))
    assert error.message == "Name: the answer has a control character, which cannot be typed"


def test_a_question_that_is_not_known(start: Callable[..., Started]) -> None:
    """After three seconds of silence it is told, once; nobody answers it, and time goes on."""
    started = start("Sure? ", 2.9, "Really? ", 10.0, "\r\nPIN? ")
    error = refused(lambda: started.cli.wait_for(READY))
    assert started.said == ["cli: it asks: Sure? Really?", "cli: it asks: PIN?"]
    assert error.message == "cli: no 'aws-cloudhsm > ' in 60 seconds; it shows: Sure? Really? / PIN?"
    assert started.program.now == pytest.approx(72.9)


@pytest.mark.parametrize(("question", "hidden"), [("Sure? ", False), ("Your PIN: ", True), ("PINE? ", False)])
def test_who_answers_it(
    start: Callable[..., Started],
    monkeypatch: pytest.MonkeyPatch,
    question: str,
    hidden: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    """Whoever is at the terminal, before any secret was typed; what looks like a secret is typed blind."""
    monkeypatch.setattr(terminal, "is_in_front", lambda: True)
    asked: list[Any] = []

    def ask(fd: int, until: float, show: Callable[[bytes], object], *, hidden: bool) -> bytes | None:
        show(b"")
        asked.append((fd, until, hidden))
        return None if len(asked) == 1 else b"yes\r\n" if len(asked) == 2 else b""

    monkeypatch.setattr(terminal, "ask_unless", ask)
    started = start(echo, question, 3.5, ".", 4.0, TYPED, f"\r\n{question}")
    error = refused(lambda: started.cli.wait_for(READY))
    assert "no 'aws-cloudhsm > ' in 60 seconds" in error.message
    assert started.program.typed == [b"yes\r"]
    # None is asked again, no line is not; nor is anything once a secret was typed.
    assert [(fd, hides) for fd, _, hides in asked] == [(99, hidden)] * (2 if hidden else 3)
    assert started.said.count("type your answer and press Enter") == len(asked)


def test_nobody_answers_after_a_secret(start: Callable[..., Started], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked then may be anything; nor is a hidden line typed for a question that is none of a person's."""
    monkeypatch.setattr(terminal, "is_in_front", lambda: pytest.fail("nobody is looked for"))
    started = start(PASSWORD, TYPED, "\r\nSure? ")
    started.cli.wait_for(PASSWORD)
    started.cli.type_secret(b"secret")
    refused(lambda: started.cli.wait_for(READY))
    refused(lambda: start(no_echo, "Sure? ").cli.wait_for(READY))
    refused(lambda: start(echo, "\r\n").cli.wait_for(READY))


def test_a_line_that_was_thrown_away(start: Callable[..., Started]) -> None:
    """By a line editor that began only then: it is typed once more, and no secret ever is."""
    started = start(edits, READY)
    started.cli.wait_for(READY)
    started.cli.type(b"do")
    started.program.flushed = True
    refused(started.cli.answer)
    assert started.program.typed == [b"do\r"] * 2
    started = start(edits, READY)
    started.cli.wait_for(READY)
    started.cli.type(b"do")
    refused(started.cli.answer)
    assert started.program.typed == [b"do\r"]
    started = start(PASSWORD)
    started.cli.wait_for(PASSWORD)
    started.cli.type_secret(b"secret")
    started.program.flushed = True
    refused(lambda: started.cli.wait_for(READY))
    assert started.program.typed == [b"secret\r"]


def test_a_bare_prompt_after_a_line(start: Callable[..., Started]) -> None:
    """Where the terminal showed the line before there was an editor, the bare prompt has it typed again."""
    steps = (echo, READY, TYPED, "do\r\n", edits, READY, TYPED, f"do\r\n{GOOD}\r\n{READY}")
    started = start(*steps)
    started.cli.wait_for(READY)
    started.cli.type(b"do")
    assert started.cli.answer() == GOOD.replace("\r", "")
    assert started.program.typed == [b"do\r"] * 2


def test_a_prompt_that_is_covered(start: Callable[..., Started]) -> None:
    """A line of a log may come behind it; after half a second it counts, and for a secret once the echo is off."""
    started = start(f"{PASSWORD} 12:00 a log\r\n")
    started.cli.wait_for(PASSWORD)
    assert 0.5 <= started.program.now < 0.6
    started = start(echo, f"{PASSWORD} 12:00 a log\r\n", 5.0, no_echo)
    started.cli.wait_for(PASSWORD)
    assert started.program.now > 5
    started = start(f"{READY}12:00 a log\r\n")
    started.cli.wait_for(READY)
    refused(lambda: start(f"{READY}\r\n").cli.wait_for(READY))


def test_a_line_behind_a_question(start: Callable[..., Started]) -> None:
    """A log may go on while a person thinks: the question counts still, as long as what is typed is hidden."""
    for mode, well in ((no_echo, True), (echo, False)):
        started = start(PASSWORD, 1.0, mode, "\r\na log\r\n")
        started.cli.wait_for(PASSWORD)
        started.cli.watch(0.5)
        started.cli.watch(0.6)
        if well:
            before = started.program.now
            started.cli.wait_for(PASSWORD)
            assert started.program.now - before < 0.5
            assert started.said[-1:] == ["a log"]
        else:
            refused(lambda started=started: started.cli.wait_for(PASSWORD))  # type: ignore[misc]


def test_an_answer_beside_a_hidden_line(start: Callable[..., Started]) -> None:
    """A CLI may say nothing where a hidden line ends, not even a new line."""
    started = start("banner\r\n", PASSWORD, TYPED, f"{GOOD}\r\n{READY}")
    started.cli.wait_for(PASSWORD)
    started.cli.type_secret(b"secret")
    assert started.cli.answer() == GOOD.replace("\r", "")


def test_what_is_shown_in_a_message(start: Callable[..., Started]) -> None:
    """All since the last line that was typed, and nothing before it."""
    started = start("banner\r\n\r\n", edits, READY, TYPED, "do\r\none\r\ntwo")
    started.cli.wait_for(READY)
    started.cli.type(b"do")
    assert refused(started.cli.answer).message.endswith("it shows: one / two")


def test_what_is_not_typed_again(start: Callable[..., Started]) -> None:
    """A line that had an answer, though it was no good one; and what answers a question."""
    started = start(echo, "banner\r\n", READY, TYPED, "do\r\nnothing\r\n", edits, READY)
    started.cli.wait_for(READY)
    started.cli.type(b"do")
    assert "an answer in JSON was expected" in refused(started.cli.answer).message
    assert started.program.typed == [b"do\r"]
    for line in (b"", b"/path"):
        started = start(prompts.PUBLIC_KEY)
        started.cli.wait_for(prompts.PUBLIC_KEY)
        started.cli.type(line)
        started.program.flushed = True
        refused(started.cli.answer)
        assert started.program.typed == [line + b"\r"]


def test_an_editor_that_begins_late(start: Callable[..., Started]) -> None:
    """Before the first command it is waited for a moment; where there is none, not again."""
    started = start(echo, READY, 0.03, edits)
    started.cli.wait_for(READY)
    started.cli.type(b"a")
    assert started.program.typed_in == [(False, False)]
    for mode, modes in ((echo, (True, True)), (no_echo, (True, False))):
        started = start(mode, READY, TYPED, f"a\r\n{GOOD}\r\n{READY}", 0.07, edits)
        started.cli.wait_for(READY)
        before = started.program.now
        started.cli.type(b"a")
        assert started.program.now - before == pytest.approx(0.05, abs=0.01)
        started.cli.answer()
        before = started.program.now
        started.cli.type(b"b")
        assert started.program.now == before
        assert started.program.typed_in == [modes] * 2


def test_an_echo_that_goes_off_after_the_question(start: Callable[..., Started]) -> None:
    """It says that the answer is a secret, whatever the question's words are; where it stays on, it is none."""
    for step, hidden in ((no_echo, "(the answer)"), (echo, "abcde")):
        started = asked(start, "Code:", 0.02, step, TYPED, f"\r\n{GOOD}\r\n{READY}")
        started.program.modes = (True, True)
        started.cli.answer({"Code": lambda _name, _what: b"abcde"})
        assert started.cli._hidden("abcde") == hidden  # noqa: SLF001 - what messages go through


def test_to_hand_over(start: Callable[..., Started]) -> None:
    """The program's own status is returned; a signal that ended it is told."""
    started = start()
    for status in (0, 1, 3):
        started.program.status = status
        assert started.cli.hand_over() == status
    assert started.program.typed == [b"connected"] * 3
    started.program.status = -9
    assert refused(started.cli.hand_over).message == "cli: killed by signal 9 (Killed)"


def test_to_end(start: Callable[..., Started]) -> None:
    """A good end is none to speak of; another, or none, is told."""
    start("bye", ENDS).cli.end()
    started = start(ENDS)
    started.program.status = 1
    assert refused(started.cli.end).message == "cli: exit status 1"
    started = start("never")
    assert refused(started.cli.end).message == "cli: it did not end after quit; it shows: never"
    assert started.program.now == pytest.approx(60)


def test_a_flood(start: Callable[..., Started]) -> None:
    """Four megabytes between two lines are the most."""
    piece = "x" * ((1 << 19) - 2) + "\r\n"
    assert "in 60 seconds" in refused(lambda: start(*[piece] * 8).cli.wait_for(READY)).message
    error = refused(lambda: start(*[piece] * 8, READY).cli.wait_for(READY))
    assert error.message == "cli: more than 4194304 bytes of output"


def test_the_prompt_with_a_name(start: Callable[..., Started]) -> None:
    """After a login it may name the user and the cluster; before, it does not."""
    prompt = "a.b@cluster-1 > "
    started = start(prompt)
    started.cli.knows("a.b")
    started.cli.wait_for(READY)
    for name in ("", "axb"):
        started = start(prompt)
        started.cli.knows(name)
        assert "no 'aws-cloudhsm > '" in refused(lambda started=started: started.cli.wait_for(READY)).message  # type: ignore[misc]


OTHERS = ['{"error_code": true}', '{"a": 1}', '{"error_code": "0"}']


def test_spellings() -> None:
    """A secret is known however JSON, Python or Rust quotes it, and the longest spelling comes first."""
    secret = "a\"b'c/\u00e4\n"
    spellings = driver._spellings(secret)  # noqa: SLF001 - none of them may be in a message
    for spelling in ("a\\\"b'c/\u00e4\\n", "a\\\"b'c/\\u00e4\\n", "a\"b\\'c/\u00e4\\n", "a\\\"b'c\\/\u00e4\\n", secret):
        assert spelling in spellings
    assert spellings == sorted(spellings, key=len, reverse=True)
    coded = {"\\" * count + code for count in (1, 2) for code in ("u00e9", "xe9")}
    assert {*driver._spellings("\u00e9")} == {"\u00e9"} | coded  # noqa: SLF001 - the same
    assert driver._spellings("") == []  # noqa: SLF001 - the same


@pytest.mark.parametrize(
    ("lines", "answers", "noise"),
    [
        ([], [], []),
        (['{"error_code": 0}'], ['{"error_code": 0}'], []),
        (["a", ' {"error_code": 0,', '"b": 1} ', "c"], ['{"error_code": 0,\n"b": 1}'], ["a", "c"]),
        (['{"error_code": 0} x'], [], ['{"error_code": 0} x']),
        (['x {"error_code": 0}'], [], ['x {"error_code": 0}']),
        (
            OTHERS,
            [],
            OTHERS,
        ),
        (["{" * 99_999, '{"error_code": 0}'], ['{"error_code": 0}'], ["{" * 99_999]),
        (["{x"] * 63 + ['{"error_code": 0}'], ['{"error_code": 0}'], ["{x"] * 63),
        (["{x"] * 64 + ['{"error_code": 0}'], [], ["{x"] * 64 + ['{"error_code": 0}']),
        (['{"error_code": 0}', '{"error_code": 1}'], ['{"error_code": 0}', '{"error_code": 1}'], []),
    ],
)
def test_answers_among_lines(lines: list[str], answers: list[str], noise: list[str]) -> None:
    """Objects with an error_code that is a number, from the beginning of a line to the end of one."""
    assert driver._answers(lines) == (answers, noise)  # noqa: SLF001 - answer() shows one alone


@pytest.mark.parametrize(
    ("secret", "well"), [(b" ~\x80\xff", True), (b"a\x1f", False), (b"\x7f", False), (b"\n", False)]
)
def test_controls(secret: bytes, well: bool) -> None:  # noqa: FBT001 - pytest gives it
    """A control character is not typed."""
    if well:
        driver.refuse_controls(secret, "it")
    else:
        said = "it has a control character, which cannot be typed"
        assert refused(lambda: driver.refuse_controls(secret, "it")).message == said
    assert [driver.plain(text) for text in (" Enter PIN : ", "a:b::")] == ["Enter PIN", "a:b"]
