"""tok-login: at a terminal and without one, with the stand-in and with CLIs that do not do what they should."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pexpect
import pytest
from cli_desk import ASKS_PASSWORD, FOREVER, READY, USER, Desk, Seat, answers, assert_refused, desk, seat
from conftest import PASS_PHRASE, Done, alive, wait_until
from rehearsing import PASSWORD

__all__ = ["desk"]  # a fixture

# At a terminal.


def test_the_terminal_is_the_users(desk: Desk) -> None:
    """After the password, which nobody sees, commands are typed and answered until quit, and the mode is as before."""
    with seat(desk) as person:
        person.log_in()
        person.type("user list")
        person.wait_for('"error_code": 0', '"username": "officer1"', READY)
        person.type("user create --username alice --role crypto-user")
        person.wait_for("\nEnter password:")
        person.type("alices-own")
        person.wait_for("Confirm password:")
        person.type("alices-own")
        person.wait_for('"username": "alice"', READY)
        person.type("quit")
        shown = person.end(0)
    assert "alices-own" not in shown
    assert shown.count("quit\r\n") == 1
    assert shown.count("aws-cloudhsm > ") == 3
    assert desk.failures() == 0


SIZES = """
def tell(*_):
    size = os.get_terminal_size(0)
    show(f"size {size.lines}x{size.columns}\\n")
signal.signal(signal.SIGWINCH, tell)
signal.signal(signal.SIGINT, lambda *_: show("still here\\n"))
"""


def test_the_size_of_the_window_and_keys(desk: Desk) -> None:
    """The CLI learns of the window's size when it gets the terminal, and of every new one; all keys are for it."""
    desk.fake(SIZES)
    with seat(desk) as person:
        person.log_in()
        # The size comes before the prompt that is drawn for it; an earlier prompt may come between.
        assert re.search(rb"size 40x100\r\n(?:[^\n]*\n)?aws-cloudhsm > $", person.log.getvalue())
        for rows, columns in [(50, 132), (24, 80)]:
            person.screen.setwinsize(rows, columns)
            person.wait_for(f"size {rows}x{columns}\r\n")
        for _ in range(2):
            person.screen.send(b"\x03")
            person.wait_for("still here\r\n")
        person.type("one\x1dtwo")
        person.wait_for('"data": "one\\u001dtwo"', READY)
        person.screen.send(b"\x04")
        person.end(0)


