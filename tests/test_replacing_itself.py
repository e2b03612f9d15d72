"""replace() by itself, in this process: what it keeps, what it refuses, and what it leaves when something fails."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import rsa_key
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from toktools.errors import ToktoolsError
from toktools.system import files, replacing
from toktools.system.files import Snapshot

CHANGED = "another program changed it meanwhile; nothing written"
AS_ROOT = os.geteuid() == 0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in; whatever happens, no temporary file, descriptor or held signal stays behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "written", [])
    before = (os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    yield tmp_path
    assert (os.listdir("/dev/fd"), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".toktools")]


def refused(said: str, contents: dict[str, bytes], **more: Any) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        replacing.replace(contents, **more)
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
    replacing.replace({"open": b"1"})
    assert stat.S_IMODE((here / "open").stat().st_mode) == 0o666
    files.written.clear()
    os.umask(0o027)
    replacing.replace({"a": b"1", str(here / "b"): b"2" * 200_000, "./c": b""})
    os.umask(umask)
    assert [(here / name).read_bytes() for name in "abc"] == [b"1", b"2" * 200_000, b""]
    assert [stat.S_IMODE((here / name).stat().st_mode) for name in "abc"] == [0o640] * 3
    assert files.written == ["a", str(here / "b"), "./c"]


KEY = rsa_key()
LOCK = BestAvailableEncryption(b"x")
DER, PEM = Encoding.DER, Encoding.PEM
PKCS8 = KEY.private_bytes(PEM, PrivateFormat.PKCS8, NoEncryption())
KEYS = {
    "PKCS#8": PKCS8,
    "after much text": b"Bag Attributes\n" * 200 + PKCS8,
    "OpenSSH": KEY.private_bytes(PEM, PrivateFormat.OpenSSH, NoEncryption()),
    "PKCS#1 in DER": KEY.private_bytes(DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    "PKCS#8 in DER": KEY.private_bytes(DER, PrivateFormat.PKCS8, NoEncryption()),
    "encrypted, in DER": KEY.private_bytes(DER, PrivateFormat.PKCS8, LOCK),
    "short, in DER": ec.generate_private_key(ec.SECP256R1()).private_bytes(DER, PrivateFormat.PKCS8, NoEncryption()),
    "short and encrypted, in DER": ec.generate_private_key(ec.SECP256R1()).private_bytes(
        DER, PrivateFormat.PKCS8, LOCK
    ),
    "PKCS#12": pkcs12.serialize_key_and_certificates(None, KEY, None, None, LOCK),
    "PKCS#12, open": pkcs12.serialize_key_and_certificates(None, KEY, None, None, NoEncryption()),
}


@pytest.mark.parametrize("content", KEYS.values(), ids=KEYS)
def test_a_key_is_not_lost(here: Path, content: bytes) -> None:
    """Whatever form it has, a private key stays."""
    (here / "k").write_bytes(content)
    refused("k: a private key, which would be lost; nothing written", {"a": b"new", "k": b"new"})
    assert (here / "k").read_bytes() == content
    assert os.listdir(here) == ["k"]


PUBLIC = {
    "SubjectPublicKeyInfo": KEY.public_key().public_bytes(DER, PublicFormat.SubjectPublicKeyInfo),
    "RSAPublicKey": KEY.public_key().public_bytes(DER, PublicFormat.PKCS1),
    "PEM": KEY.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo),
    "a digest like DER": b"\x30\x82\x01\x02" * 8,
    "nothing": b"",
    "a version after something": b"\n" + KEYS["PKCS#8 in DER"],
}


@pytest.mark.parametrize("content", PUBLIC.values(), ids=PUBLIC)
def test_what_is_no_private_key(here: Path, content: bytes) -> None:
    """It is replaced."""
    (here / "k").write_bytes(content)
    replacing.replace({"k": b"new"})
    assert (here / "k").read_bytes() == b"new"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o4755, 0o400])
def test_the_mode_is_kept(here: Path, mode: int) -> None:
    """And the file is another one, so that whoever has the old one open reads on in it."""
    (here / "f").write_bytes(b"old")
    (here / "f").chmod(mode)
    before = (here / "f").stat()
    with (here / "f").open("rb") as old:
        replacing.replace({"f": b"new"})
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
    replacing.replace({"f": b"new"})
    os.umask(umask)
    assert modes == [0o600]
    assert re.fullmatch(r"\.toktools-[0-9a-f]{16}", names[0])


@pytest.mark.skipif(not AS_ROOT, reason="only root gives files away")
def test_the_owner_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Owner and group, or the file stays as it is."""
    for uid, gid in ((1234, 2345), (1234, os.getegid()), (os.geteuid(), 2345)):
        (here / "f").write_bytes(b"old")
        os.chown(here / "f", uid, gid)
        replacing.replace({"f": b"new"})
        assert ((here / "f").stat().st_uid, (here / "f").stat().st_gid) == (uid, gid)
        monkeypatch.setattr(os, "fchown", fail(errno.EPERM))
        error = refused("f: its owner and group cannot be kept", {"f": b"newer"})
        assert error.hint == "write a new file instead"
        assert (here / "f").read_bytes() == b"new"
        monkeypatch.undo()
        monkeypatch.chdir(here)


