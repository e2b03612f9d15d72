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
from conftest import ROOT, Done, Shell
from rehearsing import PASSWORD, enrol
from terminal import Spawn

from toktools import __version__
from toktools.rehearsal.cluster import ADMIN, CRYPTO_USER, Session
from toktools.rehearsal.state import State

# As AWS prints them.
READY = "aws-cloudhsm > "
ENTER = "Enter password:"
CONFIRM = "Confirm password:"
SIGNED = "Enter signed token file path (press enter if same as the unsigned token file):"
PUBLIC_KEY = "Enter public key PEM file path:"
NEEDS_APPROVAL = "Quorum approval is required for this operation"
TOO_FEW = "Too few quorum approvals: currently 1 approvals, but 2 approvals required"
ANOTHER_FILE = "it holds something else, perhaps a private key, which would be lost; nothing written"

ADMIN_LOGIN = "login --username admin --role admin"
OFFICER_LOGIN = "login --username officer1 --role admin"
MFA_LOGIN = f"{OFFICER_LOGIN} mfa-token-sign --token unsigned-tokens.json"
CLERK_LOGIN = "login --username clerk --role crypto-user"
CHANGE_MFA = "user change-mfa token-sign --username {} --role admin --token setup.json"
PROBE = "quorum token-sign list-quorum-values"
OFFICER = {"username": "officer1", "role": "admin"}
TOKEN_SIGN = [{"strategy": "token-sign", "status": "enabled"}]
NOTICE = "tok-rehearse: a rehearsal: no HSM is behind it, only {}, as a cluster of {} HSMs"
WRONG = "wrong-for-practice"

# What is typed until somebody is asked something more: the prompt, the passwords, the signed file.
QUESTIONS = {
    READY: [],
    ENTER: [OFFICER_LOGIN],
    CONFIRM: ["user create --username officer3 --role admin", PASSWORD],
    SIGNED: [MFA_LOGIN, PASSWORD],
}


class Cli:
    """tok-rehearse interactive at a terminal of its own, and all that the screen has shown."""

    def __init__(self, child: pexpect.spawn[str]) -> None:
        self.child = child
        self.screen = io.StringIO()
        child.logfile_read = self.screen
        child.delaybeforesend = None

    def until(self, text: str) -> str:
        """Wait for a text, and return what is shown before it."""
        self.child.expect_exact(text)
        return str(self.child.before)

    def type(self, line: str) -> None:
        """Type a line, and the Enter key."""
        self.child.send(f"{line}\r")

    def secretly(self, *questions: str) -> None:
        """Answer questions with the password, which nobody sees."""
        for question in questions:
            self.until(question)
            assert not self.child.getecho(), question
            self.type(PASSWORD)

    def answer(self, typed: str = "") -> tuple[int, Any]:
        """Return error code and data of the answer, which is all that is shown after what was typed."""
        echo, _, text = self.until(READY).partition("\r\n")
        assert echo == typed
        return parsed(text.replace("\r\n", "\n"))

    def command(self, line: str, *questions: str) -> tuple[int, Any]:
        """Type a command, answer its questions with the password, and return its answer."""
        self.type(line)
        self.secretly(*questions)
        return self.answer("" if questions else line)

    def end(self) -> int:
        """Wait for the end, and return the exit status, or the signal below zero."""
        self.until_end()
        self.child.close()
        return -self.child.signalstatus if self.child.signalstatus else int(self.child.exitstatus or 0)

    def until_end(self) -> str:
        """Wait until nobody has the terminal open, and return what is shown before."""
        self.child.expect(pexpect.EOF)
        return str(self.child.before)


Start = Callable[..., Cli]


def parsed(text: str) -> tuple[int, Any]:
    """Return error code and data of an answer, which has the CLI's indentation and nothing around it."""
    found = json.loads(text)
    assert text == json.dumps(found, indent=2) + "\n"
    assert list(found) == ["error_code", "data"]
    return found["error_code"], found["data"]


def answers(done: Done) -> list[tuple[int, Any]]:
    """Return error code and data of every answer in a session at a pipe."""
    return [parsed(text) for text in re.findall(r"^\{\n.*?^\}\n", done.out.decode(), re.MULTILINE | re.DOTALL)]