@pytest.mark.parametrize(
    ("step", "status", "said"),
    [
        ("os.kill(os.getpid(), 9)", 137, "tok-login: ./cli: killed by signal 9 ("),
        ("os._exit(3)", 3, ""),
    ],
)
def test_a_cli_that_dies(desk: Desk, step: str, status: int, said: str) -> None:
    """Where the CLI ends while the user has the terminal, its exit status is tok-login's, and a signal is said."""
    desk.fake(f"def run(line):\n    {step}")
    with seat(desk) as person:
        person.log_in()
        person.type("user list")
        assert said in person.end(status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_the_terminal_is_the_users(desk: Desk, number: signal.Signals) -> None:
    """A signal ends tok-login and the CLI, though that ignores it, and the terminal is as it was."""
    desk.fake("signal.signal(signal.SIGHUP, signal.SIG_IGN)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with seat(desk) as person:
        person.log_in()
        person.type("user list")
        person.wait_for('"data": "user list"', READY)
        os.kill(desk.pids()[1], number)
        person.end(128 + number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_at_the_question(desk: Desk, number: signal.Signals) -> None:
    """A signal at the password question ends all, and the echo is on again."""
    desk.fake()
    with seat(desk) as person:
        person.wait_for(ASKS_PASSWORD)
        if number == signal.SIGINT:
            person.screen.send(b"\x03")
        else:
            os.kill(desk.pids()[1], number)
        # A shell that runs a script ends with its child at Ctrl-C.
        person.screen.expect([f"ended: {128 + number}\r\n".encode(), pexpect.EOF])
    desk.assert_nothing_left(person.log.getvalue().decode())
    assert desk.heard() == 0


@pytest.mark.parametrize("step", ["the question", "the user"])
@pytest.mark.parametrize("trap", [":", "trap '' HUP"])
def test_the_terminal_goes_away(desk: Desk, step: str, trap: str) -> None:
    """Where the window is closed, tok-login ends by SIGHUP, or where it ignores that in one line, and the CLI too."""
    desk.fake()
    script = ["-c", f'{trap}; exec "$@" 2>messages', "sh", *desk.words()]
    screen: Any = pexpect.spawn("/bin/sh", script, cwd=desk.cwd, env=desk.env, timeout=120)
    screen.expect_exact(ASKS_PASSWORD)
    if step == "the user":
        screen.send(f"{PASSWORD}\r")
        screen.expect_exact(READY)
        screen.send(b"user list\r")
        screen.expect_exact(READY)
    screen.ptyproc.fileobj.close()
    wait_until(lambda: not screen.isalive())
    assert (screen.signalstatus, screen.exitstatus) == ((signal.SIGHUP, None) if trap == ":" else (None, 2))
    said = desk.read("messages").decode()
    logged_in = "tok-login: logged in as officer1 (admin)\n" if step == "the user" else ""
    assert said.startswith(logged_in)
    assert "quit" not in desk.lines("heard")
    assert said.removeprefix(logged_in).count("tok-login: ") == (0 if trap == ":" else 1 + said.count("hint"))
    desk.assert_nothing_left(said)


@pytest.mark.parametrize(
    ("typed", "said"),
    [(b"\x04", "officer1: the password is empty"), (b"short\r", "a CloudHSM password has 7 to 32 characters")],
    ids=["Ctrl-D", "too short"],
)
def test_no_answer_at_the_question(desk: Desk, typed: bytes, said: str) -> None:
    """Ctrl-D at the password question is no password, nor is what cannot be one: nothing is typed."""
    desk.fake()
    with seat(desk) as person:
        person.wait_for(ASKS_PASSWORD)
        person.screen.send(typed)
        assert f"tok-login: {said}" in person.end(2)
    assert len(desk.lines("heard")) == 1


@pytest.mark.parametrize(
    "then",
    [
        'show("Timed out.\\n" + READY)',
        "show(PASSWORD + '\\n' + READY)",
        "pass",
        "raise SystemExit",
    ],
)
def test_the_user_takes_too_long(desk: Desk, then: str) -> None:
    """A password that comes when the CLI waits for it no more, or would show it, is not typed."""
    desk.fake(f"""
import select
def ask_password():
    show(PASSWORD)
    echo(False)
    while not os.path.exists("timeout"):
        time.sleep(0.01)
    echo(True)
    note("over", "")
    {then}
    hear()
""")
    with seat(desk) as person:
        person.wait_for(ASKS_PASSWORD)
        desk.write("timeout", b"")
        wait_until(lambda: bool(desk.lines("over")))
        person.type(PASSWORD)
        person.end(2)
    assert desk.heard() == 0


@pytest.mark.parametrize("redirected", ["</dev/null", ">out", "</dev/null >out"])
def test_no_terminal_to_hand_over(desk: Desk, redirected: str) -> None:
    """Without commands, standard input and output must be a terminal, or nothing is started."""
    words = ["sh", "-c", f'"$@" {redirected}', "sh", *desk.words("--password", "file:password")]
    taken = Seat(desk, words)
    with closing(taken.screen):
        shown = taken.end(2)
    assert "tok-login: standard input and output are not a terminal\r\n" in shown
    assert "tok-login: hint: give a command for the CLI after --, or -c - to run those on standard input\r\n" in shown
    assert desk.pids() == []


# The command line.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--role", "admin", "-k", "k", "--", "x"], "--username"),
        ([*USER, "--", "x"], "-k KEY, --signer COMMAND or --no-mfa is missing\n"),
        ([*USER, "-k", "k", "--signer", "x", "--", "x"], "-k and --signer cannot be used together\n"),
        ([*USER, "-k", "k", "-b", "--", "x"], "-b needs --signer, not -k\n"),
        ([*USER, "--signer", "x", "--", "x"], "--signer needs -p PUB: the HSM counts a wrong signature"),
        (
            [*USER, "--signer", "x", "-p", "k", "--passin", "env:X", "--", "x"],
            "--passin cannot be used with --signer\n",
        ),
        ([*USER, "--no-mfa", "--base64", "--", "x"], "-b cannot be used with --no-mfa\n"),
        (["--username", "o r", "--role", "admin", "-k", "k", "--", "x"], "--username: "),
        ([*USER, "-k", "k", "--cluster-id", "a b", "--", "x"], "--cluster-id: "),
        ([*USER, "-k", "k", "--host=-oProxyCommand=x", "--", "x"], "--host: expected [USER@]HOST"),
        ([*USER, "-k", "k", "--token-dir", "/a b", "--", "x"], "--token-dir: expected an absolute path"),
        ([*USER, "-k", "k", "--timeout", "0", "--", "x"], "--timeout: expected a number of seconds"),
        ([*USER, "-k", "k", "--password", "hunter22", "--", "x"], "--password: "),
        ([*USER, "-k", "k", "--new-password", "env:X"], "--new-password needs a command for the CLI\n"),
        ([*USER, "-k", "k", "-c", "x", "--", "x"], "-c and COMMAND cannot be used together\n"),
        ([*USER, "-k", "k", "--cli", "'./cli", "--", "x"], "--cli: no closing quotation\n"),
        ([*USER, "-k", "k", "--cli", " ", "--", "x"], "--cli: the command is empty\n"),
        ([*USER, "-k", "k", "--", "  "], "a command for the CLI is empty\n"),
        ([*USER, "-k", "k", "-c", "user list", "-c", "a\nquit"], "command for the CLI has the character \\n, which"),
        ([*USER, "-k", "k", "--", "user \udcff"], "command for the CLI has the character \\xff, which cannot be"),
        ([*USER, "-k", "k", "--", "a\\"], "a command for the CLI ends in a backslash\n"),
        ([*USER, "-k", "k", "--", "x" * 901], "a command for the CLI has more than 900 bytes\n"),
    ],
)
def test_usage_errors(desk: Desk, words: list[str], said: str) -> None:
    """What is wrong with the command line is said before anything is started, and no secret is repeated."""
    done = desk.run("tok-login", *([] if "--cli" in words else ["--cli", "./cli"]), *words, start_new_session=True)
    assert_refused(done, 2, said)
    assert "hunter22" not in done.err
    assert desk.pids() == []


@pytest.mark.parametrize(
    ("cli", "said"),
    [
        ("./missing", "./missing: not found, or not executable\n"),
        ("./password", "./password: not found, or not executable\n"),
        ("''", "'': not found, or not executable\n"),
        ("./lost", "./lost: "),
    ],
)
def test_a_cli_that_cannot_be_started(desk: Desk, cli: str, said: str) -> None:
    """What cannot be started is named in one line."""
    desk.write("lost", b"#!/no/interpreter\n").chmod(0o700)
    assert_refused(desk.login(cli=cli), 2, said)


def test_few_descriptors(desk: Desk) -> None:
    """A CLI that is there, but cannot be started, is not called missing: the system's reason is said."""
    words = shlex.join([*desk.words("--password", "file:password"), "--", "user list"])
    done = desk.sh(f"ulimit -n 5; exec {words}", env=desk.env, start_new_session=True)
    assert_refused(done, 2, "tok-login: ./cli: cannot be started: too many open files\n", "hint: -v shows each step\n")


def test_the_cli_is_split_as_a_shell_does(desk: Desk) -> None:
    """Quotes and backslashes keep words together, and nothing else of a shell is done; mode and cluster follow."""
    (desk.cwd / "the directory").mkdir()
    desk.fake(name="the directory/c l i")
    desk.login("--cluster-id", "cluster-1a2b", cli="'the directory/c l i' \"it's\" \\$HOME '*' '' ';'").check(0)
    options = ["interactive", "--cluster-id", "cluster-1a2b"]
    assert desk.lines("words")[0] == json.dumps(["it's", "$HOME", "*", "", ";", *options])


def test_another_directory_for_the_token_file(desk: Desk) -> None:
    """The token file is where --token-dir says, and gone with its directory after the login."""
    desk.fake('def write_tokens(path, old=write_tokens):\n    note("path", path)\n    old(path)')
    (desk.cwd / "other").mkdir()
    desk.login("--token-dir", str(desk.cwd / "other")).check(0)
    assert [str(Path(path).parent.parent) for path in desk.lines("path")] == [str(desk.cwd / "other")]
    assert list((desk.cwd / "other").iterdir()) == []


# Keys and passwords.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n", "officer1: the password is empty\n"),
        (b"for\x7fpractice\n", "the password has a control character, which cannot be typed\n"),
        (b"x" * 2000, "officer1: the password is longer than 1023 bytes\n"),
        (b"x" * 6, "a CloudHSM password has 7 to 32 characters and no ':'; nothing typed\n"),
        (b"x" * 33, "a CloudHSM password has 7 to 32 characters and no ':'; nothing typed\n"),
        (
            b"-----BEGIN PRIVATE KEY-----\nMII\n",
            "hint: this looks like a key; give the file with the password\n",
        ),
        (b"officer1:secret", "hint: CLOUDHSM_PIN holds USER:PASSWORD; give the password alone\n"),
        (b"password: secret", "hint: this begins with a label; give the password alone\n"),
        (b'{"password": "for"}', "hint: this looks like JSON, as a secrets store keeps it; give the password alone\n"),
    ],
)
def test_a_password_that_cannot_be_right(desk: Desk, content: bytes, said: str) -> None:
    """A password that a terminal would take for something else, or that the HSM would count, starts nothing."""
    desk.fake()
    desk.write("password", content)
    assert_refused(desk.login(), 2, said)
    assert desk.pids() == []


