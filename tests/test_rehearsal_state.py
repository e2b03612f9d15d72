"""The state file of the rehearsed cluster: whole, private, and shared by several shells, whatever happens to one."""

from __future__ import annotations

import json
import os
import pwd
import random
import re
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import scrypt
from pathlib import Path

import pytest
from conftest import Done, Shell, need, only_if
from rehearsing import PASSWORD, enrol

from toktools import cli
from toktools.errors import ToktoolsError
from toktools.rehearsal import state as room
from toktools.rehearsal.cluster import ADMIN, CRYPTO_USER, Cluster, QuorumToken, Refused, Session, User
from toktools.rehearsal.commands import COMMANDS
from toktools.rehearsal.dialogue import Dialogue
from toktools.rehearsal.keyring import Key
from toktools.rehearsal.state import State, StateError, default_path

FIRST = ("admin", ADMIN)
AS_ADMIN = {"CLOUDHSM_ROLE": ADMIN, "CLOUDHSM_PIN": f"admin:{PASSWORD}"}
STATE = "state.sqlite"
WEAK = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""Makes of root a user like others, who still reaches what is root's own."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a state file may be made."""
    return tmp_path / STATE


@pytest.fixture(scope="session")
def activated(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The state file of an activated cluster, to be copied."""

    def activate(folder: Path) -> None:
        with State(str(folder / STATE)).cluster(3) as cluster:
            cluster.activate(PASSWORD)

    return once("activated", activate) / STATE


@pytest.fixture
def desk(shell: Shell, activated: Path) -> Shell:
    """A folder with the state file of an activated cluster."""
    shutil.copy(activated, shell.cwd)
    return shell


def rehearse(shell: Shell, *words: str | Path, before: Sequence[str] = (), **environment: str) -> Done:
    """Run a single command on the state file."""
    return shell.run(*before, "tok-rehearse", "--state", STATE, *words, env={**shell.unmeasured, **environment})


def create(name: str) -> list[str]:
    """Return the words that make a crypto user."""
    return ["user", "create", "--username", name, "--role", CRYPTO_USER, "--password", PASSWORD]


def users_in(path: Path) -> list[str]:
    """Return the names of the users, as the next shell sees them, and make sure that the file is whole."""
    with State(str(path)).cluster(3) as cluster:
        names = [username for username, _ in cluster.users]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return names


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


def is_silent(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a process neither writes an answer nor ends for half a second."""
    assert process.stdout is not None
    return not select.select([process.stdout], [], [], 0.5)[0] and process.poll() is None


# --- what is kept


def full() -> Cluster:
    """Return a cluster with something in every place that there is."""
    users = [
        User(
            FIRST,
            b"\0salt\xff",
            b"\xff" * 64,
            failures=3,
            public_key="a\nkey\n",
            mfa=True,
            quorum=True,
            id="1",
            wrapped=b"\1w",
            inconsistent="cluster-b",
        ),
        User(("alice", CRYPTO_USER), b"", b"\0", failures=6, id="2"),
        User(("alice", ADMIN), b"s", b"h", public_key="k", quorum=True, id="3"),
        User(("bob", ADMIN), b"s", b"h", public_key="k", mfa=True, id="4"),
    ]
    tokens = [
        QuorumToken(b"\0" * 32, "user", FIRST, "a session", 1_700_000_000.123456),
        QuorumToken(b"\xff" * 32, "key-usage", ("alice", CRYPTO_USER), "another", 0.0, 0x100002),
    ]
    values = {"user": 2, "quorum": 8, "cluster": 1}
    keys = [
        Key(0x100001, "public", "alice", "a\nkey\n", true=frozenset({"verify", "token"})),
        Key(0x100002, "a label", "alice", "k", b"\0w", frozenset({"sign"}), ("bob", "carol"), 3, 2, "a session"),
    ]
    return Cluster(
        3,
        {user.name: user for user in users},
        values,
        tokens,
        keys=keys,
        anchors={1: "a\ncertificate\n", 2: "c"},
        enforcement="cluster",
    )


def test_a_login_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a login cannot be written down, say on a full disk, nobody is logged in."""

    def full_disk(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    state = State(str(tmp_path / "state.sqlite"))
    dialogue = Dialogue(state, 3, COMMANDS, lambda _: None)
    dialogue.run(["cluster", "activate", "--password", "for-practice"])
    command = ["user", "delete", "--username", "nobody", "--role", "admin"]
    monkeypatch.setenv("CLOUDHSM_ROLE", "admin")
    monkeypatch.setenv("CLOUDHSM_PIN", "admin:wrong")
    assert dialogue.run(command) == 1
    monkeypatch.setenv("CLOUDHSM_PIN", "admin:for-practice")
    monkeypatch.setattr("toktools.rehearsal.state._save", full_disk)
    with pytest.raises(StateError, match="disk is full"):
        dialogue.run(command)
    assert dialogue.session.name is None


def fill(cluster: Cluster) -> None:
    """Put the same into a cluster of a state file."""
    there = full()
    cluster.users, cluster.values, cluster.tokens = there.users, there.values, there.tokens
    cluster.keys, cluster.anchors, cluster.enforcement = there.keys, there.anchors, there.enforcement


def test_everything_comes_back(path: Path) -> None:
    """All users, values and tokens come back as they were, in their order, and so they do after a second time."""
    with State(str(path)).cluster(3) as cluster:
        fill(cluster)
    for hsms in (3, 5):
        with State(str(path)).cluster(hsms) as cluster:
            assert cluster.hsms == hsms
            assert list(cluster.users.items()) == list(full().users.items())
            assert list(cluster.values.items()) == list(full().values.items())
            assert cluster.tokens == full().tokens
            assert cluster.keys == full().keys
            assert list(cluster.anchors.items()) == list(full().anchors.items())
            assert cluster.enforcement == full().enforcement
            assert {type(user.mfa) for user in cluster.users.values()} == {bool}


def test_what_is_taken_away_is_gone(path: Path) -> None:
    """A user and a token that are no more in the cluster are no more in the file."""
    state = State(str(path))
    with state.cluster(3) as cluster:
        fill(cluster)
    with state.cluster(3) as cluster:
        del cluster.users[FIRST]
        cluster.tokens.pop()
    with state.cluster(3) as cluster:
        assert FIRST not in cluster.users
        assert cluster.tokens == full().tokens[:1]


def test_a_new_file_is_a_cluster_that_is_not_activated(path: Path) -> None:
    """A file that is not there is made, with no user in it and no quorum; an empty one is taken the same."""
    for _ in range(2):
        with State(str(path)).cluster(3) as cluster:
            assert (cluster.users, cluster.tokens) == ({}, [])
            assert cluster.values == {"user": 1, "quorum": 1, "cluster": 1}
        path.write_bytes(b"")


def test_passwords_are_kept_as_scrypt(path: Path, keys: Path) -> None:
    """The file holds scrypt of a password with the user's salt, as documented, and the password itself nowhere."""
    enrol(path, "officer1", keys / "pkcs8.pem")
    assert PASSWORD.encode() not in path.read_bytes()
    with State(str(path)).cluster(3) as cluster:
        users = list(cluster.users.values())
    assert [user.name[0] for user in users] == ["admin", "officer1"]
    for user in users:
        assert len(user.salt) == 16
        assert user.hashed == scrypt(PASSWORD.encode(), salt=user.salt, n=1 << 14, r=8, p=1)


def test_a_password_that_is_not_text(path: Path) -> None:
    """A password with a byte that is not text, as an argument may have, is the one that logs in."""
    with State(str(path)).cluster(1) as cluster:
        cluster.activate(f"{PASSWORD}\udcff")
    with State(str(path)).cluster(1) as cluster:
        with pytest.raises(Refused, match="wrong user name, role or password"):
            cluster.login(Session(), FIRST, f"{PASSWORD}\udcfe")
        cluster.login(Session(), FIRST, f"{PASSWORD}\udcff")


def test_no_password_in_the_file(desk: Shell) -> None:
    """Neither a password that is set, nor a wrong one, nor one that was replaced is in the file, or beside it."""
    rehearse(desk, "user", "change-password", "--username", "admin", "--role", ADMIN, "--password", "new-secret-1",
             **AS_ADMIN).check(0)  # fmt: skip
    wrong = {**AS_ADMIN, "CLOUDHSM_PIN": "admin:wrong-secret-1"}
    rehearse(desk, "quorum", "token-sign", "list", **wrong).check(1)
    for found in desk.cwd.iterdir():
        for password in (PASSWORD, "new-secret-1", "wrong-secret-1"):
            assert password.encode() not in found.read_bytes(), found


# --- what a refusal and a failure leave


def test_a_refusal_still_counts_the_wrong_login(path: Path) -> None:
    """A wrong login is counted in the file, though it is refused, for the next shell to see."""
    state = State(str(path))
    with state.cluster(3) as cluster:
        cluster.activate(PASSWORD)
    for failures in range(1, 4):
        with pytest.raises(Refused), state.cluster(3) as cluster:
            cluster.login(Session(), FIRST, "wrong-password")
        with State(str(path)).cluster(3) as cluster:
            assert cluster.users[FIRST].failures == failures


def fill_and_fail(state: State, error: BaseException) -> None:
    with state.cluster(3) as cluster:
        fill(cluster)
        raise error


@pytest.mark.parametrize("error", [ToktoolsError("trouble"), KeyError("defect"), KeyboardInterrupt()])
def test_another_exception_changes_nothing(path: Path, error: BaseException) -> None:
    """Anything but a refusal leaves the file as it was, byte for byte, and usable."""
    state = State(str(path))
    with state.cluster(3) as cluster:
        cluster.activate(PASSWORD)
    before = path.read_bytes()
    with pytest.raises(type(error)):
        fill_and_fail(state, error)
    assert path.read_bytes() == before
    assert users_in(path) == ["admin"]
    assert [found.name for found in path.parent.iterdir()] == [STATE]


def test_a_lockout_over_several_shells(desk: Shell) -> None:
    """Six wrong logins, each in a shell of its own, lock the user for the seventh shell."""
    words = ("quorum", "token-sign", "list")
    wrong = {**AS_ADMIN, "CLOUDHSM_PIN": "admin:wrong-password"}
    for _ in range(6):
        assert b"wrong user name, role or password" in rehearse(desk, *words, **wrong).check(1).out
    assert b"the user is locked" in rehearse(desk, *words, **AS_ADMIN).check(1).out


# --- where it is


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_open_to_its_owner_alone(shell: Shell, umask: int) -> None:
    """The file that --state names is made for its owner alone, whatever the umask lets others do."""
    shell.run("tok-rehearse", "--state", STATE, "user", "list", umask=umask).check(0)
    assert stat.S_IMODE((shell.cwd / STATE).stat().st_mode) == 0o600
    assert sorted(found.name for found in shell.cwd.iterdir()) == ["f.json", STATE]


def in_home(shell: Shell, **environment: str) -> Done:
    """Run a command without --state, where the home folder is a new one."""
    usual = {name: text for name, text in shell.env.items() if name != "XDG_STATE_HOME"}
    return shell.run("tok-rehearse", "user", "list", env={**usual, "HOME": str(shell.cwd / "home"), **environment})


@pytest.mark.parametrize(
    ("home", "folder"),
    [
        (None, "home/.local/state"),
        ("", "home/.local/state"),
        ("relative", "home/.local/state"),
        ("./relative", "home/.local/state"),
        ("{}/absolute", "absolute"),
    ],
)
def test_the_default_place(shell: Shell, home: str | None, folder: str) -> None:
    """The file is under XDG_STATE_HOME, or ~/.local/state where that is not an absolute path, in a private folder."""
    environment = {} if home is None else {"XDG_STATE_HOME": home.format(shell.cwd)}
    path = shell.cwd / folder / "toktools" / "rehearsal.sqlite"
    for _ in range(2):  # the first makes it, the second finds it
        in_home(shell, **environment).check(0, f"only {path}, as a cluster")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(shell.cwd.rglob("*.sqlite")) == [path]


def test_the_default_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library names the same place, and makes nothing by that."""
    monkeypatch.setenv("XDG_STATE_HOME", "/nowhere/at/all")
    assert default_path() == "/nowhere/at/all/toktools/rehearsal.sqlite"
    monkeypatch.setenv("HOME", "/nowhere/home")
    monkeypatch.setenv("XDG_STATE_HOME", "at/all")
    assert default_path() == "/nowhere/home/.local/state/toktools/rehearsal.sqlite"


def test_a_default_place_that_cannot_be_made(shell: Shell) -> None:
    """Where a file is in the way of the folder, one line says so."""
    shell.write("home", b"")
    check_trouble(in_home(shell), "rehearsal.sqlite: not a directory")


@pytest.mark.parametrize(
    "name", [":memory:", "file:x?mode=memory", "-", " ", "a'b", os.fsdecode(b"\xff.db"), "x\x1b[2J"]
)
def test_names_that_mean_something_elsewhere(shell: Shell, name: str) -> None:
    """A state file may have any name, and what is kept in it is there for the next shell."""
    words = ["tok-rehearse", "--state", name]
    shell.run(*words, "cluster", "activate", "--password", PASSWORD).check(0)
    again = shell.run(*words, "cluster", "activate", "--password", PASSWORD).check(1)
    assert b"already been activated" in again.out
    assert "\x1b" not in again.err
    assert (shell.cwd / name).stat().st_size


# --- what is no state file


def check_trouble(done: Done, said: str) -> None:
    """Assert that trouble is told in one line, and nothing else written."""
    done.check(2, "tok-rehearse: ", said)
    assert len(done.err.splitlines()) == 1, done
    assert done.out == b""


def other_database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement in (*statements, "CREATE TABLE users (username TEXT)", "INSERT INTO users VALUES ('me')"):
            database.execute(statement)
        database.commit()


def make_newer(path: Path) -> None:
    State(str(path))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 3")
        database.commit()


def make_torn(path: Path) -> None:
    """Make a state file of which the last half is missing."""
    with State(str(path)).cluster(3) as cluster:
        cluster.activate(PASSWORD)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


NO_STATE: dict[str, tuple[Callable[[Path], object], str]] = {
    "another database": (other_database, "not a state file of this tok-rehearse"),
    "a database with a log": (
        lambda path: other_database(path, "PRAGMA journal_mode = WAL"),
        "not a state file of this tok-rehearse",
    ),
    "a newer version": (make_newer, "not a state file of this tok-rehearse"),
    "JSON": (lambda path: path.write_text('{"version": "2.0"}\n' * 99), "file is not a database"),
    "a short text": (lambda path: path.write_text("{}\n"), "file is not a database"),
    "random bytes": (lambda path: path.write_bytes(random.Random(1).randbytes(9999)), "file is not a database"),
    "half a state": (make_torn, "database disk image is malformed"),
}


@pytest.mark.parametrize("words", [["user", "list"], ["interactive"]])
@pytest.mark.parametrize("case", NO_STATE)
def test_a_file_that_is_no_state(shell: Shell, case: str, words: list[str]) -> None:
    """Another program's file is refused in one line before the first command, and is left as it is."""
    make, said = NO_STATE[case]
    path = shell.cwd / STATE
    make(path)
    path.chmod(0o644)
    before = path.read_bytes()
    check_trouble(rehearse(shell, *words), f"{STATE}: {said}")
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(found.name for found in shell.cwd.iterdir()) == ["f.json", STATE]


def test_a_folder(shell: Shell) -> None:
    """A folder is no state file."""
    (shell.cwd / STATE).mkdir()
    done = rehearse(shell, "user", "list")
    check_trouble(done, f"{STATE}: ")
    assert re.search("is a directory|not a regular file", done.err), done
    assert list((shell.cwd / STATE).iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing/state.sqlite", "missing/state.sqlite: no such file or directory"), ("", ": the name is empty")],
)
def test_a_missing_folder(shell: Shell, name: str, said: str) -> None:
    """The folder of --state is not made, and an empty name is that of no file: not of the default one either."""
    environment = {**shell.env, "XDG_STATE_HOME": str(shell.cwd / "xdg")}
    done = shell.run("tok-rehearse", "--state", name, "user", "list", env=environment)
    check_trouble(done, said)
    assert [found.name for found in shell.cwd.iterdir()] == ["f.json"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_write_permission(desk: Shell, *, there: bool) -> None:
    """Where the folder cannot be written there is one line, whether the file is there or not, and it stays as it is."""
    if WEAK:
        need("setpriv")
    folder, state = desk.cwd / "folder", f"folder/{STATE}"
    folder.mkdir()
    if there:
        desk.write(state, desk.read(STATE))
    folder.chmod(0o555)
    command = [*WEAK, "tok-rehearse", "--state", state, "user", "list"]
    done = desk.run(*command, env=desk.unmeasured)
    left = {found.name: found.read_bytes() for found in folder.iterdir()}
    folder.chmod(0o755)
    check_trouble(done, f"{state}: ")
    assert re.search("permission denied|unable to open database file|readonly database", done.err), done
    assert left == ({STATE: desk.read(STATE)} if there else {})


def test_a_file_without_write_permission(desk: Shell) -> None:
    """A state file that may only be read is refused."""
    if WEAK:
        need("setpriv")
    (desk.cwd / STATE).chmod(0o400)
    check_trouble(rehearse(desk, "user", "list", before=WEAK), f"{STATE}: permission denied")


def test_a_file_that_is_spoilt_under_a_shell(desk: Shell) -> None:
    """A shell whose state file another program spoils says so, writes nothing to it, and ends with status 2."""
    with interactive(desk) as process:
        read_until(process, "aws-cloudhsm > ")
        spoilt = b"spoilt" * 999
        desk.write(STATE, spoilt)
        type_line(process, "user list")
        assert f"tok-rehearse: {STATE}: file is not a database" in read_until(process, "not a database")
        assert process.wait(120) == 2
        assert desk.read(STATE) == spoilt


# --- a state that is damaged, or of another program


@pytest.fixture
def whole(path: Path) -> Path:
    """A state with a row in every table."""
    with State(str(path)).cluster(3) as cluster:
        fill(cluster)
    return path


def columns(path: Path) -> list[tuple[str, str, bool]]:
    """Return table, column, and whether it is SQLite's own number of the row, of all that there are."""
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [
            (table, name, bool(key) and kind == "INTEGER")
            for table in tables
            for _, name, kind, _, _, key in database.execute(f"PRAGMA table_info({table})")
        ]


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(statement)
        database.commit()


def refused_as_damaged(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Assert that whoever starts it, and however, gets one line that names the file, and status 2."""
    before = path.read_bytes()
    for words in (["user", "list"], ["interactive"]):
        assert cli.main("rehearse", ["--state", str(path), *words]) == 2
        *notice, line = capfd.readouterr().err.splitlines()
        assert all("a rehearsal: no HSM is behind it" in other for other in notice)
        assert line.startswith(f"tok-rehearse: {path}: ")
        assert line.isprintable()
    with pytest.raises(StateError), State(str(path)).cluster(3):
        pytest.fail("it was read")
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", ["NULL", "'\x1b[31m\u00e9'", "0.5"])
def test_a_column_of_another_kind(whole: Path, value: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Any column NULL, or of another type or value, is damage."""
    content, tried = whole.read_bytes(), 0
    for table, name, is_number in columns(whole):
        whole.write_bytes(content)
        try:
            change(whole, f"UPDATE {table} SET {name} = {value} WHERE rowid = (SELECT min(rowid) FROM {table})")
        except sqlite3.Error:
            assert is_number, (table, name)
            continue
        if table == "users" and name == "failures":
            refused_as_damaged(whole, capfd)
        with (
            pytest.raises(StateError, match=r"damaged|not a state file|datatype mismatch"),
            State(str(whole)).cluster(3),
        ):
            pytest.fail(f"{table}, {name}")
        tried += 1
    assert tried > 30


def test_a_row_too_few_or_a_column_too_many(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A row that is gone, one that is there twice, a column more or fewer, and a table that is gone are damage."""
    content = whole.read_bytes()
    tables = sorted({table for table, _, _ in columns(whole)})
    assert len(tables) == 7
    for table in tables:
        for statement in (
            f"DELETE FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})",
            f"ALTER TABLE {table} ADD COLUMN more TEXT",
            f"ALTER TABLE {table} ADD COLUMN more INTEGER DEFAULT 1",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} RENAME TO other",
        ):
            whole.write_bytes(content)
            change(whole, statement)
            refused_as_damaged(whole, capfd)
    for statement in (
        "INSERT INTO cluster VALUES ('none')",
        "UPDATE cluster SET enforcement = 'all'",
        "DELETE FROM seal",
    ):
        whole.write_bytes(content)
        change(whole, statement)
        refused_as_damaged(whole, capfd)


def test_a_file_that_is_cut_short(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Cut anywhere but at nothing, the file is damaged; nothing at all is a new cluster."""
    content = whole.read_bytes()
    for size in (1, 50, 99, 100, 101, 4095, 4096, 5000, len(content) // 2, len(content) - 4096, len(content) - 1):
        whole.write_bytes(content[:size])
        refused_as_damaged(whole, capfd)
    whole.write_bytes(b"")
    with State(str(whole)).cluster(3) as cluster:
        assert cluster.users == {}


def test_a_secret_that_does_not_open(path: Path) -> None:
    """A user's wrapped secret that was changed, with a seal that fits, is damage too, and no traceback."""
    state = State(str(path))
    with state.cluster(3) as cluster:
        cluster.activate(PASSWORD)
        cluster.users[FIRST].wrapped = bytes(40)
    with pytest.raises(StateError, match="damaged: what is wrapped does not open"), state.cluster(3) as cluster:
        cluster.login(Session(), FIRST, PASSWORD)


@pytest.mark.parametrize("home", ["", "relative", None])
def test_no_home(home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home folder the default place is nowhere: one line says so, and no folder is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    else:  # nor is there an entry in passwd

        def nobody(_: int) -> None:
            raise KeyError

        monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(ToktoolsError, match="there is no home folder to keep the cluster in"):
        State(None)
    assert list(tmp_path.iterdir()) == []


# --- several shells


def test_shells_that_create_users_at_once(desk: Shell) -> None:
    """Of users that several shells create at the same time none is lost, and none refused; the file stays whole."""
    names = [[f"shell{shell}_{number}" for number in range(5)] for shell in range(4)]
    scripts = [
        desk.write(
            f"script{number}",
            "".join(
                f"{line}\n"
                for line in [
                    f"login --username admin --role admin --password {PASSWORD}",
                    *(" ".join(create(name)) for name in own),
                    "quit",
                ]
            ).encode(),
        )
        for number, own in enumerate(names)
    ]
    command = " & ".join(f"tok-rehearse --state {STATE} interactive < {script} > {script}.out" for script in scripts)
    desk.sh(f"{command} & wait", env=desk.unmeasured, timeout=120).check(0)
    for number in range(4):
        assert desk.read(f"script{number}.out").count(b'"error_code": 0') == 6
    assert sorted(users_in(desk.cwd / STATE)) == sorted(["admin", *(name for own in names for name in own)])


def test_shells_that_make_the_file_at_once(shell: Shell) -> None:
    """Of several shells that find no file one activates the cluster, and the others are told that it is."""
    command = f"tok-rehearse --state {STATE} cluster activate --password {PASSWORD} > out"
    script = " & ".join(f"(status=0; {command}{number} || status=$?; echo $status)" for number in range(5))
    done = shell.sh(f"{script} & wait", env=shell.unmeasured, timeout=120).check(0)
    assert sorted(done.out.split()) == [b"0", b"1", b"1", b"1", b"1"]
    assert sum(b"already been activated" in shell.read(f"out{number}") for number in range(5)) == 4
    assert users_in(shell.cwd / STATE) == ["admin"]


def test_wrong_logins_at_once_are_all_counted(desk: Shell) -> None:
    """Wrong logins in several shells at the same time are all counted, so that nobody gets more tries by that."""
    command = f"tok-rehearse --state {STATE} quorum token-sign list"
    environment = {**desk.unmeasured, "CLOUDHSM_ROLE": "admin", "CLOUDHSM_PIN": "admin:wrong-password"}
    desk.sh(f"{' & '.join([command] * 5)} & wait", env=environment, timeout=120).check(0)
    with State(str(desk.cwd / STATE)).cluster(3) as cluster:
        assert cluster.users[FIRST].failures == 5


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock that a shell holds during a command."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def test_a_shell_that_starts_waits_for_another(desk: Shell) -> None:
    """A shell that starts while another is in the middle of a command waits for it, and then works."""
    with held(desk.cwd / STATE):
        command = ("tok-rehearse", "--state", STATE, "user", "list")
        process = desk.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=desk.unmeasured)
        assert is_silent(process)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, b"Traceback" in err) == (0, False)
    assert [user["username"] for user in json.loads(out)["data"]["users"]] == ["admin", "app_user"]


def test_a_command_waits_for_another_shell(desk: Shell) -> None:
    """A command that comes while another shell is in the middle of one waits for it, and then sees what it did."""
    with interactive(desk) as process:
        read_until(process, "aws-cloudhsm > ")
        with held(desk.cwd / STATE):
            type_line(process, "user list")
            read_until(process, "user list\n")
            assert is_silent(process)
        assert '"username": "admin"' in read_until(process, "\n}\n")


def test_a_shell_that_waits_for_a_person_holds_up_nobody(desk: Shell, keys: Path) -> None:
    """While one shell waits for a signed file, another can change the cluster."""
    enrol(desk.cwd / STATE, "officer1", keys / "pkcs8.pem")
    login = "login --username officer1 --role admin mfa-token-sign --token unsigned.json"
    with interactive(desk) as process:
        type_line(process, f"{login} --password {PASSWORD}")
        read_until(process, "Enter signed token file path")
        rehearse(desk, *create("alice"), **AS_ADMIN).check(0)
        type_line(process, "")
        assert "token 1: unsigned" in read_until(process, "\n}\n")
    assert users_in(desk.cwd / STATE) == ["admin", "officer1", "alice"]


def test_a_shell_that_waits_in_vain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another shell does not let go, a shell gives up in the end, and says that the file is locked."""
    state = State(str(path))
    monkeypatch.setattr(room, "_PATIENCE", 0.1)
    with held(path), pytest.raises(ToktoolsError, match=re.escape(f"{path}: database is locked")), state.cluster(3):
        pytest.fail("it has got in")


# --- a shell that is killed

WRITES = "pwrite64,fdatasync,fsync,unlink"
REHEARSE = "from toktools import cli\ncli.run('rehearse')"
POINTS = 80
"""More than the system calls among those that a command makes."""


def killed_at(shell: Shell, number: int, code: str, *words: str) -> bool:
    """Run lines of Python, and kill it at its first, second, ... system call that writes; say if it got that far."""
    inject = f"{WRITES}:signal=KILL:when={number}"
    strace = ("strace", "-f", "-o", os.devnull, "-e", f"trace={WRITES}", "-e", f"inject={inject}")
    pipe = subprocess.PIPE
    command = (str(shell.bin / "python"), "-c", f"import os\nos.read(0, 1)\n{code}", *words)
    with (
        shell.start(*command, stdin=pipe, stdout=subprocess.DEVNULL, env=shell.unmeasured) as process,
        subprocess.Popen([*strace, "-p", str(process.pid)], stderr=pipe) as tracer,
    ):
        assert tracer.stderr is not None
        assert b"attached" in tracer.stderr.readline()
        process.communicate(b"\n", timeout=120)
        tracer.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def need_tracing(shell: Shell) -> None:
    need("strace")
    traced = shell.run("strace", "-qq", "-o", os.devnull, "-e", "inject=all:delay_enter=0", "true")
    only_if(traced.status == 0, "this system does not let its users trace")


def test_killed_at_every_write_to_a_new_file(shell: Shell) -> None:
    """Killed at whatever write to a file that it makes, a shell leaves one in which the admin is there or not."""
    need_tracing(shell)
    path, outcomes = shell.cwd / STATE, []
    for number in range(1, POINTS):
        path.unlink(missing_ok=True)
        if not killed_at(shell, number, REHEARSE, "--state", STATE, "cluster", "activate", "--password", PASSWORD):
            break
        outcomes.append(users_in(path))
    else:
        pytest.fail("there are more system calls than were tried")
    assert len(outcomes) > 10
    assert outcomes == sorted(outcomes)  # once written, it stays written
    assert outcomes[0] == []
    rehearse(shell, "user", "list").check(0)
    assert users_in(path) == ["admin"]


CHANGE = f"""
from toktools.rehearsal.commands import COMMANDS
from toktools.rehearsal.dialogue import Dialogue
from toktools.rehearsal.state import State, StateError, default_path
with State("{STATE}").cluster(3) as cluster:
    cluster.users.popitem()
    cluster.values["user"] = 3
    cluster.tokens.pop()
"""
"""Changes something in every table, as one command may."""


def kept(path: Path) -> tuple[int, int, int]:
    """Return how many users and tokens there are, and the value, and make sure that the file is whole."""
    users = len(users_in(path))
    with State(str(path)).cluster(3) as cluster:
        assert list(cluster.users.values()) == list(full().users.values())[:users]
        assert cluster.tokens == full().tokens[: len(cluster.tokens)]
        return users, cluster.values["user"], len(cluster.tokens)


def test_killed_at_every_write_to_a_state(shell: Shell) -> None:
    """Killed at whatever write to a state, a shell leaves it as it was, or with all that the command changed."""
    need_tracing(shell)
    path = shell.cwd / STATE
    with State(str(path)).cluster(3) as cluster:
        fill(cluster)
    original, outcomes = path.read_bytes(), []
    old, new = (4, 2, 2), (3, 3, 1)
    for number in range(1, POINTS):
        path.write_bytes(original)
        if not killed_at(shell, number, CHANGE):
            break
        outcomes.append(kept(path))
    else:
        pytest.fail("there are more system calls than were tried")
    assert len(outcomes) > 10
    assert set(outcomes) <= {old, new}
    assert outcomes[0] == old
    assert kept(path) == new  # by the one that was not killed
    rehearse(shell, "user", "list").check(0)


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment(desk: Shell, seed: int) -> None:
    """A shell that is killed while it creates users has kept those that it answered for, and at most one more."""
    path, chance = desk.cwd / STATE, random.Random(seed)
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
            process.kill()
        assert process.stdout is not None
        shown += process.stdout.read().decode()
    answered = len(re.findall(r'"username": "user', shown))
    users = users_in(path)
    assert users in (["admin", *wanted[:answered]], ["admin", *wanted[: answered + 1]])
    rehearse(desk, *create("next"), **AS_ADMIN).check(0)
    assert users_in(path) == [*users, "next"]
