"""Replace a file as a whole, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from time import sleep

from toktools.errors import ToktoolsError
from toktools.system import files, process
from toktools.system.files import Snapshot, display, trouble_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_MAX_OLD = (16 << 20) + 1  # bytes that *may_replace* is asked about: one more than the largest token file has
_KEPT = ("user.", "security.selinux", "system.")
"""The extended attributes to keep, or their name spaces; access control lists are in the last."""
_NO_SUCH_THING = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""The errors of fsync(2) for a directory that the file system cannot sync, or that cannot be read."""
_ELSEWHERE = "write a new file instead"
_TRIES, _PAUSE_SECONDS = 50, 0.01  # for the lock, which every user may hold


def write_atomically(
    path: str,
    content: Iterable[bytes],
    *,
    inputs: Iterable[str] = (),
    seen: Snapshot | None = None,
    may_replace: Callable[[bytes], bool] | None = None,
) -> None:
    """Write a file, as a whole or not at all: temporary file, fsync, rename, fsync of the directory.

    Signals wait meanwhile. The new file keeps owner, mode, access control list and extended attributes of the old one.
    Symbolic links are followed. Raises ToktoolsError for anything but a regular file, for *inputs* and standard input,
    for a file whose content *may_replace* does not accept, and for the file that was *seen* if it has changed since.
    """
    name = display(path)
    with process.held(), trouble_at(name), closing(_Target(path)) as target:
        with target.open_old() as old:
            if seen and not target.is_file_of(seen, old):
                seen = None
            if old and not seen:  # the file that was seen is an input too, and a token file
                _refuse_loss(name, old, inputs, may_replace)
            with trouble_at(f"{name}: cannot write in its directory"):
                new = target.open_temporary(0o600 if old else 0o666)
            with new:
                if old:
                    _keep(name, old.fileno(), new.fileno())
                new.writelines(content)
                new.flush()
                files.sync(new.fileno())
        if seen and target.has_changed(seen):
            raise ToktoolsError(f"{name}: another program changed it meanwhile; nothing written")
        target.rename()  # the old file is closed by now: SMB does not replace one that is open
        with trouble_at(f"{name}: written, but perhaps not yet on the disk"):
            target.sync()


def check(path: str, inputs: Iterable[str], may_replace: Callable[[bytes], bool]) -> None:
    """Raise ToktoolsError if write_atomically() would: for the files of a set, before the first of them is written."""
    name = display(path)
    with trouble_at(name), closing(_Target(path)) as target, target.open_old() as old:
        if old:
            _refuse_loss(name, old, inputs, may_replace)