@pytest.mark.parametrize(
    ("password", "doubt"),
    [
        ("'quoted'", "begins or ends with a blank or a quote"),
        ("a blank ", "begins or ends with a blank or a quote"),
        ("\u201cquoted\u201d", "begins or ends with a blank or a quote"),
        ("turned\u202eround", "has an invisible character"),
        ("no\u00a0break", "has an invisible character"),
        ("zero\u200bwidth", "has an invisible character"),
        ("Password = x", "begins with 'password='"),
    ],
)
def test_a_password_that_may_be_wrong(desk: Desk, password: str, doubt: str) -> None:
    """What a password has by mistake is warned of, and typed."""
    desk.fake()
    desk.write("password", f"{password}\n".encode())
    done = desk.login().check(0)
    assert done.err == f"tok-login: warning: the password {doubt}, and is typed with it\n"
    assert desk.heard(password) == 1


@pytest.mark.parametrize("public_key", ["spki.pem", "cert.pem", "other.pub"])
def test_the_key_is_compared(desk: Desk, public_key: str) -> None:
    """With -p, the key of another user is found before the CLI is started."""
    is_right = public_key != "other.pub"
    done = desk.login("-p", desk.key.with_name(public_key))
    done.check(0 if is_right else 2, "" if is_right else "tok-login: -k and -p are different keys; nothing typed\n")
    assert bool(desk.pids()) == is_right


