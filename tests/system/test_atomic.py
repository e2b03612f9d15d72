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
from toktools.system import atomic, files, process
from toktools.system.atomic import write_atomically

CHANGED = "another program changed it meanwhile; nothing written"
AS_ROOT = os.geteuid() == 0
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux's Python has os.getxattr")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to work in; whatever happens, no temporary file, descriptor or held signal stays behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "written", [])
    before = (os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    yield tmp_path
    assert (os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".toktools")]


def refused(said: str, contents: dict[str, bytes], **more: Any) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        write_atomically(contents, **more)
    assert raised.value.message == said
    return raised.value


def fail(number: int) -> Callable[..., Any]:
    """Return a call that fails with an error of the system."""

    def failing(*_words: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


def test_new_files(here: Path) -> None:
    """Several at once, each with the mode that the umask gives, and in the order in which they are written."""
    umask = os.umask(0)
    write_atomically({"open": b"1"})
    assert stat.S_IMODE((here / "open").stat().st_mode) == 0o666
    files.written.clear()
    os.umask(0o027)
    write_atomically({"a": b"1", str(here / "b"): b"2" * 200_000, "./c": b""})
    os.umask(umask)
    assert [(here / name).read_bytes() for name in "abc"] == [b"1", b"2" * 200_000, b""]
    assert [stat.S_IMODE((here / name).stat().st_mode) for name in "abc"] == [0o640] * 3
    assert files.written == ["a", str(here / "b"), "./c"]


def test_what_may_be_replaced(here: Path) -> None:
    """A content that is not accepted stays, and nothing else is written; a new file is nobody's loss."""
    (here / "k").write_bytes(b"a key")
    contents = {"a": b"new", "k": b"new"}
    said = "k: it contains something else, perhaps a private key; nothing written"
    refused(said, contents, may_replace=lambda old: old == b"tokens")
    assert os.listdir(here) == ["k"]
    write_atomically(contents, may_replace=lambda old: old == b"a key")
    assert (here / "k").read_bytes() == b"new"
    # The file that was read is what it is.
    write_atomically({"k": b"newer"}, seen=files.read("k", 10), may_replace=lambda _: False)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o4755, 0o400])
def test_the_mode_is_kept(here: Path, mode: int) -> None:
    """And the file is another one, so that whoever has the old one open reads on in it."""
    (here / "f").write_bytes(b"old")
    (here / "f").chmod(mode)
    before = (here / "f").stat()
    with (here / "f").open("rb") as old:
        write_atomically({"f": b"new"})
        assert old.read() == b"old"
    after = (here / "f").stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert (here / "f").read_bytes() == b"new"


def test_nobody_else_reads_the_temporary_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has its content, it is its owner's alone, whatever the mode of the old one."""
    (here / "f").write_bytes(b"old")
    (here / "f").chmod(0o644)
    modes: list[int] = []
    names: list[str] = []
    write = files.write

    def watched(fd: int, content: bytes) -> None:
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        names.extend(set(os.listdir()) - {"f"})
        write(fd, content)

    monkeypatch.setattr(files, "write", watched)
    umask = os.umask(0)
    write_atomically({"f": b"new"})
    os.umask(umask)
    assert modes == [0o600]
    assert re.fullmatch(r"\.toktools-[0-9a-f]{16}", names[0])


