"""tok-sign on all cores: the same stream whatever -j says, at once, and ended by signals as cat(1) is."""

from __future__ import annotations

import select
import signal
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from conftest import Shell, full_device, need

# Many enough for threads, and not a multiple of what a thread takes at once.
DIGESTS = [number.to_bytes(32, "big") for number in range(1, 334)]


def stream(*digests: bytes) -> bytes:
    return b"".join(b64encode(digest) + b"\n" for digest in digests)


def lines(tool: subprocess.Popen[bytes], count: int) -> int:
    """Count the lines that come out, until there are so many or nothing comes for long."""
    assert tool.stdout is not None
    found = 0
    while found < count and select.select([tool.stdout], [], [], 20)[0]:
        found += tool.stdout.read(1 << 16).count(b"\n")
    return found


def test_the_bytes_do_not_depend_on_jobs(shell: Shell, keys: Path) -> None:
    """One thread, two, and more than there are digests: the same signatures in order, and the same error."""
    sign = ("tok-sign", "-k", keys / "pkcs8.pem")
    one = shell.run(*sign, "-j", "1", stdin=stream(*DIGESTS)).check(0).out
    assert one.count(b"\n") == len(set(one.splitlines())) == len(DIGESTS)
    for words in ([], ["-j", "2"], ["-j1000"]):
        assert shell.run(*sign, *words, stdin=stream(*DIGESTS)).check(0).out == one
        done = shell.run(*sign, *words, stdin=stream(*DIGESTS[:200]) + b"x\n" + stream(*DIGESTS))
        done.check(2, "tok-sign: standard input: line 201: not canonical base64")
        assert done.out == b"".join(one.splitlines(keepends=True)[:200])


@pytest.mark.parametrize("command", [("tok-sign", "-k", "k"), ("tok-exec", "true")], ids=lambda command: command[0])
def test_wrong_number_of_jobs(shell: Shell, command: tuple[str, ...]) -> None:
    """What is no number from 1 to 1000 is refused before anything is read."""
    name, *words = command
    for jobs in ("0", "-1", "1001", "x", "", "1.5", "+2", " 1", "1_0", "\u0662"):
        done = shell.run(name, f"-j{jobs}" if jobs else "--jobs=", *words)
        done.check(2, f"{name}: -", "not a number from 1 to 1000")
        assert done.out == b""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_signature_does_not_wait_for_the_next_digest(shell: Shell, keys: Path, jobs: str) -> None:
    """Each signature comes out while the next digest is not there yet, at the start, and when threads are at work."""
    pipe = subprocess.PIPE
    command = ("tok-sign", "-k", keys / "pkcs8.pem", "-j", jobs)
    with shell.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=shell.unmeasured, bufsize=0) as tool:
        try:
            assert tool.stdin is not None
            for some in (DIGESTS[:1], DIGESTS[1:2], DIGESTS, DIGESTS[:1], DIGESTS[:20]):
                tool.stdin.write(stream(*some))
                assert lines(tool, len(some)) == len(some)
            tool.stdin.close()
            assert tool.wait(timeout=120) == 0
        finally:
            tool.kill()


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGPIPE])
def test_signals(shell: Shell, keys: Path, jobs: str, number: signal.Signals) -> None:
    """While it signs, a signal and a closed pipe end it as they end cat(1), without a word."""
    need("yes")
    pipe = subprocess.PIPE
    command = ("tok-sign", "-j", jobs, "-k", keys / "pkcs8.pem")
    with (
        subprocess.Popen(["yes", stream(DIGESTS[0]).decode().strip()], stdout=pipe) as endless,
        shell.start(*command, stdin=endless.stdout, stdout=pipe, stderr=pipe, env=shell.unmeasured) as tool,
    ):
        try:
            assert lines(tool, 100) >= 100
            assert tool.stdout is not None
            assert tool.stderr is not None
            if number == signal.SIGPIPE:
                tool.stdout.close()
            else:
                tool.send_signal(number)
            assert tool.wait(timeout=120) == -number
            assert tool.stderr.read() == b""
        finally:
            tool.kill()
            endless.kill()


def test_a_full_disk(shell: Shell, keys: Path) -> None:
    """A write error ends it in one line while the threads are still at work."""
    done = shell.sh(f"tok-sign -j 2 -k {keys / 'pkcs8.pem'} > {full_device()}", stdin=stream(*DIGESTS * 5))
    done.check(2, "tok-sign: standard output: no space left on device")
    assert done.err.count("\n") == 1
