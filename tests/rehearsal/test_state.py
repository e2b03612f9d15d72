"""The state file of the stand-in: whole, private, and shared by several shells, whatever happens to one."""

from __future__ import annotations

import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rehearsing import PASSWORD, enrol

from toktools.errors import ToktoolsError
from toktools.rehearsal.cluster import (
    ADMIN,
    CRYPTO_USER,
    ITERATIONS,
    SERVICES,
    Cluster,
    QuorumToken,
    Refused,
    Session,
    User,
)
from toktools.rehearsal.keys import Key
from toktools.rehearsal.state import State

if TYPE_CHECKING:
    from conftest import Done, Shell

FIRST = ("admin", ADMIN)
AS_ADMIN = {"CLOUDHSM_ROLE": ADMIN, "CLOUDHSM_PIN": f"admin:{PASSWORD}"}
STATE = "state"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A name for a state file."""
    return tmp_path / STATE


@pytest.fixture(scope="session")
def activated(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The state file of an activated cluster, to be copied."""

    def activate(directory: Path) -> None:
        with State(str(directory / STATE)).cluster(3) as cluster:
            cluster.activate(PASSWORD)

    return once("activated", activate) / STATE


@pytest.fixture
def desk(shell: Shell, activated: Path) -> Shell:
    """A directory with the state file of an activated cluster."""
    shutil.copy(activated, shell.cwd)
    return shell


def rehearse(shell: Shell, *words: str | Path, **environment: str) -> Done:
    """Run a single command on the state file."""
    return shell.run("tok-rehearse", "--state", STATE, *words, env={**shell.unmeasured, **environment})


def create(name: str) -> list[str]:
    """Return the words that make a crypto user."""
    return ["user", "create", "--username", name, "--role", CRYPTO_USER, "--password", PASSWORD]


def users_in(path: Path) -> list[str]:
    """Return the names of the users, as the next shell sees them."""
    with State(str(path)).cluster(3) as cluster:
        return [username for username, _ in cluster.users]


def names_in(directory: Path) -> list[str]:
    return sorted(found.name for found in directory.iterdir())


