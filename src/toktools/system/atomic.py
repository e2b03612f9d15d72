"""Replace files as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import sleep

from toktools.errors import ToktoolsError
from toktools.system import files, process
from toktools.system.files import Snapshot, display, trouble_at

_MAX_OLD = (16 << 20) + 1  # bytes that *may_replace* is asked about: one more than the largest token file has
_KEPT = ("user.", "security.", "system.")
"""The name spaces of extended attributes; access control lists are in the last."""
_OF_THE_CONTENT = {"security.capability", "security.evm", "security.ima"}
"""Attributes that the kernel drops, or makes anew, whenever the content is written."""
_CHANGED = "another program changed it meanwhile; nothing written"
_TRIES, _PAUSE_SECONDS = 50, 0.01  # for the lock


def write_atomically(
    contents: Mapping[str, bytes | Iterable[bytes]],
    *,
    inputs: Iterable[str] = (),
    seen: Snapshot | None = None,
    may_replace: Callable[[bytes], bool] | None = None,
) -> None:
    """Write files, each of which is either as it was or whole: temporary file, fsync, rename, fsync of the directory.

    All are staged before the first is renamed, and signals wait until then. Owner, mode, access control list and
    extended attributes of an old file are kept, symbolic links are followed, and anything but a regular file is
    refused. So are *inputs* and standard input, a file with a content that *may_replace* does not accept, and the file
    that was *seen* unless it is as it was when it was read. Raises ToktoolsError.
    """
    kept = _found([files.STDIN, *inputs])
    staged: list[_Staged] = []
    before = len(files.written)
    with process.held():
        try:
            for path, content in contents.items():
                staged.append(_Staged(path))
                staged[-1].stage(content, kept, seen, may_replace)
            if len({file.target for file in staged}) < len(staged):
                raise ToktoolsError(f"{staged[0].name}: two of the files to write are links to the same file")
            for file in staged:
                file.refuse_changed(seen)
            for file in staged:
                file.rename()
            for file in staged:
                file.sync_directory()
        except ToktoolsError as error:
            raise (files.after_writing(error) if len(files.written) > before else error) from None
        finally:
            for file in staged:
                file.discard()


class _Staged:
    """A new content, in a temporary file beside the file that it is to replace.

    The directory is opened once, and all that is done to a file in it is done relative to the descriptor: its owner, if
    that is another user, may put a symbolic link in its place meanwhile.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = display(path)
        self.target = ""
        """The path without symbolic links."""
        self._base = ""
        self._directory = -1
        self._old = -1
        self._status: os.stat_result | None = None
        """Of the old file, if there is one."""
        self._temporary = ""

    def stage(
        self,
        content: bytes | Iterable[bytes],
        kept: Sequence[os.stat_result],
        seen: Snapshot | None,
        may_replace: Callable[[bytes], bool] | None,
    ) -> None:
        with trouble_at(self.name):
            self._open()
            if not self._is(seen):
                if self._status and any(os.path.samestat(self._status, other) for other in kept):
                    raise ToktoolsError(f"{self.name}: this file is also an input, and would be overwritten")
                if self._status and may_replace and not may_replace(os.pread(self._old, _MAX_OLD, 0)):
                    raise ToktoolsError(
                        f"{self.name}: it holds something else, perhaps a private key, which would be lost; "
                        "nothing written",
                        "name another file, or remove this one first",
                    )
            fd = self._create()
            try:
                if self._status:
                    self._keep_owner(fd, self._status)
                    self._keep_attributes(fd)
                for piece in [content] if isinstance(content, bytes) else files.joined(content):
                    files.write(fd, piece)
                # A file system without modes would refuse to set even the one that is there.
                if self._status and stat.S_IMODE(os.fstat(fd).st_mode) != stat.S_IMODE(self._status.st_mode):
                    os.fchmod(fd, stat.S_IMODE(self._status.st_mode))
                files.sync(fd)
            finally:
                os.close(fd)

    def _open(self) -> None:
        # A name that ends in a slash or a dot is a directory's, there or not.
        if os.path.basename(self.path) in {"", ".", ".."}:
            raise files.not_regular(self.path)
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            status = None
        if status and not stat.S_ISREG(status.st_mode):
            raise files.not_regular(self.path)
        self.target = os.path.realpath(self.path)
        directory, self._base = os.path.split(self.target if os.path.islink(self.path) else self.path)
        directory = directory or "."
        try:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:  # it may be open to writing alone; then there is no lock, and no fsync
            self._directory = os.open(directory, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
        if status:
            try:
                self._old = self._openat(self._base, os.O_RDONLY | os.O_NONBLOCK)
            except FileNotFoundError:  # or its name leads nowhere, such as /dev/fd/3 of a file that was deleted
                raise ToktoolsError(f"{self.name}: {_CHANGED}") from None
            self._status = os.fstat(self._old)
        is_meant = status is None or (self._status is not None and os.path.samestat(self._status, status))
        if not (is_meant and self._is_still(status)):
            raise ToktoolsError(f"{self.name}: {_CHANGED}")

    def _openat(self, name: str, flags: int, mode: int = 0) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self._directory)

    def _is(self, seen: Snapshot | None) -> bool:
        return seen is not None and self._status is not None and os.path.samestat(self._status, seen.status)

    def _is_still(self, status: os.stat_result | None) -> bool:
        """Return whether this file, or none, is what is there now."""
        try:
            now = os.stat(self._base, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return status is None
        return status is not None and os.path.samestat(now, status)

    def _create(self) -> int:
        # The tempfile module would do the same, for a third of this program's start-up time.
        self._temporary = f".toktools-{os.urandom(8).hex()}"
        try:
            return self._openat(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if self._status else 0o666)
        except PermissionError as error:
            reason = f"cannot write in its directory: {files.reason(error)}"
            raise ToktoolsError(f"{self.name}: {reason}") from None

    def _keep_owner(self, fd: int, old: os.stat_result) -> None:
        new = os.fstat(fd)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.fchown(fd, old.st_uid, old.st_gid)
            except PermissionError:
                reason = "cannot keep the file's owner and group"
                raise ToktoolsError(f"{self.name}: {reason}", "write another file, with -o OUT") from None

    def _keep_attributes(self, fd: int) -> None:
        """Carry access control lists and extended attributes over, before there is a content to protect."""
        if sys.platform == "darwin" and (_has_access_list(self._old) or _has_access_list(fd)):
            raise ToktoolsError(f"{self.name}: its access control list cannot be kept", "write a new file instead")
        if sys.platform != "linux":
            return
        old, new = _attributes(self._old), _attributes(fd)
        name = ""
        try:
            # The directory may have given it an access control list, whose mask the mode would open.
            for name in new.keys() - old.keys():
                os.removexattr(fd, name)
            for name, text in old.items():
                if new.get(name) != text:
                    os.setxattr(fd, name, text)
        except OSError as error:
            kind = "access control list" if name == "system.posix_acl_access" else f"attribute {display(name)}"
            reason = f"cannot keep the file's {kind}: {files.reason(error)}"
            raise ToktoolsError(f"{self.name}: {reason}", "write another file, with -o OUT") from None

    def refuse_changed(self, seen: Snapshot | None) -> None:
        """Make sure that the file that was seen, if it is this one, is as it was, and hold other toktools off it."""
        if seen is None:
            return
        with trouble_at(seen.name):
            if self._is(seen):
                _lock(self._directory)
                os.lseek(self._old, 0, os.SEEK_SET)
                now = files.checksum(files.chunks(self._old, seen.checksum[0] + 1))
                if self._is_still(self._status) and now == seen.checksum:
                    return
            elif seen.path is None or os.path.realpath(seen.path) != self.target:
                return
        raise ToktoolsError(f"{seen.name}: {_CHANGED}")

    def rename(self) -> None:
        # SMB does not replace a file that is open.
        self._old = _close(self._old)
        with trouble_at(self.name):
            os.replace(self._temporary, self._base, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._temporary = ""
        files.written.append(self.name)

    def sync_directory(self) -> None:
        try:
            os.fsync(self._directory)
        except OSError as error:
            # That is what file systems say that have no such thing, and a directory that cannot be read.
            if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
                reason = f"perhaps not yet on the disk: {files.reason(error)}"
                raise ToktoolsError(f"{self.name}: {reason}") from None

    def discard(self) -> None:
        """Remove the temporary file if it was not renamed, and close what is open; errors are reported already."""
        if self._temporary:
            try:
                os.unlink(self._temporary, dir_fd=self._directory)
            except OSError:
                pass  # it was not made, or is gone
        self._old = _close(self._old)
        self._directory = _close(self._directory)


def _found(paths: Iterable[int | str]) -> list[os.stat_result]:
    found = []
    for path in paths:
        try:
            found.append(os.stat(path))
        except OSError:
            pass  # it is not there, so it cannot be lost
    return found


def _attributes(fd: int) -> dict[str, bytes]:
    if sys.platform != "linux":
        return {}
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(fd, name) for name in names if name.startswith(_KEPT) and name not in _OF_THE_CONTENT}


def _has_access_list(fd: int) -> bool:
    """Return whether a file of macOS has an access control list; see acl_get(3) there."""
    import ctypes

    get = ctypes.CDLL(None).acl_get_fd
    get.restype = ctypes.c_void_p
    return get(fd) is not None


def _lock(directory: int) -> None:
    """Wait a little for other toktools; if something else keeps the lock, the comparison has to do."""
    import fcntl

    for _ in range(_TRIES):
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sleep(_PAUSE_SECONDS)
        except OSError:
            return  # a file system without locks
        else:
            return


def _close(fd: int) -> int:
    """Close a descriptor that nothing was written to, if it is open; return that of none."""
    if fd >= 0:
        try:
            os.close(fd)
        except OSError:
            pass
    return -1