@pytest.mark.skipif(not AS_ROOT, reason="only root gives files away")
def test_the_owner_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Owner and group, or the file stays as it is."""
    for uid, gid in ((1234, 2345), (1234, os.getegid()), (os.geteuid(), 2345)):
        (here / "f").write_bytes(b"old")
        os.chown(here / "f", uid, gid)
        write_atomically({"f": b"new"})
        assert ((here / "f").stat().st_uid, (here / "f").stat().st_gid) == (uid, gid)
        monkeypatch.setattr(os, "fchown", fail(errno.EPERM))
        said = "f: cannot replace it without changing its owner or group: operation not permitted"
        error = refused(said, {"f": b"newer"})
        assert error.hint == "write another file, with -o OUT"
        assert (here / "f").read_bytes() == b"new"
        monkeypatch.undo()
        monkeypatch.chdir(here)


def test_links_are_followed(here: Path) -> None:
    """The file that a chain of links leads to is replaced, or made; the links stay."""
    (here / "d").mkdir()
    (here / "l1").symlink_to("d/l2")
    (here / "d" / "l2").symlink_to("../f")
    (here / "to-d").symlink_to("d")
    for content in (b"made", b"replaced"):
        write_atomically({"l1": content, "to-d/g": content})
        assert (here / "f").read_bytes() == (here / "d" / "g").read_bytes() == content
    assert (here / "l1").is_symlink()
    assert (here / "d" / "l2").is_symlink()


def test_two_names_of_one_file(here: Path) -> None:
    """They are refused, made or not; the same name in two directories is none."""
    (here / "l").symlink_to("f")
    (here / "d").mkdir()
    refused("f: two of the files to write are links to the same file", {"f": b"1", "l": b"2"})
    assert not (here / "f").exists()
    write_atomically({"f": b"1", "d/f": b"2"})
    assert ((here / "f").read_bytes(), (here / "d" / "f").read_bytes()) == (b"1", b"2")


def test_what_is_read_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input is not written, under any name; standard input is one; the file that was seen may be written."""
    for name in "abcd":
        (here / name).write_bytes(b"old")
    os.link(here / "b", here / "link")
    inputs = ["a", "b", "nowhere", "a/b"]
    with (here / "d").open("rb") as stdin:
        monkeypatch.setattr(files, "STDIN", stdin.fileno())
        for name in ("a", "b", "link", "d"):
            said = f"{name}: this file is also an input, and would be overwritten"
            refused(said, {"c": b"new", name: b"new"}, inputs=inputs)
        assert {(here / name).read_bytes() for name in "abcd"} == {b"old"}
        write_atomically({"a": b"new"}, inputs=inputs, seen=files.read("a", 10))
        write_atomically({"c": b"new", "e": b"new"}, inputs=inputs)
    assert [(here / name).read_bytes() for name in "ace"] == [b"new"] * 3