def rehearse(desk: Shell, *lines: str, **more: Any) -> Done:
    """Run the shell with lines at a pipe, and see that no password is shown."""
    typed = "".join(f"{line}\n" for line in lines)
    done = desk.run("tok-rehearse", "--state", "state", "interactive", stdin=typed.encode(), **more)
    assert PASSWORD not in done.out.decode() + done.err
    return done


def single(desk: Shell, *words: str, pin: str = "", role: str = "admin", stdin: bytes = b"") -> Done:
    """Run a single command, for a user where there is a PIN."""
    environment = {**desk.env, "CLOUDHSM_ROLE": role, "CLOUDHSM_PIN": pin} if pin else desk.env
    return desk.run("tok-rehearse", "--state", "state", *words, env=environment, stdin=stdin)


def users(desk: Shell) -> dict[str, dict[str, Any]]:
    """Return what user list says, by user name."""
    code, data = parsed(single(desk, "user", "list").check(0).out.decode())
    assert code == 0
    return {user["username"]: user for user in data["users"]}


def sign(desk: Shell, file: str = "unsigned-tokens.json", key: str = "officer1.key") -> None:
    """Sign a token file with the filters, in a terminal of their own."""
    digests = desk.run("tok-extract", file).check(0).out
    signatures = desk.run("tok-sign", "-k", key, stdin=digests).check(0).out
    desk.run("tok-merge", "-i", file, stdin=signatures).check(0)


def mfa_login(cli: Cli, desk: Shell, key: str = "officer1.key") -> tuple[int, Any]:
    """Log in with a second factor as AWS's page does."""
    cli.type(MFA_LOGIN)
    cli.secretly(ENTER)
    cli.until(SIGNED)
    sign(desk, key=key)
    cli.type("")
    return cli.answer()


def change_mfa(cli: Cli, desk: Shell, username: str, key: str, more: str = "") -> None:
    """Set up a second factor, or replace its key, as far as the question for the public key."""
    cli.type(f"{CHANGE_MFA.format(username)}{more}")
    cli.secretly(ENTER, CONFIRM)
    cli.until(SIGNED)
    sign(desk, "setup.json", key)
    cli.type("")
    cli.until(PUBLIC_KEY)


