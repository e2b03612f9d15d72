"""All or nothing: whatever goes wrong, a token file is wholly old or wholly new, and nothing lies beside it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import OFFICER1_PUB, SIGNED, Done, Shell, full_device, need, only_if

from toktools.system import process

SIGNATURES = [base64.b64decode(token["signed"]) for token in json.loads(SIGNED.read_bytes())["tokens"]]
ONE, TWO, THREE = (base64.b64encode(signature) + b"\n" for signature in SIGNATURES)
STREAM = ONE + TWO + THREE
AS_ROOT = os.geteuid() == 0


def line(size: int) -> bytes:
    """Return a line for a signature of this size."""
    return base64.b64encode(b"\xa5" * size) + b"\n"


def contents(directory: Path) -> dict[str, bytes | str]:
    """Return every name in a directory, the hidden ones too, with what a file holds or a link points at."""
    found: dict[str, bytes | str] = {}
    for path in directory.iterdir():
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
    "not base64": (ONE + b"Error: no such key\n" + THREE, "line 2: "),
    "cut": (STREAM[:-9], "line 3: wrong size"),
}


@pytest.mark.parametrize("options", ["-i", "-o out.json", ""])
@pytest.mark.parametrize("case", BAD_STREAMS)
def test_a_bad_stream_changes_nothing(shell: Shell, case: str, options: str) -> None:
    """What `| sponge f` destroys: a stream with anything wrong in it is refused, and no file is changed or made."""
    stream, said = BAD_STREAMS[case]
    shell.write("out.json", b"old\n")
    before = contents(shell.cwd)
    done = shell.run("tok-merge", *options.split(), "f.json", stdin=stream)
    done.check(2, "tok-merge: f.json: ", said, "; nothing written\n")
    assert done.out == b""
    assert contents(shell.cwd) == before


# Full disks, directories that cannot be written.


def in_own_mounts(shell: Shell, script: str) -> Done:
    """Run a script that may mount, in a name space that takes the mounts with it when it ends."""
    need("unshare", "mount")
    mounted = shell.run("unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", shell.cwd)
    only_if(mounted.status == 0, "this system does not let its users mount in a name space of their own")
    shell.write("s", STREAM)
    return shell.run("unshare", "-rm", "sh", "-e", "-c", f"mkdir disk; {script}")


# Ends as the tool did, after a look at the mounted directory.
AND_LOOK = "&& status=0 || status=$?; ls -A disk; cmp disk/f.json f.json || status=99; exit $status"


@pytest.mark.parametrize("options", ["-i", "-o disk/out.json"])
@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("-o size=32k tmpfs disk; cp f.json disk; head -c 99999 /dev/zero > disk/filler || true", "no space left on"),
        ("tmpfs disk; cp f.json disk; mount -o remount,bind,ro disk", "read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing(shell: Shell, options: str, mount: str, said: str) -> None:
    """The token file stays whole, the message says so, and no temporary file takes room."""
    done = in_own_mounts(shell, f"mount -t tmpfs {mount}; tok-merge {options} disk/f.json < s {AND_LOOK}")
    done.check(2, said)
    assert set(done.out.split()) <= {b"f.json", b"filler"}


def test_digest_files(shell: Shell) -> None:
    """tok-extract -s touches no file if one of them may not be replaced."""
    shell.write("token1.bin", b"old\n")
    (shell.cwd / "token3.bin").mkdir()
    before = contents(shell.cwd)
    done = shell.run("tok-extract", "-s", "token", "f.json").check(2)
    assert done.err == "tok-extract: token3.bin: not a regular file\n"
    assert contents(shell.cwd) == before


def test_a_disk_that_fills_between_two_digests(shell: Shell) -> None:
    """The files before it are written, each of them whole, and the message says so."""
    # The root directory takes one inode, f.json one, token1.bin and token2.bin the others.
    mount = "mount -t tmpfs -o nr_inodes=4 tmpfs disk; cp f.json disk"
    done = in_own_mounts(shell, f"{mount}; cd disk; tok-extract -s token f.json && exit 99; wc -c token*")
    assert "token3.bin: cannot write in its directory: no space left on device" in done.err
    assert done.err.endswith("; the files before it are written\n")
    assert done.out.split() == [b"32", b"token1.bin", b"32", b"token2.bin", b"64", b"total"]


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
    full_device()
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

# Writes a file that it has read, and ends itself at the n-th of the calls by which it touches the world.
DRIVER = """
import os, sys
from toktools.system import files, process
from toktools.system.atomic import write_atomically

process.restore_default_signals()
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

for name in "close fchmod fchown fstat fsync open pread read replace stat unlink write".split():
    setattr(os, name, counted(name))
write_atomically("f.json", [b"new content"], seen=files.read("f.json", 10000))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, *process.FATAL], ids=lambda number: number.name)
def test_death_at_every_stage(shell: Shell, number: signal.Signals) -> None:
    """Killed at whichever of its calls, it leaves the old file or the new one; a kind signal no other."""
    old = shell.read("f.json")
    seen = []
    for point in range(1, 100):
        shell.write("f.json", old)
        command: list[str | Path] = [shell.bin / "python", "-c", DRIVER, str(int(number)), str(point)]
        done = shell.run(*command, env=shell.unmeasured)
        seen.append(shell.read("f.json"))
        left = [path for path in shell.cwd.iterdir() if path.name != "f.json"]
        # Nobody can clean up after kill -9; all that it may leave is one hidden file.
        assert len(left) <= (number == signal.SIGKILL), point
        for path in left:
            assert path.name.startswith(".toktools-"), point
            path.unlink()
        if done.status == 0:  # it needs no more calls than this
            break
        assert done == Done(-number, b"", ""), point
    # It never goes back: once the new file is there it stays.
    assert seen == [old] * seen.count(old) + [b"new content"] * seen.count(b"new content")
    assert seen[0] == old
    assert seen[-1] == b"new content"


def test_a_working_directory_that_was_deleted(shell: Shell) -> None:
    """In a directory that is gone, -o to a relative name is one clear line."""
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


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("options", [["-i"], ["-o", "f.json"], ["-o", "link.json"]], ids=" ".join)
@pytest.mark.parametrize("change", [reformatted, cut_short, same_size, renamed_over, deleted, made_a_directory])
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
        name = "link.json" if "link.json" in options else "f.json"
        assert f"{name}: another program changed it meanwhile; nothing written" in done.err


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
                end.check(2, "another program changed it meanwhile; nothing written")
        assert list(contents(shell.cwd)) == ["f.json"]


# What is no file to write.


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
        ("mkdir x", "-o '' f.json", "tok-merge: '': an empty name"),
        ("mkdir x", "-o new.json/ f.json", "tok-merge: new.json/: no such directory"),
        ("mkdir x", "-o new.json/. f.json", "tok-merge: new.json/.: no such directory"),
        ("mkdir x", "-o /dev/stdout f.json", "tok-merge: /dev/stdout: "),
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
