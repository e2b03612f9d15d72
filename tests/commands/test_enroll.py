"""tok-enroll: set-up, rotation and removal of a second factor, with their proof, and what a step that fails leaves."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_desk import FOREVER, Desk, Seat, answers, desk
from rehearsing import PASSWORD

if TYPE_CHECKING:
    from conftest import Done

__all__ = ["desk"]  # a fixture

OFFICER = ["--username", "officer1", "--role", "admin"]
ADMIN = ["--username", "admin", "--role", "admin"]
"""The first admin, who has no second factor."""
IN = "logged in as officer1 (admin)"
REGISTERING = "registering the new key"
REGISTERED = "the new key is registered"
PROVED = "logged in with the new key as officer1 (admin)"
UNPROVED = f"{REGISTERED}, but the test login failed: "
WHOLE = [IN, REGISTERING, REGISTERED, PROVED]

# A fake whose user has no second factor yet, in steps as those of FAKE, of which these take the place.
SET_UP = r"""
def log_in(line):
    ask_password()
    if "--token" in line:
        path = line.split()[-1]
        write_tokens(path)
        ask_file(path)
    answer(line)

def ask_again():
    show("Confirm password:")
    hear_hidden()

def ask_key():
    show("Enter public key PEM file path:")
    path = hear()
    note("key", open(path).read() + oct(os.stat(path).st_mode) + oct(os.stat(os.path.dirname(path)).st_mode))

def change(line):
    ask_password()
    ask_again()
    if "--token" in line:
        path = line.split("--token ")[1].split()[0]
        write_tokens(path)
        ask_file(path)
        ask_key()
    approve()

def approve():
    reply({"username": "officer1", "role": "admin"})

def log_out(line):
    reply("Logout successful")

def prove(line):
    log_in(line)

def main():
    note("pid", f"{os.getpid()} {PARENT}")
    start()
    for step in (log_in, change, log_out, prove):
        show(READY)
        globals()[step.__name__](hear())
    show(READY)
    assert hear() == "quit"
    end()
"""


def words(desk: Desk, *more: str | Path, user: list[str] = OFFICER) -> list[str]:
    """Return a command line, for the other key of the desk unless more says something else."""
    key = [] if {"-k", "--signer", "--deregister"} & {*more} else ["-k", str(other(desk))]
    return ["tok-enroll", *key, *user, "--cli", "./cli", *map(str, more)]


def enroll(
    desk: Desk, *more: str | Path, user: list[str] = OFFICER, password: str = "file:password", **rest: Any
) -> Done:
    """Enroll without a terminal; nothing is left behind, and nothing is on standard output."""
    options = {"env": desk.env, "start_new_session": True, **rest}
    done = desk.run(*words(desk, "--password", password, *more, user=user), **options)
    desk.assert_nothing_left(done.err)
    assert done.out == b""
    return done


def other(desk: Desk) -> Path:
    """Return the key that is not registered."""
    return desk.key.with_name("other.pem")


def journal(done: Done) -> list[str]:
    """Return what it has said, without its name, and without the stand-in's own words."""
    lines = [line.partition("tok-enroll: ")[2] for line in done.err.splitlines()]
    return [line for line in lines if "rehearsal only: " not in line]


def factors(desk: Desk, key: Path | None, username: str = "officer1") -> tuple[int, int]:
    """Log in with a key or without one, and return how many factors beside the password a user has, and quorums."""
    login = ["-k", str(key)] if key else ["--no-mfa"]
    line = ["tok-login", *login, "--username", username, "--role", "admin", "--cli", "./cli"]
    done = desk.run(*line, "--password", "file:password", "--", "user list", env=desk.env, start_new_session=True)
    (answer,) = answers(done.check(0).out)
    (user,) = [user for user in answer["data"]["users"] if user["username"] == username]
    return len(user["mfa"]), len(user["quorum"])


# With the stand-in.


@pytest.mark.parametrize("prompt", [[], ["--prompt-after-login"]])
def test_a_first_key(desk: Desk, prompt: list[str]) -> None:
    """A user without a second factor gets one: every step is told, and the user is an approver."""
    desk.stand_in(*prompt)
    done = enroll(desk, user=ADMIN).check(0)
    assert journal(done) == [line.replace("officer1", "admin") for line in WHOLE]
    assert factors(desk, other(desk), "admin") == (1, 1)


def test_at_a_terminal(desk: Desk) -> None:
    """A person gives the password once, and nobody sees it."""
    person = Seat(desk, words(desk, user=ADMIN))
    person.wait_for("Enter password for admin: ")
    assert not person.screen.getecho()
    person.type(PASSWORD)
    shown = person.end(0)
    person.screen.close(force=True)
    assert shown.count("Enter password") == 1
    assert "tok-enroll: logged in with the new key as admin (admin)\r\n" in shown


