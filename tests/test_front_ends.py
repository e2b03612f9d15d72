"""tok-login before line editors: a scripted one with a switch for every habit, and real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copy

import pytest
from conftest import ROOT, need, wait_until
from rehearsing import PASSWORD
from test_login import Desk, Seat, answers, desk, seat

__all__ = ["desk"]  # fixtures

# A line editor in raw mode, and what a CLI may do around it. {switch} is replaced by a test.
EDITOR = r"""
import tty
BEFORE = termios.tcgetattr(0)

def raw(when=termios.TCSADRAIN):
    tty.setraw(0, when)

def cooked():
    termios.tcsetattr(0, termios.TCSADRAIN, BEFORE)

def draw(prompt, line):
    show(f"\r\x1b[K{prompt}{line}")

def accept(prompt, line):
    show("\r\n")

def edit(prompt, mask=None):
    raw()
    line = ""
    draw(prompt, line)
    while (key := os.read(0, 1).decode()) != "\r":
        line += key
        draw(prompt, line if mask is None else mask * len(line))
    accept(prompt, line if mask is None else mask * len(line))
    cooked()
    note("heard", line)
    return line

def command():
    return edit(READY)

def ask_password():
    edit(PASSWORD, "")

def ask_file(path):
    edit(FILE)

def main():
    note("pid", f"{os.getpid()} {PARENT}")
    start()
    path = command().split()[-1]
    ask_password()
    write_tokens(path)
    ask_file(path)
    answer(path)
    while (line := command()) != "quit":
        if line:
            run(line)
    end()
"""

SWITCHES = {
    "nothing special": "",
    "a question for the cursor": r"""
def edit(prompt, mask=None, old=edit):
    raw()
    show("\x1b[6n")
    answer = ""
    while not answer.endswith("R"):
        answer += os.read(0, 1).decode()
    note("places", answer[1:])
    return old(prompt, mask)
""",
    "a question for the kind": r"""
def start():
    raw()
    show("\x1b[?u\x1b[c\x1b[5n")
    answer = ""
    while not answer.endswith("n"):
        answer += os.read(0, 1).decode()
    cooked()
""",
    "absolute places": r"""
def draw(prompt, line):
    show(f"\x1b[999;1H\x1b[2K{prompt}{line}")
""",
    "a clear screen for every question": r"""
def edit(prompt, mask=None, old=edit):
    show("\x1b[H\x1b[2J")
    return old(prompt, mask)
""",
    "a right prompt": r"""
def draw(prompt, line):
    show(f"\r\x1b[K{prompt}{line}\x1b7\x1b[900G12:00:00\x1b8")
""",
    "hints": r"""
def draw(prompt, line):
    show(f"\r\x1b[K{prompt}{line}\x1b[2m --help\x1b[0m\x1b[7D")
""",
    "a toolbar": r"""
def draw(prompt, line):
    show(f"\r\x1b[J{prompt}{line}\x1b7\r\n\x1b[7mF1 help\x1b[0m\x1b8")
def accept(prompt, line):
    show("\x1b[J\r\n")
""",
    "colours, a title, brackets, strings and C1": r"""
def draw(prompt, line):
    show(f"\x1b]0;title\x07\x1bP+q\x1b\\\x9b1m\x1b[?2004h\r{prompt[:3]}\x1b[1;31m{prompt[3:]}\x1b[0m{line}\x1b[K")
def accept(prompt, line):
    show("\x1b[?2004l\r\n")
""",
    "a mark of the mode": r"""
def draw(prompt, line):
    show(f"\r\x1b[K(ins){prompt}{line}")
""",
    "redrawn on Enter": r"""
def accept(prompt, line):
    show(f"\r\x1b[2K{prompt}{line}\r\x1b[2K{prompt}{line}\r\n")
""",
    "stars": 'def ask_password():\n    edit(PASSWORD, "*")',
    "dots": 'def ask_password():\n    edit(PASSWORD, "•")',
    "no new line after the password": r"""
def accept(prompt, line):
    if "password" not in prompt:
        show("\r\n")
""",
    "another prompt after the login": r"""
def answer(path):
    global READY
    reply(0)
    READY = "officer1@cluster-1a2b > "
