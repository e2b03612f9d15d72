"""tok-rehearse as a person meets it, at a real terminal, and as a script does, at pipes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import ROOT, Done, Shell, full_device
from rehearsing import PASSWORD
from sessions import WITH_PASSWORD, Rehearsal, desk, named, own, user
from terminal import Spawn

from toktools import __version__

__all__ = ["desk"]

# As AWS prints them.
READY = "aws-cloudhsm > "
ENTER = "Enter password:"
CONFIRM = "Confirm password:"
SIGNED = "Enter signed token file path (press enter if same as the unsigned token file):"
PUBLIC_KEY = "Enter public key PEM file path:"

LOGIN = f"login {named('officer1')}"
MFA_LOGIN = f"{LOGIN} mfa-token-sign --token unsigned-tokens.json"
CHANGE_MFA = f"user change-mfa token-sign {named('officer1')}"
VALUES = "quorum token-sign list-quorum-values"
NOTICE = "tok-rehearse: rehearsal only: {1} simulated HSMs, kept in {0}"
ANSWER = json.dumps({"error_code": 0, "data": user("officer1")}, indent=2)
INPUT_ENDED = "tok-rehearse: standard input: it ended before all questions were answered\n"

# What is typed until somebody is asked something more: the prompt, the passwords, the signed file.
QUESTIONS = {
    READY: [],
    ENTER: [LOGIN],
    CONFIRM: ["cluster activate", PASSWORD],
    SIGNED: [MFA_LOGIN, PASSWORD],
}


# Lines


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hunter2", "unrecognized subcommand"),
        ("user rename --username hunter2", "unrecognized subcommand 'rename'"),
        ("quit now", "unrecognized subcommand 'quit'"),
        ("help hunter2", "unrecognized subcommand"),
        ("help user lst", "unrecognized subcommand 'lst'"),
        (f"user {'l' * 31}", "unrecognized subcommand"),
        (f"{LOGIN} hunter2", "login: COMMAND: invalid choice"),
        (f"{LOGIN} mfa-token-sign", "login mfa-token-sign: the following arguments are required: --token"),
        ("login --role hunter2", "login: --role: invalid choice"),
        (f"{LOGIN} --passwort=hunter2", "login: option --passwort not recognized"),
        (f"{LOGIN} -phunter2", "login: option -p not recognized"),
        ("logout hunter2", "logout: too many operands"),
        ("key list --verbose=hunter2", "key list: --verbose/-v: ignored explicit argument"),
        ("key list --filter hunter2", "key list: --filter: a filter is key-reference=0x... or attr.NAME=VALUE"),
        (
            "quorum token-sign set-quorum-value --service user --value hunter2",
            "quorum token-sign set-quorum-value: --value: invalid int value",
        ),
        ("login --password 'hunter2", "no closing quotation"),
        ("user", "user: a command is missing"),
    ],
)
def test_wrong_lines(desk: Rehearsal, line: str, said: str) -> None:
    """What is no command line gets a message, which repeats no password, and the shell goes on."""
    cli = desk.cli()
    assert cli.type(line) == (2, said)
    assert cli.do(VALUES) == {"user": 1, "quorum": 1, "cluster": 1}


@pytest.mark.parametrize(
    "line",
    [
        f"  login --role=admin {WITH_PASSWORD} --username OFFICER1 --cluster-id c ",
        "login --username officer1 --role admin --password for\\-practice",
    ],
)
def test_lines_of_words(desk: Rehearsal, line: str) -> None:
    """Quotes and backslashes keep what they should, and options stand in whatever order."""
    assert desk.cli().do(line) == user("officer1")


def test_prompts(desk: Rehearsal) -> None:
    """The prompt names user and cluster after a login if asked to; a backslash continues a line."""
    for wanted, prompt in ((False, READY), (True, "admin@c > ")):
        cli = desk.cli("admin", prompt_after_login=wanted)
        cli.do("user \\", "list")
        assert cli.questions == [prompt, "", prompt]
        cli.do("logout")
        assert cli.questions[-1] == READY


def test_help(desk: Rehearsal) -> None:
    """help, -h and --help show the help of a command or a group, under clap's headings."""
    cli = desk.cli()
    whole = cli.do("help login")
    assert cli.do("login -h") == cli.do("login --username a --help") == whole
    usage = "Usage: login [OPTIONS] --username <USERNAME> --role <ROLE> [COMMAND]"
    assert whole.splitlines()[:5] == ["Log in", "", usage, "", "Commands:"]
    options = [line.split(maxsplit=2) for line in whole.partition("Options:\n")[2].splitlines()]
    assert ["--role", "<ROLE>", "The user's role: admin or crypto-user"] in options
    assert ["-h,", "--help", "Print help"] in options
    assert "\nUsage: user <COMMAND>\n" in cli.do("user --help")
    listed = re.findall(r"^  ([a-z]\S+)", cli.do("help user"), re.MULTILINE)
    assert listed == ["create", "delete", "list", "change-password", "change-mfa", "change-quorum"]
    assert "quit, or exit, ends it" in cli.do("help")
    assert cli.do("-V") == cli.do("--version") == f"tok-rehearse (toktools) {__version__}\n"