def test_another_key(desk: Desk) -> None:
    """The new key takes the old one's place; the password is fetched once, and both keys are those that -p names."""
    public: list[str | Path] = [
        "-p",
        other(desk).with_suffix(".pub"),
        "--old-verify-key",
        desk.key.with_name("cert.pem"),
    ]
    line = words(desk, "--old-key", desk.key, *public, "--change-quorum", "--password", "fd:3")
    done = desk.run("sh", "-c", '"$@" 3<password', "sh", *line, env=desk.env, start_new_session=True).check(0)
    desk.assert_nothing_left(done.err)
    assert journal(done) == WHOLE
    assert factors(desk, other(desk)) == (1, 1)
    desk.login().check(1)  # with the old one


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [("-p", "spki.pem", "-k and -p"), ("--old-verify-key", "other.pub", "--old-key and --old-verify-key")],
)
def test_the_wrong_key(desk: Desk, option: str, name: str, said: str) -> None:
    """A key that is not that of the public key ends it before the CLI is started."""
    done = enroll(desk, option, desk.key.with_name(name), "--old-key", desk.key)
    assert journal(done.check(2)) == [f"{said} are different keys; nothing typed"]
    assert desk.pids() == []


@pytest.mark.parametrize("more", [[], ["--change-quorum"]])
def test_no_second_factor_any_more(desk: Desk, more: list[str]) -> None:
    """The second factor is removed, and a login without one proves it."""
    done = enroll(desk, "--deregister", "--old-key", desk.key, *more).check(0)
    assert journal(done) == [
        IN,
        "removing the second factor",
        "the second factor is removed",
        "logged in without a second factor as officer1 (admin)",
    ]
    assert factors(desk, None) == (0, 0)


OLD_KEY = "check the password and --old-key; for a user without a second factor, leave --old-key out"


@pytest.mark.parametrize(
    ("user", "key", "said", "hint"),
    [
        (
            OFFICER,
            "",
            "the user has a second factor: ",
            "check the password; if the user has a second factor, give its key with --old-key",
        ),
        (OFFICER, "rsa3072.pem", "token 1: ", OLD_KEY),
        (ADMIN, "pkcs8.pem", "the user has no second factor: ", OLD_KEY),
    ],
)
def test_a_login_that_is_refused(desk: Desk, user: list[str], key: str, said: str, hint: str) -> None:
    """A missing, a wrong and a needless old key end it at the first login, and nothing has changed."""
    more = ["--old-key", str(desk.key.with_name(key))] if key else []
    done = enroll(desk, *more, user=user).check(1, f"./cli: refused: tok-rehearse: {said}")
    assert journal(done)[-2].endswith("; nothing changed")
    assert journal(done)[-1] == f"hint: {hint}"
    assert desk.failures() == (key == "rsa3072.pem")


@pytest.mark.parametrize("new", ["pkcs8.pem", "pkcs1.der", "pbes2.pem"])
@pytest.mark.parametrize("old", ["pkcs8.pem", "pkcs1.pem"])
def test_the_same_key(desk: Desk, new: str, old: str) -> None:
    """The old key is no new one, whatever form its file has, and the CLI is not started."""
    old_key = ["--old-key", str(desk.key.with_name(old))]
    assert (
        journal(enroll(desk, "-k", desk.key.with_name(new), "--passin", "env:PHRASE", *old_key).check(2))[0]
        == "the new key and the old key are the same"
    )
    assert desk.pids() == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-k", "x", "--deregister"], "-k and --deregister cannot be used together"),
        (["--old-verify-key", "x"], "--old-verify-key needs --old-key KEY"),
        (["--deregister"], "--deregister needs --old-key KEY to log in"),
        (["--deregister", "-p", "x"], "-p cannot be used with --deregister"),
        (["--deregister", "--old-key", "missing.pem"], "missing.pem: no such file or directory"),
        (["--old-passin", "hunter22"], "--old-passin: not a source of a secret"),
    ],
)
def test_usage_errors(desk: Desk, more: list[str], said: str) -> None:
    """What is wrong with the options is said before anything is started."""
    assert journal(enroll(desk, *more).check(2))[0] == said
    assert desk.pids() == []


# With a CLI that a test takes apart.


def test_what_is_typed(desk: Desk) -> None:
    """The dialogue is AWS's, with a token file of its own for each step, and a private file of the public key."""
    desk.fake(SET_UP)
    done = enroll(desk, "--change-quorum").check(0)
    assert journal(done) == WHOLE
    heard = desk.lines("heard")
    set_up, key, proof = heard[2].split()[4], heard[6], heard[8].split()[-1]
    assert heard == [
        "login --username officer1 --role admin",
        PASSWORD,
        f"user change-mfa token-sign --token {set_up} --username officer1 --role admin --change-quorum",
        PASSWORD,
        PASSWORD,
        "",
        key,
        "logout",
        f"login --username officer1 --role admin mfa-token-sign --token {proof}",
        PASSWORD,
        "",
        "quit",
    ]
    assert len({set_up, key, proof}) == 3
    assert {os.path.dirname(os.path.dirname(path)) for path in (set_up, key, proof)} == {str(desk.tmp)}
    modes = oct(stat.S_IFREG | 0o600) + oct(stat.S_IFDIR | 0o700)
    assert "\n".join(desk.lines("key")) == other(desk).with_suffix(".pub").read_text() + modes