@pytest.fixture(scope="session")
def people(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster with two officers who have a second factor, and a clerk who has none."""
    state = tmp_path_factory.mktemp("people") / "state"
    enrol(state, "officer1", keys / "pkcs8.pem")
    enrol(state, "officer2", keys / "other.pem")
    with State(str(state)).cluster(3) as cluster:
        session = Session()
        cluster.login(session, ("admin", ADMIN), PASSWORD)
        cluster.create(session, ("clerk", CRYPTO_USER), PASSWORD)
    return state


@pytest.fixture
def desk(shell: Shell, keys: Path, people: Path) -> Shell:
    """A directory with the officers' keys, and the cluster in the file state."""
    shutil.copy(people, shell.cwd / "state")
    for source, name in (("pkcs8.pem", "officer1.key"), ("spki.pem", "officer1.pub"), ("cert.pem", "officer1.crt")):
        shutil.copy(keys / source, shell.cwd / name)
    for source, name in (("other.pem", "officer2.key"), ("other.pub", "officer2.pub")):
        shutil.copy(keys / source, shell.cwd / name)
    return shell


@pytest.fixture
def start(desk: Shell) -> Iterator[Start]:
    """A function that starts a shell with options at a terminal; nothing that it shows may be a password."""
    opened: list[Cli] = []

    def start(*options: str) -> Cli:
        words = list(options) or ["--state", "state", "interactive"]
        opened.append(Cli(Spawn(desk, desk.bin / "tok-rehearse", *words)))
        opened[-1].until(READY)
        return opened[-1]

    yield start
    for cli in opened:
        cli.child.close(force=True)
        assert PASSWORD not in cli.screen.getvalue()


# Logging in with a second factor


def test_login_as_on_aws_page(start: Start, desk: Shell) -> None:
    """AWS's page by hand, with the filters in a separate terminal, shows what AWS prints and nothing more."""
    cli = start()
    assert mfa_login(cli, desk) == (0, OFFICER)
    cli.type("quit")
    assert cli.end() == 0
    answer = json.dumps({"error_code": 0, "data": OFFICER}, indent=2).splitlines()
    lines = [NOTICE.format("state", 3), f"{READY}{MFA_LOGIN}", ENTER, SIGNED, *answer, f"{READY}quit"]
    assert cli.screen.getvalue() == "".join(f"{line}\r\n" for line in lines)


def test_login_at_a_pipe(desk: Shell) -> None:
    """A program at pipes reads the same session as a person, less the password and the notice."""
    pipe = subprocess.PIPE
    command = ("tok-rehearse", "--state", "state", "interactive")
    with desk.start(*command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{MFA_LOGIN}\n{PASSWORD}\n".encode())
        process.stdin.flush()
        shown = b""
        while SIGNED.encode() not in shown:
            chunk = os.read(process.stdout.fileno(), 1024)
            assert chunk, shown
            shown += chunk
        sign(desk)
        out, err = process.communicate(b"./unsigned-tokens.json\nquit\n", timeout=120)
    answer = json.dumps({"error_code": 0, "data": OFFICER}, indent=2).splitlines()
    lines = [f"{READY}{MFA_LOGIN}", ENTER, f"{SIGNED}./unsigned-tokens.json", *answer, f"{READY}quit"]
    assert (shown + out).decode() == "".join(f"{line}\n" for line in lines)
    assert (process.returncode, err.decode()) == (0, f"{NOTICE.format('state', 3)}\n")


@pytest.mark.parametrize(
    "options",
    [
        ("--state", "state", "--hsms", "28", "--cluster-id", "cluster-abc", "interactive"),
        ("--state=elsewhere", "--hsms=2", "interactive", "--hsms=28", "--state=state"),
    ],
    ids=["before", "both"],
)
def test_options_before_and_after_interactive(options: tuple[str, ...], start: Start, desk: Shell) -> None:
    """A cluster of 28 HSMs wants 28 signatures, wherever the options stand; the later ones hold."""
    cli = start(*options)
    assert mfa_login(cli, desk) == (0, OFFICER)
    assert len(set(desk.run("tok-extract", "unsigned-tokens.json").check(0).out.split())) == 28
    assert NOTICE.format("state", 28) in cli.screen.getvalue()
    assert not (desk.cwd / "elsewhere").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing.json", "missing.json: no such file or directory"),
        ("officer1.pub", "officer1.pub: "),
        ("quorum.json", "the file lacks 3 of the 3 digests"),
        ("f.json", "the file lacks 3 of the 3 digests"),
        ("a\0b", "a\ufffdb: no such file"),
    ],
)
def test_wrong_signed_file(path: str, said: str, desk: Shell) -> None:
    """A signed file that is missing or broken is answered in one line, and the shell goes on."""
    shutil.copy(ROOT / "examples" / "aws-quorum" / "user-management.token", desk.cwd / "quorum.json")
    (code, data), after = answers(rehearse(desk, MFA_LOGIN, PASSWORD, path, PROBE, "quit").check(0))
    assert code == 1
    assert data.startswith("tok-rehearse: ")
    assert said in data
    assert "\n" not in data
    assert after == (0, {"user": 1, "quorum": 1, "cluster": 1})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("directory", "tok-rehearse: directory: not a regular file"),
        ("missing/f.json", "tok-rehearse: missing/f.json: no such file or directory"),
        ("state", f"tok-rehearse: state: {ANOTHER_FILE}"),
        ("link-to-state", f"tok-rehearse: link-to-state: {ANOTHER_FILE}"),
        ("officer1.key", f"tok-rehearse: officer1.key: {ANOTHER_FILE}"),
    ],
)
def test_wrong_place_for_the_tokens(path: str, said: str, desk: Shell) -> None:
    """Where the unsigned tokens cannot be, nothing is overwritten, and the signed file is not asked for."""
    (desk.cwd / "directory").mkdir()
    (desk.cwd / "link-to-state").symlink_to("state")
    done = rehearse(desk, f"{OFFICER_LOGIN} mfa-token-sign --token {path}", PASSWORD, PROBE).check(0)
    assert answers(done)[0] == (1, said)
    assert answers(done)[1][0] == 0
    assert SIGNED not in done.out.decode()
    assert "officer1" in users(desk)


