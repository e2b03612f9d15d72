"""write_atomically(): what it keeps, what it refuses, and what it leaves when something fails."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toktools.errors import ToktoolsError
from toktools.system import atomic, files
from toktools.system.atomic import write_atomically

AS_ROOT = os.geteuid() == 0
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux's Python has os.getxattr")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to work in; whatever happens, no temporary file, descriptor or held signal stays behind."""
    monkeypatch.chdir(tmp_path)
    before = (os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    yield tmp_path
    monkeypatch.undo()
    assert (os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".toktools")]


@pytest.fixture
def f(here: Path) -> Path:
    """A file that is there, its owner's alone."""
    (here / "f").write_bytes(b"old")
    (here / "f").chmod(0o600)
    return here / "f"


def refused(said: str, path: str = "f", **more: Any) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        write_atomically(path, [b"new"], **more)
    assert raised.value.message == said
    return raised.value


def fail(number: int) -> Callable[..., Any]:
    """Return a call that fails with an error of the system."""

    def failing(*_words: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


def test_a_changed_file_under_another_name(f: Path) -> None:
    """The change is seen, whatever name the file is to be written by."""
    os.link(f, "link")
    seen = files.read("f", 100)
    f.write_bytes(b"changed")
    refused("link: another program changed it meanwhile; nothing written", "link", seen=seen)
    assert f.read_bytes() == b"changed"


def test_a_new_file(here: Path) -> None:
    """It has the mode that the umask gives, and all of its pieces."""
    umask = os.umask(0)
    write_atomically("open", [b"1"])
    os.umask(0o027)
    write_atomically(str(here / "f"), [b"2" * 200_000, b"", b"3"])
    os.umask(umask)
    assert (here / "f").read_bytes() == b"2" * 200_000 + b"3"
    assert [stat.S_IMODE((here / name).stat().st_mode) for name in ("open", "f")] == [0o666, 0o640]


def test_what_may_be_replaced(here: Path, f: Path) -> None:
    """A content that is not accepted stays; a new file is nobody's loss, and one that was read is what it is."""
    said = "f: it contains something else, perhaps a private key; nothing written"
    refused(said, may_replace=lambda old: old == b"tokens")
    assert f.read_bytes() == b"old"
    write_atomically("f", [b"new"], may_replace=lambda old: old == b"old")
    write_atomically("g", [b"new"], may_replace=lambda _: False)
    assert f.read_bytes() == (here / "g").read_bytes() == b"new"
    write_atomically("f", [b"newer"], seen=files.read("f", 10), may_replace=lambda _: False)
    assert f.read_bytes() == b"newer"


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o400])
def test_the_mode_is_kept(f: Path, mode: int) -> None:
    """And the file is another one, so that whoever has the old one open reads on in it."""
    f.chmod(mode)
    before = f.stat()
    with f.open("rb") as old:
        write_atomically("f", [b"new"])
        assert old.read() == b"old"
    after = f.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert f.read_bytes() == b"new"


def test_nobody_else_reads_the_temporary_file(f: Path) -> None:
    """It has the mode of the old one, whatever the umask, before it has a content."""
    seen: list[tuple[str, int]] = []

    def content() -> Iterator[bytes]:
        seen.extend((name, stat.S_IMODE(os.stat(name).st_mode)) for name in os.listdir() if name != "f")
        yield b"new"

    umask = os.umask(0)
    write_atomically("f", content())
    os.umask(umask)
    ((name, mode),) = seen
    assert mode == 0o600
    assert re.fullmatch(r"\.toktools-[0-9a-f]{16}", name)
    assert f.read_bytes() == b"new"


@pytest.mark.skipif(not AS_ROOT, reason="only root gives files away")
@pytest.mark.parametrize("ids", [(1234, 2345), (1234, os.getegid()), (os.geteuid(), 2345)])
def test_the_owner_is_kept(f: Path, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, int]) -> None:
    """Owner and group, or the file stays as it is."""
    os.chown(f, *ids)
    write_atomically("f", [b"1"])
    assert (f.stat().st_uid, f.stat().st_gid) == ids
    monkeypatch.setattr(os, "fchown", fail(errno.EPERM))
    error = refused("f: cannot replace it without changing its owner or group: operation not permitted")
    assert error.hint == "write a new file instead"
    assert f.read_bytes() == b"1"


def test_links_are_followed(here: Path) -> None:
    """The file that a chain of links leads to is replaced, or made; the links stay."""
    (here / "d").mkdir()
    (here / "l1").symlink_to("d/l2")
    (here / "d" / "l2").symlink_to("../f")
    (here / "to-d").symlink_to("d")
    for content in (b"made", b"replaced"):
        write_atomically("l1", [content])
        write_atomically("to-d/g", [content])
        assert (here / "f").read_bytes() == (here / "d" / "g").read_bytes() == content
    assert (here / "l1").is_symlink()
    assert (here / "d" / "l2").is_symlink()


