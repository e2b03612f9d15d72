"""The cluster's state: a JSON file, which each command locks, reads and writes as a whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields

from toktools.errors import ToktoolsError
from toktools.rehearsal.cluster import SERVICES, Cluster, QuorumToken, Refused, User
from toktools.rehearsal.keys import Key
from toktools.system import files
from toktools.system.atomic import write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T", User, QuorumToken, Key)

_FORMAT = 3
"""The format; 1 and 2 were SQLite files."""
_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "dict[str, object]": dict, "list[str]": list}
"""The types of members, by their annotations."""


def default_path() -> str:
    """Return the path of the state if the user names none (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the specification wants a relative one ignored
        home = os.path.expanduser("~/.local/state")
    return os.path.join(home, "toktools", "rehearsal.json")


class State:
    """A state file, created at its first use, with access for its owner only."""

    def __init__(self, path: str | None) -> None:
        self.path = default_path() if path is None else path
        self.name = files.display(self.path)
        if path is None:
            with files.trouble_at(self.name):
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise ToktoolsError(f"{self.name}: not a regular file")
        with self.cluster(hsms=1):
            pass  # a file that cannot be used is better known before the first command

    @contextmanager
    def cluster(self, hsms: int) -> Iterator[Cluster]:
        """Yield the cluster, locked against other processes, and save it after the block.

        A refusal saves it too, since a wrong login counts; after any other exception the file is unchanged.
        """
        with files.trouble_at(self.name):
            fd = self._lock()
        try:
            with files.trouble_at(self.name):
                content = os.pread(fd, os.fstat(fd).st_size, 0)
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
        """Open and lock the file, again if another process replaced it before the lock was there."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                return fd
            os.close(fd)

    def _load(self, content: bytes, hsms: int) -> Cluster:
        if not content:
            return Cluster(hsms)
        try:
            document = json.loads(content)
            if document["tok-rehearse"] != _FORMAT:
                raise ValueError
            users = [_made(User, user) for user in document["users"]]
            values = dict(document["values"])
            if values.keys() != SERVICES.keys() or {*map(type, values.values())} != {int}:
                raise ValueError
            cluster = Cluster(
                hsms,
                {user.name: user for user in users},
                values,
                [_made(QuorumToken, token) for token in document["tokens"]],
                [_made(Key, key) for key in document["keys"]],
            )
            cluster.drop_dead_tokens()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            message = f"{self.name}: not a state file of this release of tok-rehearse"
            raise ToktoolsError(message, "give --state another name, to make a new one") from None
        return cluster

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
            write_atomically(self.path, [content])


def _made(kind: type[T], members: dict[str, object]) -> T:
    """Return a user, a token or a key with these members. Raises TypeError if one is of another type."""
    made = kind(**members)  # type: ignore[arg-type] # it is checked below
    for member in fields(kind):
        value = getattr(made, member.name)
        elements = value if type(value) is list else []
        if type(value) is not _TYPES[str(member.type)] or not all(type(element) is str for element in elements):
            raise TypeError
    return made