def test_it_is_swapped_while_it_is_opened(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is in its place for that moment lends the new one no owner and no mode."""
    for name in ("f", "other"):
        (here / name).write_bytes(name.encode())
    opened = os.open

    def swapped(path: Any, *words: Any, **more: Any) -> int:
        if path != "f":
            return opened(path, *words, **more)
        (here / "f").rename(here / "away")
        (here / "other").rename(here / "f")
        fd = opened(path, *words, **more)
        (here / "f").rename(here / "other")
        (here / "away").rename(here / "f")
        return fd

    monkeypatch.setattr(os, "open", swapped)
    refused(f"f: {CHANGED}", {"f": b"new"})
    assert (here / "f").read_bytes() == b"f"


@pytest.mark.parametrize("call", ["fsync", "open", "write", "replace"])
def test_what_the_system_refuses(here: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Each step that fails leaves the old file, and says where."""
    (here / "f").write_bytes(b"old")
    monkeypatch.setattr(os, call, fail(errno.EIO))
    refused("f: input/output error", {"f": b"new"})
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert (here / "f").read_bytes() == b"old"


def test_the_second_rename_fails(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written by then is named."""
    rename = os.replace
    renamed: list[None] = []

    def once(*words: Any, **more: Any) -> None:
        if renamed:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        renamed.append(rename(*words, **more))

    monkeypatch.setattr(os, "replace", once)
    refused("b: input/output error; written: a", {"a": b"1", "b": b"2"})
    assert (here / "a").read_bytes() == b"1"
    assert not (here / "b").exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_the_directory_on_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It is synced; a file system without such a thing is no trouble, a disk that fails is, after the writing."""
    (here / "d").mkdir()
    synced: set[int] = set()

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            synced.add(os.fstat(fd).st_ino)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    contents = {"a": b"1", "b": b"1", "d/a": b"1"}
    if number == errno.EIO:
        refused("a: perhaps not yet on the disk: input/output error; written: a to d/a", contents)
    else:
        write_atomically(contents)
        assert synced == {here.stat().st_ino, (here / "d").stat().st_ino}
    assert all((here / name).read_bytes() == b"1" for name in contents)


@pytest.mark.parametrize("call", ["fstat", "stat", "fsync", "unlink", "open"])
def test_a_failure_after_the_rename(here: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It is no error at all, or says that the file is written."""
    (here / "f").write_bytes(b"old")
    rename, real = os.replace, getattr(os, call)

    def renamed(*words: Any, **more: Any) -> None:
        rename(*words, **more)
        monkeypatch.setattr(os, call, lambda *words, **more: (real(*words, **more), fail(errno.EIO)()))

    monkeypatch.setattr(os, "replace", renamed)
    try:
        write_atomically({"f": b"new"}, seen=files.read("f", 10))
    except ToktoolsError as error:
        assert error.message.endswith("; written: f")  # noqa: PT017 - it may succeed as well
    finally:
        monkeypatch.undo()
        monkeypatch.chdir(here)
    assert (here / "f").read_bytes() == b"new"


def test_a_file_system_without_modes_and_owners(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT refuses to set even those that are there; SMB, to replace a file that is open; both have no locks."""
    (here / "f").write_bytes(b"old")
    (here / "f").chmod(0o600)
    monkeypatch.setattr(os, "fchmod", fail(errno.EPERM))
    monkeypatch.setattr(os, "fchown", fail(errno.EPERM))
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    rename, inode = os.replace, (here / "f").stat().st_ino

    def not_open(*words: Any, **more: Any) -> None:
        for fd in map(int, os.listdir("/dev/fd")):
            try:
                assert os.fstat(fd).st_ino != inode
            except OSError:
                pass
        rename(*words, **more)

    monkeypatch.setattr(os, "replace", not_open)
    write_atomically({"f": b"new"}, seen=files.read("f", 10))
    assert (here / "f").read_bytes() == b"new"


def test_a_directory_that_cannot_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be open to writing all the same; one that is not is trouble that says so."""
    opened = os.open

    def no(path: Any, flags: int, *words: Any, **more: Any) -> int:
        if (flags & forbidden) == forbidden and not flags & getattr(os, "O_PATH", 0):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *words, **more)

    monkeypatch.setattr(os, "open", no)
    forbidden = os.O_CREAT
    refused("f: cannot write in its directory: permission denied", {"f": b"new"})
    if hasattr(os, "O_PATH"):
        forbidden = os.O_DIRECTORY
        write_atomically({"f": b"new"})
        assert (here / "f").read_bytes() == b"new"


def test_signals_wait(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal comes while a temporary file is there."""
    masks: list[set[int]] = []
    rename = os.replace

    def watched(*words: Any, **more: Any) -> None:
        masks.append({*signal.pthread_sigmask(signal.SIG_BLOCK, ())})
        rename(*words, **more)

    monkeypatch.setattr(os, "replace", watched)
    write_atomically({str(here / "f"): b"new"})
    assert {*process.FATAL} <= masks[0]


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
def test_attributes_are_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that belong to the file; not those of its content, nor those of the directory."""
    (here / "f").write_bytes(b"old")
    kept = {"user.note": b"1", "system.posix_acl_access": b"2", "security.selinux": b"3"}
    others = {"security.capability": b"4", "security.evm": b"5", "security.ima": b"6", "trusted.x": b"7"}
    there = Attributes(monkeypatch, {**kept, **others}, {"user.directory": b"8", "user.note": b"9", "trusted.y": b"10"})
    write_atomically({"f": b"new"})
    assert there.of[False] == {**kept, "trusted.y": b"10"}


@LINUX
@pytest.mark.parametrize("call", ["listxattr", "getxattr", "setxattr", "removexattr"])
def test_attributes_that_cannot_be_kept(here: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Then the file stays as it is."""
    (here / "f").write_bytes(b"old")
    Attributes(monkeypatch, {"user.note": b"1"}, {"system.posix_acl_access": b"1"})
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    said = "f: cannot replace it and keep its access control list and attributes: no space left on device"
    assert refused(said, {"f": b"new"}).hint == "write another file, with -o OUT"
    assert (here / "f").read_bytes() == b"old"


@LINUX
def test_no_attributes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may have none."""
    (here / "f").write_bytes(b"old")
    monkeypatch.setattr(os, "listxattr", fail(errno.ENOTSUP))
    write_atomically({"f": b"new"})
    assert (here / "f").read_bytes() == b"new"


@pytest.mark.parametrize("listed", ["old", "new"])
def test_an_access_control_list_of_macos(here: Path, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    """It is refused, and so is a file without one if the directory would give one to the new file."""
    (here / "f").write_bytes(b"old")
    old = (here / "f").stat()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(atomic, "_has_access_list", lambda fd: os.path.samestat(os.fstat(fd), old) == (listed == "old"))
    refused("f: cannot replace it and keep its access control list", {"f": b"new"})
    assert (here / "f").read_bytes() == b"old"


def test_the_lock(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's is waited for a little: half a second in all; then that the content is the same has to do."""
    (here / "f").write_bytes(b"old")
    slept: list[float] = []
    theirs = os.open(here, os.O_RDONLY)
    try:
        fcntl.flock(theirs, fcntl.LOCK_EX)

        def sleep(pause: float) -> None:
            slept.append(pause)
            if len(slept) == 3:
                fcntl.flock(theirs, fcntl.LOCK_UN)

        monkeypatch.setattr(atomic, "sleep", sleep)
        write_atomically({"f": b"new"}, seen=files.read("f", 10))
        assert slept == [0.01] * 3
        slept[:] = [0.0] * 3
        fcntl.flock(theirs, fcntl.LOCK_EX)
        write_atomically({"f": b"newer"}, seen=files.read("f", 10))
    finally:
        os.close(theirs)
    assert len(slept) == 3 + 50
    assert (here / "f").read_bytes() == b"newer"
