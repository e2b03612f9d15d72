"""Replacing a file in another user's directory, with an access control list, or by a name that leads elsewhere."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from conftest import SIGNED, UNSIGNED, Shell, need

STREAM = b"".join(
    base64.b64encode(base64.b64decode(t["signed"])) + b"\n" for t in json.loads(SIGNED.read_bytes())["tokens"]
)
AS_ROOT = os.geteuid() == 0
ACL = "system.posix_acl_access"


def attributes(path: Path) -> dict[str, bytes]:
    if sys.platform != "linux":
        return {}
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


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
        done.check(2, f"{options[1]}: cannot replace it and keep its access control list")
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

# Replaces a file as root, and swaps something at one of its calls, as the owner of the directory may at any moment.
SWAP = """
import os, sys
from toktools.errors import ToktoolsError
from toktools.system import files
from toktools.system.atomic import write_atomically
point, back, what, victim = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
calls = 0
def swap():
    if what == "temporary":
        for name in os.listdir("sub"):
            if name.startswith(".toktools-"):
                os.unlink(f"sub/{name}")
                os.symlink(victim, f"sub/{name}")
    else:
        os.rename(what, "away")
        os.symlink(os.path.dirname(victim) if what == "sub" else victim, what)
def counted(name):
    call = getattr(os, name)
    def stand_in(*words, **more):
        global calls
        calls += 1
        if calls == point:
            swap()
        if calls == point + back:
            os.unlink(what)
            os.rename("away", what)
        return call(*words, **more)
    return stand_in
seen = files.read("sub/f.json", 10000) if sys.argv[5] == "seen" else None
for name in "stat lstat open readlink fstat replace fchown fchmod write fsync listxattr".split():
    if hasattr(os, name):
        setattr(os, name, counted(name))
try:
    write_atomically("sub/f.json", [b"new"], seen=seen)
except ToktoolsError:
    pass
print(calls)
"""


@pytest.mark.skipif(not AS_ROOT, reason="plays root and another user")
@pytest.mark.parametrize(
    ("what", "back", "kind"),
    [
        *((what, back, kind) for what in ("sub/f.json", "sub") for back in (1, 1000) for kind in ("seen", "any")),
        *(("temporary", 1000, kind) for kind in ("seen", "any")),
    ],
)
def test_a_swap_at_every_call(shell: Shell, what: str, back: int, kind: str) -> None:
    """At whichever call a file or its directory becomes a link to root's, and back: root's keeps owner and mode."""
    yard, secret = shell.cwd / "yard", shell.cwd / "root's"
    victim = secret / "f.json"
    secret.mkdir()
    for point in range(1, 100):
        shutil.rmtree(yard, ignore_errors=True)
        (yard / "sub").mkdir(parents=True)
        (yard / "sub" / "f.json").write_bytes(UNSIGNED.read_bytes())
        (yard / "sub" / "f.json").chmod(0o666)
        for path in (yard, yard / "sub", yard / "sub" / "f.json"):
            os.chown(path, 65534, 65534)
        victim.write_bytes(b"secret of root\n")
        victim.chmod(0o600)
        command: list[str | Path] = [shell.bin / "python", "-c", SWAP, str(point), str(back), what, victim, kind]
        done = shell.run(*command, cwd=yard, env=shell.unmeasured).check(0)
        status = victim.lstat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600), point
        # A link is followed, but not where a file is to be written that was read, nor at the temporary file.
        follows = kind == "any" and what != "temporary"
        assert follows or victim.read_bytes() == b"secret of root\n", point
        assert not list(shell.cwd.rglob(".toktools-*")), point
        if int(done.out) < point:
            break
    assert 10 < point < 99