# The second factor itself


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("officer1.key", "officer1.key: not a public key in PEM"),
        ("officer2.pub", "token 1: not made by the given key"),
        ("missing.pub", "missing.pub: no such file or directory"),
    ],
)
def test_wrong_public_key_at_the_question(path: str, said: str, start: Start, desk: Shell) -> None:
    """What is no public key, or another's, is answered in one line, and the second factor stays as it was."""
    cli = start()
    assert cli.command(ADMIN_LOGIN, ENTER)[0] == 0
    change_mfa(cli, desk, "admin", "officer1.key")
    cli.type(path)
    code, data = cli.answer(path)
    assert code == 1
    assert data.startswith(f"tok-rehearse: {said}")
    assert "\n" not in data
    assert "PRIVATE" not in cli.screen.getvalue()
    assert users(desk)["admin"]["mfa"] == []


# The shell


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("for-hunter2", "unrecognized subcommand", "help lists the commands"),
        ("user rename --username for-hunter2", "unrecognized subcommand", "help lists the commands"),
        ("quit for-hunter2", "unrecognized subcommand", "help lists the commands"),
        ("help for-hunter2", "unrecognized subcommand", "help lists the commands"),
        (f"{OFFICER_LOGIN} for-hunter2", "login: COMMAND: invalid choice", "try 'help login'"),
        (f"{OFFICER_LOGIN} mfa-token-sign", "login mfa-token-sign: the following arguments are required: --token", ""),
        ("login --role for-hunter2", "login: --role: invalid choice", "try 'help login'"),
        (f"{OFFICER_LOGIN} --passwort=for-hunter2", "login: option --passwort not", "try 'help login'"),
        (f"{OFFICER_LOGIN} -pfor-hunter2", "login: option -p not recognized", "try 'help login'"),
        (f"{OFFICER_LOGIN} --password", "login: --password: expected one argument", "try 'help login'"),
        (f"{OFFICER_LOGIN} --password a --password for-hunter2", "login: --password: given twice", "'help login'"),
        ("logout for-hunter2", "logout: too many operands", "try 'help logout'"),
        ("key list --verbose=for-hunter2", "key list: --verbose/-v: ignored explicit argument", "'help key list'"),
        ("key list --filter for-hunter2", "key list: --filter: a filter is key-reference=", "try 'help key list'"),
        (
            CHANGE_MFA.replace("--token setup.json", "").format("a"),
            "user change-mfa token-sign: one of the arguments --token --deregister is required",
            "try 'help user change-mfa token-sign'",
        ),
        (
            f"{CHANGE_MFA.format('a')} --deregister",
            "user change-mfa token-sign: --deregister: not allowed with argument --token",
            "try 'help user change-mfa token-sign'",
        ),
        (
            "quorum token-sign set-quorum-value --service user --value for-hunter2",
            "quorum token-sign set-quorum-value: --value: not a number",
            "try 'help quorum token-sign set-quorum-value'",
        ),
        ("login --password 'for-hunter2", "no closing quotation", ""),
    ],
)
def test_wrong_lines(line: str, said: str, hint: str, desk: Shell) -> None:
    """What is no command line gets a message on standard error, which repeats no password, and the shell goes on."""
    done = rehearse(desk, line, PROBE, "quit").check(0, f"tok-rehearse: {said}", hint)
    assert answers(done) == [(0, {"user": 1, "quorum": 1, "cluster": 1})]
    assert "for-hunter2" not in done.err
    assert all(message.startswith("tok-rehearse: ") for message in done.err.splitlines())


@pytest.mark.parametrize(
    "lines",
    [
        ["login --username officer1 \\", "    --role admin mfa-token-sign \\", "    --token 'my tokens.json'"],
        ['login --username "officer1" --role \'admin\' mfa-token-sign --token "my tokens.json"'],
        ["  login --role=admin --username OFFICER1 mfa-token-sign --token my\\ tokens.json "],
    ],
    ids=["continued", "quoted", "escaped"],
)
def test_lines_of_words(lines: list[str], desk: Shell) -> None:
    """A backslash continues a line, quotes and backslashes keep blanks, and options stand in whatever order."""
    done = rehearse(desk, *lines, PASSWORD).check(2, "it ended before all questions were answered")
    assert SIGNED in done.out.decode()
    assert len(json.loads(desk.read("my tokens.json"))["tokens"]) == 3


def shown(desk: Shell, *lines: str) -> list[str]:
    """Return what each line writes after itself."""
    parts = rehearse(desk, *lines, "quit").check(0).out.decode().split(READY)[1:-1]
    return [part.partition("\n")[2] for part in parts]