@pytest.mark.parametrize("option", ["--password", "--new-password"])
def test_a_source_that_is_not_there(desk: Desk, option: str) -> None:
    """A secret that cannot be fetched is told before anything is started."""
    words = ["--password", "file:password"] if option != "--password" else []
    done = desk.run(*desk.words(*words, option, "file:missing", "--", "user list"), start_new_session=True)
    assert_refused(done, 2, f"tok-login: {option}: missing: no such file or directory\n")
    assert desk.pids() == []


def test_the_pass_phrase_is_asked_for_first(desk: Desk) -> None:
    """The terminal is asked for the key's pass phrase before the CLI is started, and neither secret is shown."""
    with seat(desk, key=desk.key.with_name("pbes2.pem")) as person:
        person.wait_for("Enter pass phrase for ", "pbes2.pem: ")
        assert desk.pids() == []
        person.type(PASS_PHRASE)
        person.log_in()
        person.type("quit")
        person.end(0)


def test_nobody_to_ask(desk: Desk) -> None:
    """Without a terminal and --password there is one line and a hint, and nothing is started."""
    done = desk.run(*desk.words("--", "user list"), start_new_session=True)
    assert_refused(done, 2, "officer1: there is no terminal to ask for the password\n", "hint: use --password")
    assert desk.pids() == []
    desk.assert_nothing_left(done.err)


# Commands.


def test_answers_and_nothing_else(desk: Desk) -> None:
    """Standard output has the answers, one after the other, and standard error what the CLI showed at its start."""
    done = desk.login(commands=("user list", "quorum token-sign list-quorum-values", "logout"))
    users, values, logout = answers(done.check(0).out)
    assert [user["username"] for user in users["data"]["users"]] == ["admin", "officer1", "app_user"]
    assert values["data"] == {"user": 1, "quorum": 1, "cluster": 1}
    assert logout == {"error_code": 0, "data": "Logout successful"}
    compact = (json.dumps(answer, separators=(",", ":")) for answer in (users, values, logout))
    assert done.out == b"".join(f"{answer}\n".encode() for answer in compact)
    alone = desk.login(commands=("user list",)).check(0)
    assert alone.out == f"{json.dumps(users, indent=2)}\n".encode()
    assert done.err.startswith("tok-login: tok-rehearse: rehearsal only: ")
    assert done.err.count("\n") == 1


