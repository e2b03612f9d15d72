"""The rim of the system: reading whole files, writing standard output, and replacing files all or nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from toktools import signals
from toktools.errors import ToktoolsError, shown

STDIN, STDOUT = 0, 1
STDIN_NAME = "standard input"
_STDOUT_NAME = "standard output"
_CHUNK = 1 << 16


class Snapshot:
    """A file as it was when it was read: path (None for standard input), name for messages, bytes and stat."""

    def __init__(self, path: str | None, content: bytes, status: os.stat_result) -> None:
        self.path = path
        self.name = display(path)
        self.content = content
        self.status = status


def display(path: str | None) -> str:
    """Return how messages name a file."""
    return STDIN_NAME if path is None else shown(path) or "''"


@contextmanager
def trouble_at(place: str) -> Iterator[None]:
    """Turn what the system refuses into a ToktoolsError that names the place."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ToktoolsError(f"{place}: {reason[:1].lower()}{reason[1:]}") from None


def read(path: str | None, limit: int) -> Snapshot:
    """Read a whole file, or standard input where path is None or "-".

    Raises ToktoolsError where it cannot be read or holds more than limit bytes.
    """
    path = None if path == "-" else path
    with trouble_at(display(path)):
        fd = STDIN if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            snapshot = Snapshot(path, b"".join(chunks(fd, limit + 1)), os.fstat(fd))
        finally:
            if fd != STDIN:
                os.close(fd)
    if len(snapshot.content) > limit:
        raise ToktoolsError(f"{snapshot.name}: larger than {limit} bytes")
    return snapshot


def chunks(fd: int, limit: int) -> Iterator[bytes]:
    """Yield what a descriptor gives, as soon as it gives it, up to limit bytes."""
    while limit > 0 and (chunk := os.read(fd, min(_CHUNK, limit))):
        limit -= len(chunk)
        yield chunk


def is_stdin(status: os.stat_result) -> bool:
    """Say whether a file is what standard input reads from: the stream of records, never a key or a pass phrase."""
    return _is_open_as(STDIN, status)


def refuse_as_stdout(snapshot: Snapshot) -> None:
    """Refuse, as cat(1) does, a file that is also standard output."""
    if stat.S_ISREG(snapshot.status.st_mode) and _is_open_as(STDOUT, snapshot.status):
        emptied = "" if snapshot.content else ", and the shell has already emptied it"
        raise ToktoolsError(
            f"{snapshot.name}: standard output is this same file{emptied}",
            "send standard output to another file, or change a token file in place with tok-merge -i",
        )


def refuse_irregular(path: str) -> None:
    """Refuse to change in place what is not a regular file, before a pipe, say, is waited for."""
    with trouble_at(display(path)):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _not_regular(path)


def _not_regular(path: str) -> ToktoolsError:
    return ToktoolsError(f"{display(path)}: not a regular file")


def refuse_terminal() -> None:
    """Refuse to write raw bytes to a terminal."""
    if os.isatty(STDOUT):
        raise ToktoolsError(f"{_STDOUT_NAME}: raw bytes do not go to a terminal", "redirect it to a file or a pipe")


def write_stdout(content: bytes) -> None:
    """Write all of it to standard output, now; ToktoolsError where that fails."""
    with trouble_at(_STDOUT_NAME):
        _write(STDOUT, content)


def finish_stdout(*, for_good: bool) -> None:
    """Raise ToktoolsError for the write errors that some file systems keep until the close (NFS, quotas).

    For good: the reader finds the end of the stream now, and not when the interpreter has been taken down.
    """
    with trouble_at(_STDOUT_NAME):
        # A copy is closed: that reports them as well, and leaves the number 1 taken.
        os.close(os.dup(STDOUT))
    if for_good:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, STDOUT)
            os.close(null)
        except OSError:
            pass  # then the reader waits a little longer


def status_of(paths: Iterable[str]) -> list[os.stat_result]:
    """Return what tells files apart (device and inode), for replace() to keep them; standard input among them."""
    found: list[os.stat_result] = []
    names: list[int | str] = [STDIN, *paths]
    for path in names:
        try:
            found.append(os.stat(path))
        except OSError:
            pass  # it is not there, so it cannot be lost
    return found


