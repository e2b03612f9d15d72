"""Replacing files all or nothing: the folder is opened once, and all that is done to a file is done relative to it."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from signal import valid_signals
from time import sleep

from toktools.errors import ToktoolsError
from toktools.system import files, signals
from toktools.system.files import Snapshot, display, trouble_at

_MAX_LINKS = 40
"""As many as Linux follows."""
_BEGINNING = 1 << 12
_KEY = (
    rb"PRIVATE KEY-----"
    rb"|\A0[\x81-\x83].{1,3}(?:"
    rb"\x02\x01[\0\1\3][\x020]"  # a version, and a number or a sequence
    rb"|0.{1,3}\x06.\x2a\x86\x48\x86\xf7\x0d\x01(?:\x05|\x0c\x01)"  # an encryption of PKCS#5 or PKCS#12
    rb")"
)
"""What a private key in PEM has in its first bytes, or how one in DER begins: PKCS#1, PKCS#8, encrypted, PKCS#12.

A pattern, compiled only where a file is there: that takes some milliseconds.
"""
_KEPT = ("user.", "security.", "system.")
"""The name spaces of extended attributes; access control lists are in the last."""
_OF_THE_CONTENT = {"security.capability", "security.evm", "security.ima"}
"""What the kernel drops, or makes anew, whenever the content is written."""
_CHANGED = "another program changed it meanwhile; nothing written"
_TRIES, _PAUSE = 50, 0.01
"""For a lock; the pause is in seconds."""


def status_of(paths: Iterable[str]) -> list[os.stat_result]:
    """Return what tells files apart (device and inode), for replace() to keep them; standard input among them."""
    found: list[os.stat_result] = []
    names: list[int | str] = [files.STDIN, *paths]
    for path in names:
        try:
            found.append(os.stat(path))
        except OSError:
            pass  # it is not there, so it cannot be lost
    return found


def replace(
    contents: Mapping[str, bytes],
    *,
    keep: Sequence[os.stat_result] = (),
    seen: Snapshot | None = None,
    may_replace: Callable[[bytes], bool] | None = None,
) -> None:
    """Write files, each of which is either as it was or whole: temporary file, fsync, rename, fsync of the folder.

    All are staged before the first is renamed. Owner, mode, access control list and extended attributes of a file that
    is there are kept, symbolic links are followed, anything but a regular file is refused, and so are the files to
    keep. The file that was seen may be among them, and is replaced only if it is still as it was when it was read.
    may_replace is asked with the content of each file that is there. Raises ToktoolsError.
    """
    staged: list[_Staged] = []
    # A signal waits these few milliseconds, so that no temporary file stays behind.
    with signals.held(*valid_signals()):
        try:
            for path, content in contents.items():
                staged.append(_Staged(path))
                staged[-1].fill(content, keep, seen, may_replace)
            if len({file.place.key for file in staged}) < len(staged):
                raise ToktoolsError(f"{staged[0].name}: two of the files to write are links to the same file")
            for file in staged:
                file.refuse_changed(seen)
            for file in staged:
                file.commit()
            for file in {file.place.key[:2]: file for file in staged}.values():
                file.sync_folder()
        finally:
            for file in staged:
                file.discard()


class _Place:
    """Where a file is, or is to be: an open folder, and a name in it that is no symbolic link."""

    def __init__(self, path: str) -> None:
        self.folder = -1
        self.name = ""
        self.status: os.stat_result | None = None
        try:
            self._follow(path)
        except OSError:
            self.close()
            raise

    def _follow(self, path: str) -> None:
        for _ in range(_MAX_LINKS):
            self._step(path)
            self.status = self._look()
            if self.status is None or not stat.S_ISLNK(self.status.st_mode):
                return
            folder = os.fstat(self.folder)
            # As Linux has it (protected_symlinks), but not by default and not on all systems.
            open_to_all = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
            if open_to_all and self.status.st_uid not in {os.geteuid(), folder.st_uid}:
                raise PermissionError(
                    errno.EACCES, "another user's symbolic link, in a folder that everyone can write to"
                )
            path = os.readlink(self.name, dir_fd=self.folder)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _step(self, path: str) -> None:
        # Links on the way to the folder are the system's to follow, in the one look that opens it.
        head, self.name = os.path.split(path)
        before = self.folder
        access = getattr(os, "O_PATH", os.O_RDONLY)
        self.folder = os.open(head or ".", access | os.O_DIRECTORY, dir_fd=None if before < 0 else before)
        _close(before)

    def _look(self) -> os.stat_result | None:
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @property
    def key(self) -> tuple[int, int, str]:
        """What tells places apart."""
        folder = os.fstat(self.folder)
        return folder.st_dev, folder.st_ino, self.name

    def open(self, name: str, flags: int, mode: int = 0) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self.folder)

    def is_still(self, status: os.stat_result | None) -> bool:
        """Say whether this file, or none, is what is there now."""
        now = self._look()
        return now is None if status is None else now is not None and os.path.samestat(now, status)

    def close(self) -> None:
        _close(self.folder)


class _Staged:
    """A new content, in a temporary file beside the file that it is to replace."""

    place: _Place

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = display(path)
        self.old = -1
        """The file that is there, open."""
        self.status: os.stat_result | None = None
        self.temporary = ""

    def fill(
        self,
        content: bytes,
        keep: Sequence[os.stat_result],
        seen: Snapshot | None,
        may_replace: Callable[[bytes], bool] | None,
    ) -> None:
        with trouble_at(self.name):
            self._find()
            own = self._is(seen)
            if self.old >= 0 and re.search(_KEY, os.pread(self.old, _BEGINNING, 0), re.DOTALL):
                raise ToktoolsError(f"{self.name}: a private key, which would be lost; nothing written")
            if not own and self.status is not None and any(os.path.samestat(self.status, other) for other in keep):
                raise ToktoolsError(f"{self.name}: this file is also an input, and would be overwritten")
            if may_replace and self.status is not None and not may_replace(os.pread(self.old, self.status.st_size, 0)):
                raise ToktoolsError(f"{self.name}: the file exists and is not a token file; not overwritten")
            fd = self._create()
            try:
                if self.old >= 0:
                    self._keep_owner(fd)
                    self._keep_attributes(fd)
                files.write(fd, content)
                if self.status is not None:
                    os.fchmod(fd, stat.S_IMODE(self.status.st_mode))
                os.fsync(fd)
            finally:
                os.close(fd)

    def _find(self) -> None:
        # A name that ends in a slash or a dot is a folder's, there or not.
        if os.path.basename(self.path) in {"", ".", ".."}:
            raise files.not_regular(self.path)
        meant = self._meant()
        if meant is not None and not stat.S_ISREG(meant.st_mode):
            raise files.not_regular(self.path)
        self.place = _Place(self.path)
        # A name may lead elsewhere than its text says, as /dev/fd/3 does; or somebody has just put another file there.
        if not self.place.is_still(meant):
            now = self._meant()
            if now is not None and self.place.is_still(now):
                raise ToktoolsError(f"{self.name}: {_CHANGED}")
            raise ToktoolsError(f"{self.name}: the file that it leads to was deleted or replaced; nothing written")
        if meant is not None:
            self.old = self.place.open(self.place.name, os.O_RDONLY | os.O_NONBLOCK)
            self.status = os.fstat(self.old)
            if not os.path.samestat(self.status, meant):  # whose owner and mode the new file would have
                raise ToktoolsError(f"{self.name}: {_CHANGED}")

    def _meant(self) -> os.stat_result | None:
        """Look where the system itself goes for the name."""
        try:
            return os.stat(self.path)
        except FileNotFoundError:
            return None

    def _is(self, seen: Snapshot | None) -> bool:
        return seen is not None and self.status is not None and os.path.samestat(self.status, seen.status)

    def _create(self) -> int:
        # The tempfile module would do the same, for a third of this program's start-up time.
        self.temporary = f".toktools-{os.urandom(8).hex()}"
        try:
            return self.place.open(
                self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if self.status is None else 0o600
            )
        except PermissionError as error:
            reason = f"cannot write in its folder: {files.reason(error)}"
            raise ToktoolsError(f"{self.name}: {reason}") from None

    def _keep_owner(self, fd: int) -> None:
        old, new = os.fstat(self.old), os.fstat(fd)
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.fchown(fd, old.st_uid, old.st_gid)
            except PermissionError:
                reason = "its owner and group cannot be kept"
                raise ToktoolsError(f"{self.name}: {reason}", "write a new file instead") from None

    def _keep_attributes(self, fd: int) -> None:
        """Carry access control lists and extended attributes over, before there is a content to protect."""
        if not hasattr(os, "getxattr"):  # another system than Linux
            return
        old, new = _attributes(self.old), _attributes(fd)
        name = ""
        try:
            # The folder may have given it an access control list, whose mask the mode would open.
            for name in new.keys() - old.keys():
                os.removexattr(fd, name)
            for name, text in old.items():
                if new.get(name) != text:
                    os.setxattr(fd, name, text)
        except OSError as error:
            kind = "access control list" if name == "system.posix_acl_access" else f"attribute {display(name)}"
            reason = f"its {kind} cannot be kept: {files.reason(error)}"
            raise ToktoolsError(f"{self.name}: {reason}", "write a new file instead") from None

    def refuse_changed(self, seen: Snapshot | None) -> None:
        """Make sure that the file that was seen, if it is this one, is as it was, and hold other toktools off it."""
        if seen is None:
            return
        with trouble_at(seen.name):
            if self._is(seen):
                _lock(self.old)
                # Whoever held the lock before may have renamed a new file over this one.
                if self.place.is_still(self.status) and self._reads(seen.content):
                    return
            elif seen.path is None or (seen.path != self.path and not self._is_place_of(seen.path)):
                return
        raise ToktoolsError(f"{seen.name}: {_CHANGED}")

    def _reads(self, content: bytes) -> bool:
        return b"".join(files.chunks(self.old, len(content) + 1)) == content

    def _is_place_of(self, path: str) -> bool:
        try:
            place = _Place(path)
        except OSError:
            return False
        try:
            return place.key == self.place.key
        finally:
            place.close()

    def commit(self) -> None:
        try:
            with trouble_at(self.name):
                os.replace(self.temporary, self.place.name, src_dir_fd=self.place.folder, dst_dir_fd=self.place.folder)
        except ToktoolsError as error:
            raise files.after_writing(error) from None
        self.temporary = ""
        files.written.append(self.name)

    def sync_folder(self) -> None:
        with trouble_at(f"{self.name}: written, but perhaps not yet on the disk"):
            try:
                fd = self.place.open(".", os.O_RDONLY)
            except PermissionError:
                return  # a folder may be writable but not readable; the file itself is on the disk
            try:
                os.fsync(fd)
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # what file systems say that have no such thing
                    raise
            finally:
                _close(fd)

    def discard(self) -> None:
        """Remove what was not renamed, and close what is open: what went wrong is told already."""
        if self.temporary:
            try:
                os.unlink(self.temporary, dir_fd=self.place.folder)
            except OSError:
                pass  # it was not made, or is gone
        _close(self.old)
        if hasattr(self, "place"):
            self.place.close()


def _attributes(fd: int) -> dict[str, bytes]:
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(fd, name) for name in names if name.startswith(_KEPT) and name not in _OF_THE_CONTENT}


def _lock(fd: int) -> None:
    """Wait a little for other toktools; that the content is compared has to do where somebody else keeps the lock."""
    import fcntl

    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sleep(_PAUSE)
        except OSError:
            return  # a file system without locks
        else:
            return


def _close(fd: int) -> None:
    """Close a descriptor that nothing was written to."""
    try:
        os.close(fd)
    except OSError:
        pass