def test_commands_on_standard_input(desk: Desk) -> None:
    """Each line is a command, answered in a line before the next is written, in one session."""
    desk.fake("def run(line):\n    reply({'line': line, 'a \\\\ \\\" b': [1.0, 1e5]})")
    words = desk.words("--password", "file:password", "-c", "-")
    pipe = subprocess.PIPE
    with desk.start(*words, stdin=pipe, stdout=pipe, start_new_session=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in (b"one\n", b"\ntwo\r\n"):
            child.stdin.write(line)
            child.stdin.flush()
            answer = child.stdout.readline()
            assert answer == b'{"error_code":0,"data":{"line":"%s","a \\\\ \\" b":[1.0,100000.0]}}\n' % line.strip()
        child.stdin.write(b"three")
        child.stdin.close()
        assert json.loads(child.stdout.read())["data"]["line"] == "three"
    assert child.returncode == 0
    desk.assert_nothing_left("")
    assert desk.lines("heard")[-4:] == ["one", "two", "three", "quit"]


def test_lines_that_go_on(desk: Desk) -> None:
    """A backslash at the end of a line joins the next to it, and a message has the number of the first."""
    desk.fake()
    words = desk.words("--password", "file:password", "-c", "-")
    done = desk.run(*words, stdin=b"one \\\n  --two\\\r\n three\n\nfour\\", start_new_session=True, env=desk.env)
    done.check(2, "standard input: line 5: a command for the CLI ends in a backslash\n")
    assert done.out == b'{"error_code":0,"data":"one   --two three"}\n'


def test_a_bad_line_on_standard_input(desk: Desk) -> None:
    """A line that cannot be typed is named, and what was answered before it stays."""
    desk.fake()
    words = desk.words("--password", "file:password", "-c", "-")
    done = desk.run(*words, stdin=b"one\ntwo\x03\nthree\n", start_new_session=True, env=desk.env)
    done.check(2, "standard input: line 2: a command for the CLI has the character \\x03, which cannot be typed\n")
    assert done.out == b'{"error_code":0,"data":"one"}\n'
    done = desk.run("sh", "-c", '"$@" <&-', "sh", *words, start_new_session=True, env=desk.env)
    done.check(2, "tok-login: standard input: bad file descriptor\n")
    assert desk.lines("heard")[-1] == "quit"


@pytest.mark.parametrize("word", ["quit", "exit", " exit "])
def test_quit_among_the_commands(desk: Desk, word: str) -> None:
    """It ends the session well, and what stands behind it is not run."""
    desk.fake()
    done = desk.login(commands=("one", word, "two")).check(0)
    assert (done.out, done.err) == (b'{"error_code":0,"data":"one"}\n', "")
    assert desk.lines("heard")[3:] == ["one", "quit"]
    words = desk.words("--password", "file:password", "-c", "-")
    typed = f"one\n{word}\ntwo\n".encode()
    done = desk.run(*words, stdin=typed, start_new_session=True, env=desk.env).check(0)
    assert (done.out, done.err) == (b'{"error_code":0,"data":"one"}\n', "")


def test_the_cli_ends_while_commands_are_waited_for(desk: Desk) -> None:
    """The end of the CLI is noticed though the next command does not come."""
    desk.fake("def run(line):\n    reply(line)\n    show(READY)\n    raise SystemExit")
    words = desk.words("--password", "file:password", "-c", "-")
    pipe = subprocess.PIPE
    with desk.start(*words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(b"one\n")
        child.stdin.flush()
        assert b"./cli: it ended (exit status 0)" in child.stderr.read()
    assert child.returncode == 2


ASKS = """
def run(line):
    for question in ({}):
        show(question)
        hear_hidden()
    reply(line)
"""


def test_a_new_password(desk: Desk) -> None:
    """A command's questions for a password get the new one, once each, whichever command asks."""
    desk.fake(ASKS.format("PASSWORD, 'Confirm password:'"))
    desk.write("new", b"new-secret\n").chmod(0o644)
    done = desk.login("--new-password", "file:new", commands=("one", "two")).check(0)
    assert [answer["data"] for answer in answers(done.out)] == ["one", "two"]
    assert desk.lines("heard")[3:] == ["one", *["new-secret"] * 2, "two", *["new-secret"] * 2, "quit"]
    assert done.err.count("warning: new: other users can read this secret") == 1


@pytest.mark.parametrize(
    ("questions", "typed"), [("PASSWORD, PASSWORD", 1), ("'Really? '", 0), ("'Enter PIN:'", 0), ("FILE", 0)]
)
def test_a_question_that_is_not_answered(desk: Desk, questions: str, typed: int) -> None:
    """A question that comes again, or is another, is shown, and ends it."""
    desk.fake(ASKS.format(f"{questions},"))
    desk.write("new", b"new-secret\n")
    done = desk.login("--new-password", "file:new")
    assert_refused(done, 2, "tok-login: ./cli: ", "it shows: ")
    assert desk.heard("new-secret") == typed
    assert "new-secret" not in done.err

    """It is not typed while the echo is on."""


def test_nobody_knows_the_new_password(desk: Desk) -> None:
    """Without a source and a terminal, nothing is typed, and the option is named."""
    desk.fake(ASKS.format("PASSWORD,"))
    done = desk.login(commands=("one", "two"))
    assert_refused(done, 2, "command 1: one: there is no terminal to ask for the password\n", "--new-password")
    assert desk.lines("heard")[3:] == ["one"]


def test_a_person_knows_the_new_password(desk: Desk) -> None:
    """Whoever is at the terminal is asked for it, each time, and nobody sees it."""
    desk.fake(ASKS.format("PASSWORD, 'Confirm password:'"))
    with seat(desk, "--password", "file:password", "-c", "user list") as person:
        person.wait_for("Enter password for user list: ")
        assert not person.screen.getecho()
        person.type("new-secret")
        person.wait_for("Enter password again for user list: ")
        person.type("new-secret")
        assert "new-secret" not in person.end(0)
    assert desk.lines("heard")[3:] == ["user list", "new-secret", "new-secret", "quit"]


def test_a_response_on_a_terminal(desk: Desk) -> None:
    """Characters that act on a terminal, turn its text around, or are invisible, are escaped as JSON has them."""
    odd = "\u202e\u200b\ufeff\u2060\x85\u2028\U000e0041"
    desk.fake(
        f"def run(line):\n    show(json.dumps({{'error_code': 0, 'data': {odd!r} + 'é'}}, ensure_ascii=False) + '\\n')"
    )
    with seat(desk, "--password", "file:password", "-c", "x") as person:
        assert f'{json.dumps(odd)[1:-1]}é"' in person.end(0)
    assert "\u202e" in desk.login(commands=("x",)).check(0).out.decode()


# Signers of the user's own.

SIGNING = "sh -c 'echo $$ >signing; {}'"


def sign_by(desk: Desk, signer: str, *more: str) -> list[str]:
    """Return the command line of a login that a command signs."""
    words = ["tok-login", "--signer", signer, "-p", str(desk.key), *USER, "--cli", "./cli"]
    return [*words, "--password", "file:password", *more, "--", "user list"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("script", ["exec sleep 300", "trap : TERM; sleep 9 & wait; sleep 9 & wait"])
def test_a_signal_while_the_signer_works(desk: Desk, number: signal.Signals, script: str) -> None:
    """It ends the signer, whatever that does about it, and the login."""
    desk.fake()
    with desk.start(*sign_by(desk, SIGNING.format(script)), start_new_session=True, env=desk.env) as child:
        wait_until(lambda: bool(desk.lines("signing")))
        child.send_signal(number)
        assert child.wait(60) == -number
    assert not alive(int(desk.lines("signing")[0]))
    desk.assert_nothing_left("")


def test_the_children_of_the_cli_are_its_own(desk: Desk) -> None:
    """A signer has nothing to do with them: a helper lives on, and the end of the CLI is told as it was."""
    desk.fake("""
def start():
    if not os.fork():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.setsid()
        note("helper", str(os.getpid()))
        os.execvp("sleep", ["sleep", "60"])
def run(line):
    os.kill(os.getpid(), 9)
""")
    openssl = f"openssl pkeyutl -sign -inkey {desk.key} -pkeyopt digest:sha256"
    done = desk.run(*sign_by(desk, openssl), env=desk.env, start_new_session=True)
    done.check(2, "./cli: it ended (killed by signal 9 (Killed)); it shows: nothing\n")
    helper = int(desk.lines("helper")[0])
    assert alive(helper)
    os.kill(helper, signal.SIGKILL)


@pytest.mark.parametrize(("base64", "script"), [([], "exec {}"), (["-b"], "{} | openssl base64 -A")])
def test_a_signer(desk: Desk, base64: list[str], script: str) -> None:
    """A command signs, as for tok-exec."""
    openssl = f"openssl pkeyutl -sign -inkey {desk.key} -pkeyopt digest:sha256"
    words = sign_by(desk, shlex.join(["sh", "-c", script.format(openssl)]), *base64)
    done = desk.run(*words, env=desk.env, start_new_session=True).check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]


@pytest.mark.parametrize("signer", ["no-such-signer", "./password", ".", "''"])
def test_a_signer_that_cannot_be_run(desk: Desk, signer: str) -> None:
    """It is named before the CLI is started."""
    done = desk.run(*sign_by(desk, signer), env=desk.env, start_new_session=True)
    empty = "tok-login: the command of the signer is empty\n"
    assert_refused(done, 2, empty if signer == "''" else f"--signer: {signer}: not found, or not executable\n")
    assert desk.pids() == []


def test_a_signer_with_another_key(desk: Desk) -> None:
    """A signature that does not verify is not given to the CLI, and counts as no wrong login."""
    signer = f"openssl pkeyutl -sign -inkey {desk.key} -pkeyopt digest:sha256"
    words = ["tok-login", "--signer", signer, "-p", str(desk.key.with_name("other.pem")), *USER, "--cli", "./cli"]
    done = desk.run(*words, "--password", "file:password", "--", "x", env=desk.env, start_new_session=True)
    done.check(1, "tok-login: token 1: openssl: not made by the given key\n")
    assert desk.failures() == 0


# CLIs that are not as they should be.

QUORUM = """
def document():
    token = {"approval_data": text(b"x"), "token": text(hashlib.sha256(b"x").digest()), "signatures": []}
    return {"version": "2.0", "service": "user-management", **token}
"""
TWICE = """
def document():
    return {"version": "2.0", "tokens": [{"unsigned": text(DIGEST), "signed": ""}] * 2}
"""
MANY = """
def document():
    return {"version": "2.0", "tokens": [{"unsigned": text(bytes([n]) * 32), "signed": ""} for n in range(29)]}
"""
LOGIN_OF_NOBODY = 'reply("User does not exist", 1)\n    show(READY)\n    hear()'


@pytest.mark.parametrize(
    ("steps", "status", "said", "passwords"),
    [
        ("def hear_hidden():\n    hear()", 2, "it asks for a password, but would show it; nothing typed\n", 0),
        (
            "def ask_password():\n    for _ in range(3):\n        show(PASSWORD)\n        hear_hidden()",
            2,
            "(press enter if same as the unsigned token file):'; it shows: Enter password:\n",
            1,
        ),
        (
            'def ask_password():\n    show("Confirm password:")\n    hear_hidden()',
            2,
            "expected 'Enter password:'; it shows: Confirm password:\n",
            0,
        ),
        ("def ask_password():\n    show(READY)\n    hear()", 2, "expected 'Enter password:'; it shows: aws-", 0),
        (f"def ask_password():\n    {LOGIN_OF_NOBODY}", 1, "./cli: refused: User does not exist\n", 0),
        (f"def write_tokens(path):\n    {LOGIN_OF_NOBODY}", 1, "./cli: refused: User does not exist\n", 1),
        ('def answer(path):\n    reply({"why": "a\\x1b[2J"}, 7)', 1, "./cli: refused: ", 1),
        (
            'def answer(path):\n    show("Login successful\\n")',
            2,
            "expected a response in JSON; it shows: Login successful\n",
            1,
        ),
        ("def answer(path):\n    pass", 2, "expected a response in JSON; it shows: nothing\n", 1),
        (
            'def answer(path):\n    show(\'{"error_code": "0"}\\n\')',
            2,
            "expected a response in JSON; it shows: ",
            1,
        ),
        ("def answer(path):\n    reply(0)\n    reply(0)", 2, "2 responses to one command; it shows: ", 1),
        (
            'def answer(path):\n    show(\'{"error_code": 1, "error_code": 0}\\n\')',
            2,
            "expected a response in JSON; it shows: {",
            1,
        ),
        ("def answer(path):\n    show('{' * 100000 + '\\n')", 2, "expected a response in JSON; it shows: {{{", 1),
        ("def write_tokens(path):\n    pass", 2, "/unsigned-tokens.json: no such file or directory\n", 1),
        ("def write_tokens(path):\n    os.mkfifo(path)", 2, "/unsigned-tokens.json: not a regular file\n", 1),
        ("def write_tokens(path):\n    open(path, 'w')", 2, "/unsigned-tokens.json: an empty file", 1),
        (QUORUM, 2, "not for a login\n", 1),
        (TWICE, 2, "the CLI wrote the same token twice, but each HSM makes its own\n", 1),
        (MANY, 2, "the CLI wrote 29 tokens, but a cluster has 1 to 28 HSMs\n", 1),
        (
            'def start():\n    show("Segmentation fault\\n")\n    os._exit(3)',
            2,
            "./cli: it ended (exit status 3); it shows: Segmentation",
            0,
        ),
        ("def write_tokens(path):\n    os.kill(os.getpid(), 9)", 2, "./cli: it ended (killed by signal 9 (", 1),
        ("def run(line):\n    raise SystemExit", 2, "./cli: it ended (exit status 0); it shows: nothing\n", 1),
    ],
)
def test_a_cli_that_is_not_as_documented(desk: Desk, steps: str, status: int, said: str, passwords: int) -> None:
    """What is not expected is shown in one line and ends it, and the password is typed once, or not at all."""
    desk.fake(steps)
    assert_refused(desk.login(), status, said)
    assert desk.heard() == passwords
    assert "user list" not in desk.lines("heard") or "def run" in steps


@pytest.mark.parametrize(
    "step",
    [
        "def write_tokens(path):\n    raise SystemExit('Error: Permission denied (os error 13): ' + path)",
        "def write_tokens(path):\n    reply(path + ': No such file or directory', 1)\n    show(READY)\n    hear()",
        "def write_tokens(path):\n    pass",
    ],
)
def test_a_cli_that_cannot_use_the_directory(desk: Desk, step: str) -> None:
    """A hint names the section of the page for a CLI in a container, or of another user."""
    desk.fake(step)
    hint = "hint: if the CLI runs in a container or as another user, see 'A CLI ELSEWHERE' in tok-login(1)\n"
    assert hint in desk.login().err


def test_a_directory_that_the_cli_replaces(desk: Desk) -> None:
    """Nothing is written through a link, and a warning names the directory, which stays."""
    desk.fake("""
def write_tokens(path, old=write_tokens):
    old("unsigned-tokens.json")
    os.rmdir(os.path.dirname(path))
    os.symlink(os.getcwd(), os.path.dirname(path))
""")
    done = desk.run(*desk.words("--password", "file:password", "--", "x"), start_new_session=True, env=desk.env)
    (link,) = desk.tmp.iterdir()
    done.check(2, f"tok-login: warning: {link}: cannot be removed\ntok-login: {link}: replaced by a link\n")
    assert json.loads(desk.read("unsigned-tokens.json"))["tokens"][0]["signed"] == ""
    link.unlink()


def test_it_leaves_as_a_person_would(desk: Desk) -> None:
    """At a prompt it quits after a refusal, so that the session ends; at a question it types nothing."""
    desk.fake("def answer(path):\n    reply('no', 1)")
    desk.login().check(1)
    assert desk.lines("heard")[-1] == "quit"
    desk.fake("def write_tokens(path):\n    pass")
    desk.login().check(2)
    assert desk.lines("heard")[-1] == PASSWORD


@pytest.mark.parametrize("quoting", ["{}", "json.dumps", "repr", "ascii"])
@pytest.mark.parametrize("password", ["for-practice", "für\\übung/"])
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
    assert done.err.count("(the password)") == 2


@pytest.mark.parametrize(
    "steps",
    [
        "def answer(path):\n    time.sleep(2)\n    reply(0)",
        "def ask_password():\n    show(PASSWORD)\n    time.sleep(1)\n    hear_hidden()",
        "def ask_file(path):\n    show(FILE[:20])\n    time.sleep(0.5)\n    show(FILE[20:])\n    hear()",
        "def answer(path):\n    os.unlink(path)\n    reply(0)",
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
    ],
    ids=["a late response", "the echo goes late", "a prompt in two pieces", "removes the token file", "ignores SIGHUP"],
)
def test_a_cli_that_is_a_little_different(desk: Desk, steps: str) -> None:
    """What is no business of tok-login's does not disturb it."""
    desk.fake(steps)
    assert desk.login() == Done(0, b'{\n  "error_code": 0,\n  "data": "user list"\n}\n', "")
    assert desk.heard() == 1


@pytest.mark.parametrize("end", ["os._exit(4)", "os.kill(os.getpid(), 9)"])
def test_a_cli_that_does_not_end_well(desk: Desk, end: str) -> None:
    """Where the CLI ends badly after quit, that is trouble, though all was answered."""
    desk.fake(f"def end():\n    {end}")
    said = "./cli: exit status 4\n" if "exit" in end else "./cli: killed by signal 9 ("
    assert_refused(desk.login(), 2, said, out=b'{\n  "error_code": 0,\n  "data": "user list"\n}\n')


def test_the_token_file_is_private(desk: Desk) -> None:
    """The token file is in a directory that is the user's alone, is signed there, and gone after the login."""
    desk.fake(r"""
def answer(path):
    note("told", path)
    note("told", oct(os.stat(os.path.dirname(path)).st_mode))
    note("told", open(path).read().replace("\n", ""))
    reply(0)
def run(line):
    reply(os.path.exists(os.path.dirname(open("told").readline())))
""")
    done = desk.login().check(0)
    path, mode, content = desk.lines("told")
    assert Path(path).parent.parent == desk.tmp
    assert mode == oct(0o40700)
    assert len(json.loads(content)["tokens"][0]["signed"]) == 344
    assert answers(done.out) == [{"error_code": 0, "data": False}]


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("start", signal.SIGTERM),
        ("ask_password", signal.SIGINT),
        ("write_tokens", signal.SIGHUP),
        ("answer", signal.SIGTERM),
        ("run", signal.SIGINT),
        ("end", signal.SIGTERM),
    ],
)
def test_a_signal_while_the_cli_works(desk: Desk, step: str, number: signal.Signals) -> None:
    """A signal ends tok-login, with the CLI, whatever that is about, and nothing is left behind."""
    steps = f"""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
def {step}(*_):
    {"original(*_)" if step == "write_tokens" else "pass"}
    os.kill(PARENT, signal.{number.name})
    {FOREVER}
"""
    desk.fake(f"original = {step}\n{steps}")
    done = desk.login()
    assert (done.status, done.err) == (-number, "")