def test_hsms(desk: Rehearsal) -> None:
    """cluster hsm-info lists each HSM with the members of its page, and needs no login."""
    names = (
        "vendor model serial-number hardware-version-major hardware-version-minor firmware-version-major "
        "firmware-version-minor firmware-build-number firmware-id fips-state"
    )
    hsms = desk.cli().do("cluster hsm-info")["hsms"]
    assert [list(hsm) for hsm in hsms] == [names.split()] * 2


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("directory", "not a regular file"),
        ("missing/f.json", "no such file or directory"),
        ("link", "it contains something else, perhaps a private key; nothing written"),
    ],
)
def test_a_wrong_path_for_the_tokens(desk: Rehearsal, path: str, said: str) -> None:
    """If the unsigned tokens cannot be there, nothing is overwritten, and the signed file is not asked for."""
    Path("directory").mkdir()
    Path("link").symlink_to("state")
    before = Path("state").read_bytes()
    cli = desk.cli("officer1")
    assert cli.type(f"{CHANGE_MFA} --token {path}", PASSWORD, PASSWORD) == own(f"{path}: {said}")
    assert cli.questions == [READY, ENTER + "*", CONFIRM + "*", READY]
    assert Path("state").read_bytes() == before


# Processes


class Cli:
    """tok-rehearse interactive at a terminal of its own, and all that the screen has shown."""

    def __init__(self, child: pexpect.spawn[str]) -> None:
        self.child = child
        self.screen = io.StringIO()
        child.logfile_read = self.screen
        child.delaybeforesend = None

    def type(self, line: str) -> None:
        """Type a line, and the Enter key."""
        self.child.send(f"{line}\r")

    def secretly(self, *questions: str) -> None:
        """Answer questions with the password, which nobody sees."""
        for question in questions:
            self.child.expect_exact(question)
            assert not self.child.getecho(), question
            self.type(PASSWORD)

    def end(self) -> int:
        """Wait until nobody has the terminal open; return the exit status, or the signal below zero."""
        self.child.expect(pexpect.EOF)
        assert self.child.getecho()
        assert "Traceback" not in self.screen.getvalue()
        self.child.close()
        return -self.child.signalstatus if self.child.signalstatus else int(self.child.exitstatus or 0)


Start = Callable[..., Cli]


@pytest.fixture
def room(shell: Shell, keys: Path, enrolled: Path) -> Shell:
    """A directory with a cluster in the file state, and officer1's key."""
    shutil.copy(enrolled, shell.cwd / "state")
    shutil.copy(keys / "pkcs8.pem", shell.cwd / "officer1.key")
    shutil.copy(keys / "spki.pem", shell.cwd / "officer1.pub")
    return shell


