"""Replacing a file beside others who work on its folder, and what a file is besides its bytes, mode and owner."""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SIGNED, UNSIGNED, Done, Shell, need, only_if

from toktools.errors import ToktoolsError
from toktools.system import replacing

STREAM = b"".join(
    base64.b64encode(base64.b64decode(t["signed"])) + b"\n" for t in json.loads(SIGNED.read_bytes())["tokens"]
)
AS_ROOT = os.geteuid() == 0
ACL = "system.posix_acl_access"
MERGE = ["tok-merge", "-i", "f.json"]
needs_attributes = pytest.mark.skipif(not hasattr(os, "getxattr"), reason="this system has no os.getxattr")


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".toktools")]


# Access control lists and other attributes.


@needs_attributes
@pytest.mark.parametrize("options", [["-i", "f.json"], ["-o", "out.json", "f.json"]])
@pytest.mark.parametrize("entries", ["u:1234:r", "u:1234:rw,g:2345:r,m::r", "g:2345:rw"])
def test_an_access_control_list_is_kept(shell: Shell, options: list[str], entries: str) -> None:
    """The list, its mask and the mode are those of the file that was there."""
    need("setfacl")
    path = shell.write(options[1], shell.read("f.json"))
    path.chmod(0o640)
    shell.run("setfacl", "-m", entries, path).check(0)
    before = (attributes(path), path.stat().st_mode)
    shell.run("tok-merge", *options, stdin=STREAM).check(0)
    assert (attributes(path), path.stat().st_mode) == before
    assert ACL in before[0]
    assert b"signed" in path.read_bytes()


# Looks at the temporary file after each call that may open it.
WATCH = """
import json, os, sys
from toktools import cli
seen = []
def watched(name):
    call = getattr(os, name)
    def stand_in(*words, **more):
        result = call(*words, **more)
        for file in os.listdir():
            if file.startswith(".toktools-"):
                mode = os.stat(file).st_mode & 0o777
                acl = {n: os.getxattr(file, n).hex() for n in os.listxattr(file)}.get("system.posix_acl_access", "")
                seen.append([mode, acl])
        return result
    return stand_in
for name in "open fchown fchmod setxattr removexattr write fsync".split():
    setattr(os, name, watched(name))
status = cli.main("merge", ["-i", "f.json"])
print(json.dumps(seen))
raise SystemExit(status)
"""


@needs_attributes
@pytest.mark.parametrize("entries", ["", "u:1235:r"])
def test_a_default_list_of_the_folder_does_not_widen(shell: Shell, entries: str) -> None:
    """At no moment can anybody read the new file who could not read the old one, whatever the folder gives it."""
    need("setfacl", "unshare")
    path = shell.cwd / "f.json"
    path.chmod(0o640)
    if entries:
        shell.run("setfacl", "-m", entries, path).check(0)
    before = (attributes(path), path.stat().st_mode)
    shell.run("setfacl", "-m", "d:u:1234:rwx,d:o::r,d:g::rw", shell.cwd).check(0)
    done = shell.run(shell.bin / "python", "-c", WATCH, stdin=STREAM).check(0)
    assert (attributes(path), path.stat().st_mode) == before
    seen = json.loads(done.out)
    assert len(seen) > 4
    old = before[0].get(ACL, b"").hex()
    for mode, acl in seen:
        # The group class is the mask: as long as it is empty, no entry of a list is of use.
        assert mode & 0o077 == 0 or (acl == old and mode == 0o640)


@needs_attributes
def test_attributes_are_kept(shell: Shell) -> None:
    """Extended attributes are carried over, an empty one too; others are not made."""
    path = shell.cwd / "f.json"
    given = {"user.mime_type": b"application/json", "user.empty": b"", "user.b": bytes(range(256))}
    if AS_ROOT:
        given["security.toktools"] = b"label"
    refused = None
    try:
        for name, text in given.items():
            os.setxattr(path, name, text)
    except OSError as error:
        refused = error.errno
    only_if(refused != errno.ENOTSUP, "this file system has no such attributes")
    assert refused is None
    before = attributes(path)
    shell.run(*MERGE, stdin=STREAM).check(0)
    assert attributes(path) == before
    assert before.items() >= given.items()