""",
    "a blink before the prompt": r"""
def edit(prompt, mask=None, old=edit):
    show(prompt)
    return old(prompt, mask)
""",
    "what is typed too early": r"""
def raw(when=termios.TCSADRAIN):
    time.sleep(0.2)
    tty.setraw(0, termios.TCSAFLUSH)
def command():
    if not os.path.exists("heard"):
        show(READY)
    return edit(READY)
""",
    "a late token file": r"""
def write_tokens(path, old=write_tokens):
    if not os.fork():
        time.sleep(0.4)
        open(path, "w").write('{"version"')
        time.sleep(0.3)
        old(path)
        os._exit(0)
""",
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_line_editor(desk: Desk, switch: str) -> None:
    """Whatever the editor's habit, there is a login, two answers, and nothing else."""
    desk.fake(EDITOR + SWITCHES[switch])
    done = desk.login(commands=("user list", "key list")).check(0)
    assert [answer["data"] for answer in answers(done.out)] == ["user list", "key list"]
    assert done.err == ""
    assert desk.heard() == 1
    assert desk.lines("heard")[1:] == [PASSWORD, "", "user list", "key list", "quit"]


@pytest.mark.parametrize("switch", [switch for switch in SWITCHES if not switch.startswith("what is typed")])
def test_a_line_editor_that_is_handed_over(desk: Desk, switch: str) -> None:
    """The user gets the editor's own prompt, with its switches, and the exit status."""
    desk.fake(EDITOR + SWITCHES[switch] + "\ndef end():\n    os._exit(5)\n")
    with seat(desk) as person:
        person.wait_for("Enter password for officer1: ")
        person.type(PASSWORD)
        person.wait_for("logged in as officer1 (admin)")
        if "brackets" in switch:
            person.wait_for("\x1b[?2004h")
        person.wait_for("> ")
        person.type("user list")
        person.wait_for('"data": "user list"', "> ")
        person.type("quit")
        person.end(5)


ASKS_WHEN_RESIZED = r"""
def redraw(*_):
    show("\x1b[6n")
    answer = ""
    while not answer.endswith("R"):
        answer += os.read(0, 1).decode()
    note("answer", repr(answer))
    show("drawn")
signal.signal(signal.SIGWINCH, redraw)
"""
PATIENT = """
from toktools.login import program
program._REDRAWN = 300.0
from toktools import cli
cli.run("login")
"""


def test_an_editor_that_redraws_for_the_new_size(desk: Desk) -> None:
    """Before it is given an Enter, an editor may ask the terminal where the cursor is, and draw its prompt."""
    desk.fake(EDITOR + ASKS_WHEN_RESIZED)
    _, *rest = desk.words("--password", "file:password")
    person = Seat(desk, [f"{desk.bin}/python", "-c", PATIENT, *rest])
    with closing(person.screen):
        person.wait_for("logged in as officer1 (admin)", "drawn")
        assert desk.lines("answer") == [repr("\x1b[20;1R")]


def test_what_is_typed_at_once(desk: Desk) -> None:
    """What the user types while the prompt is drawn comes behind it."""
    desk.fake(EDITOR)
    with seat(desk, "--password", "file:password") as person:
        person.wait_for("logged in as officer1 (admin)")
        person.type("user list")
        person.wait_for('"data": "user list"')
        person.type("quit")
        person.end(0)
    assert desk.lines("heard")[1:] == [PASSWORD, "", "", "user list", "quit"]


NOISE = r"""
def reply(data, code=0, old=reply):
    show("2026-11-25T12:00:00Z INFO a \x9b31mlog\x1b[0m line {}\n")
    show('{"level": "info", "message": "so does this"}\n')
    old(data, code)
    show("Notice: mind the gap\x07\n")
"""


def test_noise(desk: Desk) -> None:
    """Lines of a log around an answer, and a notice, are told without their sequences, and end nothing."""
    desk.fake(NOISE)
    done = desk.login(commands=("one", "two")).check(0)
    assert [answer["data"] for answer in answers(done.out)] == ["one", "two"]
    lines = [
        "tok-login: 2026-11-25T12:00:00Z INFO a log line {}",
        'tok-login: {"level": "info", "message": "so does this"}',
        "tok-login: Notice: mind the gap\\x07",
    ]
    assert done.err.splitlines() == lines * 3