@pytest.fixture
def start(room: Shell) -> Iterator[Start]:
    """A function that starts a shell with options at a terminal; nothing that it shows may be a password."""
    opened: list[Cli] = []

    def start(*options: str) -> Cli:
        words = list(options) or ["--state", "state", "interactive"]
        opened.append(Cli(Spawn(room, room.bin / "tok-rehearse", *words)))
        opened[-1].child.expect_exact(READY)
        return opened[-1]

    yield start
    for cli in opened:
        cli.child.close(force=True)
        assert PASSWORD not in cli.screen.getvalue()


def rehearse(room: Shell, *lines: str, **more: Any) -> Done:
    """Run the shell with lines at a pipe, and see that no password is shown."""
    typed = "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")
    done = room.run("tok-rehearse", "--state", "state", "interactive", stdin=typed, **more)
    assert PASSWORD not in done.out.decode(errors="replace") + done.err
    return done


def single(room: Shell, *words: str, role: str | None = "admin", pin: str | None = None, stdin: bytes = b"") -> Done:
    """Run a single command, for the user of a role and a PIN."""
    variables = {"CLOUDHSM_ROLE": role, "CLOUDHSM_PIN": pin} if pin else {}
    environment = {name: text for name, text in {**room.env, **variables}.items() if text is not None}
    return room.run("tok-rehearse", "--state", "state", *words, env=environment, stdin=stdin)


def sign_file(room: Shell, file: str = "unsigned-tokens.json") -> None:
    """Sign a token file with the filters, in a terminal of their own."""
    room.sh(f"tok-extract {file} | tok-sign -k officer1.key | tok-merge -i {file}").check(0)