@contextmanager
def interactive(shell: Shell) -> Iterator[subprocess.Popen[bytes]]:
    """Start a shell at pipes, with its messages among its answers, and kill it in the end."""
    pipe = subprocess.PIPE
    command = ("tok-rehearse", "--state", STATE, "interactive")
    with shell.start(
        *command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=shell.unmeasured, bufsize=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def type_line(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())


def read_until(process: subprocess.Popen[bytes], text: str) -> str:
    """Return what a shell writes up to a text."""
    assert process.stdout is not None
    shown = b""
    while text.encode() not in shown:
        assert select.select([process.stdout], [], [], 120)[0], shown
        chunk = os.read(process.stdout.fileno(), 4096)
        assert chunk, shown
        shown += chunk
    return shown.decode()


# --- what is kept


def fill(cluster: Cluster) -> None:
    """Put something everywhere."""
    users = [
        User(*FIRST, "00", "ff", failures=3, public_key="a\nkey\n", mfa=True, quorum=True),
        User("alice", CRYPTO_USER, failures=6),
        User("alice", ADMIN, public_key="k", quorum=True),
    ]
    cluster.users = {user.name: user for user in users}
    cluster.values = {"user": 2, "quorum": 8, "cluster": 1}
    session = f"{os.getpid()}-a session"
    cluster.tokens = [
        QuorumToken("AAAA", "user", *FIRST, session, 1_700_000_000.123456),
        QuorumToken("AAAB", "key-usage", "alice", CRYPTO_USER, session, 0.0, 0x100002),
    ]
    cluster.keys = [
        Key(0x100001, "alice", {"label": "public", "verify": True}),
        Key(0x100002, "alice", {"label": "\u00e9"}, "AAAC", ["bob", "carol"], 3, 2),
    ]


def test_everything_comes_back(path: Path) -> None:
    """A new or an empty file is a cluster without users; what is put into it comes back; HSMs are the shell's."""
    for _ in range(2):
        with State(str(path)).cluster(3) as cluster:
            assert cluster == Cluster(3)
        path.write_bytes(b"")
    full = Cluster(5)
    fill(full)
    with State(str(path)).cluster(3) as cluster:
        fill(cluster)
    with State(str(path)).cluster(5) as cluster:
        assert cluster == full


def test_passwords_are_kept_as_pbkdf2(path: Path, keys: Path) -> None:
    """The file holds PBKDF2 of a password with the user's salt, as documented, and the password itself nowhere."""
    enrol(path, "officer1", keys / "pkcs8.pem")
    assert PASSWORD.encode() not in path.read_bytes()
    document = json.loads(path.read_text())
    assert [user["username"] for user in document["users"]] == ["admin", "officer1"]
    for user in document["users"]:
        salt = bytes.fromhex(user["salt"])
        assert len(salt) == 16
        assert user["hashed"] == pbkdf2_hmac("sha256", PASSWORD.encode(), salt, ITERATIONS).hex()


def test_a_password_that_is_not_text(path: Path) -> None:
    """A password with a byte that is not text, as an argument may have, is the one that logs in."""
    with State(str(path)).cluster(1) as cluster:
        cluster.activate(f"{PASSWORD}\udcff")
    with State(str(path)).cluster(1) as cluster:
        with pytest.raises(Refused, match="wrong user name, role or password"):
            cluster.login(Session(), FIRST, f"{PASSWORD}\udcfe")
        cluster.login(Session(), FIRST, f"{PASSWORD}\udcff")


def test_another_exception_than_a_refusal_changes_nothing(path: Path) -> None:
    """Anything but a refusal leaves the file as it was, byte for byte, and usable."""
    state = State(str(path))
    before = path.read_bytes()

    def fill_and_fail() -> None:
        with state.cluster(3) as cluster:
            fill(cluster)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_and_fail()
    assert path.read_bytes() == before
    assert users_in(path) == []
    assert names_in(path.parent) == [STATE]


# --- its name


@pytest.mark.parametrize(
    ("home", "directory"),
    [(None, "home/.local/state"), ("./a", "home/.local/state"), ("{}/abs", "abs")],
)
def test_the_default_name(shell: Shell, home: str | None, directory: str) -> None:
    """It is in XDG_STATE_HOME, or ~/.local/state if that is not an absolute path, in a private directory."""
    usual = {name: text for name, text in shell.env.items() if name != "XDG_STATE_HOME"}
    environment = {**usual, "HOME": str(shell.cwd / "home")}
    if home is not None:
        environment["XDG_STATE_HOME"] = home.format(shell.cwd)
    path = shell.cwd / directory / "toktools" / "rehearsal.json"
    for _ in range(2):  # the first makes it, the second finds it
        shell.run("tok-rehearse", "user", "list", env=environment).check(0, f"3 simulated HSMs, kept in {path}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(shell.cwd.rglob("rehearsal.*")) == [path]


@pytest.mark.parametrize("name", ["-", os.fsdecode(b"\xff\x1b[2J")])
def test_any_name(shell: Shell, name: str) -> None:
    """A state file may have any name, and what is kept in it is there for the next shell."""
    words = ["tok-rehearse", "--state", name, "cluster", "activate", "--password", PASSWORD]
    shell.run(*words).check(0)
    again = shell.run(*words).check(1)
    assert b"already been activated" in again.out
    assert "\x1b" not in again.err
    assert (shell.cwd / name).stat().st_size


# --- trouble with it


def database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE users (username TEXT)")
        connection.commit()


def rewritten(old: bytes, new: bytes) -> Callable[[Path], None]:
    """Return what makes a state file, and replaces something in it."""

    def rewrite(path: Path) -> None:
        with State(str(path)).cluster(3) as cluster:
            fill(cluster)
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))

    return rewrite


