"""tok-sign on all cores: the same stream whatever -j says, nobody is kept waiting, and errors come in their place."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Shell, need

# Many enough for threads, and not a multiple of what a thread takes at once.
DIGESTS = [number.to_bytes(32, "big") for number in range(1, 334)]
# tok-sign with a signer that needs no key, which is broken for one digest; and how many threads there were.
STAND_IN = """
import sys, threading
from toktools.errors import ToktoolsError
from toktools.commands import sign
from toktools.keys import files, pkcs11, signer

broken, key = int(sys.argv[1]), sys.argv[2]
threads = set()

def stand_in(_self, digest):
    threads.add(threading.current_thread())
    if int.from_bytes(digest, "big") == broken:
        raise ToktoolsError("broken")
    return 8 * digest

class Card(signer.Signer):
    is_quick = True

    def max_parallel(self, requested):
        return 1

Card.sign = files.KeyInMemory.sign = stand_in
pkcs11.open_signer = lambda *_: Card()
status = sign.main(["-k", key, *sys.argv[3:]])
print(len(threads - {threading.main_thread()}), file=sys.stderr)
raise SystemExit(status)
"""


def stream(*digests: bytes) -> bytes:
    return b"".join(b64encode(digest) + b"\n" for digest in digests)


@contextmanager
def signer(shell: Shell, keys: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start tok-sign with pipes on all sides; kill it where the test did not get so far."""
    pipe = subprocess.PIPE
    command = ("tok-sign", "-k", str(keys / "pkcs8.pem"), *words)
    with shell.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=shell.unmeasured, bufsize=0) as tool:
        try:
            yield tool
        finally:
            tool.kill()


def lines(tool: subprocess.Popen[bytes], count: int) -> int:
    """Count the lines that come out, until there are so many or nothing comes for long."""
    assert tool.stdout is not None
    found = 0
    while found < count and select.select([tool.stdout], [], [], 20)[0]:
        found += tool.stdout.read(1 << 16).count(b"\n")
    return found


def test_the_bytes_do_not_depend_on_jobs(shell: Shell, keys: Path) -> None:
    """One thread, two, more than there are digests, and as many as there are cores: the same signatures in order."""
    sign = ("tok-sign", "-k", keys / "pkcs8.pem")
    one = shell.run(*sign, "-j", "1", stdin=stream(*DIGESTS)).check(0).out
    assert one.count(b"\n") == len(set(one.splitlines())) == len(DIGESTS)
    for words in ([], ["-j", "2"], ["-j", "7"], ["-j1000"]):
        assert shell.run(*sign, *words, stdin=stream(*DIGESTS)).check(0).out == one


@pytest.mark.parametrize("jobs", ["0", "-1", "1001", "x", "", "1.5", "+2", "\u0662"])
@pytest.mark.parametrize("command", [("tok-sign", "-k", "k"), ("tok-exec", "true")], ids=lambda command: command[0])
def test_wrong_number_of_jobs(shell: Shell, command: tuple[str, ...], jobs: str) -> None:
    """What is no number from 1 to 1000 is refused before anything is read."""
    name, *words = command
    done = shell.run(name, "-j", jobs, *words).check(2, f"{name}: -j: not a number from 1 to 1000")
    assert done.out == b""


@pytest.mark.parametrize("jobs", ["1", "2", "8"])
@pytest.mark.parametrize("number", [1, 2, 200, 333])
def test_wrong_line(shell: Shell, keys: Path, number: int, jobs: str) -> None:
    """A wrong line ends it after every signature before it, with the number of the line."""
    before = stream(*DIGESTS[: number - 1])
    done = shell.run("tok-sign", "-j", jobs, "-k", keys / "pkcs8.pem", stdin=before + b"x\n" + stream(*DIGESTS))
    done.check(2, f"tok-sign: standard input: line {number}: not canonical base64")
    assert done.out.count(b"\n") == number - 1


@pytest.mark.parametrize("jobs", [1, 2, 8])
@pytest.mark.parametrize("number", [1, 2, 16, 17, 200, 333])
def test_failing_digest(shell: Shell, keys: Path, number: int, jobs: int) -> None:
    """Where one digest cannot be signed, all before it are written, none after it, and the line is named."""
    words = ("-c", STAND_IN, str(number), keys / "pkcs8.pem", "-j", str(jobs))
    done = shell.run(shell.bin / "python", *words, stdin=stream(*DIGESTS))
    done.check(2, f"tok-sign: standard input: line {number}: broken")
    assert done.out == stream(*(8 * digest for digest in DIGESTS[: number - 1]))