def test_a_login_at_a_pipe(room: Shell) -> None:
    """A program at pipes reads the same session as a person, less the password and the notice.

    The cluster has 28 HSMs, by an option behind interactive, which counts rather than one before it.
    """
    pipe = subprocess.PIPE
    words = ("--state=elsewhere", "--hsms=2", "interactive", "--hsms=28", "--state=state")
    with room.start("tok-rehearse", *words, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{MFA_LOGIN}\n{PASSWORD}\n".encode())
        process.stdin.flush()
        shown = b""
        while SIGNED.encode() not in shown:
            chunk = os.read(process.stdout.fileno(), 1024)
            assert chunk, shown
            shown += chunk
        sign_file(room)
        out, err = process.communicate(b"./unsigned-tokens.json\nexit\n", timeout=120)
    lines = [f"{READY}{MFA_LOGIN}", ENTER, f"{SIGNED}./unsigned-tokens.json", *ANSWER.splitlines(), f"{READY}exit"]
    assert (shown + out).decode() == "".join(f"{line}\n" for line in lines)
    assert (process.returncode, err.decode()) == (0, f"{NOTICE.format('state', 28)}\n")
    assert len(set(room.run("tok-extract", "unsigned-tokens.json").out.split())) == 28
    assert not (room.cwd / "elsewhere").exists()


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_end_of_a_pipe(question: str, room: Shell) -> None:
    """Input that ends at the prompt ends the shell; at a question that is trouble, and changes nobody."""
    before = room.read("state")
    done = rehearse(room, *QUESTIONS[question]).check(0 if question == READY else 2)
    assert done.out.decode().endswith(f"{question}\n")
    assert done.err == f"{NOTICE.format('state', 3)}\n{'' if question == READY else INPUT_ENDED}"
    assert room.read("state") == before


@pytest.mark.parametrize("question", [READY, CONFIRM])
def test_ctrl_d(question: str, start: Start) -> None:
    """Ctrl-D at the prompt ends the shell; at a question that is trouble; the echo is on."""
    cli = start()
    for line, asked in zip(QUESTIONS[question], [ENTER, question]):
        cli.type(line)
        cli.child.expect_exact(asked)
    cli.child.sendeof()
    assert cli.end() == (0 if question == READY else 2)


def test_ctrl_c_at_a_hidden_question(start: Start) -> None:
    """It ends the shell by that signal, with the echo on again."""
    cli = start()
    cli.type(LOGIN)
    cli.child.expect_exact(ENTER)
    assert not cli.child.getecho()
    cli.child.sendintr()
    assert cli.end() == -signal.SIGINT


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a\0b\x1b[2J\x7f\tc\r\x08\u00e9\\d", "a^@b^[[2J^?\tc^M^H\u00e9\\d"),
        ("\x9b31m\u202e\udcff\udcc3", r"\x9b31m\u202e\xff\xc3"),
        (f"{LOGIN} mfa-token-sign --token \udcff\0", rf"{LOGIN} mfa-token-sign --token \xff^@"),
        ("user create --username \udcff --role admin --password other-words", ""),
        ("crypto sign rsa-pkcs --key-filter attr.label=\udcff --hash-function sha256 --data \udcff", ""),
        ("key list --filter " + "attr.label=x " * 4000, ""),
    ],
    ids=lambda line: ascii(line[:30]),  # pytest puts the whole into the environment, which may be too much
)
def test_hostile_lines(line: str, shown: str, room: Shell) -> None:
    """Control characters are shown in caret notation, others that act on a terminal are escaped."""
    done = rehearse(room, line, "wrong", VALUES, "quit").check(0)
    assert f"{READY}{shown}" in done.out.decode()
    assert "internal error" not in done.err
    assert (done.err + done.out.decode()).replace("\n", "").replace("\t", "").isprintable()
    assert len(done.err) < 1000
    assert '"quorum": 1' in done.out.decode()


def test_a_line_without_an_end(room: Shell) -> None:
    """A line that no person types ends the shell, and is not shown."""
    done = rehearse(room, "x" * 1_000_000, VALUES).check(2, "standard input: a line is longer than 65536 bytes")
    assert done.out.decode() == READY


# Single commands


def test_single_commands(room: Shell) -> None:
    """A single command is run for the user of the environment, asks at the pipe, and ends with the answer's status."""
    two = f"{PASSWORD}\n{PASSWORD}\n".encode()
    create = ("user", "create", "--username", "officer3", "--role", "admin")
    assert b"nobody is logged in" in single(room, *create, stdin=two).check(1).out
    done = single(room, *create, pin=f"admin:{PASSWORD}", stdin=two).check(0)
    assert done.out.decode() == f"{ENTER}\n{CONFIRM}\n{ANSWER.replace('officer1', 'officer3')}\n"
    assert done.err == f"{NOTICE.format('state', 3)}\n"
    assert b"already been activated" in single(room, "cluster", "activate", *WITH_PASSWORD.split()).check(1).out


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        (f"officer1:{PASSWORD}", b"the user has a second factor"),
        ("admin:wrong-for-practice", b"wrong user name, role or password"),
    ],
)
def test_a_single_command_without_a_login(pin: str, said: bytes, room: Shell) -> None:
    """A user with a second factor, or who is not who they say, gets status 1."""
    done = single(room, "user", "delete", "--username", "officer1", "--role", "admin", pin=pin).check(1)
    assert said in done.out
    assert pin.partition(":")[2] not in (done.out.decode() + done.err).split()


@pytest.mark.parametrize(
    ("words", "role", "pin", "said"),
    [
        ((VALUES), "admin", PASSWORD, "CLOUDHSM_PIN is user:password"),
        ((VALUES), "root", f"admin:{PASSWORD}", "CLOUDHSM_PIN is user:password"),
        ("user rename", None, None, "unrecognized subcommand"),
        ("quit", None, None, "unrecognized subcommand"),
        (LOGIN, None, None, "login: it works only in interactive mode"),
        (f"interactive {PASSWORD}", None, None, "unexpected operand"),
        ("cluster activate", None, None, "it ended before all questions were answered"),
        ("help user", None, None, ""),
        ("interactive --help", None, None, ""),
    ],
)
def test_usage_errors(words: str, role: str | None, pin: str | None, said: str, room: Shell) -> None:
    """What is no command, has half a user, or gets no answers, is status 2 and a message without the password."""
    done = single(room, *words.split(), role=role, pin=pin).check(2 if said else 0, said)
    assert bool(done.out) == (not said or words == "cluster activate")
    assert PASSWORD not in done.err