def test_a_signal_while_the_cli_starts(desk: Desk) -> None:
    """The CLI does not outlive tok-login, however early the signal comes."""
    desk.script("trap '' HUP; echo $$ $PPID >>pid; kill -TERM $PPID; exec sleep 300")
    for _ in range(5):
        assert desk.login().status == -signal.SIGTERM


def test_a_closed_pipe(desk: Desk) -> None:
    """Where nobody reads the responses, it ends as cat(1) does, and nothing is left behind."""
    desk.fake("signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    words = desk.words("--password", "file:password", "-c", "one", "-c", "two")
    reading, writing = os.pipe()
    os.close(reading)
    with desk.start(*words, start_new_session=True, env=desk.env, stdout=writing) as child:
        os.close(writing)
        assert child.wait(120) == -signal.SIGPIPE
    desk.assert_nothing_left("")


# A lockout, and where the token file is.


@pytest.mark.parametrize(
    ("key", "password", "said"),
    [
        ("pkcs8.pem", "env:PHRASE", "./cli: refused: tok-rehearse: wrong user name, role or password\n"),
        ("other.pem", "file:password", "./cli: refused: tok-rehearse: "),
    ],
)
def test_a_wrong_login_counts_once(desk: Desk, key: str, password: str, said: str) -> None:
    """A failing run is one wrong login, whatever was wrong, and a right one sets the count back."""
    desk.login(key=desk.key.with_name(key), password=password).check(1, said)
    assert desk.failures() == 1
    desk.login().check(0)
    assert desk.failures() == 0


@pytest.mark.parametrize("name", ["a blank", "über", "quo'te"])
def test_a_tmpdir_that_a_cli_may_misread(desk: Desk, name: str) -> None:
    """Where TMPDIR has a character that the CLI may not take for one, nothing is typed."""
    desk.fake()
    directory = desk.tmp / name
    directory.mkdir()
    done = desk.run(*desk.words("--password", "file:password", "--", "one"), env={**desk.env, "TMPDIR": str(directory)})
    assert_refused(
        done,
        2,
        "the CLI may misread this name\n",
        "tok-login: hint: set TMPDIR to a directory with a plain name: letters, digits, '.', '_' and '-'\n",
    )
    assert desk.lines("heard") == []
    directory.rmdir()
    desk.assert_nothing_left(done.err)


def test_the_first_refusal_is_the_last_command(desk: Desk) -> None:
    """A command that is refused ends it with 1, and those behind it are not run."""
    delete = "user delete --username nobody --role admin"
    done = desk.login(commands=("quorum token-sign list-quorum-values", delete, "user list"))
    done.check(1, "tok-login: command 2: ./cli: refused: tok-rehearse: there is no such user\n")
    assert b'"users"' not in done.out


def test_a_program_that_ends_at_its_question(desk: Desk) -> None:
    """Its end is told once, after the terminal was connected to it too."""
    cli = "sh -c 'printf Secret:; sleep 3; exit 3'"
    with seat(desk, "--password", "file:password", "-c", "user list", cli=cli) as person:
        shown = person.end(2)
    assert "it ended (exit status 3); it shows: Secret:" in shown
    assert shown.count("Secret:") <= 3


def test_ssh_without_a_host(desk: Desk) -> None:
    """Whoever forgets the host does not log in at the CLI that is here."""
    done = desk.login("--ssh", "ssh -4", commands=("user list",))
    assert_refused(done, 2, "--ssh needs --host\n")