@pytest.mark.parametrize(
    ("digests", "words", "threads"),
    [
        (DIGESTS[:28], ("pkcs8.pem", "-j", "2"), {0}),  # a full cluster
        (DIGESTS, ("pkcs8.pem", "-j", "2"), {1, 2}),
        (DIGESTS, ("pkcs8.pem", "-j", "1"), {0}),
        (DIGESTS, ("pkcs11:token=officers", "-j", "2"), {0}),
    ],
    ids=["a handful", "many", "-j 1", "a token"],
)
def test_threads(shell: Shell, keys: Path, digests: list[bytes], words: tuple[str, ...], threads: set[int]) -> None:
    """A handful is signed without threads, and so is everything by a token, which is asked for one at a time."""
    done = shell.run(shell.bin / "python", "-c", STAND_IN, "0", *words, stdin=stream(*digests), cwd=keys).check(0)
    assert done.out == stream(*(8 * digest for digest in digests))
    assert int(done.err) in threads


@pytest.mark.parametrize("jobs", ["1", "2", "8"])
def test_a_signature_does_not_wait_for_the_next_digest(shell: Shell, keys: Path, jobs: str) -> None:
    """Each signature comes out while the next digest is not there yet, at the start, and when threads are at work."""
    with signer(shell, keys, "-j", jobs) as tool:
        assert tool.stdin is not None
        for some in (DIGESTS[:1], DIGESTS[1:2], DIGESTS, DIGESTS[:1], DIGESTS[1:2], DIGESTS[:20]):
            tool.stdin.write(stream(*some))
            assert lines(tool, len(some)) == len(some)
        tool.stdin.close()
        assert tool.wait(timeout=120) == 0


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_signals(shell: Shell, keys: Path, jobs: str) -> None:
    """While it signs, Ctrl-C and a closed pipe end it as they end cat(1), without a word."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        # Without an end, as from yes(1).
        with (
            subprocess.Popen(["yes", stream(DIGESTS[0]).decode().strip()], stdout=subprocess.PIPE) as endless,
            shell.start(
                *("tok-sign", "-j", jobs, "-k", keys / "pkcs8.pem"),
                stdin=endless.stdout,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=shell.unmeasured,
            ) as tool,
        ):
            try:
                assert lines(tool, 100) >= 100
                if number == signal.SIGINT:
                    tool.send_signal(number)
                elif tool.stdout is not None:
                    tool.stdout.close()
                assert tool.wait(timeout=120) == -number
                assert tool.stderr is not None
                assert tool.stderr.read() == b""
            finally:
                tool.kill()
                endless.kill()


def test_a_full_disk(shell: Shell, keys: Path) -> None:
    """A write error ends it in one line while the threads are still at work."""
    done = shell.sh(f"tok-sign -j 2 -k {keys / 'pkcs8.pem'} > /dev/full", stdin=stream(*DIGESTS * 5))
    done.check(2, "tok-sign: standard output: no space left on device")
    assert done.err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_no_thread_at_all(shell: Shell, keys: Path) -> None:
    """Where no thread can be started, the plain loop signs them all."""
    script = """
import sys, threading
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
from toktools.commands import sign
raise SystemExit(sign.main(["-j", "4", "-k", sys.argv[1]]))
"""
    command = (shell.bin / "python", "-c", script, keys / "pkcs8.pem")
    done = shell.run(*command, stdin=stream(*DIGESTS))
    assert (done.check(0).out.count(b"\n"), done.err) == (len(DIGESTS), "")


def test_no_room_for_threads(shell: Shell, keys: Path) -> None:
    """Where only some of the threads can be started, those sign."""
    need("prlimit")
    command = ("prlimit", "--as=1000000000", "tok-sign", "-j", "1000", "-k", keys / "pkcs8.pem")
    done = shell.run(*command, stdin=stream(*DIGESTS), env=shell.unmeasured)
    assert (done.check(0).out.count(b"\n"), done.err) == (len(DIGESTS), "")