def test_help(desk: Shell) -> None:
    """help, -h and --help show the help of a command; brief where there is more to say."""
    first, brief, whole = shown(desk, "help login", "login -h", "login --username a --help")
    assert first == whole
    assert "see a summary with '-h'" in first
    assert "see more with '--help'" in brief
    assert len(set(shown(desk, "help user", "user --help", "user -h"))) == 1


def test_a_group_without_a_command(desk: Shell) -> None:
    """A group alone lists its commands, and help, and is no command."""
    done = rehearse(desk, "user", "quit").check(0, "user: a command is missing", "try 'help user'")
    listed = done.out.decode().split(READY)[1].split("Commands:\n")[1].partition("\n\n")[0]
    words = ["create", "delete", "list", "change-password", "change-mfa", "change-quorum", "help"]
    assert re.findall(r"^  (\S+)  ", listed, re.MULTILINE) == words


def test_version_and_exit(desk: Shell) -> None:
    """-V and --version tell the stand-in's version; exit ends the shell as quit does."""
    versions = shown(desk, "-V", "--version")
    assert versions == [f"tok-rehearse (toktools) {__version__}\n"] * 2
    done = rehearse(desk, "exit", "user list").check(0)
    assert done.out.decode() == f"{READY}exit\n"


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_of_the_program(flag: str, desk: Shell) -> None:
    """The program's own help and version come from before and from behind interactive."""
    before = desk.run("tok-rehearse", flag).check(0)
    behind = desk.run("tok-rehearse", "interactive", flag).check(0)
    assert before.out.startswith(b"usage: tok-rehearse" if flag == "--help" else b"tok-rehearse")
    assert behind.out.startswith(b"usage: tok-rehearse interactive" if flag == "--help" else b"tok-rehearse")
    assert (before.err, behind.err) == ("", "")


@pytest.mark.parametrize("question", QUESTIONS)
def test_end_of_a_pipe(question: str, desk: Shell) -> None:
    """Input that ends at the prompt ends the shell; at a question that is trouble, and changes nobody."""
    before = users(desk)
    done = rehearse(desk, *QUESTIONS[question]).check(0 if question == READY else 2)
    assert done.out.decode().endswith(f"{question}\n")
    trouble = "" if question == READY else "tok-rehearse: standard input: it ended before all questions were answered\n"
    assert done.err == f"{NOTICE.format('state', 3)}\n{trouble}"
    assert users(desk) == before


@pytest.mark.parametrize("question", [READY, CONFIRM, SIGNED])
def test_ctrl_d(question: str, start: Start, desk: Shell) -> None:
    """Ctrl-D at the prompt ends the shell; at a question that is trouble; the echo is on, and nobody is changed."""
    before = users(desk)
    cli = start()
    for line, asked in zip(QUESTIONS[question], [ENTER, question]):
        cli.type(line)
        cli.until(asked)
    cli.child.sendeof()
    cli.until_end()
    assert cli.child.getecho()
    assert cli.end() == (0 if question == READY else 2)
    assert "Traceback" not in cli.screen.getvalue()
    assert users(desk) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_killed_at_a_hidden_question(number: signal.Signals, start: Start) -> None:
    """Ctrl-C or another deadly signal at a hidden question ends the shell by that signal, with the echo on again."""
    cli = start()
    assert cli.child.getecho()
    cli.type(OFFICER_LOGIN)
    cli.until(ENTER)
    assert not cli.child.getecho()
    if number == signal.SIGINT:
        cli.child.sendintr()
    else:
        cli.child.kill(number)
    cli.until_end()
    assert cli.child.getecho()
    assert cli.end() == -number


# Single commands


