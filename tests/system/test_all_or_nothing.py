"""All or nothing: whatever goes wrong, a token file is wholly old or wholly new, and nothing lies beside it."""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import random
import shlex
import signal
import stat
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import OFFICER1_PUB, SIGNED, Done, Shell, need, only_if

SIGNATURES = [base64.b64decode(token["signed"]) for token in json.loads(SIGNED.read_bytes())["tokens"]]
ONE, TWO, THREE = (base64.b64encode(signature) + b"\n" for signature in SIGNATURES)
STREAM = ONE + TWO + THREE
AS_ROOT = os.geteuid() == 0


def line(size: int) -> bytes:
    """Return a line for a signature of this size."""
    return base64.b64encode(b"\xa5" * size) + b"\n"


def contents(folder: Path) -> dict[str, bytes | str]:
    """Return every name in a folder, the hidden ones too, with what a file holds or a link points at."""
    found: dict[str, bytes | str] = {}
    for path in folder.iterdir():
        regular = path.is_file() and not path.is_symlink()
        found[path.name] = path.read_bytes() if regular else os.readlink(path) if path.is_symlink() else "special"
    return found


def merged(shell: Shell, *options: str, stdin: bytes = STREAM) -> bytes:
    """Return f.json as it must be after these options and signatures."""
    return shell.run("tok-merge", *options, "f.json", stdin=stdin).check(0).out


def start(shell: Shell, *command: str | Path, fed: bytes) -> subprocess.Popen[bytes]:
    """Start a command and return once it has taken from standard input what it is fed, and waits for more."""
    pipe = subprocess.PIPE
    process = shell.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
    assert process.stdin is not None
    process.stdin.write(fed)
    deadline = time.monotonic() + 120
    while struct.unpack("i", fcntl.ioctl(process.stdin, termios.FIONREAD, b"\0" * 4))[0]:
        assert process.poll() is None, "it ended before it read all"
        assert time.monotonic() < deadline, "it does not read"
        time.sleep(0.002)
    return process


def finish(process: subprocess.Popen[bytes], rest: bytes = b"") -> Done:
    """Give a started command the rest of its input, and return how it ended."""
    out, err = process.communicate(rest, timeout=120)
    return Done(process.returncode, out, err.decode())


# What tok-merge may read from a signer that failed, and what it says.
BAD_STREAMS = {
    "empty": (b"", "3 tokens but 0 signatures"),
    "too few": (ONE + TWO, "3 tokens but 2 signatures"),
    "too many": (STREAM + line(256), "3 tokens but more than 3 signatures"),
    "blank line in the middle": (ONE + b"\n" + TWO + THREE, "line 2: empty"),
    "blank line at the end": (ONE + TWO + b"\n\r\n", "3 tokens but 2 signatures"),
    "blank line alone": (b"\r\n", "line 1: empty"),
    "one signature for two digests": (ONE + TWO + ONE, "token 1 and token 3 have the same signature"),
    "not base64": (ONE + b"Error: no such key\n" + THREE, "line 2: "),
    "raw bytes": (b"\x80" * 256, "line 1: raw bytes, not base64"),
    "not canonical": (ONE + line(256).replace(b"Q==", b"R==") + THREE, "line 2: not canonical base64"),
    "not padded": (ONE + TWO + THREE.replace(b"=", b""), "line 3: not canonical base64"),
    "white space": (ONE + b" " + TWO + THREE, "line 2: white space"),
    "a digest": (ONE + line(32) + THREE, "line 2: wrong size: 32 bytes, but an RSA-2048 signature has 256"),
    "one byte short": (ONE + line(255) + THREE, "line 2: wrong size: 255 bytes"),
    "one byte long": (ONE + line(257) + THREE, "line 2: wrong size: 257 bytes"),
    "different sizes": (ONE + TWO + line(384), "signatures of different sizes, 256 and 384 bytes"),
    "cut within four characters": (STREAM[:-3], "line 3: not canonical base64"),
    "cut between four characters": (STREAM[:-9], "line 3: wrong size"),
    "wrapped": (base64.encodebytes(SIGNATURES[0]), "line 1: wrong size"),
    "endless line": (b"A" * 10_000, "line 1: longer than 4096 bytes"),
}