def test_noise_before_a_question(desk: Desk) -> None:
    """A notice before the question for the password is told."""
    desk.fake('def ask_password():\n    show("Password expires today.\\n" + PASSWORD)\n    hear_hidden()')
    assert desk.login().check(0).err == "tok-login: Password expires today.\n"


@pytest.mark.parametrize("prompt", ["READY", "PASSWORD", "FILE"])
def test_a_log_line_behind_a_prompt(desk: Desk, prompt: str) -> None:
    """A line of a log that comes behind a prompt, at once, and leaves the cursor below it, hides nothing."""
    desk.fake(f"""
def show(text, old=show):
    old(text + "2026-11-28 INFO connected\\n" if text == {prompt} else text)
""")
    done = desk.login(commands=("one", "two")).check(0)
    assert [answer["data"] for answer in answers(done.out)] == ["one", "two"]
    assert done.err.count("2026-11-28 INFO connected\n") == (4 if prompt == "READY" else 1)
    assert desk.lines("heard")[1:] == [PASSWORD, "", "one", "two", "quit"]


@pytest.mark.parametrize(
    "text",
    ["x" * 200_000, "ü{}[]\\\"'" * 2000, ["}aws-cloudhsm > {"] * 2000],
    ids=["one letter", "brackets and quotes", "prompts"],
)
@pytest.mark.parametrize("end", ["\\n", ""], ids=["a line end", "none"])
def test_a_long_answer(desk: Desk, text: object, end: str) -> None:
    """An answer in one line, whatever its length, is joined; a prompt that is glued to it is one."""
    desk.fake(f"""
def run(line):
    show(json.dumps({{"error_code": 0, "data": {text!r}}}) + "{end}")
""")
    done = desk.login().check(0)
    assert [answer["data"] for answer in answers(done.out)] == [text]
    assert done.err == ""


@pytest.mark.parametrize("password", ["for-practice", "for\"prac'tice", "für\\übung/"])
@pytest.mark.parametrize("quoting", ["{}", "json.dumps", "repr", "ascii"])
def test_the_password_is_in_no_message(desk: Desk, password: str, quoting: str) -> None:
    """A CLI that repeats the password, as it is or quoted, is not repeated."""
    desk.write("password", f"{password}\n".encode())
    said = "heard" if quoting == "{}" else f"{quoting}(heard)"
    desk.fake(f"""
def ask_password():
    global heard
    show(PASSWORD)
    heard = hear_hidden()
def answer(path):
    show("not " + {said} + " again\\n")
    reply({said}, 1)
""")
    done = desk.login().check(1)
    for spelling in {password, json.dumps(password)[1:-1], repr(password)[1:-1], ascii(password)[1:-1]}:
        assert spelling not in done.err
    assert done.err.count("(the password)") >= 2


def test_a_password_on_the_screen(desk: Desk) -> None:
    """Where the CLI shows the password, that is said once, and the login goes on."""
    desk.fake(
        'def ask_password():\n    show(PASSWORD)\n    heard = hear_hidden()\n    show(heard + "\\n" + heard + "\\n")'
    )
    done = desk.login().check(0)
    assert done.err.count("THE PASSWORD IS SHOWN") == 1


def test_an_unknown_question_is_shown(desk: Desk) -> None:
    """A question that is not known is shown after three seconds, and given up after --timeout."""
    desk.fake('def ask_password():\n    show("Enter \\x1b[1mPIN\\x1b[0m: ")\n    hear()')
    done = desk.login("--timeout", "8")
    assert done.status == 2
    assert done.err.splitlines() == [
        "tok-login: ./cli: it asks: Enter PIN:",
        "tok-login: ./cli: no 'Enter password:' in 8 seconds; it shows: Enter PIN:",
    ]
    assert desk.heard() == 0


def test_an_unknown_question_is_answered(desk: Desk) -> None:
    """Who is at the terminal may answer a question that is not known, before the password was typed."""
    desk.fake('def start():\n    show("Accept the licence? [y/n] ")\n    note("said", hear())')
    with seat(desk) as person:
        person.wait_for("it asks: Accept the licence? [y/n]", "type your answer and press Enter\r\n")
        person.type("y")
        person.log_in()
        person.type("quit")
        person.end(0)
    assert desk.lines("said") == ["y"]