# Runs tok-merge where an attribute of the old file cannot be given to the new one.
REFUSING = """
import os, sys
from toktools import cli
name, number = sys.argv[1], int(sys.argv[2])
listxattr, getxattr = os.listxattr, os.getxattr
old = os.stat("f.json")
is_old = lambda fd: os.path.samestat(os.fstat(fd), old)
os.listxattr = lambda fd: [*listxattr(fd), *([name] if is_old(fd) else [])]
os.getxattr = lambda fd, other: b"x" if other == name else getxattr(fd, other)
def setxattr(fd, name, text):
    raise OSError(number, os.strerror(number))
os.setxattr = setxattr
raise SystemExit(cli.main("merge", ["-i", "f.json"]))
"""


@needs_attributes
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (ACL, "its access control list"),
        ("security.selinux", "its attribute security.selinux"),
        ("user.\x1b[2J", r"its attribute user.\x1b[2J"),
        ("system.nfs4_acl", "its attribute system.nfs4_acl"),
    ],
)
def test_an_attribute_that_cannot_be_kept(shell: Shell, name: str, said: str, number: int) -> None:
    """The change is refused, and the file left as it was."""
    before = shell.read("f.json")
    done = shell.run(shell.bin / "python", "-c", REFUSING, name, str(number), stdin=STREAM)
    done.check(2, f"tok-merge: f.json: {said} cannot be kept: {os.strerror(number).lower()}\n", "hint: ")
    assert (shell.read("f.json"), os.listdir(shell.cwd)) == (before, ["f.json"])


@needs_attributes
@pytest.mark.parametrize("name", ["security.ima", "security.evm", "security.capability"])
def test_an_attribute_of_the_content(shell: Shell, name: str) -> None:
    """What the kernel makes of the content is not carried over to another content."""
    shell.run(shell.bin / "python", "-c", REFUSING, name, str(errno.EPERM), stdin=STREAM).check(0)


# Names that lead elsewhere than they say.


def test_a_descriptor_of_a_deleted_file(shell: Shell) -> None:
    """Neither the deleted file nor one of the name that its link seems to have is written."""
    for made_first in ("", "echo other > 'out.json (deleted)';"):
        for option in ("-o /dev/fd/3 f.json", "-i /dev/fd/3"):
            script = f"cp f.json out.json; exec 3<>out.json; rm out.json; {made_first} tok-merge {option}"
            shell.sh(script, stdin=STREAM).check(2, "/dev/fd/3: ", "nothing written")
            left = {"f.json", *(["out.json (deleted)"] if made_first else [])}
            assert set(os.listdir(shell.cwd)) == left
    assert shell.read("out.json (deleted)") == b"other\n"


def test_a_descriptor_of_a_file_that_was_replaced(shell: Shell) -> None:
    """/dev/fd/3 of a file whose name is another file's now, or was moved: refused or written where it is."""
    shell.sh(
        "cp f.json out.json; exec 3<>out.json; rm out.json; echo new > out.json; tok-merge -o /dev/fd/3 f.json",
        stdin=STREAM,
    ).check(2)
    assert shell.read("out.json") == b"new\n"
    shell.sh("exec 3<>out.json; tok-merge -o /dev/fd/3 f.json", stdin=STREAM).check(0)
    assert b"signed" in shell.read("out.json")


@pytest.mark.skipif(not AS_ROOT, reason="plays another user")
def test_a_link_of_another_user_in_a_folder_open_to_all(shell: Shell) -> None:
    """Such a link is not followed, whatever the system's own setting is."""
    shell.sh("mkdir -m 1777 open && ln -s ../out.json open/x && chown -h 65534 open/x").check(0)
    shell.run("tok-merge", "-o", "open/x", "f.json", stdin=STREAM).check(2, "open/x: ")
    assert not (shell.cwd / "out.json").exists()


# Somebody else owns the folder.