@pytest.mark.parametrize(
    ("case", "options"),
    [
        *((case, ["-i"]) for case in BAD_STREAMS),
        # How it would have been written makes no difference to what is read.
        *((case, options) for case in ("empty", "too few", "one byte short") for options in (["-o", "out.json"], [])),
    ],
)
def test_a_bad_stream_changes_nothing(shell: Shell, case: str, options: list[str]) -> None:
    """A stream with anything wrong in it is refused, and no file is changed, made or left behind."""
    stream, said = BAD_STREAMS[case]
    shell.write("out.json", b"old\n")
    before = contents(shell.cwd)
    done = shell.run("tok-merge", *options, "f.json", stdin=stream)
    done.check(2, "tok-merge: f.json: ", said, "; nothing written\n")
    assert done.out == b""
    assert contents(shell.cwd) == before


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (b"", "2: empty"),
        (b"\x80" * 255, "2: wrong size: 255 bytes"),
        (b"\x80" * 256 + b"\n", "2: wrong size: 257 bytes"),
        (TWO + THREE, "3 tokens but more than 3 signatures"),
        (SIGNATURES[0], "token 1 and token 2 have the same signature"),
        (None, "2: no such file or directory"),
    ],
)
def test_a_bad_signature_file_changes_nothing(shell: Shell, signature: bytes | None, said: str) -> None:
    """One wrong file among the signature files is named, and the token file stays as it was."""
    for name, content in ("1", ONE), ("2", signature), ("3", SIGNATURES[2]):
        if content is not None:
            shell.write(name, content)
    before = contents(shell.cwd)
    shell.run("tok-merge", "-i", "f.json", "1", "2", "3").check(2, said, "nothing written")
    assert contents(shell.cwd) == before


@pytest.mark.parametrize(
    "signer",
    ["false", "true", "kill -9 $$", "tok-extract f.json | tok-sign -k missing.pem", "head -n 2 s", "head -c 700 s"],
)
def test_a_signer_that_died_changes_nothing(shell: Shell, signer: str) -> None:
    """A signer that gave nothing, or died halfway, leaves the token file as it was: what `| sponge f` destroys."""
    shell.write("s", STREAM)
    before = contents(shell.cwd)
    shell.sh(f"sh -c {shlex.quote(signer)} | tok-merge -i f.json").check(2, "nothing written")
    assert contents(shell.cwd) == before


# Full disks, folders that cannot be written.


def in_own_mounts(shell: Shell, script: str) -> Done:
    """Run a script that may mount, in a name space that takes the mounts with it when it ends."""
    need("unshare", "mount")
    mounted = shell.run("unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", shell.cwd)
    only_if(mounted.status == 0, "this system does not let its users mount in a name space of their own")
    shell.write("s", STREAM)
    return shell.run("unshare", "-rm", "sh", "-e", "-c", f"mkdir disk; {script}")


# Ends as the tool did, after a look at the mounted folder.
AND_LOOK = "&& status=0 || status=$?; ls -A disk; cmp disk/f.json f.json || status=99; exit $status"


@pytest.mark.parametrize("options", ["-i", "-o disk/out.json"])
def test_a_full_disk(shell: Shell, options: str) -> None:
    """On a full disk the token file stays whole, the message says so, and no temporary file takes room."""
    fill = "mount -t tmpfs -o size=32k tmpfs disk; cp f.json disk; head -c 99999 /dev/zero > disk/filler || true"
    done = in_own_mounts(shell, f"{fill}; tok-merge {options} disk/f.json < s {AND_LOOK}")
    done.check(2, "no space left on device")
    assert done.out.split() == [b"f.json", b"filler"]


def test_a_disk_that_fills_between_two_digests(shell: Shell) -> None:
    """tok-extract -s writes no file at all where the disk has room for the first two only."""
    # The root folder takes one inode, f.json one, token1.bin one: two more are free.
    mount = "mount -t tmpfs -o nr_inodes=5 tmpfs disk; cp f.json disk; printf old > disk/token1.bin"
    done = in_own_mounts(shell, f"{mount}; cd disk; tok-extract -s token f.json && exit 99; ls -A; cat token1.bin")
    assert "token3.bin: no space left on device" in done.err
    assert done.out.split() == [b"f.json", b"token1.bin", b"old"]