def test_an_owner_that_is_right_is_not_set(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without owners would refuse even that."""
    (here / "f").write_bytes(b"old")
    monkeypatch.setattr(os, "fchown", fail(errno.EPERM))
    replacing.replace({"f": b"new"})
    assert (here / "f").read_bytes() == b"new"


def test_links_are_followed(here: Path) -> None:
    """The file that a chain of links leads to is replaced, or made; the links stay."""
    (here / "d").mkdir()
    (here / "l1").symlink_to("d/l2")
    (here / "d" / "l2").symlink_to("../f")
    (here / "to-d").symlink_to("d")
    for content in (b"made", b"replaced"):
        replacing.replace({"l1": content, "to-d/g": content})
        assert (here / "f").read_bytes() == (here / "d" / "g").read_bytes() == content
    assert (here / "l1").is_symlink()
    assert (here / "d" / "l2").is_symlink()


@pytest.mark.parametrize("count", [39, 40])
def test_as_many_links_as_the_system_follows(here: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """And no more, even where the system would."""
    (here / "0").write_bytes(b"old")
    for number in range(count):
        (here / str(number + 1)).symlink_to(str(number))
    os_stat = os.stat

    def look(path: Any, **more: Any) -> os.stat_result:
        return os_stat("0") if path == str(count) and not more else os_stat(path, **more)

    monkeypatch.setattr(os, "stat", look)
    if count < 40:
        replacing.replace({str(count): b"new"})
    else:
        refused(f"{count}: too many levels of symbolic links", {str(count): b"new"})
    assert (here / "0").read_bytes() == (b"new" if count < 40 else b"old")


@pytest.mark.skipif(not AS_ROOT, reason="only root gives links away")
@pytest.mark.parametrize(
    ("mode", "owner", "of_link"),
    [(0o1777, 0, 1234), (0o1777, 1234, 1234), (0o1777, 1234, 0), (0o777, 0, 1234), (0o1755, 0, 1234)],
)
def test_links_of_others(here: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, of_link: int) -> None:
    """In a folder open to all, such as /tmp, a link leads on only if it is ours, or the folder's owner's."""
    folder = here / "open"
    folder.mkdir()
    (here / "f").write_bytes(b"old")
    (folder / "l").symlink_to("../f")
    os.chown(folder / "l", of_link, 0, follow_symlinks=False)
    os.chown(folder, owner, 0)
    folder.chmod(mode)
    seen = os.stat(here / "f")
    os_stat = os.stat  # the system itself may refuse it, where it is set to (protected_symlinks)
    monkeypatch.setattr(os, "stat", lambda path, **more: seen if path == "open/l" else os_stat(path, **more))
    well = (mode, owner) != (0o1777, 0)
    if well:
        replacing.replace({"open/l": b"new"})
    else:
        refused("open/l: another user's symbolic link, in a folder that everyone can write to", {"open/l": b"new"})
    assert (here / "f").read_bytes() == (b"new" if well else b"old")


@pytest.mark.parametrize("path", ["d", "d/", "g/", ".", "..", "d/.", "", "null", "dangling/"])
def test_only_files(here: Path, path: str) -> None:
    """A folder, a device, or a name that could only be a folder's is refused."""
    (here / "d").mkdir()
    (here / "null").symlink_to("/dev/null")
    (here / "dangling").symlink_to("nowhere")
    refused(f"{path or chr(39) * 2}: not a regular file", {path: b"x"})


def test_no_folder() -> None:
    """The folder has to be there."""
    refused("d/f: no such file or directory", {"d/f": b"x"})


def test_two_names_of_one_file(here: Path) -> None:
    """They are refused, made or not; the same name in two folders is none."""
    (here / "l").symlink_to("f")
    (here / "d").mkdir()
    refused("f: two of the files to write are links to the same file", {"f": b"1", "l": b"2"})
    assert not (here / "f").exists()
    replacing.replace({"f": b"1", "d/f": b"2"})
    assert ((here / "f").read_bytes(), (here / "d" / "f").read_bytes()) == (b"1", b"2")


def test_what_is_read_is_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file to keep is not written, under any name; standard input is one; the file that was seen may be written."""
    for name in "abcd":
        (here / name).write_bytes(b"old")
    os.link(here / "b", here / "link")
    with (here / "d").open("rb") as stdin:
        monkeypatch.setattr(files, "STDIN", stdin.fileno())
        keep = replacing.status_of(["a", "b", "nowhere"])
    monkeypatch.setattr(files, "STDIN", 0)
    assert len(keep) == 3
    for name in ("a", "b", "link", "d"):
        refused(f"{name}: this file is also an input, and would be overwritten", {"c": b"new", name: b"new"}, keep=keep)
    assert {(here / name).read_bytes() for name in "abcd"} == {b"old"}
    replacing.replace({"a": b"new"}, keep=keep, seen=files.read("a", 10))
    replacing.replace({"c": b"new", "e": b"new"}, keep=keep)
    assert [(here / name).read_bytes() for name in "ace"] == [b"new"] * 3


def change_content(path: Path) -> None:
    path.write_bytes(b"xyz")


def change_length(path: Path) -> None:
    path.write_bytes(b"old and more")


def change_file(path: Path) -> None:
    path.with_name("other").write_bytes(b"old")
    path.with_name("other").rename(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [change_content, change_length, change_file, remove])
@pytest.mark.parametrize("name", ["f", "l", "./f"])
def test_a_file_that_changed(here: Path, change: Callable[[Path], None], name: str) -> None:
    """What was seen is replaced only as it was seen, under whatever name; nothing else is then written."""
    (here / "f").write_bytes(b"old")
    (here / "l").symlink_to("f")
    seen = files.read("f", 100)
    replacing.replace({"other": b"x"}, seen=seen)
    (here / "other").unlink()
    change(here / "f")
    after = (here / "f").read_bytes() if (here / "f").exists() else None
    refused(f"f: {CHANGED}", {"new": b"new", name: b"new"}, seen=seen)
    assert not (here / "new").exists()
    assert ((here / "f").read_bytes() if (here / "f").exists() else None) == after
    # Another file is none of its business.
    replacing.replace({"new": b"new"}, seen=seen)


def test_a_file_as_it_was_seen(here: Path) -> None:
    """It is replaced, and so is any file where standard input was seen."""
    (here / "f").write_bytes(b"old")
    (here / "l").symlink_to("f")
    replacing.replace({"l": b"new"}, seen=files.read("f", 100))
    assert (here / "f").read_bytes() == b"new"
    replacing.replace({"f": b"newer"}, seen=Snapshot(None, b"", os.stat(os.devnull)))
    replacing.replace({"g": b"newest"}, seen=Snapshot("d/gone", b"", os.stat(os.devnull)))
    assert ((here / "f").read_bytes(), (here / "g").read_bytes()) == (b"newer", b"newest")


def test_it_changes_while_it_is_found(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that takes the place of another between two looks is not written over."""
    (here / "f").write_bytes(b"old")
    place = replacing._Place  # noqa: SLF001 - between its look and the one before

    def slow(path: str) -> Any:
        (here / "other").write_bytes(b"theirs")
        (here / "other").rename(here / "f")
        return place(path)

    monkeypatch.setattr(replacing, "_Place", slow)
    refused(f"f: {CHANGED}", {"f": b"new"})
    assert (here / "f").read_bytes() == b"theirs"


def test_it_is_replaced_before_it_is_locked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had the lock may have put a new file there, though the one that is open is as it was seen."""
    (here / "f").write_bytes(b"old")
    seen = files.read("f", 100)

    def lock(_fd: int) -> None:
        (here / "other").write_bytes(b"theirs")
        (here / "other").rename(here / "f")

    monkeypatch.setattr(replacing, "_lock", lock)
    refused(f"f: {CHANGED}", {"f": b"new"}, seen=seen)
    assert (here / "f").read_bytes() == b"theirs"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_a_deleted_file(here: Path) -> None:
    """A name that leads to a file without a name cannot be replaced."""
    with (here / "f").open("wb") as file:
        (here / "f").unlink()
        path = f"/proc/self/fd/{file.fileno()}"
        refused(f"{path}: the file that it leads to was deleted or replaced; nothing written", {path: b"x"})


@pytest.mark.parametrize("call", ["fsync", "fchmod", "open", "write", "replace"])
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
def test_the_folder_on_the_disk(here: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Each folder is synced once; a file system without such a thing is no trouble, a disk that fails is."""
    (here / "d").mkdir()
    synced: list[int] = []

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            synced.append(os.fstat(fd).st_ino)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    contents = {"a": b"1", "b": b"1", "d/a": b"1"}
    if number == errno.EIO:
        refused("b: written, but perhaps not yet on the disk: input/output error", contents)
    else:
        replacing.replace(contents)
        assert sorted(synced) == sorted([here.stat().st_ino, (here / "d").stat().st_ino])
    assert all((here / name).read_bytes() == b"1" for name in contents)


def test_a_folder_that_cannot_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be writable all the same; one that cannot be written in is trouble that says so."""
    opened = os.open

    def no(path: Any, flags: int, *words: Any, **more: Any) -> int:
        if path == forbidden or (forbidden == "new" and flags & os.O_CREAT):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *words, **more)

    forbidden = "new"
    monkeypatch.setattr(os, "open", no)
    refused("f: cannot write in its folder: permission denied", {"f": b"new"})
    forbidden = "."
    (here / "d").mkdir()
    replacing.replace({"d/f": b"new"})
    assert (here / "d" / "f").read_bytes() == b"new"


def test_other_systems(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no extended attributes and no O_PATH, it does without."""
    for name in ("getxattr", "O_PATH"):
        monkeypatch.delattr(os, name, raising=False)
    (here / "f").write_bytes(b"old")
    replacing.replace({"f": b"new"})
    assert (here / "f").read_bytes() == b"new"


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


def test_attributes_are_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that belong to the file; not those of its content, nor those of the folder."""
    (here / "f").write_bytes(b"old")
    kept = {"user.note": b"1", "system.posix_acl_access": b"2", "security.selinux": b"3"}
    others = {"security.capability": b"4", "security.evm": b"5", "security.ima": b"6", "trusted.x": b"7"}
    there = Attributes(monkeypatch, {**kept, **others}, {"user.folder": b"8", "user.note": b"9", "trusted.y": b"10"})
    replacing.replace({"f": b"new"})
    assert there.of[False] == {**kept, "trusted.y": b"10"}


@pytest.mark.parametrize("call", ["setxattr", "removexattr"])
@pytest.mark.parametrize(
    ("name", "kind"), [("system.posix_acl_access", "access control list"), ("user.note", "attribute user.note")]
)
def test_attributes_that_cannot_be_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str, kind: str
) -> None:
    """Then the file stays as it is, and what could not be kept is named."""
    (here / "f").write_bytes(b"old")
    there = [{}, {name: b"1"}] if call == "removexattr" else [{name: b"1"}, {}]
    Attributes(monkeypatch, *there)
    monkeypatch.setattr(os, call, fail(errno.ENOSPC))
    error = refused(f"f: its {kind} cannot be kept: no space left on device", {"f": b"new"})
    assert error.hint == "write a new file instead"
    assert (here / "f").read_bytes() == b"old"


@pytest.mark.parametrize(("number", "well"), [(errno.ENOTSUP, True), (errno.EIO, False)])
def test_no_attributes(here: Path, monkeypatch: pytest.MonkeyPatch, number: int, well: bool) -> None:  # noqa: FBT001 - pytest gives it
    """A file system may have none; one that fails is trouble."""
    (here / "f").write_bytes(b"old")
    monkeypatch.setattr(os, "listxattr", fail(number), raising=False)
    if well:
        replacing.replace({"f": b"new"})
    else:
        refused("f: input/output error", {"f": b"new"})
    assert (here / "f").read_bytes() == (b"new" if well else b"old")


def test_the_lock(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's is waited for a little: half a second in all; then that the content is the same has to do."""
    (here / "f").write_bytes(b"old")
    slept: list[float] = []
    with (here / "f").open("rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)

        def sleep(pause: float) -> None:
            slept.append(pause)
            if len(slept) == 3:
                fcntl.flock(theirs, fcntl.LOCK_UN)

        monkeypatch.setattr(replacing, "sleep", sleep)
        replacing.replace({"f": b"new"}, seen=files.read("f", 10))
    assert slept == [0.01] * 3
    slept[:] = [0.0] * 3
    with (here / "f").open("rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        replacing.replace({"f": b"newer"}, seen=files.read("f", 10))
    assert len(slept) == 3 + 50
    # A file system without locks is no trouble either.
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    replacing.replace({"f": b"newest"}, seen=files.read("f", 10))
    assert (len(slept), (here / "f").read_bytes()) == (53, b"newest")


def test_a_lock_is_held_until_the_rename(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that have both seen the file do not both replace it."""
    (here / "f").write_bytes(b"old")
    seen = files.read("f", 10)
    rename = os.replace

    def watched(*words: Any, **more: Any) -> None:
        with (here / "f").open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rename(*words, **more)

    monkeypatch.setattr(os, "replace", watched)
    replacing.replace({"f": b"new"}, seen=seen)
    assert (here / "f").read_bytes() == b"new"


def test_signals_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """While files are written no signal can end the process; afterwards those that came strike."""
    held: list[bool] = []
    rename = os.replace

    def watched(*words: Any, **more: Any) -> None:
        now = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        held.append({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP} <= now)
        rename(*words, **more)

    monkeypatch.setattr(os, "replace", watched)
    replacing.replace({"f": b"new"})
    assert held == [True]


def test_without_standard_input(here: Path) -> None:
    """Where it is closed, its number is a file's or a folder's like any other."""
    (here / "f").write_bytes(b"old")
    (here / "f").chmod(0o640)
    (here / "d").mkdir()
    (here / "d" / "l").symlink_to("l2")
    (here / "d" / "l2").symlink_to("../f")
    standard = os.dup(0)
    # The first number that is free is the folder's, and then the file's.
    for taken in (False, True):
        os.close(0)
        if taken:
            os.open(".", os.O_RDONLY)
        try:
            replacing.replace({"d/l": b"new"})
        finally:
            os.dup2(standard, 0)
    os.close(standard)
    assert (here / "f").read_bytes() == b"new"
    assert not (here / "l2").exists()


def test_the_old_file_may_be_number_0(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner is kept then too."""
    (here / "f").write_bytes(b"old")
    kept: list[int] = []
    monkeypatch.setattr(replacing._Staged, "_keep_owner", lambda staged, _fd: kept.append(staged.old))  # noqa: SLF001 - whom it asks
    place_open = replacing._Place.open  # noqa: SLF001 - a number is given in the order of opening

    def as_0(place: Any, name: str, *words: int) -> int:
        if name == "f":
            os.close(0)
        return place_open(place, name, *words)

    standard = os.dup(0)
    monkeypatch.setattr(replacing._Place, "open", as_0)  # noqa: SLF001 - the same
    try:
        replacing.replace({"f": b"new"})
    finally:
        os.dup2(standard, 0)
        os.close(standard)
    assert kept == [0]


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="this system has no O_PATH")
def test_how_a_folder_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to be able to read it, and a pipe in its place is not waited for; nor is one in that of a file."""
    opened: dict[str, int] = {}
    real = os.open

    def watched(path: str, flags: int, *words: Any, **more: Any) -> int:
        opened.setdefault(path, flags)
        return real(path, flags, *words, **more)

    replacing.replace({"./f": b"old"})
    monkeypatch.setattr(os, "open", watched)
    replacing.replace({"./f": b"new"})
    assert opened["."] == os.O_PATH | os.O_DIRECTORY
    assert opened["f"] == os.O_NONBLOCK | os.O_NOFOLLOW