@pytest.mark.parametrize("command", ["interactive", "help", f"cluster activate {WITH_PASSWORD}"])
def test_lost_output_is_no_success(command: str, room: Shell) -> None:
    """With standard output full or closed the status is 2, never 0."""
    for target in ("&-", full_device()):
        room.sh(f"echo quit | tok-rehearse --state state {command} >{target}").check(2, "standard output: ")


def test_little_memory(room: Shell) -> None:
    """A password is hashed, or there is not enough memory for Python; it is never an internal error."""
    command = f"tok-rehearse --state s cluster activate {WITH_PASSWORD}"
    done = room.sh(f"ulimit -v 61440; exec {command}", env=room.unmeasured)
    assert done.status in {0, 2}
    assert "internal error" not in done.err


def test_fips_settings_without_a_fips_provider(room: Shell) -> None:
    """The message names OPENSSL_CONF, and no wrong password is counted; or this Python's OpenSSL heeds no settings."""
    room.write("fips.cnf", b"openssl_conf = o\n[o]\nalg_section = a\n[a]\ndefault_properties = fips=yes\n")
    command = f"tok-rehearse --state state user create {named('bob')} {WITH_PASSWORD}"
    variables = {"OPENSSL_CONF": "fips.cnf", "CLOUDHSM_ROLE": "admin", "CLOUDHSM_PIN": f"admin:{PASSWORD}"}
    done = room.sh(command, env={**room.env, **variables})
    assert (done.status, "OPENSSL_CONF" in done.err) in {(0, False), (2, True)}, done
    assert b'"failures": 1' not in room.read("state")


# The page


def displays() -> list[str]:
    """Return the literal displays of the page's examples."""
    text = (ROOT / "man" / "tok-rehearse.1").read_text().split(".Sh EXAMPLES", 1)[1].split("\n.Sh ", 1)[0]
    return [
        block.replace("\\e", "\\").replace("path\n(press", "path (press")  # folded, to fit the page
        for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.MULTILINE | re.DOTALL)
    ]


def replay(cli: Cli, display: str, asked: str) -> str:
    """Type what a display of the page has after a prompt or a question, and see the rest.

    A question at the end is left open: it is returned, and the next display begins with it.
    """
    lines = display.splitlines()
    while lines:
        line = lines.pop(0)
        question = next((text for text in (READY, ENTER, CONFIRM, SIGNED, PUBLIC_KEY) if line.startswith(text)), "")
        if not question:
            cli.child.expect_exact(f"{line}\r\n")
            continue
        if asked != question:
            # A prompt instead of a question is an answer that the page does not show.
            assert cli.child.expect_exact([question, READY]) == 0, cli.screen.getvalue()
        if not lines and question == line:
            return question
        asked = ""
        cli.type(PASSWORD if question in {ENTER, CONFIRM} else line.removeprefix(question))
        while line.endswith("\\"):
            line = lines.pop(0)
            cli.type(line)
    return asked


def test_examples_of_the_page(start: Start, room: Shell) -> None:
    """What the page has people type, after the script that makes the cluster, shows what the page shows."""
    script = next(display for display in displays() if display.startswith("$ printf"))
    room.sh(f"set -e\n{script.removeprefix('$ ')}", shell="bash").check(0)
    cli = start("--state", "new.json", "interactive")
    asked, typed = READY, 0
    for display in displays():
        if READY in display or display.startswith((SIGNED, PUBLIC_KEY)):
            asked = replay(cli, display, asked)
            typed += display.count(READY)
        elif not display.startswith("$ "):
            room.sh(f"set -e\n{display}").check(0)
    assert typed >= 3
    # The page ends with a login, whose questions it has shown before.
    cli.secretly(ENTER)
    cli.child.expect_exact(SIGNED)
    sign_file(room)
    cli.type("")
    cli.child.expect_exact('"username": "officer1"')