@pytest.mark.parametrize("options", ["-i", "-o disk/out.json"])
def test_a_read_only_disk(shell: Shell, options: str) -> None:
    """On a read-only file system tok-merge says so and changes nothing."""
    mount = "mount -t tmpfs tmpfs disk; cp f.json disk; mount -o remount,bind,ro disk"
    done = in_own_mounts(shell, f"{mount}; tok-merge {options} disk/f.json < s {AND_LOOK}")
    done.check(2, "read-only file system")
    assert done.out == b"f.json\n"


@pytest.mark.parametrize("options", ["-i", "-o folder/out.json"])
def test_a_folder_without_write_permission(shell: Shell, options: str) -> None:
    """Where the folder cannot be written tok-merge says so and leaves the token file, though that could be written."""
    # Root without capabilities is a user like others, who still reaches what is root's own.
    weak = ""
    if AS_ROOT:
        need("setpriv")
        weak = "setpriv --bounding-set=-all --inh-caps=-all"
    shell.sh("mkdir folder && cp f.json folder && chmod 555 folder").check(0)
    command = f"{weak} tok-merge {options} folder/f.json"
    done = shell.run("sh", "-c", command, stdin=STREAM, env=shell.unmeasured)
    left = contents(shell.cwd / "folder")
    (shell.cwd / "folder").chmod(0o755)
    done.check(2, ".json: cannot write in its folder: permission denied")
    assert left == {"f.json": shell.read("f.json")}


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a file away")
def test_an_owner_that_cannot_be_kept(shell: Shell) -> None:
    """A token file of another owner is not replaced where the new one could not be given to that owner."""
    need("setpriv")
    os.chown(shell.cwd / "f.json", 1234, 1234)
    before = contents(shell.cwd)
    weak = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    shell.cwd.joinpath("f.json").chmod(0o666)
    done = shell.run(*weak, "tok-merge", "-i", "f.json", stdin=STREAM, env=shell.unmeasured)
    done.check(2, "f.json: its owner and group cannot be kept", "hint: ")
    assert contents(shell.cwd) == before


def test_a_file_size_limit(shell: Shell) -> None:
    """A limit on the size of files is a write error like a full disk."""
    before = contents(shell.cwd)
    script = "ulimit -f 1; tok-merge -i f.json"  # 512 bytes, and the signed file has more
    done = shell.run("sh", "-c", script, stdin=STREAM, env=shell.unmeasured)
    done.check(2, "f.json: file too large")
    assert contents(shell.cwd) == before


# Standard output and input.

WRITERS = {
    "extract": "tok-extract f.json",
    "extract -r": "tok-extract -n 1 -r f.json",
    "sign": "tok-extract f.json | tok-sign -k $K",
    "sign -r": "tok-extract -n 1 -r f.json | tok-sign -r -k $K",
    "merge": "tok-merge f.json < s",
    "verify": "tok-verify -p $P f.json",
    **{
        f"{name} {option}": f"tok-{name} {option}"
        for name in ("extract", "sign", "merge", "verify")
        for option in ("--help", "--version")
    },
}


@pytest.fixture
def env(shell: Shell, keys: Path) -> dict[str, str]:
    """Return an environment that names the keys that the scripts of these tables use."""
    shell.write("s", STREAM)
    return {**shell.env, "K": str(keys / "pkcs8.pem"), "P": str(OFFICER1_PUB)}


@pytest.mark.parametrize(
    ("redirection", "said"),
    [("> /dev/full", "no space left on device"), (">&-", "bad file descriptor")],
    ids=["full", "closed"],
)
@pytest.mark.parametrize("command", WRITERS)
def test_standard_output_that_takes_nothing(
    shell: Shell, env: dict[str, str], command: str, redirection: str, said: str
) -> None:
    """Output that is lost on a full device or a closed descriptor is never exit 0, --help included."""
    only_if(os.path.exists("/dev/full"), "this system has no /dev/full")
    before = contents(shell.cwd)
    done = shell.sh(f"{WRITERS[command]} {redirection}", env=env).check(2)
    assert done.err == f"tok-{command.split(maxsplit=1)[0]}: standard output: {said}\n"
    assert contents(shell.cwd) == before


