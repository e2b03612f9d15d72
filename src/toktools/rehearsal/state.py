"""The cluster's state: an SQLite file, which is read and written whole, in one transaction a command."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from typing import Any

from toktools.errors import ToktoolsError, shown
from toktools.rehearsal.answers import Refused
from toktools.rehearsal.cluster import Cluster
from toktools.rehearsal.keyring import Key
from toktools.rehearsal.members import User
from toktools.rehearsal.quorum import QuorumToken
from toktools.rehearsal.software import Damaged
from toktools.system import files

_APPLICATION = 0x746F6B74
"""Marks the file as ours (PRAGMA application_id): tokt."""
_VERSION = 2
_PATIENCE = 30.0
"""Seconds to wait for another shell."""

_TABLES = """
CREATE TABLE users (
    username TEXT, role TEXT, salt BLOB, hashed BLOB, failures INTEGER, public_key TEXT, mfa INTEGER, quorum INTEGER,
    id TEXT, wrapped BLOB, inconsistent TEXT, PRIMARY KEY (username, role));
CREATE TABLE quorum_values (service TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE quorum_tokens (
    digest BLOB PRIMARY KEY, service TEXT, username TEXT, role TEXT, session TEXT, created REAL, key_reference INTEGER);
CREATE TABLE keys (
    reference INTEGER PRIMARY KEY, label TEXT, owner TEXT, public_key TEXT, wrapped BLOB, attributes TEXT, shared TEXT,
    manage INTEGER, use INTEGER, session TEXT);
CREATE TABLE trust_anchors (reference INTEGER PRIMARY KEY, certificates TEXT);
CREATE TABLE cluster (enforcement TEXT);
CREATE TABLE seal (digest BLOB);
"""
_KEPT = ("users", "quorum_values", "quorum_tokens", "keys", "trust_anchors", "cluster")

_Tables = dict[str, list[tuple[Any, ...]]]


def default_path() -> str:
    """Return where the state is unless the user says otherwise (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the specification wants a relative one ignored
        home = os.path.expanduser("~/.local/state")
        if not os.environ.get("HOME", "~") or not os.path.isabs(home):
            raise ToktoolsError("there is no home folder to keep the cluster in", "give --state FILE")
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
            raise ToktoolsError("--state: the name is empty")
        if os.path.exists(self.path):
            files.refuse_irregular(self.path)
        with self._opened() as database:
            # A file that cannot be written is better known before the first command; without COMMIT, nothing has been.
            database.execute(f"PRAGMA user_version = {_VERSION}")
            self._load(database, hsms=1)
            # What no row is read from can be torn too, and would be met at the first change.
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                raise self._damaged("it is not as tok-rehearse wrote it")

    @contextmanager
    def cluster(self, hsms: int) -> Iterator[Cluster]:
        """Yield the cluster, alone in the file, and keep what has become of it, also where it has refused something."""
        with self._opened() as database:
            cluster = self._load(database, hsms)
            before = _rows(cluster)
            refused = None
            try:
                yield cluster
            except Refused as answer:
                refused = answer
            except Damaged as damage:
                raise self._damaged(str(damage)) from None
            if _rows(cluster) != before:
                _save(database, _rows(cluster))
            if refused:
                raise refused

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Yield the file in a transaction, alone in it; without COMMIT at the end, nothing has happened."""
        with files.trouble_at(self.name):
            # SQLite would make it too, but open to others.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                self._prepare(database)
                yield database
        except sqlite3.Error as error:
            raise StateError(f"{self.name}: {shown(str(error))}") from None

    def _prepare(self, database: sqlite3.Connection) -> None:
        found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if found == [_APPLICATION, _VERSION]:
            return
        # One byte is an empty database to SQLite.
        if os.path.getsize(self.path) or database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StateError(f"{self.name}: not a state file of this tok-rehearse")
        for statement in _TABLES.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
        database.execute("BEGIN IMMEDIATE")

    def _damaged(self, what: str) -> StateError:
        return StateError(f"{self.name}: damaged: {what}")

    def _load(self, database: sqlite3.Connection, hsms: int) -> Cluster:
        tables = {table: database.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in _KEPT}  # noqa: S608
        seals = database.execute("SELECT * FROM seal").fetchall()
        if not seals and not any(tables.values()):
            return Cluster(hsms)
        # So nothing below can meet a column, a row or a type that was not written here.
        if seals != [(_seal(tables),)]:
            raise self._damaged("it is not as tok-rehearse wrote it")
        users = [
            User((username, role), salt, hashed, failures, public_key, bool(mfa), bool(quorum), *rest)
            for username, role, salt, hashed, failures, public_key, mfa, quorum, *rest in tables["users"]
        ]
        tokens = [
            QuorumToken(digest, service, (username, role), *rest)
            for digest, service, username, role, *rest in tables["quorum_tokens"]
        ]
        keys = [
            Key(
                reference,
                label,
                owner,
                public_key,
                wrapped,
                frozenset(attributes.split()),
                tuple(shared.split()),
                *rest,
            )
            for reference, label, owner, public_key, wrapped, attributes, shared, *rest in tables["keys"]
        ]
        return Cluster(
            hsms,
            {user.name: user for user in users},
            dict(tables["quorum_values"]),
            tokens,
            keys=keys,
            anchors=dict(tables["trust_anchors"]),
            enforcement=tables["cluster"][0][0],
        )


def _seal(tables: _Tables) -> bytes:
    """Return a digest of all rows: it tells damage, and does not keep out who means to change them."""
    return sha256(repr([tables[table] for table in _KEPT]).encode(errors="surrogateescape")).digest()


def _rows(cluster: Cluster) -> _Tables:
    """Return all that is kept: the rows of each table."""
    return {
        "users": [
            (
                *user.name,
                user.salt,
                user.hashed,
                user.failures,
                user.public_key,
                int(user.mfa),
                int(user.quorum),
                user.id,
                user.wrapped,
                user.inconsistent,
            )
            for user in cluster.users.values()
        ],
        "quorum_values": list(cluster.values.items()),
        "quorum_tokens": [
            (token.digest, token.service, *token.name, token.session, token.created, token.key_reference)
            for token in cluster.tokens
        ],
        "keys": [
            (
                key.reference,
                key.label,
                key.owner,
                key.public_key,
                key.wrapped,
                " ".join(sorted(key.true)),
                " ".join(key.shared),
                key.manage,
                key.use,
                key.session,
            )
            for key in cluster.keys
        ],
        "trust_anchors": list(cluster.anchors.items()),
        "cluster": [(cluster.enforcement,)],
    }


def _save(database: sqlite3.Connection, tables: _Tables) -> None:
    """Write everything anew: there is little of it, and so nothing can be forgotten."""
    for table, rows in {**tables, "seal": [(_seal(tables),)]}.items():
        database.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from above
        for row in rows:
            database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
    database.execute("COMMIT")