ATTACK = """
import os, sys
os.chdir(sys.argv[1])
victim, kind = sys.argv[2], sys.argv[3]
os.setgid(65534); os.setgroups([]); os.setuid(65534)
content = open("real", "rb").read()
def own():
    with open("own", "wb") as file:
        file.write(content)
    os.chmod("own", 0o666)
n = 0
while True:
    n += 1
    try:
        own()
        os.rename("own", "f.json")
        if kind == "link":
            os.symlink(victim, "s"); os.rename("s", "f.json")
        elif kind == "folder":
            os.rename("sub", "away"); os.symlink(os.path.dirname(victim), "sub")
            os.unlink("sub"); os.rename("away", "sub")
        for name in os.listdir():
            if name.startswith(".toktools-"):
                os.unlink(name); os.symlink(victim, name)
    except OSError:
        pass
"""


@pytest.mark.skipif(not AS_ROOT or sys.platform != "linux", reason="plays root and another user")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
@pytest.mark.parametrize("kind", ["link", "folder"])
@pytest.mark.parametrize("option", ["-i", "-o"])
def test_the_owner_of_the_folder_attacks(shell: Shell, mode: int, kind: str, option: str) -> None:
    """Whoever swaps the file, its folder or the temporary file gets nothing of root's given, opened or changed."""
    yard = shell.cwd / "yard"
    yard.mkdir()
    for path in [yard, *yard.parents]:
        if path != Path("/tmp") and path != Path("/"):
            os.chmod(path, path.stat().st_mode | 0o055)
    (yard / "sub").mkdir()
    secret = shell.cwd / "root's"
    secret.mkdir()
    victim = secret / "f.json"
    # Not a token file: what is not read as one cannot be meant to be signed.
    victim.write_bytes(b"secret of root\n")
    victim.chmod(0o600)
    (yard / "real").write_bytes(UNSIGNED.read_bytes())
    (yard / "sub" / "f.json").write_bytes(UNSIGNED.read_bytes())
    for path in (yard, yard / "sub", yard / "real", yard / "sub" / "f.json"):
        os.chown(path, 65534, 65534)
    if mode == 0o1777:  # root's folder, open to all
        os.chown(yard, 0, 0)
    yard.chmod(mode)
    before = victim.stat()
    attacker = subprocess.Popen([sys.executable, "-c", ATTACK, str(yard), str(victim), kind])
    statuses = set()
    try:
        target = "sub/f.json" if kind == "folder" else "f.json"
        words = {"-i": ["-i", target], "-o": ["-o", target, str(shell.cwd / "f.json")]}[option]
        for _ in range(12):
            done = shell.run("tok-merge", *words, stdin=STREAM, cwd=yard)
            statuses.add(done.status)
            assert "Traceback" not in done.err
            after = (secret / "f.json").lstat()
            assert (after.st_uid, after.st_gid, after.st_mode) == (0, before.st_gid, before.st_mode)
            if kind == "link" and option == "-i":
                assert victim.read_bytes() == b"secret of root\n"
    finally:
        attacker.kill()
        attacker.wait()
    assert attacker.returncode == -signal.SIGKILL
    assert statuses <= {0, 2}
    assert not hidden(secret)


# Runs tok-merge as root, and swaps the file at one of its calls, as the owner of the folder may at any moment.
SWAP = """
import os, sys
from toktools import cli
point, back, victim = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
calls, rename, symlink, busy = 0, os.rename, os.symlink, False
def counted(name):
    call = getattr(os, name)
    def stand_in(*words, **more):
        global calls, busy
        if not busy:
            busy = True
            calls += 1
            if calls == point:
                rename("f.json", "away")
                symlink(victim, "f.json")
            if calls == point + back:
                rename("away", "f.json")
            busy = False
        return call(*words, **more)
    return stand_in
for name in "stat lstat open readlink fstat replace fchown fchmod write fsync listxattr".split():
    if hasattr(os, name):
        setattr(os, name, counted(name))
status = cli.main("merge", sys.argv[4:])
print(calls)
raise SystemExit(status)
"""


