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
"""The format; 1 and 2 were SQLite files."""
_MAX_SIZE = 1 << 26


def default_path() -> str:
    """Return the path of the state if the user names none (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the specification wants a relative one ignored
        home = os.path.expanduser("~/.local/state")
    if not os.path.isabs(home):
        raise ToktoolsError("there is no home directory to keep the cluster in", "give --state FILE")
    return os.path.join(home, "toktools", "rehearsal.json")


class State:
    """A state file, which is created when it is first used, open to its owner alone."""

    def __init__(self, path: str | None) -> None:
        self.path = default_path() if path is None else path
        self.name = files.display(self.path)
        if path is None:
            with files.trouble_at(self.name):
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        with self.cluster(hsms=1):
            pass  # a file that cannot be used is better known before the first command

    @contextmanager
    def cluster(self, hsms: int) -> Iterator[Cluster]:
        """Yield the cluster, which no other process changes meanwhile, and keep what has become of it.

        A refusal is kept too, since a wrong login counts; any other exception changes nothing.
        """
        with files.trouble_at(self.name):
            fd = self._lock()
        try:
            with files.trouble_at(self.name):
                content = os.pread(fd, _MAX_SIZE, 0)
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
        """Open and lock the file. One that was replaced while its lock was waited for is no longer the state."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    return fd
            except FileNotFoundError:
                pass  # the next round makes a new one
            os.close(fd)

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
            cluster.drop_dead_tokens()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ToktoolsError(f"{self.name}: damaged: it is not as tok-rehearse wrote it") from None
        return cluster

    def _parse(self, content: bytes) -> dict[str, Any]:
        try:
            document: dict[str, Any] | None = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        found = document.get("tok-rehearse") if isinstance(document, dict) else None
        if document and found == _FORMAT:
            return document
        if isinstance(found, int) or content.startswith(b"SQLite format 3\0"):
            hint = "make a new one: remove this file, or give --state another name"
            raise ToktoolsError(f"{self.name}: a state file of another release of toktools", hint)
        raise ToktoolsError(f"{self.name}: not a state file of tok-rehearse", "give --state another name")

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
            write_atomically({self.path: content})