@pytest.mark.parametrize(
    "command",
    [
        "tok-extract",
        "tok-sign -k $K",
        "tok-sign -r -k $K",
        "tok-merge f.json",
        "tok-merge -i f.json",
        "tok-verify -p $P",
    ],
)
def test_standard_input_that_is_closed(shell: Shell, env: dict[str, str], command: str) -> None:
    """A closed standard input is trouble, not an empty stream, and no other file is read in its stead."""
    before = contents(shell.cwd)
    done = shell.sh(f"{command} <&-", env=env).check(2, "standard input: bad file descriptor")
    assert done.out == b""
    assert contents(shell.cwd) == before


def test_descriptors_that_are_not_needed_may_be_closed(shell: Shell) -> None:
    """tok-merge -i with signature files works with all three descriptors closed, and writes no message into a file."""
    for name, signature in zip("123", SIGNATURES):
        shell.write(name, signature)
    expected = merged(shell)
    shell.sh("tok-merge -i f.json 1 2 3 <&- >&- 2>&-").check(0)
    assert shell.read("f.json") == expected
    shell.sh("tok-merge -i f.json 1 2 2>&-").check(2)
    assert shell.read("f.json") == expected


@pytest.mark.parametrize("redirection", ["> f.json", ">> f.json", "1<> f.json", ">> link.json", ">> hard.json"])
@pytest.mark.parametrize("command", ["tok-extract f.json", "tok-merge f.json s", "tok-verify -p $P f.json"])
def test_standard_output_that_is_the_token_file(
    shell: Shell, env: dict[str, str], command: str, redirection: str
) -> None:
    """Standard output into the token file itself is refused with a hint at -i, and what was in it is still there."""
    shell.sh("ln -s f.json link.json && ln f.json hard.json").check(0)
    before = shell.read("f.json")
    done = shell.sh(f"{command} {redirection}", env=env)
    done.check(2, "f.json: standard output is this same file", "hint: ", "tok-merge -i")
    emptied = redirection == "> f.json"  # by the shell, before the tool ran
    assert ("the shell has already emptied it" in done.err) == emptied
    assert shell.read("f.json") == (b"" if emptied else before)


def test_standard_output_that_is_the_token_file_on_standard_input(shell: Shell) -> None:
    """The refusal does not depend on the token file's name: it also holds where it is standard input."""
    before = shell.read("f.json")
    shell.sh("tok-extract < f.json 1<> f.json").check(2, "standard output is this same file")
    assert shell.read("f.json") == before


@pytest.mark.parametrize(
    "command", ["tok-extract f.json", "tok-merge f.json s", "tok-verify -p $P f.json", "tok-sign --help"]
)
def test_a_reader_that_went_away(shell: Shell, env: dict[str, str], command: str) -> None:
    """A closed pipe ends a tool by SIGPIPE, silently, as it ends cat."""
    shell.sh("for n in 1 2 3; do head -n $n s | tail -n 1 > s$n; done").check(0)
    command = command.replace(" s", " s1 s2 s3") if "merge" in command else command
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["sh", "-c", f"exec {command}"],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=shell.cwd,
        env=env,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("command", ["tok-extract", "tok-sign -k $K", "tok-merge -i f.json", "tok-verify -p $P"])
def test_a_signal_to_a_tool_that_waits(shell: Shell, keys: Path, command: str, number: signal.Signals) -> None:
    """A tool that waits for input ends by the signal itself, without a traceback, a word or a change."""
    words = command.replace("$K", str(keys / "pkcs8.pem")).replace("$P", str(OFFICER1_PUB)).split()
    before = contents(shell.cwd)
    process = start(shell, *words, fed=b"QUJD")
    process.send_signal(number)
    assert finish(process) == Done(-number, b"", "")
    assert contents(shell.cwd) == before


# Death at every stage.

# Runs tok-merge in the installed environment, and ends it at the n-th of the calls by which it touches the world.
DRIVER = """
import os, signal, sys
from toktools.system import signals
from toktools import cli

signals.end_like_cat()
signal.signal(signal.SIGINT, signal.SIG_DFL)
number, point = int(sys.argv[1]), int(sys.argv[2])
calls = 0

def counted(name):
    call = getattr(os, name)
    def stand_in(*words, **more):
        global calls
        calls += 1
        if calls == point:
            half = call(words[0], words[1][: len(words[1]) // 2]) if name == "write" else None
            os.kill(os.getpid(), number)
            if half is not None:
                return half
        return call(*words, **more)
    return stand_in

for name in "close fchmod fchown fstat fsync open read replace stat unlink write".split():
    setattr(os, name, counted(name))
raise SystemExit(cli.main("merge", sys.argv[3:]))
"""