@pytest.mark.skipif(not AS_ROOT, reason="plays root and another user")
@pytest.mark.parametrize("back", [1, 1000])
@pytest.mark.parametrize("option", ["-i", "-o"])
def test_a_swap_at_every_call(shell: Shell, option: str, back: int) -> None:
    """At whichever call the file becomes a link to root's, and back: root's keeps owner and mode."""
    yard = shell.cwd / "yard"
    yard.mkdir()
    os.chown(yard, 65534, 65534)
    victim = shell.write("victim", b"secret of root\n")
    words = {"-i": ["-i", "f.json"], "-o": ["-o", "f.json", "../f.json"]}[option]
    for point in range(1, 100):
        for name in os.listdir(yard):
            (yard / name).unlink()
        (yard / "f.json").write_bytes(UNSIGNED.read_bytes())
        os.chown(yard / "f.json", 65534, 65534)
        (yard / "f.json").chmod(0o666)
        victim.write_bytes(b"secret of root\n")
        victim.chmod(0o600)
        command: list[str | Path] = [shell.bin / "python", "-c", SWAP, str(point), str(back), victim, *words]
        done = shell.run(*command, stdin=STREAM, cwd=yard, env=shell.unmeasured)
        status = victim.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600), point
        # With -o a link is followed; with -i only a file that was read as a token file is written.
        assert option == "-o" or victim.read_bytes() == b"secret of root\n", point
        assert not hidden(yard), point
        assert not hidden(shell.cwd), point
        if done.out and int(done.out) < point:
            break
    assert 10 < point < 99


def test_another_file_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is put there after the look lends the new one no owner and no mode."""
    target, other = tmp_path / "f.json", tmp_path / "other"
    target.write_bytes(b"old")
    other.write_bytes(b"other")
    real = os.open

    def swapped(path: str, *words: int, **more: int) -> int:
        if path == target.name:
            other.rename(target)
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(ToktoolsError, match="another program changed it meanwhile"):
        replacing.replace({str(target): b"new"})
    assert target.read_bytes() == b"other"
    assert os.listdir(tmp_path) == ["f.json"]


@pytest.mark.parametrize(
    "header", ["", "Bag Attributes\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_private_key_is_not_lost(shell: Shell, keys: Path, header: str) -> None:
    """A slip of -o, or of -s, does not cost the second factor."""
    key = header.encode() + (keys / "pkcs8.pem").read_bytes()
    for name in ("f.json", "s1.bin"):
        shell.write(name, key)
    said = "a private key, which would be lost; nothing written"
    shell.run("tok-merge", "-o", "f.json", UNSIGNED, stdin=STREAM).check(2, f"tok-merge: f.json: {said}")
    shell.run("tok-extract", "-s", "s", UNSIGNED).check(2, f"tok-extract: s1.bin: {said}")
    assert (shell.read("f.json"), shell.read("s1.bin")) == (key, key)
    assert sorted(os.listdir(shell.cwd)) == ["f.json", "s1.bin"]


# Runs a tool where one call of the system fails from the n-th time on.
FAILING = """
import os, sys
name, point, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
call, calls = getattr(os, name), []
def failing(*words, **more):
    calls.append(name)
    if len(calls) >= point:
        raise OSError(number, os.strerror(number))
    return call(*words, **more)
setattr(os, name, failing)
from toktools import cli
raise SystemExit(cli.main(sys.argv[4], sys.argv[5:]))
"""


@pytest.mark.parametrize(
    ("point", "said"), [(1, ""), (2, "; written: token1.bin"), (3, "; written: token1.bin to token2.bin")]
)
def test_digest_files_of_which_some_are_written(shell: Shell, point: int, said: str) -> None:
    """Where a rename fails the message names the files that have their digest, and no temporary file stays."""
    words = ["replace", str(point), str(errno.EIO), "extract", "-s", "token", "f.json"]
    done = shell.run(shell.bin / "python", "-c", FAILING, *words)
    assert done == Done(2, b"", f"tok-extract: token{point}.bin: input/output error{said}\n")
    assert sorted(os.listdir(shell.cwd)) == ["f.json", *(f"token{n}.bin" for n in range(1, point))]


def test_closing_that_fails(shell: Shell) -> None:
    """Whichever close fails, exit 2 and an old file go together, or the message says that the file is written."""
    old = shell.read("f.json")
    ends = set()
    for point in range(1, 12):
        shell.write("f.json", old)
        words = ["close", str(point), str(errno.EIO), "merge", "-i", "f.json"]
        done = shell.run(shell.bin / "python", "-c", FAILING, *words, stdin=STREAM)
        ends.add((done.status, "written: f.json" in done.err, shell.read("f.json") == old))
        assert not hidden(shell.cwd)
    assert ends == {(2, False, True), (2, True, False), (0, False, False)}