def check_trouble(done: Done, said: str, hint: str = "") -> None:
    """Assert that trouble is told with status 2, and nothing else written."""
    done.check(2, "tok-rehearse: ", said, hint)
    assert len(done.err.splitlines()) == 1 + bool(hint), done
    assert done.out == b""


@pytest.mark.parametrize(
    "make",
    [
        database,
        rewritten(b'"tok-rehearse": 3', b'"tok-rehearse": 4'),
        lambda path: path.write_text('{"version": "2.0"}'),
        lambda path: path.write_text("[" * 100_000),
        rewritten(b'"users"', b'"others"'),
        rewritten(b'"username"', b'"name"'),
        rewritten(b'"values": {', b'"values": 3, "more": {'),
    ],
)
def test_a_file_that_is_no_state(shell: Shell, make: Callable[[Path], object]) -> None:
    """A foreign, an older or a damaged file is refused before a password is compared, and is left as it is."""
    path = shell.cwd / STATE
    make(path)
    path.chmod(0o644)
    before = path.read_bytes()
    said = f"{STATE}: not a state file of this release of tok-rehearse"
    check_trouble(rehearse(shell, "logout", **AS_ADMIN), said, "give --state another name, to make a new one")
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert names_in(shell.cwd) == ["f.json", STATE]


LISTS = {"users": User, "tokens": QuorumToken, "keys": Key}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        *[(place, member.name) for place, kind in LISTS.items() for member in fields(kind)],
        *[("values", service) for service in SERVICES],
    ],
)
def test_a_member_of_another_type(path: Path, place: str, name: str) -> None:
    """A state is refused if one of its members is damaged, whichever it is."""
    with State(str(path)).cluster(3) as cluster:
        fill(cluster)
    document = json.loads(path.read_text())
    members = document[place][-1] if place in LISTS else document[place]
    right = members[name]
    others: list[object] = [None, {}, [], [None], 1, 1.5, True, "1"]
    for other in others:
        if type(other) is not type(right) or other == [None]:
            members[name] = other
            path.write_text(json.dumps(document))
            with pytest.raises(ToktoolsError, match=f"{STATE}: not a state file of this release of tok-rehearse"):
                State(str(path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("directory", "directory: not a regular file"),
        ("fifo", "fifo: not a regular file"),
        ("missing/state", "missing/state: no such file or directory"),
        ("", "'': no such file or directory"),
    ],
)
def test_a_name_that_cannot_be_a_state(name: str, said: str, shell: Shell) -> None:
    """A directory is refused, none is made, and an empty name is not the default one."""
    (shell.cwd / "directory").mkdir()
    os.mkfifo(shell.cwd / "fifo")
    check_trouble(shell.run("tok-rehearse", "--state", name, "user", "list"), said)
    assert names_in(shell.cwd) == ["directory", "f.json", "fifo"]


def test_a_full_disk(desk: Shell) -> None:
    """What cannot be kept is trouble and no answer, and leaves nothing behind."""
    words = " ".join(create("alice"))
    environment = {**desk.unmeasured, **AS_ADMIN}
    done = desk.sh(f"ulimit -f 0; exec tok-rehearse --state {STATE} {words}", env=environment)
    assert done.check(2, f"tok-rehearse: {STATE}: file too large").out == b""
    assert users_in(desk.cwd / STATE) == ["admin"]
    assert names_in(desk.cwd) == ["f.json", STATE]


def test_a_login_that_cannot_be_kept(desk: Shell) -> None:
    """A shell whose state file is spoilt says so, ends with status 2, and writes nothing to it."""
    with interactive(desk) as process:
        type_line(process, f"login --username admin --role admin --password {PASSWORD}")
        read_until(process, "\n}\n")
        desk.write(STATE, b"spoilt")
        type_line(process, "user list")
        assert f"tok-rehearse: {STATE}: not a state file" in read_until(process, "a new one\n")
        assert process.wait(120) == 2
    assert desk.read(STATE) == b"spoilt"