def test_single_commands(desk: Shell) -> None:
    """A single command is run for the user of the environment, asks at the pipe, and ends with the answer's status."""
    two = f"{PASSWORD}\n{PASSWORD}\n".encode()
    create = ("user", "create", "--username", "officer3", "--role", "admin")
    refused = single(desk, *create, stdin=two).check(1)
    assert "nobody is logged in" in refused.out.decode()
    done = single(desk, *create, pin=f"admin:{PASSWORD}", stdin=two).check(0)
    answer = json.dumps({"error_code": 0, "data": {"username": "officer3", "role": "admin"}}, indent=2)
    assert done.out.decode() == f"{ENTER}\n{CONFIRM}\n{answer}\n"
    assert done.err == f"{NOTICE.format('state', 3)}\n"
    assert users(desk)["officer3"]["role"] == "admin"


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        (f"officer1:{PASSWORD}", "the user has a second factor"),
        (f"admin:{WRONG}", "wrong user name, role or password"),
        ("admin:", "wrong user name, role or password"),
        (f"clerk:{PASSWORD}", "wrong user name, role or password"),
    ],
)
def test_single_command_without_a_login(pin: str, said: str, desk: Shell) -> None:
    """A user with a second factor, or who is not who they say, gets status 1 and no password back."""
    done = single(desk, "user", "delete", "--username", "clerk", "--role", "crypto-user", pin=pin).check(1)
    code, data = parsed(done.out.decode())
    assert code == 1
    assert data.startswith(f"tok-rehearse: {said}")
    assert pin.partition(":")[2] not in (done.out.decode() + done.err).split()
    assert "clerk" in users(desk)


@pytest.mark.parametrize(
    "variables",
    [
        {"CLOUDHSM_ROLE": "admin"},
        {"CLOUDHSM_PIN": f"admin:{PASSWORD}"},
        {"CLOUDHSM_ROLE": "admin", "CLOUDHSM_PIN": PASSWORD},
        {"CLOUDHSM_ROLE": "root", "CLOUDHSM_PIN": f"admin:{PASSWORD}"},
    ],
    ids=["no pin", "no role", "no colon", "unknown role"],
)
def test_malformed_pin(variables: dict[str, str], desk: Shell) -> None:
    """Variables that name nobody are a usage error, which does not repeat them."""
    done = desk.run("tok-rehearse", "--state", "state", "quorum", "token-sign", "list", env={**desk.env, **variables})
    done.check(2, "CLOUDHSM_PIN is user:password")
    assert done.out == b""
    assert PASSWORD not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("user", "rename"), "unrecognized subcommand"),
        (("quit",), "unrecognized subcommand"),
        (("login", "--username", "a"), "login: the following arguments are required: --role"),
        (("login", "--username", "a", "--role", "admin"), "login: it works only in interactive mode"),
        (("interactive", PASSWORD), "tok-rehearse interactive takes no file names"),
        (("cluster", "activate"), "it ended before all questions were answered"),
    ],
)
def test_single_command_usage(words: tuple[str, ...], said: str, desk: Shell) -> None:
    """What is no command, or gets no answers, is status 2 and a message, and never an answer in JSON."""
    done = single(desk, *words).check(2, said)
    assert answers(done) == []
    assert PASSWORD not in done.err


@pytest.mark.parametrize("target", ["/dev/full", "&-"])
@pytest.mark.parametrize("command", ["user list", "interactive", "help", f"cluster activate --password {PASSWORD}"])
def test_lost_output_is_no_success(target: str, command: str, desk: Shell) -> None:
    """With standard output full or closed the status is 2, never 0."""
    desk.sh(f"echo quit | tok-rehearse --state state {command} >{target}").check(2, "standard output: ")


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
            cli.until(f"{line}\r\n")
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


def test_examples_of_the_page(start: Start, desk: Shell) -> None:
    """What the page has people type, after the script that makes the cluster, shows what the page shows."""
    script = next(display for display in displays() if display.startswith("$ printf"))
    desk.sh(f"set -e\n{script.removeprefix('$ ')}", shell="bash").check(0)
    cli = start("--state", "new.json", "interactive")
    asked, typed = READY, 0
    for display in displays():
        if READY in display or display.startswith((SIGNED, PUBLIC_KEY)):
            asked = replay(cli, display, asked)
            typed += display.count(READY)
        elif not display.startswith("$ "):
            desk.sh(f"set -e\n{display}").check(0)
    assert typed >= 3
    # The page ends with a login, whose questions it has shown before.
    cli.secretly(ENTER)
    cli.until(SIGNED)
    sign(desk)
    cli.type("")
    assert cli.answer() == (0, OFFICER)


@pytest.mark.parametrize("kilobytes", [40960, 61440])
def test_little_memory(desk: Shell, kilobytes: int) -> None:
    """A password is hashed, or there is not enough memory for Python; it is never an internal error."""
    command = "tok-rehearse --state s cluster activate --password for-practice"
    done = desk.sh(f"ulimit -v {kilobytes}; exec {command}", env=desk.unmeasured)
    assert done.status in {0, 2}
    assert "internal error" not in done.err
