"""tok-login before line editors: a scripted one with a switch for every habit, and real ones."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copy

import pytest
from cli_desk import EDITOR, SWITCHES, Desk, Seat, answers, desk, seat
from conftest import ROOT, need, wait_until
from rehearsing import PASSWORD

__all__ = ["desk"]  # fixtures


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_line_editor(desk: Desk, switch: str) -> None:
    """Whatever the editor's habit, there is a login, two answers, and nothing else."""
    desk.fake(EDITOR + SWITCHES[switch])
    done = desk.login(commands=("user list", "key list")).check(0)
    assert [answer["data"] for answer in answers(done.out)] == ["user list", "key list"]
    assert done.err == ""
    assert desk.heard() == 1
    assert desk.lines("heard")[1:] == [PASSWORD, "", "user list", "key list", "quit"]


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
    show("2026-11-25T12:00:00Z INFO a \x1b[31mlog\x1b[0m line {}\n")
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
        "tok-login: Notice: mind the gap",
    ]
    assert done.err.splitlines() == lines * 3


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


@pytest.mark.parametrize("milliseconds", [50, 100])
def test_a_log_without_an_end(desk: Desk, milliseconds: int) -> None:
    """A CLI that logs all the time is understood, or given up at the deadline."""
    desk.fake(f"""
import threading
def log():
    while True:
        time.sleep({milliseconds} / 1000)
        show("2026-11-28 INFO connected\\n")
threading.Thread(target=log, daemon=True).start()
""")
    done = desk.login(commands=("one", "two")).check(0)
    assert [answer["data"] for answer in answers(done.out)] == ["one", "two"]
    assert desk.lines("heard")[1:] == [PASSWORD, "", "one", "two", "quit"]
    desk.fake(f"def start():\n    while True:\n        time.sleep({milliseconds} / 1000)\n        show('INFO busy\\n')")
    done = desk.login("--timeout", "2").check(
        2, "no 'aws-cloudhsm > ' within 2 seconds; it shows: INFO busy / INFO busy"
    )


def test_the_person_is_in_charge_at_first(desk: Desk) -> None:
    """Until the first prompt, a person at the terminal answers what is asked, as of sudo(8), and nobody sees it."""
    desk.fake(
        'def start():\n    show("Hello\\n[sudo] password for me: ")\n    hear_hidden()\n'
        '    show("Accept? ")\n    note("said", hear())'
    )
    with seat(desk, "--password", "file:password", "--record", "login.cast", "-c", "user list") as person:
        person.wait_for("Hello\r\n[sudo] password for me: ")
        time.sleep(0.1)
        person.type("my-secret")
        person.wait_for("Accept? ")
        person.type("yes")
        assert "my-secret" not in person.end(0)
    recording = desk.read("login.cast").decode()
    assert "my-secret" not in recording
    assert '"i", "yes' in recording
    assert desk.lines("heard") == ["my-secret", "yes", desk.lines("heard")[2], PASSWORD, "", "user list", "quit"]


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


def _build_rustyline(directory: Path) -> None:
    (directory / "Cargo.toml").write_text(CARGO)
    copy(FRONT_ENDS / "rustyline.rs", directory)
    source = ["source.crates-io.replace-with='debian'", f"source.debian.directory='{CRATES}'"]
    words = ["cargo", "build", "--quiet", "--offline", "--target-dir", "target"]
    subprocess.run([*words, "--config", source[0], "--config", source[1]], cwd=directory, check=True)


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
