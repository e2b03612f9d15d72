"""The cluster's state: a JSON file, which is locked, read and written whole, once for each command."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from toktools.errors import ToktoolsError
from toktools.rehearsal.cluster import Cluster, QuorumToken, Refused, User
from toktools.rehearsal.keys import Key
from toktools.system import files
from toktools.system.atomic import write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORMAT = 3
"""1 and 2 were SQLite files."""
_MAX_SIZE = 1 << 26


def default_path() -> str:
    """Return the path of the state if the user names none (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the specification wants a relative one ignored
        home = os.path.expanduser("~/.local/state")
        if not os.environ.get("HOME", "~") or not os.path.isabs(home):
            raise ToktoolsError("there is no home directory to keep the cluster in", "give --state FILE")
    return os.path.join(home, "toktools", "rehearsal.json")


class FatalError(ToktoolsError):
    """An error that ends the shell, with no answer to the command: no state file, or no more input."""


@contextmanager
def _fatal() -> Iterator[None]:
    try:
        yield
    except ToktoolsError as error:
        raise FatalError(error.message, error.hint) from None


class State:
    """A state file, which is created when it is first used, open to its owner alone."""

    def __init__(self, path: str | None) -> None:
        if path == "":  # as an unset variable of a script gives
            raise ToktoolsError("--state: the name is empty")
        self.path = os.path.join(".", default_path() if path is None else path)  # so that - is a name like any other
        self.name = files.display(self.path if path is None else path)
        if path is None:
            with files.trouble_at(self.name):
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        if os.path.exists(self.path):
            files.refuse_irregular(self.path)
        with self.cluster(hsms=1):
            pass  # a file that cannot be used is better known before the first command

    @contextmanager
    def cluster(self, hsms: int) -> Iterator[Cluster]:
        """Yield the cluster, which no other process changes meanwhile, and keep what has become of it.

        A refusal is kept too, since a wrong login counts; any other exception changes nothing.
        """
        fd = self._lock()
        try:
            with _fatal():
                content = files.read(self.path, _MAX_SIZE).content
            cluster = self._load(content, hsms)
            try:
                yield cluster
            except Refused:
                self._save(content, cluster)
                raise
            self._save(content, cluster)
        finally:
            os.close(fd)

    def _lock(self) -> int:
        """Lock the state file. One that was replaced or removed while its lock was waited for is not the state."""
        with _fatal(), files.trouble_at(self.name):
            while True:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(fd, fcntl.LOCK_EX)
                if self._is_open_as(fd):
                    return fd
                os.close(fd)

    def _is_open_as(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _load(self, content: bytes, hsms: int) -> Cluster:
        if not content:
            return Cluster(hsms)
        document = self._parse(content)
        try:
            users = [User(**user) for user in document["users"]]
            cluster = Cluster(
                hsms,
                {user.name: user for user in users},
                dict(document["values"]),
                [QuorumToken(**token) for token in document["tokens"]],
                [Key(**key) for key in document["keys"]],
            )
            cluster.end_dead_sessions()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise FatalError(f"{self.name}: damaged: it is not as tok-rehearse wrote it") from None
        return cluster

    def _parse(self, content: bytes) -> dict[str, Any]:
        try:
            document: dict[str, Any] | None = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        found = document.get("tok-rehearse") if isinstance(document, dict) else None
        if document and found == _FORMAT:
            return document
        hint = "make a new one: remove this file, or give --state another name"
        if content.startswith(b"SQLite format 3\0"):
            raise FatalError(f"{self.name}: an SQLite file, as the state file of toktools 0.2 was", hint)
        if isinstance(found, int):
            raise FatalError(f"{self.name}: a state file of format {found}, but this tok-rehearse has {_FORMAT}", hint)
        raise FatalError(f"{self.name}: not a state file of tok-rehearse", "give --state another name")

    def _save(self, before: bytes, cluster: Cluster) -> None:
        document = {
            "tok-rehearse": _FORMAT,
            "users": [asdict(user) for user in cluster.users.values()],
            "values": cluster.values,
            "tokens": [asdict(token) for token in cluster.tokens],
            "keys": [asdict(key) for key in cluster.keys],
        }
        content = f"{json.dumps(document, indent=1)}\n".encode()
        if content != before:
            with _fatal():
                write_atomically({self.path: content})