@pytest.mark.parametrize("name", ["KILL", "TERM", "INT", "ALRM", "USR1", "XCPU", "VTALRM"])
def test_death_at_every_stage(shell: Shell, name: str) -> None:
    """Killed at whichever of its calls, tok-merge -i leaves the old file or the new one; a kind signal no other."""
    number = signal.Signals[f"SIG{name}"]
    old, new = shell.read("f.json"), merged(shell)
    seen = []
    for point in range(1, 200):
        shell.write("f.json", old)
        command: list[str | Path] = [shell.bin / "python", "-c", DRIVER, str(int(number)), str(point), "-i", "f.json"]
        done = shell.run(*command, stdin=STREAM, env=shell.unmeasured)
        seen.append(shell.read("f.json"))
        left = [path for path in shell.cwd.iterdir() if path.name != "f.json"]
        # Nobody can tidy up after kill -9; all that it may leave is one hidden file.
        assert len(left) <= (number == signal.SIGKILL), point
        for path in left:
            assert path.name.startswith("."), point
            path.unlink()
        if done.status == 0:  # it needs no more calls than this
            break
        assert done == Done(-number, b"", ""), point
    assert set(seen) == {old, new}
    # It never goes back: once the new file is there it stays.
    assert seen == [old] * seen.count(old) + [new] * seen.count(new)
    assert seen.count(old) > 8
    assert seen.count(new) > 2


def test_a_pipeline_killed_at_random(shell: Shell, keys: Path) -> None:
    """kill -9 of the whole pipeline at any moment leaves the old file or the new one."""
    script = f"tok-extract f.json | tok-sign -k {keys / 'pkcs8.pem'} | tok-merge -i f.json"
    old = shell.read("f.json")
    env = shell.unmeasured
    began = time.monotonic()
    shell.sh(script, env=env).check(0)
    length = time.monotonic() - began
    new = shell.read("f.json")
    chance = random.Random(20)
    for _ in range(12):
        shell.write("f.json", old)
        process = subprocess.Popen(["sh", "-c", script], cwd=shell.cwd, env=env, start_new_session=True)
        time.sleep(chance.uniform(0, 1.1 * length))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert shell.read("f.json") in (old, new)
    # What a killed one left behind is in nobody's way.
    shell.write("f.json", old)
    shell.sh(script).check(0)
    assert shell.read("f.json") == new


# Someone cleans up the hidden temporary file while tok-merge is at work on it.
VANISHING = """
import os, sys
from toktools import cli

fsync = os.fsync
def vanish(fd):
    fsync(fd)
    for name in os.listdir():
        if name.startswith(".toktools-"):
            os.unlink(name)
os.fsync = vanish
raise SystemExit(cli.main("merge", sys.argv[1:]))
"""


def test_a_temporary_file_that_vanished(shell: Shell) -> None:
    """A temporary file that someone else removed is one clear line and the old token file, not a traceback."""
    before = contents(shell.cwd)
    done = shell.run(shell.bin / "python", "-c", VANISHING, "-i", "f.json", stdin=STREAM)
    done.check(2, "f.json: no such file or directory")
    assert contents(shell.cwd) == before


def test_a_working_folder_that_was_deleted(shell: Shell) -> None:
    """In a folder that is gone, -o to a relative name is one clear line."""
    script = 'mkdir gone && cd gone && rmdir ../gone && tok-merge -o out.json "$1" 2>&1 1>&3 3>&-'
    done = shell.run("sh", "-c", f"({script}) 3>&1", "sh", shell.cwd / "f.json", stdin=STREAM, env=shell.unmeasured)
    assert b"Traceback" not in done.out
    assert (done.status, done.out) == (2, b"tok-merge: out.json: no such file or directory\n")


# Someone else at work on the same file.