def test_what_is_read_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input is not written, under any name; standard input is one; the file that was seen may be written."""
    for name in "abcd":
        (here / name).write_bytes(b"old")
    os.link(here / "b", here / "link")
    inputs = ["a", "b", "nowhere", "a/b"]
    with (here / "d").open("rb") as stdin:
        monkeypatch.setattr(files, "STDIN", stdin.fileno())
        for name in ("a", "b", "link", "d"):
            refused(f"{name}: this file is also an input, and would be overwritten", name, inputs=inputs)
        assert {(here / name).read_bytes() for name in "abcd"} == {b"old"}
        write_atomically("a", [b"new"], inputs=inputs, seen=files.read("a", 10))
        for name in "ce":
            write_atomically(name, [b"new"], inputs=inputs)
    assert [(here / name).read_bytes() for name in "ace"] == [b"new"] * 3


@pytest.mark.parametrize("call", ["fsync", "open", "replace"])
def test_what_the_system_refuses(f: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Each step that fails leaves the old file, and says where."""
    monkeypatch.setattr(os, call, fail(errno.EIO))
    refused("f: input/output error")
    monkeypatch.undo()  # on macOS, the emulated open() is os.open()
    assert f.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_the_directory_on_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It is synced; a file system without such a thing is no trouble, a disk that fails is, after the writing."""
    synced: list[int] = []

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            synced.append(os.fstat(fd).st_ino)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EIO:
        refused("f: written, but perhaps not yet on the disk: input/output error")
    else:
        write_atomically("f", [b"new"])
    assert synced == [here.stat().st_ino]
    assert (here / "f").read_bytes() == b"new"


def test_a_file_system_without_modes_and_owners(f: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT refuses to set even those that are there; SMB, to replace a file that is open; both have no locks."""
    monkeypatch.setattr(os, "fchmod", fail(errno.EPERM))
    monkeypatch.setattr(os, "fchown", fail(errno.EPERM))
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    rename, inode = os.replace, f.stat().st_ino

    def not_open(*words: Any, **more: Any) -> None:
        for fd in map(int, os.listdir("/dev/fd")):
            try:
                assert os.fstat(fd).st_ino != inode
            except OSError:
                pass
        rename(*words, **more)

    monkeypatch.setattr(os, "replace", not_open)
    write_atomically("f", [b"new"], seen=files.read("f", 10))
    assert f.read_bytes() == b"new"


def test_a_directory_that_cannot_be_read(f: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be open to writing all the same; one that is not is trouble that says so."""
    opened = os.open

    def no(path: Any, flags: int, *words: Any, **more: Any) -> int:
        if (flags & forbidden) == forbidden and not flags & getattr(os, "O_PATH", 0):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *words, **more)

    monkeypatch.setattr(os, "open", no)
    forbidden = os.O_CREAT
    refused("f: cannot write in its directory: permission denied")
    if hasattr(os, "O_PATH"):
        forbidden = os.O_DIRECTORY
        write_atomically("f", [b"new"])
        assert f.read_bytes() == b"new"


class Attributes:
    """Extended attributes of an old and of a new file, on a file system of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, old: dict[str, bytes], new: dict[str, bytes]) -> None:
        self.of = {True: old, False: new}
        monkeypatch.setattr(os, "listxattr", lambda fd: list(self.of[self.is_old(fd)]), raising=False)
        monkeypatch.setattr(os, "getxattr", lambda fd, name: self.of[self.is_old(fd)][name], raising=False)
        monkeypatch.setattr(os, "removexattr", lambda fd, name: self.of[self.is_old(fd)].pop(name), raising=False)
        monkeypatch.setattr(
            os, "setxattr", lambda fd, name, text: self.of[self.is_old(fd)].update({name: text}), raising=False
        )

    def is_old(self, fd: int) -> bool:
        return os.fstat(fd).st_ino == os.stat("f").st_ino


@LINUX
def test_attributes_are_kept(f: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that belong to the file; not those of its content, nor those of the directory."""
    kept = {"user.note": b"1", "system.posix_acl_access": b"2", "security.selinux": b"3"}
    others = {"security.capability": b"4", "security.evm": b"5", "security.ima": b"6", "trusted.x": b"7"}
    there = Attributes(monkeypatch, {**kept, **others}, {"user.directory": b"8", "user.note": b"9", "trusted.y": b"10"})
    write_atomically("f", [b"new"])
    assert there.of[False] == {**kept, "trusted.y": b"10"}
    monkeypatch.setattr(os, "listxattr", fail(errno.ENOTSUP))
    write_atomically("f", [b"newer"])
    assert f.read_bytes() == b"newer"


@LINUX
@pytest.mark.parametrize("call", ["listxattr", "getxattr", "setxattr", "removexattr"])
def test_attributes_that_cannot_be_kept(f: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Then the file stays as it is."""
    Attributes(monkeypatch, {"user.note": b"1"}, {"system.posix_acl_access": b"1"})
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    error = refused("f: cannot replace it and keep its access control list and attributes: no space left on device")
    assert error.hint == "write a new file instead"
    assert f.read_bytes() == b"old"


@pytest.mark.parametrize("listed", ["old", "new"])
def test_an_access_control_list_of_macos(f: Path, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    """It is refused, and so is a file without one if the directory would give one to the new file."""
    old = f.stat()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(atomic, "_has_access_list", lambda fd: os.path.samestat(os.fstat(fd), old) == (listed == "old"))
    refused("f: cannot replace it and keep its access control list")
    assert f.read_bytes() == b"old"


def test_the_lock(here: Path, f: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's is waited for a little; then that the content is the same has to do."""
    waited: list[float] = []
    theirs = os.open(here, os.O_RDONLY)

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            fcntl.flock(theirs, fcntl.LOCK_UN)

    monkeypatch.setattr(atomic, "sleep", sleep)
    try:
        for content, count in ((b"new", 3), (b"newer", 3 + 50)):
            fcntl.flock(theirs, fcntl.LOCK_EX)
            write_atomically("f", [content], seen=files.read("f", 10))
            assert (f.read_bytes(), len(waited)) == (content, count)
    finally:
        os.close(theirs)