# --- several shells


def test_shells_that_create_users_at_once(desk: Shell) -> None:
    """Of users that several shells create at the same time none is lost, and none refused; the file stays whole."""
    names = [[f"shell{shell}_{number}" for number in range(5)] for shell in range(4)]
    for number, some in enumerate(names):
        login = f"login --username admin --role admin --password {PASSWORD}"
        lines = [login, *(" ".join(create(name)) for name in some), "quit"]
        desk.write(f"script{number}", "".join(f"{line}\n" for line in lines).encode())
    command = " & ".join(f"tok-rehearse --state {STATE} interactive < script{n} > script{n}.out" for n in range(4))
    desk.sh(f"{command} & wait", env=desk.unmeasured, timeout=120).check(0)
    for number in range(4):
        assert desk.read(f"script{number}.out").count(b'"error_code": 0') == 6
    assert sorted(users_in(desk.cwd / STATE)) == sorted(["admin", *(name for some in names for name in some)])


def test_a_shell_that_waits_for_a_person_holds_up_nobody(desk: Shell, keys: Path) -> None:
    """While one shell waits for a signed file, another can change the cluster."""
    enrol(desk.cwd / STATE, "officer1", keys / "pkcs8.pem")
    login = "login --username officer1 --role admin mfa-token-sign --token unsigned.json"
    with interactive(desk) as process:
        type_line(process, f"{login.replace(' mfa', f' --password {PASSWORD} mfa')}")
        read_until(process, "Enter signed token file path")
        rehearse(desk, *create("alice"), **AS_ADMIN).check(0)
        type_line(process, "")
        assert "token 1: unsigned" in read_until(process, "\n}\n")
    assert users_in(desk.cwd / STATE) == ["admin", "officer1", "alice"]


@pytest.mark.parametrize("how", ["quit", "SIGKILL"])
def test_quorum_tokens_end_with_their_shell(how: str, desk: Shell) -> None:
    """However a shell ends, its quorum tokens are dropped, so that the next may ask for one."""
    path = desk.cwd / STATE
    with State(str(path)).cluster(3) as cluster:
        cluster.values["user"] = 2
    with interactive(desk) as process:
        type_line(process, f"login --username admin --role admin --password {PASSWORD}")
        type_line(process, "quorum token-sign generate --service user --token t.token")
        read_until(process, "filepath")
        assert b'"service": "user"' in rehearse(desk, "quorum", "token-sign", "list").check(0).out
        if how == "quit":
            type_line(process, "quit")
        else:
            process.kill()
        process.wait(120)
    assert b'"tokens": []' in rehearse(desk, "quorum", "token-sign", "list").check(0).out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_killed_at_any_moment(desk: Shell, number: signal.Signals) -> None:
    """A shell that is killed has kept the users that it answered for, at most one more, and no second file."""
    path, chance = desk.cwd / STATE, random.Random()
    wanted = [f"user{number}" for number in range(30)]
    with interactive(desk) as process:
        type_line(process, f"login --username admin --role admin --password {PASSWORD}")
        read_until(process, "\n}\n")
        for name in wanted:
            type_line(process, " ".join(create(name)))
        shown = read_until(process, f'"username": "user{chance.randrange(8)}"')
        try:
            process.wait(chance.random() * 0.2)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        assert process.stdout is not None
        shown += process.stdout.read().decode()
    answered = len(re.findall(r'"username": "user', shown))
    users = users_in(path)
    assert users in (["admin", *wanted[:answered]], ["admin", *wanted[: answered + 1]])
    if number == signal.SIGTERM:
        assert names_in(desk.cwd) == ["f.json", STATE]
    rehearse(desk, *create("next"), **AS_ADMIN).check(0)
    assert users_in(path) == [*users, "next"]