def test_an_answer_in_any_mode(desk: Desk) -> None:
    """The whole line is the answer, though the terminal does not gather lines, which it is left to do afterwards."""
    desk.fake('def start():\n    show("Which one? ")\n    note("said", hear())')
    words = desk.words("--password", "file:password", "-c", "user list")
    script = 'stty -icanon; "$@"; stty -a | grep -o -e "-icanon"; stty icanon; exit'
    person = Seat(desk, ["/bin/sh", "-c", script, "sh", *words])
    with closing(person.screen):
        person.wait_for("type your answer and press Enter\r\n")
        for key in "one":
            person.screen.send(key.encode())
            person.wait_for(key)
        person.type("")
        person.wait_for('"user list"', "-icanon")
        person.end(0)
    assert desk.lines("said") == ["one"]


def test_a_secret_is_answered(desk: Desk) -> None:
    """What is asked for as a secret is not shown while it is typed, nor in a message."""
    desk.fake('def start():\n    show("Enter the PIN: ")\n    raise SystemExit(hear() and show("not 271828"))')
    with seat(desk) as person:
        person.wait_for("type your answer and press Enter\r\n")
        assert not person.screen.getecho()
        person.type("271828")
        assert "271828" not in person.end(2)


def test_ctrl_z(desk: Desk) -> None:
    """Ctrl-Z stops tok-login as a job of the shell, and fg goes on with it."""
    desk.fake()
    script = '"$@"; echo "stopped: $?"; read go; fg; echo "over: $?"'
    words = [need("bash"), "-m", "-c", script, "bash", *desk.words("--password", "file:password")]
    person = Seat(desk, words)
    with closing(person.screen):
        person.wait_for("aws-cloudhsm > ")
        person.screen.send(b"\x1a")
        person.wait_for("stopped: 148\r\n")
        assert person.screen.getecho()
        person.type("")
        person.wait_for('"$@"\r\n')
        person.type("user list")
        person.wait_for('"data": "user list"')
        person.type("quit")
        person.wait_for("over: 0")
        person.end(0)


# Real line editors, which know nothing of this project.

PYTHON = r"""
import os
os.environ.setdefault("TERM", "xterm")
def hear_line(line):
    note("heard", line)
    return line
"""
READLINE = (
    PYTHON
    + r"""
import readline
def ask(prompt):
    return hear_line(input(prompt))
def ask_password():
    import getpass
    hear_line(getpass.getpass(PASSWORD))
"""
)
REAL = {
    "GNU readline": READLINE
    + r"""
readline.parse_and_bind("set enable-bracketed-paste on")
""",
    "GNU readline, vi": READLINE
    + r"""
readline.parse_and_bind("set editing-mode vi")
readline.parse_and_bind("set show-mode-in-prompt on")
""",
    "prompt_toolkit": PYTHON
    + r"""
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
SESSION = PromptSession(bottom_toolbar="F1 help", rprompt="right", auto_suggest=AutoSuggestFromHistory())
def ask(prompt):
    return hear_line(SESSION.prompt(prompt))
def ask_password():
    hear_line(PromptSession().prompt(PASSWORD, is_password=True))
""",
}
MAIN = r"""
def main():
    note("pid", f"{os.getpid()} {PARENT}")
    path = ask(READY).split()[-1]
    ask_password()
    write_tokens(path)
    ask(FILE)
    answer(path)
    while (line := ask(READY)) != "quit":
        if line:
            run(line)
"""
NODE = r"""
const fs = require("fs"), readline = require("readline");
const READY = "aws-cloudhsm > ", PASSWORD = "Enter password:";
const FILE = "Enter signed token file path (press enter if same as the unsigned token file):";
fs.appendFileSync("pid", process.pid + " " + process.ppid + "\n");
const face = readline.createInterface({input: process.stdin, output: process.stdout, terminal: true});
const ask = (prompt) => new Promise((resolve) => face.question(prompt, (line) => {
  fs.appendFileSync("heard", line + "\n");
  resolve(line);
}));
const reply = (data) => console.log(JSON.stringify({error_code: 0, data}, null, 2));
(async () => {
  const path = (await ask(READY)).split(" ").pop();
  const write = face._writeToOutput;
  const hide = (text) => text.startsWith(PASSWORD) ? PASSWORD : text.includes("\n") ? "\r\n" : "*";
  face._writeToOutput = (text) => write.call(face, hide(text));
  await ask(PASSWORD);
  face._writeToOutput = write;
  const unsigned = Buffer.alloc(32, 1).toString("base64");
  fs.writeFileSync(path, JSON.stringify({version: "2.0", tokens: [{unsigned, signed: ""}]}));
  await ask(FILE);
  reply(0);
  for (let line; (line = await ask(READY)) !== "quit";) if (line) reply(line);
  face.close();
})();
"""