class _Target:
    """An open directory and the name of a file in it, which may not exist yet.

    Each operation is relative to the descriptor: another user who owns the directory may put a symbolic link in its
    place meanwhile, and root would write elsewhere.
    """

    def __init__(self, path: str) -> None:
        self._exists = os.path.exists(path)
        # A name that ends in a slash or a dot is a directory's, there or not.
        if os.path.basename(path) in {"", ".", ".."} or (self._exists and not os.path.isfile(path)):
            raise files.not_regular(path)
        self._given = path
        self.path = os.path.realpath(path)
        directory, self._base = os.path.split(self.path if os.path.islink(path) else path)
        self._directory = _open_directory(directory or ".")
        # The tempfile module would do the same, for a third of this program's start-up time.
        self._temporary = f".toktools-{os.urandom(8).hex()}"

    def close(self) -> None:
        """Remove the temporary file, if it is still there."""
        with suppress(OSError):  # it was not made, or is renamed
            os.unlink(self._temporary, dir_fd=self._directory)
        os.close(self._directory)

    def _open(self, name: str, flags: int, mode: int = 0) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=self._directory)

    def open_old(self) -> AbstractContextManager[BinaryIO | None]:
        """Open the old file, if there is one."""
        try:
            return open(self._base, "rb", opener=self._open)
        except FileNotFoundError:
            if self._exists:  # under another name: /dev/fd/3 of a deleted file, say
                raise
            return nullcontext()

    def open_temporary(self, mode: int) -> BinaryIO:
        """Create the temporary file."""
        return open(self._temporary, "xb", opener=lambda name, flags: self._open(name, flags, mode))

    def is_file_of(self, seen: Snapshot, old: BinaryIO | None) -> bool:
        """Return whether a file that was read is this one, by this name or another."""
        if seen.path is None:
            return False
        is_same = old is not None and os.path.samestat(os.fstat(old.fileno()), seen.status)
        return is_same or seen.path == self._given or os.path.realpath(seen.path) == self.path

    def has_changed(self, seen: Snapshot) -> bool:
        """Return whether the old file has changed since it was *seen*; other toktools wait until it is replaced."""
        self._lock()
        with self.open_old() as old:
            is_same = old and os.path.samestat(os.fstat(old.fileno()), seen.status)
            return not (old and is_same and files.checksum(old.read(_MAX_OLD)) == seen.checksum)

    def _lock(self) -> None:
        """Wait a little for other toktools: of two that ended at the same moment, 11 of 300 overwrote the other's file.

        If another program keeps the lock, go on without it.
        """
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sleep(_PAUSE_SECONDS)
            except OSError:
                return  # a file system without locks
            else:
                return

    def rename(self) -> None:
        """Give the temporary file the name of the old one."""
        os.replace(self._temporary, self._base, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def sync(self) -> None:
        """Wait until the directory is on the disk."""
        try:
            os.fsync(self._directory)
        except OSError as error:
            if error.errno not in _NO_SUCH_THING:
                raise


def _open_directory(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # it may be open to writing alone; then there is no lock, and no fsync
        return os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)


def _refuse_loss(name: str, old: BinaryIO, inputs: Iterable[str], may_replace: Callable[[bytes], bool] | None) -> None:
    """Refuse to replace an input, or a file whose content *may_replace* does not accept."""
    paths: list[int | str] = [files.STDIN, *inputs]
    if any(os.path.samefile(path, old.fileno()) for path in paths if os.path.exists(path)):
        raise ToktoolsError(f"{name}: this file is also an input, and would be overwritten")
    if may_replace and not may_replace(old.read(_MAX_OLD)):
        reason = "it contains something else, perhaps a private key; nothing written"
        raise ToktoolsError(f"{name}: {reason}", "name another file, or remove this one first")


def _keep(name: str, old: int, new: int) -> None:
    """Give a new file the owner, the attributes and the mode of the old one, before it has content to protect."""
    before, now = os.fstat(old), os.fstat(new)
    if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
        with trouble_at(f"{name}: cannot replace it without changing its owner or group", _ELSEWHERE):
            os.fchown(new, before.st_uid, before.st_gid)
    if sys.platform == "darwin" and (_has_access_list(old) or _has_access_list(new)):
        raise ToktoolsError(f"{name}: cannot replace it and keep its access control list", _ELSEWHERE)
    if sys.platform == "linux":
        with trouble_at(f"{name}: cannot replace it and keep its access control list and attributes", _ELSEWHERE):
            wanted, given = _attributes(old), _attributes(new)
            # The directory may have given it an access control list, whose mask the mode would open.
            for attribute in given.keys() - wanted.keys():
                os.removexattr(new, attribute)
            for attribute, value in wanted.items() - given.items():
                os.setxattr(new, attribute, value)
    # A file system without modes would refuse to set even the one that is there.
    if stat.S_IMODE(os.fstat(new).st_mode) != stat.S_IMODE(before.st_mode):
        os.fchmod(new, stat.S_IMODE(before.st_mode))


def _attributes(fd: int) -> dict[str, bytes]:
    if sys.platform != "linux":  # for mypy
        return {}
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(fd, name) for name in names if name.startswith(_KEPT)}


def _has_access_list(fd: int) -> bool:
    """Return whether a file on macOS has an access control list; see acl_get(3) there."""
    import ctypes

    get = ctypes.CDLL(None).acl_get_fd
    get.restype = ctypes.c_void_p
    return get(fd) is not None