def reformatted(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def same_size(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"signed": ""', b'"signed":"" ', 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def renamed_over(path: Path) -> None:
    other = path.with_name("other.json")
    other.write_bytes(path.read_bytes() + b"\n")
    other.rename(path)


def deleted(path: Path) -> None:
    path.unlink()


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("options", [["-i"], ["-o", "f.json"], ["-o", "link.json"]], ids=" ".join)
@pytest.mark.parametrize("change", [reformatted, cut_short, same_size, renamed_over, deleted, made_a_folder])
def test_a_file_that_someone_else_changed(shell: Shell, options: list[str], change: Callable[[Path], None]) -> None:
    """What someone else did to the token file while tok-merge waited for signatures is not overwritten."""
    os.symlink("f.json", shell.cwd / "link.json")
    process = start(shell, "tok-merge", *options, "f.json", fed=ONE)
    change(shell.cwd / "f.json")
    before = contents(shell.cwd)
    done = finish(process, TWO + THREE).check(2, ".json: ")
    assert done.err.count("\n") == 1
    assert contents(shell.cwd) == before
    if change in (reformatted, cut_short, same_size, renamed_over):
        assert "f.json: another program changed it meanwhile; nothing written" in done.err


def test_a_change_elsewhere_is_no_change(shell: Shell) -> None:
    """A file that was only touched, or changed while another one is written, does not stop tok-merge."""
    process = start(shell, "tok-merge", "-i", "f.json", fed=ONE)
    os.utime(shell.cwd / "f.json", (0, 0))
    finish(process, TWO + THREE).check(0)
    process = start(shell, "tok-merge", "-o", "out.json", "f.json", fed=ONE)
    deleted(shell.cwd / "f.json")
    finish(process, TWO + THREE).check(0)
    assert list(contents(shell.cwd)) == ["out.json"]


def test_two_that_read_the_same_file(shell: Shell) -> None:
    """Of two that have both read the file, the second to finish says that it lost, and the first one's work stays."""
    expected = merged(shell, "-n", "1", stdin=ONE)
    first = start(shell, "tok-merge", "-i", "-n", "1", "f.json", fed=ONE[:9])
    second = start(shell, "tok-merge", "-i", "-n", "2", "f.json", fed=TWO[:9])
    finish(first, ONE[9:]).check(0)
    finish(second, TWO[9:]).check(2, "f.json: another program changed it meanwhile; nothing written")
    assert contents(shell.cwd) == {"f.json": expected}


def test_two_at_the_same_moment(shell: Shell) -> None:
    """However two of them race, at most one loses, says so with exit 2, and no update is lost silently."""
    old = shell.read("f.json")
    for _ in range(10):
        shell.write("f.json", old)
        racers = [
            start(shell, "tok-merge", "-i", "-n", "1", "f.json", fed=ONE[:9]),
            start(shell, "tok-merge", "-i", "-n", "2", "f.json", fed=TWO[:9]),
        ]
        for racer, signature in zip(racers, (ONE, TWO)):
            assert racer.stdin is not None
            racer.stdin.write(signature[9:])
            racer.stdin.close()
            racer.stdin = None  # communicate() would flush it
        ends = [finish(racer) for racer in racers]
        assert sorted(end.status for end in ends) == [0, 2]
        tokens = json.loads(shell.read("f.json"))["tokens"]
        for end, token in zip(ends, tokens):
            assert bool(token["signed"]) == (end.status == 0)
            if end.status:
                end.check(2, "; nothing written")
                assert "another program changed it meanwhile" in end.err or "another program has locked it" in end.err
        assert list(contents(shell.cwd)) == ["f.json"]


# What a file is besides its bytes.


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o644, 0o666, 0o444])
def test_the_mode_is_kept(shell: Shell, mode: int) -> None:
    """A file that is replaced keeps its permissions, whatever the umask."""
    expected = merged(shell)
    for options in ("-i f.json", "-o out.json f.json"):
        shell.write("s", STREAM)
        path = shell.write(options.split()[1], shell.read("f.json"))
        path.chmod(mode)
        shell.sh(f"umask 077; tok-merge {options} < s").check(0)
        assert path.read_bytes() == expected
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(0o644)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_new_file_honours_the_umask(shell: Shell, umask: int) -> None:
    """A file that was not there gets the mode that the umask leaves of 0666."""
    shell.sh(f"umask {umask:o}; tok-merge -o out.json f.json && tok-extract -s t f.json", stdin=STREAM).check(0)
    for name in ("out.json", "t1.bin", "t2.bin", "t3.bin"):
        assert stat.S_IMODE((shell.cwd / name).stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a file away")
def test_the_owner_is_kept(shell: Shell) -> None:
    """A file that is replaced keeps its owner, its group and, although that clears them, its special mode bits."""
    path = shell.cwd / "f.json"
    os.chown(path, 1234, 2345)
    path.chmod(0o2640)
    expected = merged(shell)
    shell.run("tok-merge", "-i", "f.json", stdin=STREAM).check(0)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, 0o2640)
    assert path.read_bytes() == expected


