"""Replace files as a whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from time import sleep

from toktools.errors import ToktoolsError
from toktools.system import files, process
from toktools.system.files import Snapshot, display, trouble_at

_MAX_OLD = (16 << 20) + 1  # bytes that *may_replace* is asked about: one more than the largest token file has
_KEPT = ("user.", "security.selinux", "system.")
"""The extended attributes to keep, or their name spaces; access control lists are in the last."""
_NO_SUCH_THING = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""The errors of fsync(2) for a directory that the file system cannot sync, or that cannot be read."""
_ELSEWHERE = "write another file, with -o OUT"
_CHANGED = "another program changed it meanwhile; nothing written"
_TRIES, _PAUSE_SECONDS = 50, 0.01  # for the lock


def write_atomically(
    contents: Mapping[str, bytes | Iterable[bytes]],
    *,
    inputs: Iterable[str] = (),
    seen: Snapshot | None = None,
    may_replace: Callable[[bytes], bool] | None = None,
) -> None:
    """Write files, each as a whole or not at all: temporary file, fsync, rename, fsync of the directory.

    All temporary files are complete before the first is renamed, and signals wait meanwhile. A new file keeps owner,
    mode, access control list and extended attributes of the old one. Symbolic links are followed. Raises ToktoolsError
    for anything but a regular file, for *inputs* and standard input, for a file whose content *may_replace* does not
    accept, and for the file that was *seen* if it has changed since.
    """
    paths: list[int | str] = [files.STDIN, *inputs]
    kept = [os.stat(path) for path in paths if os.path.exists(path)]
    before = len(files.written)
    staged: list[_Staged] = []
    with process.held(), ExitStack() as cleanup:
        try:
            for path, content in contents.items():
                with trouble_at(display(path)):
                    file = _Staged(path, cleanup)
                    if not (seen and file.is_old(seen.status)):
                        file.refuse_loss(kept, may_replace)
                    file.stage(content)
                staged.append(file)
            if len({file.target for file in staged}) < len(staged):
                raise ToktoolsError(f"{staged[0].name}: two of the files to write are links to the same file")
            for file in staged:
                if seen:
                    with trouble_at(seen.name):
                        file.refuse_changed(seen)
            for file in staged:
                with trouble_at(file.name):
                    file.rename()
            for file in staged:
                file.sync_directory()
        except ToktoolsError as error:
            raise (files.after_writing(error) if len(files.written) > before else error) from None


class _Staged:
    """A new content, in a temporary file beside the file that it is to replace.

    The directory is opened once, and each operation on a file in it is relative to the descriptor: another user
    may put a symbolic link in its place meanwhile.
    """

    def __init__(self, path: str, cleanup: ExitStack) -> None:
        # A name that ends in a slash or a dot is a directory's, there or not.
        if os.path.basename(path) in {"", ".", ".."}:
            raise files.not_regular(path)
        self._status: os.stat_result | None = None
        """Of the old file, if there is one."""
        with suppress(FileNotFoundError):
            self._status = os.stat(path)
        if self._status and not stat.S_ISREG(self._status.st_mode):
            raise files.not_regular(path)
        self.name = display(path)
        self.target = os.path.realpath(path)
        """The path without symbolic links."""
        directory, self._base = os.path.split(self.target if os.path.islink(path) else path)
        self._directory = _open_directory(directory or ".")
        cleanup.callback(os.close, self._directory)
        # The tempfile module would do the same, for a third of this program's start-up time.
        self._temporary = f".toktools-{os.urandom(8).hex()}"
        cleanup.callback(self._discard)
        self._open = cleanup.enter_context(ExitStack())
        if self._status:
            self._old = self._openat(self._base, os.O_RDONLY | os.O_NONBLOCK)
            self._open.callback(os.close, self._old)
            if not os.path.samestat(os.fstat(self._old), self._status):
                raise ToktoolsError(f"{self.name}: {_CHANGED}")
        else:
            with suppress(FileNotFoundError):  # none there, and none in the directory that was opened
                os.stat(self._base, dir_fd=self._directory, follow_symlinks=False)
                raise ToktoolsError(f"{self.name}: {_CHANGED}")

    def _openat(self, name: str, flags: int, mode: int = 0) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self._directory)

    def _discard(self) -> None:
        with suppress(OSError):  # it was not made, or is renamed
            os.unlink(self._temporary, dir_fd=self._directory)

    def is_old(self, other: os.stat_result) -> bool:
        """Return whether this is the file that it is to replace."""
        return self._status is not None and os.path.samestat(self._status, other)

    def refuse_loss(self, kept: Iterable[os.stat_result], may_replace: Callable[[bytes], bool] | None) -> None:
        """Refuse to replace a file in *kept*, or one whose content *may_replace* does not accept."""
        if any(map(self.is_old, kept)):
            raise ToktoolsError(f"{self.name}: this file is also an input, and would be overwritten")
        if self._status and may_replace and not may_replace(os.pread(self._old, _MAX_OLD, 0)):
            reason = "it contains something else, perhaps a private key; nothing written"
            raise ToktoolsError(f"{self.name}: {reason}", "name another file, or remove this one first")

    def stage(self, content: bytes | Iterable[bytes]) -> None:
        """Write the temporary file."""
        with trouble_at(f"{self.name}: cannot write in its directory"):
            fd = self._openat(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if self._status else 0o666)
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

    def _keep_owner(self, fd: int, old: os.stat_result) -> None:
        new = os.fstat(fd)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            with trouble_at(f"{self.name}: cannot replace it without changing its owner or group", _ELSEWHERE):
                os.fchown(fd, old.st_uid, old.st_gid)

    def _keep_attributes(self, fd: int) -> None:
        """Copy access control lists and extended attributes, before there is content to protect."""
        if sys.platform == "darwin" and (_has_access_list(self._old) or _has_access_list(fd)):
            raise ToktoolsError(
                f"{self.name}: cannot replace it and keep its access control list", "write a new file instead"
            )
        if sys.platform != "linux":
            return
        with trouble_at(f"{self.name}: cannot replace it and keep its access control list and attributes", _ELSEWHERE):
            old, new = _attributes(self._old), _attributes(fd)
            # The directory may have given it an access control list, whose mask the mode would open.
            for name in new.keys() - old.keys():
                os.removexattr(fd, name)
            for name, text in old.items():
                if new.get(name) != text:
                    os.setxattr(fd, name, text)

    def refuse_changed(self, seen: Snapshot) -> None:
        """Refuse to replace this file if it has changed since it was *seen*, and lock it against other toktools."""
        if self.is_old(seen.status):
            _lock(self._directory)
            os.lseek(self._old, 0, os.SEEK_SET)
            content = files.checksum(files.chunks(self._old, seen.checksum[0] + 1))
            now = os.stat(self._base, dir_fd=self._directory, follow_symlinks=False)
            is_changed = content != seen.checksum or not self.is_old(now)
        else:
            is_changed = seen.path is not None and os.path.realpath(seen.path) == self.target
        if is_changed:
            raise ToktoolsError(f"{seen.name}: {_CHANGED}")

    def rename(self) -> None:
        self._open.close()  # SMB does not replace a file that is open
        os.replace(self._temporary, self._base, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        files.written.append(self.name)

    def sync_directory(self) -> None:
        with trouble_at(f"{self.name}: perhaps not yet on the disk"):
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


def _attributes(fd: int) -> dict[str, bytes]:
    if sys.platform != "linux":
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


def _lock(directory: int) -> None:
    """Wait a little for other toktools; if another program keeps the lock, go on without it."""
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