def replace(
    contents: Mapping[str, bytes], *, keep: Sequence[os.stat_result] = (), seen: Snapshot | None = None
) -> None:
    """Write files, each of which is either as it was or whole: temporary file, fsync, rename, fsync of the folder.

    All are staged before the first is renamed. Mode and owner of a file that is there are kept, symbolic links are
    followed, anything but a regular file is refused, and so are the files to keep. The file that was seen may be among
    them, and is replaced only if it is still as it was when it was read. Raises ToktoolsError.
    """
    staged: list[_Staged] = []
    # A signal waits these few milliseconds, so that no temporary file stays behind.
    with signals.held():
        try:
            for path, content in contents.items():
                staged.append(_Staged(path))
                staged[-1].fill(content, keep, seen)
            targets = {file.target for file in staged}
            if len(targets) < len(staged):
                raise ToktoolsError(f"{staged[0].name}: two of the files to write are links to one")
            with _unchanged(seen, targets):
                for file in staged:
                    file.commit()
        finally:
            for file in staged:
                file.discard()


class _Staged:
    """A new content, in a temporary file beside the file that it is to replace."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = display(path)
        self.target = self.temporary = ""

    def fill(self, content: bytes, keep: Sequence[os.stat_result], seen: Snapshot | None) -> None:
        with trouble_at(self.name):
            try:
                old = os.stat(self.path)
            except FileNotFoundError:
                old = None
            # A name that ends in a slash or a dot is a folder's, there or not.
            if os.path.basename(self.path) in {"", ".", ".."}:
                raise _not_regular(self.path)
            if old is not None and not stat.S_ISREG(old.st_mode):
                raise _not_regular(self.path)
            own = old is not None and seen is not None and os.path.samestat(old, seen.status)
            if old is not None and not own and any(os.path.samestat(old, other) for other in keep):
                raise ToktoolsError(f"{self.name}: this file is read, and would be lost")
            self.target = os.path.realpath(self.path)
            # The tempfile module would do the same, for a third of this program's start-up time.
            self.temporary = os.path.join(os.path.dirname(self.target), f".toktools-{os.urandom(8).hex()}")
            fd = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if old else 0o666)
            try:
                _write(fd, content)
                if old is not None:
                    _keep_owner_and_mode(fd, old, self.name)
                os.fsync(fd)
            finally:
                os.close(fd)

    def commit(self) -> None:
        with trouble_at(self.name):
            os.replace(self.temporary, self.target)
            self.temporary = ""
        with trouble_at(f"{self.name}: written, but perhaps not yet on the disk"):
            _sync_folder(os.path.dirname(self.target))

    def discard(self) -> None:
        if self.temporary:
            try:
                os.unlink(self.temporary)
            except OSError:
                pass  # it was not made, or is gone; what went wrong is told already


def _keep_owner_and_mode(fd: int, old: os.stat_result, name: str) -> None:
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except PermissionError:
            raise ToktoolsError(f"{name}: its owner and group cannot be kept", "write a new file instead") from None
    os.fchmod(fd, stat.S_IMODE(old.st_mode))


def _sync_folder(folder: str) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # a folder may be writable but not readable; the file itself is on the disk
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # what file systems say that have no such thing
            raise
    finally:
        os.close(fd)


@contextmanager
def _unchanged(seen: Snapshot | None, targets: set[str]) -> Iterator[None]:
    """Make sure that the file that was seen, if it is a target, is still as it was, and hold other toktools off it."""
    if seen is None or seen.path is None:
        yield
        return
    with trouble_at(seen.name):
        if os.path.realpath(seen.path) not in targets:
            yield
            return
        try:
            fd = os.open(seen.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _changed(seen) from None
        try:
            _lock(fd, seen)
            # Whoever held the lock before may have renamed a new file over this one.
            same = os.path.samestat(os.stat(seen.path), os.fstat(fd))
            if not same or b"".join(chunks(fd, len(seen.content) + 1)) != seen.content:
                raise _changed(seen)
            yield
        finally:
            os.close(fd)


def _lock(fd: int, seen: Snapshot) -> None:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ToktoolsError(f"{seen.name}: another program has locked it; nothing written") from None
    except OSError:
        pass  # a file system without locks: comparing the content has to do


def _changed(seen: Snapshot) -> ToktoolsError:
    return ToktoolsError(f"{seen.name}: someone else changed it meanwhile; nothing written")


def _is_open_as(fd: int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.fstat(fd))
    except OSError:
        return False


def _write(fd: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
