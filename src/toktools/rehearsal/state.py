"""The cluster's state: an SQLite file, which is read and written whole, in one transaction a command."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from toktools import files
from toktools.errors import ToktoolsError
from toktools.rehearsal.answers import Refused
from toktools.rehearsal.cluster import Cluster, QuorumToken, User

_APPLICATION = 0x746F6B74
"""Marks the file as ours (PRAGMA application_id): tokt."""
_VERSION = 1
_PATIENCE = 30.0
"""Seconds to wait for another shell."""

_TABLES = """
CREATE TABLE users (
    username TEXT, role TEXT, salt BLOB, hashed BLOB, failures INTEGER, public_key TEXT, mfa INTEGER, quorum INTEGER,
    id TEXT, PRIMARY KEY (username, role));
CREATE TABLE quorum_values (service TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE quorum_tokens (
    digest BLOB PRIMARY KEY, service TEXT, username TEXT, role TEXT, session TEXT, created REAL);
"""


def default_path() -> str:
    """Return where the state is unless the user says otherwise (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the specification wants a relative one ignored
        home = os.path.expanduser("~/.local/state")
    return os.path.join(home, "toktools", "rehearsal.sqlite")


class StateError(ToktoolsError):
    """Trouble with the state file, which no command can be answered without."""


class State:
    """A state file, which is made when it is first used, open to its owner alone."""

    def __init__(self, path: str | None) -> None:
        # SQLite takes some names for more than names, but none that begins so.
        self.path = default_path() if path is None else os.path.join(".", path)
        self.name = files.display(self.path if path is None else path)
        if path is None:
            with files.trouble_at(self.name):
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        if path == "":  # as an unset variable of a script gives
            raise ToktoolsError("--state: an empty name")
        if os.path.exists(self.path):
            files.refuse_irregular(self.path)
        with self._opened() as database:
            # A file that cannot be written is better known before the first command; without COMMIT, nothing has been.
            database.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def cluster(self, hsms: int) -> Iterator[Cluster]:
        """Yield the cluster, alone in the file, and keep what has become of it, also where it has refused something."""
        with self._opened() as database:
            cluster = _load(database, hsms)
            before = _rows(cluster)
            refused = None
            try:
                yield cluster
            except Refused as answer:
                refused = answer
            if _rows(cluster) != before:
                _save(database, _rows(cluster))
            if refused:
                raise refused

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Yield the file in a transaction, alone in it; without COMMIT at the end, nothing has happened."""
        with files.trouble_at(self.name):
            # SQLite would make it too, but open to others.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                self._prepare(database)
                yield database
        except sqlite3.Error as error:
            raise StateError(f"{self.name}: {error}") from None

    def _prepare(self, database: sqlite3.Connection) -> None:
        found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if found == [_APPLICATION, _VERSION]:
            return
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ToktoolsError(f"{self.name}: not a state file of this tok-rehearse")
        for statement in _TABLES.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
        database.execute("BEGIN IMMEDIATE")


def _load(database: sqlite3.Connection, hsms: int) -> Cluster:
    users = [
        User((username, role), salt, hashed, failures, public_key, bool(mfa), bool(quorum), user_id)
        for username, role, salt, hashed, failures, public_key, mfa, quorum, user_id in database.execute(
            "SELECT * FROM users ORDER BY rowid"
        )
    ]
    tokens = [
        QuorumToken(digest, service, (username, role), session, created)
        for digest, service, username, role, session, created in database.execute(
            "SELECT * FROM quorum_tokens ORDER BY rowid"
        )
    ]
    values = dict(database.execute("SELECT service, value FROM quorum_values ORDER BY rowid").fetchall())
    return Cluster(hsms, {user.name: user for user in users}, values, tokens)


def _rows(cluster: Cluster) -> dict[str, list[tuple[object, ...]]]:
    """Return all that is kept: the rows of each table."""
    return {
        "users": [
            (*user.name, user.salt, user.hashed, user.failures, user.public_key, user.mfa, user.quorum, user.id)
            for user in cluster.users.values()
        ],
        "quorum_values": list(cluster.values.items()),
        "quorum_tokens": [
            (token.digest, token.service, *token.name, token.session, token.created) for token in cluster.tokens
        ],
    }


def _save(database: sqlite3.Connection, tables: dict[str, list[tuple[object, ...]]]) -> None:
    """Write everything anew: there is little of it, and so nothing can be forgotten."""
    for table, rows in tables.items():
        database.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from above
        for row in rows:
            database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
    database.execute("COMMIT")