@pytest.mark.parametrize(
    ("steps", "status", "told", "said"),
    [
        ("def log_in(line):\n    reply('no', 1)", 1, 0, "./cli: refused: no; nothing changed"),
        (
            "def log_in(line):\n    raise SystemExit",
            2,
            0,
            "./cli: it ended (exit status 0); it shows: nothing; nothing changed",
        ),
        ("def change(line):\n    reply('no', 1)", 1, 1, "./cli: refused: no; nothing changed"),
        ("def ask_again():\n    show(READY)\n    hear()", 2, 1, "; nothing changed"),
        ("def ask_again():\n    raise SystemExit", 2, 1, "; nothing changed"),
        (
            "def ask_again():\n    reply('too short', 1)\n    show(READY)\n    hear()",
            1,
            1,
            "too short; nothing changed",
        ),
        ("def document():\n    return {'version': '2.0', 'tokens': []}", 2, 1, "; nothing changed"),
        ("def ask_key():\n    reply('no', 1)\n    show(READY)\n    hear()", 1, 1, "refused: no; nothing changed"),
        (
            "def ask_key():\n    show('Enter password:')\n    hear_hidden()",
            2,
            1,
            "expected 'Enter public key PEM file path:'; it shows: Enter password:; nothing changed",
        ),
        (
            "def approve():\n    raise SystemExit",
            2,
            2,
            "./cli: it ended (exit status 0); it shows: nothing; it is not known whether the new key is registered",
        ),
        ("def approve():\n    show('done\\n')", 2, 2, "shows: done; it is not known whether the new key is registered"),
        ("def approve():\n    reply('no', 1)", 1, 2, "./cli: refused: no; nothing changed, as far as the CLI knows"),
        ("def log_out(line):\n    reply('no', 1)", 2, 3, f"{UNPROVED}./cli: refused: no"),
        ("def prove(line):\n    reply('no', 1)", 2, 3, f"{UNPROVED}./cli: refused: no"),
        (
            "def prove(line):\n    raise SystemExit",
            2,
            3,
            f"{UNPROVED}./cli: it ended (exit status 0); it shows: nothing",
        ),
        ("def end():\n    os._exit(3)", 2, 4, "./cli: exit status 3"),
    ],
)
def test_a_step_that_fails(desk: Desk, steps: str, status: int, told: int, said: str) -> None:
    """What was done, what was not, and what nobody knows is said, and no more is typed."""
    desk.fake(f"{SET_UP}\n{steps}")
    done = enroll(desk).check(status)
    lines = [line for line in journal(done) if not line.startswith("hint: ")]
    assert lines[:-1] == WHOLE[:told]
    assert lines[-1].endswith(said)
    assert len(journal(done)) - len(lines) <= 1
    assert desk.heard() <= 4
    assert ("logout" in desk.lines("heard")) == (told > 2)


@pytest.mark.parametrize(
    ("steps", "status", "said"),
    [
        ("def ask_again():\n    show(READY)\n    hear()", 2, "; nothing changed"),
        ("def approve():\n    reply('no', 1)", 1, "./cli: refused: no; nothing changed, as far as the CLI knows"),
        ("def approve():\n    raise SystemExit", 2, "; it is not known whether the second factor is removed"),
        ("def prove(line):\n    reply('no', 1)", 2, ", but the test login failed: ./cli: refused: no"),
    ],
)
def test_a_removal_that_fails(desk: Desk, steps: str, status: int, said: str) -> None:
    """The same is said where the second factor is to be taken away."""
    desk.fake(f"{SET_UP}\n{steps}")
    done = enroll(desk, "--deregister", "--old-key", desk.key).check(status)
    assert [line for line in journal(done) if not line.startswith("hint: ")][-1].endswith(said)


@pytest.mark.parametrize(
    ("step", "number", "told"),
    [
        ("ask_again", signal.SIGINT, 1),
        ("write_tokens", signal.SIGHUP, 1),
        ("ask_key", signal.SIGTERM, 1),
        ("approve", signal.SIGINT, 2),
        ("log_out", signal.SIGTERM, 3),
        ("prove", signal.SIGINT, 3),
    ],
)
def test_a_signal(desk: Desk, step: str, number: signal.Signals, told: int) -> None:
    """A signal ends it with the CLI at every step, no file is left, and what was said by then is true."""
    stop = f"def {step}(*_):\n    os.kill(PARENT, signal.{number.name})\n    {FOREVER}"
    desk.fake(f"{SET_UP}\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{stop}")
    done = enroll(desk)
    assert (done.status, journal(done)) == (-number, WHOLE[:told])