FRONT_ENDS = ROOT / "tests" / "front_ends"
CRATES = Path("/usr/share/cargo/registry")  # where Debian's packages of Rust have them
CARGO = """
[package]
name = "cli"
version = "0.0.0"
edition = "2021"
[[bin]]
name = "cli"
path = "rustyline.rs"
[dependencies]
rustyline = {version = "9", default-features = false}
[profile.dev]
debug = false
incremental = false
"""


@pytest.fixture(scope="session")
def rustyline(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A CLI on rustyline, built from Debian's packages."""
    need("cargo", "rustyline-9")
    return once("rustyline", _build_rustyline) / "target" / "debug" / "cli"


def _build_rustyline(folder: Path) -> None:
    (folder / "Cargo.toml").write_text(CARGO)
    copy(FRONT_ENDS / "rustyline.rs", folder)
    source = ["source.crates-io.replace-with='debian'", f"source.debian.directory='{CRATES}'"]
    words = ["cargo", "build", "--quiet", "--offline", "--target-dir", "target"]
    subprocess.run([*words, "--config", source[0], "--config", source[1]], cwd=folder, check=True)


def _node(desk: Desk, _: pytest.FixtureRequest) -> None:
    need("node")
    desk.write("fake.js", NODE.encode())
    desk.script('exec node fake.js "$@"')


def _reedline(desk: Desk, _: pytest.FixtureRequest) -> None:
    nu = need("nu")
    run = f"--no-config-file --no-history --execute 'source {FRONT_ENDS}/reedline.nu'"
    desk.script(f"echo $$ $PPID >pid; HOME=$PWD exec {nu} {run}")


def _rustyline(desk: Desk, request: pytest.FixtureRequest) -> None:
    desk.script(f"exec {request.getfixturevalue('rustyline')}")


OTHERS = {"node's readline": _node, "reedline": _reedline, "rustyline": _rustyline}


@pytest.fixture(params=[*REAL, *OTHERS])
def real(request: pytest.FixtureRequest, desk: Desk) -> Desk:
    """A desk where the CLI is drawn by a real line editor."""
    if request.param in REAL:
        desk.fake(REAL[request.param] + MAIN)
        desk.script(f'exec {sys.executable} fake.py "$@"')
    else:
        OTHERS[request.param](desk, request)
    return desk


def test_a_real_editor(real: Desk) -> None:
    """A login, two commands and the end."""
    env = {**real.env, "TERM": "xterm"}
    done = real.login(commands=("user list", "key list"), env=env).check(0)
    assert [answer["data"] for answer in answers(done.out)] == ["user list", "key list"]
    assert real.lines("heard")[1:] == [PASSWORD, "", "user list", "key list", "quit"]


def test_a_real_editor_that_is_handed_over(real: Desk) -> None:
    """The editor's own prompt comes to the user's terminal, and what is typed there to the editor."""
    with seat(real) as person:
        person.wait_for("Enter password for officer1: ")
        person.type(PASSWORD)
        person.wait_for("logged in as officer1 (admin)", "cloudhsm")
        if "reedline" not in real.read("cli").decode():
            wait_until(lambda: len(real.lines("heard")) == 4)  # so many lines and no more may be typed at once
        person.type("user list")
        person.wait_for('"data": "user list"')
        person.type("quit")
        person.end(0)