@pytest.mark.parametrize("options", [["-i", "link.json"], ["-o", "link.json", "f.json"], ["-o", "./f.json", "f.json"]])
def test_a_link_stays_a_link(shell: Shell, options: list[str]) -> None:
    """A symbolic link is followed over all its steps, and the file that it leads to is replaced, FILE itself too."""
    (shell.cwd / "folder").mkdir()
    os.symlink("folder/second.json", shell.cwd / "link.json")
    os.symlink("../f.json", shell.cwd / "folder" / "second.json")
    expected = merged(shell)
    shell.run("tok-merge", *options, stdin=STREAM).check(0)
    assert contents(shell.cwd) == {"f.json": expected, "folder": "special", "link.json": "folder/second.json"}
    assert contents(shell.cwd / "folder") == {"second.json": "../f.json"}


def test_a_hard_link_is_another_file(shell: Shell) -> None:
    """-o with another hard link of FILE gives that name the new content, and FILE keeps the old."""
    os.link(shell.cwd / "f.json", shell.cwd / "hard.json")
    before, expected = shell.read("f.json"), merged(shell)
    shell.run("tok-merge", "-o", "hard.json", "f.json", stdin=STREAM).check(0)
    assert contents(shell.cwd) == {"f.json": before, "hard.json": expected}


def test_a_link_to_a_file_that_is_not_there_yet(shell: Shell) -> None:
    """-o through a dangling link makes the file that the link names."""
    os.symlink("new.json", shell.cwd / "link.json")
    before, expected = shell.read("f.json"), merged(shell)
    shell.run("tok-merge", "-o", "link.json", "f.json", stdin=STREAM).check(0)
    assert contents(shell.cwd) == {"f.json": before, "new.json": expected, "link.json": "new.json"}


@pytest.mark.parametrize(
    ("made_by", "options", "said"),
    [
        ("ln -s nowhere.json x", "-i x", "tok-merge: x: no such file or directory"),
        ("ln -s missing/new.json x", "-o x f.json", "tok-merge: x: no such file or directory"),
        ("ln -s x x", "-i x", "tok-merge: x: too many levels of symbolic links"),
        ("ln -s x x", "-o x f.json", "tok-merge: x: too many levels of symbolic links"),
        ("mkdir x", "-i x", "tok-merge: x: not a regular file"),
        ("mkdir x", "-o x f.json", "tok-merge: x: not a regular file"),
        ("mkfifo x", "-o x f.json", "tok-merge: x: not a regular file"),
        ("mkfifo x", "-i x", "tok-merge: x: not a regular file"),
        ("ln -s /dev/null x", "-o x f.json", "tok-merge: x: not a regular file"),
        ("ln -s /dev/null x", "-o /dev/null f.json", "tok-merge: /dev/null: not a regular file"),
        ("mkdir x", "-o missing/x f.json", "tok-merge: missing/x: no such file or directory"),
        ("mkdir x", "-o f.json/x f.json", "tok-merge: f.json/x: not a directory"),
        ("mkdir x", "-o new.json/ f.json", "tok-merge: new.json/: not a regular file"),
        ("mkdir x", "-o new.json/. f.json", "tok-merge: new.json/.: not a regular file"),
        ("mkdir x", "-o /dev/stdout f.json", "tok-merge: /dev/stdout: "),
        ("mkdir x", "-o '' f.json", "tok-merge: "),
        ("mkdir x", "-i -", "tok-merge: -i: standard input cannot be changed in place"),
    ],
)
def test_what_is_not_a_file_to_replace(shell: Shell, made_by: str, options: str, said: str) -> None:
    """Anything but a regular file, or the place for a new one, is refused by its name and left alone."""
    shell.write("s", STREAM)
    shell.sh(made_by).check(0)
    before = contents(shell.cwd)
    done = shell.sh(f"tok-merge {options} < s").check(2, said)
    assert done.out == b""
    assert contents(shell.cwd) == before


