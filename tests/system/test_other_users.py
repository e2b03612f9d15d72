"""Replacing a file in another user's directory, with an access control list, or by a name that leads elsewhere."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SIGNED, UNSIGNED, Shell, need

STREAM = b"".join(
    base64.b64encode(base64.b64decode(t["signed"])) + b"\n" for t in json.loads(SIGNED.read_bytes())["tokens"]
)
AS_ROOT = os.geteuid() == 0
ACL = "system.posix_acl_access"
MERGE = ["tok-merge", "-i", "f.json"]


def attributes(path: Path) -> dict[str, bytes]:
    if sys.platform != "linux":
        return {}
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def hidden(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".toktools")]


# Access control lists and other attributes.


@pytest.mark.parametrize("options", [["-i", "f.json"], ["-o", "out.json", "f.json"]])
@pytest.mark.parametrize("entries", ["u:1234:r", "u:1234:rw,g:2345:r,m::r", "g:2345:rw"])
def test_an_access_control_list_is_kept(shell: Shell, options: list[str], entries: str) -> None:
    """The list, its mask and the mode are those of the file that was there; on macOS, it is refused."""
    need("setfacl")
    path = shell.write(options[1], shell.read("f.json"))
    path.chmod(0o640)
    shell.run("setfacl", "-m", entries, path).check(0)
    before = (attributes(path), path.stat().st_mode)
    done = shell.run("tok-merge", *options, stdin=STREAM)
    if sys.platform != "linux":
        done.check(2, f"{options[1]}: its access control list cannot be kept")
        return
    done.check(0)
    assert (attributes(path), path.stat().st_mode) == before
    assert ACL in before[0]
    assert b"signed" in path.read_bytes()


# Names that lead elsewhere than they say.


def test_a_descriptor_of_a_deleted_file(shell: Shell) -> None:
    """Neither the deleted file nor one of the name that its link seems to have is written."""
    for made_first in ("", "echo other > 'out.json (deleted)';"):
        for option in ("-o /dev/fd/3 f.json", "-i /dev/fd/3"):
            script = f"cp f.json out.json; exec 3<>out.json; rm out.json; {made_first} tok-merge {option}"
            shell.sh(script, stdin=STREAM).check(2, "/dev/fd/3: ")
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
    done = shell.sh("cp f.json out.json; exec 3<>out.json; tok-merge -o /dev/fd/3 f.json", stdin=STREAM)
    done.check(2 if sys.platform == "darwin" else 0)  # there, it is no link to follow
    assert (shell.read("out.json") == shell.read("f.json")) == (sys.platform == "darwin")


# Somebody else owns the directory.

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
        elif kind == "directory":
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
@pytest.mark.parametrize("kind", ["link", "directory"])
@pytest.mark.parametrize("option", ["-i", "-o"])
def test_the_owner_of_the_directory_attacks(shell: Shell, mode: int, kind: str, option: str) -> None:
    """Whoever swaps the file, its directory or the temporary file gets nothing of root's given, opened or changed."""
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
    if mode == 0o1777:  # root's directory, open to all
        os.chown(yard, 0, 0)
    yard.chmod(mode)
    before = victim.stat()
    attacker = subprocess.Popen([sys.executable, "-c", ATTACK, str(yard), str(victim), kind])
    statuses = set()
    try:
        target = "sub/f.json" if kind == "directory" else "f.json"
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


# Replaces a file as root, and swaps it at one of its calls, as the owner of the directory may at any moment.
SWAP = """
import os, sys
from toktools.errors import ToktoolsError
from toktools.system import files
from toktools.system.atomic import write_atomically
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
seen = files.read("f.json", 10000) if sys.argv[4] == "seen" else None
for name in "stat lstat open readlink fstat replace fchown fchmod write fsync listxattr".split():
    if hasattr(os, name):
        setattr(os, name, counted(name))
try:
    write_atomically({"f.json": b"new"}, seen=seen)
except ToktoolsError:
    pass
print(calls)
"""


@pytest.mark.skipif(not AS_ROOT, reason="plays root and another user")
@pytest.mark.parametrize("back", [1, 1000])
@pytest.mark.parametrize("kind", ["seen", "any"])
def test_a_swap_at_every_call(shell: Shell, kind: str, back: int) -> None:
    """At whichever call the file becomes a link to root's, and back: root's keeps owner and mode."""
    yard = shell.cwd / "yard"
    yard.mkdir()
    os.chown(yard, 65534, 65534)
    victim = shell.write("victim", b"secret of root\n")
    for point in range(1, 100):
        for name in os.listdir(yard):
            (yard / name).unlink()
        (yard / "f.json").write_bytes(UNSIGNED.read_bytes())
        os.chown(yard / "f.json", 65534, 65534)
        (yard / "f.json").chmod(0o666)
        victim.write_bytes(b"secret of root\n")
        victim.chmod(0o600)
        command: list[str | Path] = [shell.bin / "python", "-c", SWAP, str(point), str(back), victim, kind]
        done = shell.run(*command, cwd=yard, env=shell.unmeasured).check(0)
        status = victim.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600), point
        # A link is followed, but not where a file is to be written that was read.
        assert kind == "any" or victim.read_bytes() == b"secret of root\n", point
        assert not hidden(yard), point
        assert not hidden(shell.cwd), point
        if int(done.out) < point:
            break
    assert 10 < point < 99