def test_digest_files_are_all_written_or_none(shell: Shell) -> None:
    """tok-extract -s touches no file where the last of them cannot be written."""
    shell.write("token1.bin", b"old\n")
    (shell.cwd / "token3.bin").mkdir()
    before = contents(shell.cwd)
    shell.run("tok-extract", "-s", "token", "f.json").check(2, "tok-extract: token3.bin: not a regular file")
    assert contents(shell.cwd) == before


@pytest.mark.parametrize("made_by", ["mv f.json t2.bin", "ln -s f.json t2.bin"])
def test_digest_files_do_not_overwrite_the_token_file(shell: Shell, made_by: str) -> None:
    """tok-extract -s refuses to replace the token file that it reads by one of its digests."""
    shell.sh(made_by).check(0)
    before = contents(shell.cwd)
    shell.run("tok-extract", "-s", "t", "t2.bin").check(2, "t2.bin: ")
    assert contents(shell.cwd) == before


def test_half_a_file_is_not_extracted(shell: Shell) -> None:
    """tok-extract checks the whole file before its first line: a bad last digest gives no output at all."""
    shell.write("f.json", shell.read("f.json").replace(b"z6aW", b"z6a*"))
    done = shell.run("tok-extract", "f.json").check(2, "f.json: token 3: ")
    assert done.out == b""


@pytest.mark.parametrize(
    "command",
    [
        "tok-merge -p public.pem -o public.pem signed.json < stream",
        "tok-merge -n 1 -o one.sig f.json one.sig",
        "tok-merge -o stream f.json < stream",
        "ln one.sig link; tok-merge -n 1 -o link f.json one.sig",
    ],
)
def test_what_is_read_is_not_lost(shell: Shell, command: str) -> None:
    """OUT is none of the files that the signatures or the keys come from."""
    shell.write("stream", STREAM)
    shell.write("one.sig", SIGNATURES[0])
    shell.write("public.pem", OFFICER1_PUB.read_bytes())
    shell.write("signed.json", SIGNED.read_bytes())
    shell.sh(command).check(2, ": this file is also an input, and would be overwritten")
    assert (shell.read("stream"), shell.read("one.sig")) == (STREAM, SIGNATURES[0])
    assert shell.read("public.pem") == OFFICER1_PUB.read_bytes()


def test_out_may_be_the_standard_stream(shell: Shell) -> None:
    """-o - is standard output, as for every filter."""
    assert merged(shell, "-o", "-") == merged(shell)
    assert not (shell.cwd / "-").exists()


def test_digest_files_that_are_one(shell: Shell) -> None:
    """Two names of one file cannot hold two digests."""
    shell.sh("ln -s x2.bin x1.bin").check(0)
    shell.run("tok-extract", "-s", "x", "f.json").check(
        2, "x1.bin: two of the files to write are links to the same file"
    )
    assert not (shell.cwd / "x2.bin").exists()


# Runs tok-merge with an fsync of the folder, the second one, that fails.
FOLDER = """
import os, sys
from toktools import cli
fsync, calls = os.fsync, []
def failing(fd):
    calls.append(fd)
    if len(calls) == 2:
        raise OSError(int(sys.argv[1]), os.strerror(int(sys.argv[1])))
    fsync(fd)
os.fsync = failing
raise SystemExit(cli.main("merge", ["-i", "f.json"]))
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (errno.EINVAL, 0, ""),
        (errno.ENOTSUP, 0, ""),
        (errno.EIO, 2, "tok-merge: f.json: written, but perhaps not yet on the disk: input/output error\n"),
    ],
    ids=["EINVAL", "ENOTSUP", "EIO"],
)
def test_a_folder_that_cannot_be_synced(shell: Shell, number: int, status: int, said: str) -> None:
    """After the rename the file is there, and no message says that it is not."""
    new = merged(shell)
    done = shell.run(shell.bin / "python", "-c", FOLDER, str(number), stdin=STREAM)
    assert done == Done(status, b"", said)
    assert shell.read("f.json") == new


@pytest.mark.parametrize("lock", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_lock(shell: Shell, lock: int) -> None:
    """Who can read a file can lock it, and holds a merge up for a moment only: the content is compared all the same."""
    new = merged(shell)
    with (shell.cwd / "f.json").open() as file:
        fcntl.flock(file, lock)
        assert shell.run("tok-merge", "-i", "f.json", stdin=STREAM, timeout=120) == Done(0, b"", "")
    assert shell.read("f.json") == new
