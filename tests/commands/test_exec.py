"""tok-exec: any signer in place of tok-sign, its mistakes by name, and no command left behind however it ends."""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, Shell, alive, wait_until

SIGNATURE = b"\xa5" * 256
# The first byte of a digest tells the signers below which line it came from.
DIGESTS = [bytes([number]) * 32 for number in range(1, 10)]
# A signer that needs no key: a digest eight times is as long as a signature, and tells which digest it was.
EIGHT_TIMES = ("cat", *["{}"] * 8)
SIGN = 'cat "$1" "$1" "$1" "$1" "$1" "$1" "$1" "$1"'
OPENSSL_SIGN = 'openssl pkeyutl -sign -inkey "$KEY" -pkeyopt digest:sha256'


def stream(*digests: bytes) -> bytes:
    return b"".join(b64encode(digest) + b"\n" for digest in digests)


def signed(*digests: bytes) -> bytes:
    """Return what EIGHT_TIMES and SIGN make of digests."""
    return stream(*(8 * digest for digest in digests))


def by_line(body: str) -> tuple[str, ...]:
    """Return a signer that counts its runs, and knows the number of its line as $line and its file as $1."""
    count = 'echo run >>runs; line=$(od -An -tu1 -N1 "$1"); line=$((line)); '
    return ("sh", "-c", count + body, "sh", "{}")


class Bench:
    """A directory with a temporary directory of its own, where signers write down their process ids and their runs."""

    def __init__(self, shell: Shell, key: Path) -> None:
        self.shell = shell
        self.temporary = shell.cwd / "tmp"
        self.temporary.mkdir()
        self.env = {**shell.unmeasured, "KEY": str(key), "TMPDIR": str(self.temporary)}

    def exec(self, *words: str | Path, stdin: bytes = stream(*DIGESTS[:3]), **more: Any) -> Done:
        return self.shell.run("tok-exec", *words, stdin=stdin, **{"env": self.env, **more})

    def runs(self) -> int:
        path = self.shell.cwd / "runs"
        return len(path.read_text().split()) if path.exists() else 0

    def pids(self, count: int = 0) -> list[int]:
        """Return the process ids that signers wrote down, as soon as there are so many."""
        path = self.shell.cwd / "pids"
        wait_until(lambda: count == 0 or (path.exists() and len(path.read_text().split()) >= count))
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    @contextmanager
    def started(
        self, *words: str, stdin: bytes = stream(*DIGESTS[:3]), **more: Any
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start tok-exec and give it digests, without an end; kill it if the test did not get so far."""
        pipe = subprocess.PIPE
        options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": self.env, "bufsize": 0, **more}
        with self.shell.start("tok-exec", *words, **options) as tool:
            try:
                assert tool.stdin is not None
                tool.stdin.write(stdin)
                yield tool
            finally:
                tool.kill()


@pytest.fixture
def bench(shell: Shell, keys: Path) -> Iterator[Bench]:
    """A bench that is left as it was found: no temporary file, no command."""
    bench = Bench(shell, keys / "pkcs8.pem")
    shell.write("signature.bin", SIGNATURE)
    yield bench
    left = [pid for pid in bench.pids() if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
    assert list(bench.temporary.iterdir()) == []


# What a command is given.


@pytest.mark.parametrize("dashes", [["--"], []], ids=["--", "no --"])
def test_arguments_arrive_as_they_are(bench: Bench, dashes: list[str]) -> None:
    """No shell reads the arguments, and options after COMMAND are COMMAND's own."""
    words = ["-b", "-j", "0", "--help", "--", "-p", "$HOME;*", "a b", "", "{", "}", "\n"]
    bench.shell.write("signer", b"#!/bin/sh\nprintf '%s\\0' \"$@\" >words; cat signature.bin\n").chmod(0o755)
    assert bench.exec(*dashes, "./signer", *words, stdin=stream(DIGESTS[0])) == Done(0, stream(SIGNATURE), "")
    assert bench.shell.read("words").split(b"\0") == [*(word.encode() for word in words), b""]


def test_the_environment_is_that_of_the_caller(bench: Bench) -> None:
    """A command finds the variables that tok-exec was started with, and no others."""
    bench.shell.write("signer", b"#!/bin/sh\nenv | sort >seen; cat signature.bin\n").chmod(0o755)
    bench.shell.run("./signer", env=bench.env).check(0)
    wanted = bench.shell.read("seen")
    assert bench.exec("./signer").check(0).out == stream(*[SIGNATURE] * 3)
    assert bench.shell.read("seen").splitlines() == wanted.splitlines()


def test_signals_are_as_they_were(bench: Bench) -> None:
    """A command inherits no signal that is blocked or ignored, SIGPIPE included."""
    # Were it ignored, yes would go on, and the shell would tell of its error.
    done = bench.exec("-j", "2", "sh", "-c", "yes | head -n 1 >&2; cat signature.bin", stdin=stream(DIGESTS[0]))
    assert done == Done(0, stream(SIGNATURE), "y\n")


def test_a_parent_that_ignores_the_end_of_children(bench: Bench) -> None:
    """A failed command is no success if the parent does not care for its children: trap '' CHLD."""
    script = "trap '' CHLD; tok-exec sh -c 'cat signature.bin; exit 3'; exit $?"
    done = bench.shell.sh(script, stdin=stream(DIGESTS[0]), shell="bash", env=bench.env)
    assert done == Done(2, b"", "tok-exec: standard input: line 1: sh: exit status 3\n")


def test_an_agent_goes_on(bench: Bench) -> None:
    """What a command has started goes on after success, and holds nothing up."""
    done = bench.exec("--", "sh", "-c", "sleep 300 >agent.log 2>&1 & echo $! >>agents; cat signature.bin")
    assert done == Done(0, stream(*[SIGNATURE] * 3), "")
    for pid in bench.shell.read("agents").split():
        os.kill(int(pid), signal.SIGKILL)


# The order, and how many at once.


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_order_is_kept(bench: Bench, jobs: int) -> None:
    """Under -j N, N commands run at once; the signatures come in the order of the lines, not in that of the ends."""
    body = f'echo "+$line" >>log; sleep "0.$((9 - line))"; echo "-$line" >>log; {SIGN}'
    done = bench.exec("-j", str(jobs), *by_line(body), stdin=stream(*DIGESTS[:8]))
    assert done == Done(0, signed(*DIGESTS[:8]), "")
    log = bench.shell.read("log").decode().split()
    depths = [sum(1 if mark[0] == "+" else -1 for mark in log[:end]) for end in range(1, len(log) + 1)]
    assert max(depths) == jobs
    ends = [mark for mark in log if mark[0] == "-"]
    assert (ends == [f"-{line}" for line in range(1, 9)]) == (jobs == 1)


def test_more_jobs_than_files(bench: Bench) -> None:
    """The highest N is no trouble for three digests; a limit on open files is one line that names the line."""
    assert bench.exec("-j", "1000", *EIGHT_TIMES) == Done(0, signed(*DIGESTS[:3]), "")
    script = "ulimit -n 24; exec tok-exec -j 40 sh -c 'sleep 0.3; cat signature.bin'"
    done = bench.shell.sh(script, stdin=stream(*DIGESTS * 5), env=bench.env)
    done.check(2, "tok-exec: standard input: line ", "sh: cannot be run: too many open files")


def test_a_digest_does_not_wait(bench: Bench) -> None:
    """Each signature comes out while the next digest is not there yet."""
    with bench.started("-j", "2", *by_line(SIGN), stdin=b"") as tool:
        assert tool.stdin is not None
        assert tool.stdout is not None
        for digest in DIGESTS[:3]:
            tool.stdin.write(stream(digest))
            assert select.select([tool.stdout], [], [], 20)[0], "no signature"
            assert tool.stdout.readline() == signed(digest)
        tool.stdin.close()
        assert tool.wait(timeout=120) == 0


# What goes wrong.


@pytest.mark.parametrize("jobs", ["1", "4"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("exit 7", "sh: exit status 7"),
        ("cat /dev/zero", "sh: more than 65536 bytes of output"),
    ],
)
def test_a_failure_in_the_middle(bench: Bench, body: str, said: str, jobs: str) -> None:
    """A command that fails is named with its line after the signature before it; no later signature is written."""
    done = bench.exec("-j", jobs, *by_line(f"if [ $line != 2 ]; then {SIGN}; else echo no >&2; {body}; fi"))
    done.check(2, "no\n", f"tok-exec: standard input: line 2: {said}")
    assert done.out == signed(DIGESTS[0])
    if jobs == "1":
        assert bench.runs() == 2


def test_nothing_is_begun_after_a_failure(bench: Bench) -> None:
    """Once a command has failed no other is begun, though the error must wait for the slow line before it."""
    body = f"case $line in 1) sleep 1; {SIGN} ;; 2) exit 1 ;; *) {SIGN} ;; esac"
    done = bench.exec("-j", "2", *by_line(body), stdin=stream(*DIGESTS))
    done.check(2, "line 2: sh: exit status 1")
    assert done.out == signed(DIGESTS[0])
    assert bench.runs() == 2


def test_a_failure_ends_the_others(bench: Bench) -> None:
    """Commands beside the one that fails are ended, and are not waited for."""
    wait = "until [ -e pids ] && [ $(wc -l <pids) = 2 ]; do sleep 0.1; done"
    deaf = "trap '' TERM; while :; do sleep 0.1; done"
    body = f"case $line in 1) {wait}; exit 5 ;; 2) echo $$ >>pids; exec sleep 300 ;; *) echo $$ >>pids; {deaf} ;; esac"
    done = bench.exec("-j", "3", *by_line(body))
    assert (done.status, done.out) == (2, b"")
    assert "tok-exec: standard input: line 1: sh: exit status 5\n" in done.err


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("second", "said"), [(b"\n", "line 2: empty"), (stream(b"short"), "line 2: 5 bytes")])
def test_a_bad_line(bench: Bench, second: bytes, said: str, jobs: str) -> None:
    """A line that is no digest is named after the signature of the line before it, and no command sees it."""
    done = bench.exec("-j", jobs, *by_line(SIGN), stdin=stream(DIGESTS[0]) + second + stream(DIGESTS[2]))
    done.check(2, f"tok-exec: standard input: {said}")
    assert done.out == signed(DIGESTS[0])
    assert bench.runs() == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "missing.pub", "--", *by_line(SIGN)], "missing.pub: no such file or directory"),
        (["-p", "f.json", "--", *by_line(SIGN)], "f.json: a token file, not a public key"),
        (["--approval-data", "-", "--", *by_line(SIGN)], "--approval-data: standard input has the digests"),
        (["--"], "COMMAND is missing"),
        (["--", ""], "the command of the signer is empty\n"),
    ],
)
def test_what_cannot_be_meant(bench: Bench, words: list[str], said: str) -> None:
    """An option that makes no sense is refused before anything is run; so is an empty stream."""
    done = bench.exec(*words).check(2, "tok-exec: ", said)
    assert (done.out, bench.runs()) == (b"", 0)
    bench.exec(*by_line(SIGN), stdin=b"").check(2, "no digests\ntok-exec: hint: the command before it wrote nothing\n")
    assert bench.runs() == 0


def test_no_room_for_a_file(bench: Bench) -> None:
    """The system's reason is told, without TMPDIR too."""
    script = "unset TMPDIR; ulimit -f 0; tok-exec -- cat {}"
    done = bench.shell.sh(script, stdin=stream(*DIGESTS), env=bench.env)
    done.check(2, "cat: a file for the digest, in /tmp: file too large\n")


def test_a_size_that_aws_does_not_document(bench: Bench) -> None:
    """A signature that no RSA-2048 key has made is warned of once, unless -p says whose it is."""
    done = bench.exec("sh", "-c", "head -c 384 /dev/zero").check(0, "tok-exec: warning: a signature of 384 bytes")
    assert done.err.count("\n") == 1
    assert bench.exec("cat", "signature.bin").err == ""


# No command is left behind.

# Signers that take for ever, and how many process ids each of them writes down.
HANGING = {
    "simple": "echo $$ >>pids; exec sleep 300",
    "with a child": "sleep 120 & echo $! >>children; echo $$ >>pids; wait",
    "deaf": "trap '' TERM HUP INT; echo $$ >>pids; while :; do sleep 0.1; done",
    "without output": "exec >&-; echo $$ >>pids; exec sleep 300",
    "stopped": "echo $$ >>pids; kill -STOP $$",
}


@pytest.mark.parametrize(
    ("signer", "number"),
    [*((name, signal.SIGTERM) for name in HANGING), ("simple", signal.SIGHUP), ("simple", signal.SIGINT)],
    ids=str,
)
def test_a_signal_to_tok_exec_alone(bench: Bench, signer: str, number: signal.Signals) -> None:
    """Whichever signal ends tok-exec, it dies of it without a word, and so do its commands, but not their children."""
    with bench.started("-j", "4", "--", "sh", "-c", HANGING[signer], "sh", "{}", stdin=stream(*DIGESTS)) as tool:
        bench.pids(4)
        time.sleep(0.1)  # until it waits for what will not come
        tool.send_signal(number)
        assert tool.wait(timeout=120) == -number
        assert not any(map(alive, bench.pids()))
        if signer == "with a child":
            for child in map(int, (bench.shell.cwd / "children").read_text().split()):
                assert alive(child)
                os.kill(child, signal.SIGKILL)
        assert tool.stdout is not None
        assert tool.stdout.read() == b""
        if signer != "with a child":  # which has tok-exec's standard error
            assert tool.stderr is not None
            assert tool.stderr.read() == b""


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_a_signal_at_any_moment(bench: Bench, jobs: str) -> None:
    """Also while a command is being started, which may take long: no command stays, no file, and it ends at once."""
    bench.env["PATH"] = "x:" * 20_000 + bench.env["PATH"]
    body = "echo $$ >>pids; exec sleep 300"
    for _ in range(12):
        command = (str(bench.shell.bin / "tok-exec"), "-j", jobs, "--", "sh", "-c", body, "sh", "{}")
        pipe = subprocess.PIPE
        with bench.shell.start(*command, stdin=pipe, stderr=pipe, env=bench.env) as tool:
            assert tool.stdin is not None
            tool.stdin.write(stream(*DIGESTS))
            tool.stdin.flush()
            time.sleep(random.uniform(0.1, 0.6))
            tool.terminate()
            assert tool.wait(timeout=120) == -signal.SIGTERM
            assert tool.stderr is not None
            assert tool.stderr.read() == b""
        assert not any(map(alive, bench.pids()))
        assert list(bench.temporary.iterdir()) == []


@pytest.mark.parametrize("signer", ["simple", "deaf"])
def test_ctrl_c(bench: Bench, signer: str) -> None:
    """Ctrl-C on a terminal, which reaches the whole foreground group, ends tok-exec by SIGINT and leaves no command."""
    screen, line = pty.openpty()
    words = ("-j", "2", "--", "sh", "-c", HANGING[signer], "sh", "{}")
    try:
        with bench.started(*words, terminal=os.ttyname(line)) as tool:
            bench.pids(2)
            time.sleep(0.1)
            os.write(screen, b"\x03")
            assert tool.wait(timeout=120) == -signal.SIGINT
            assert not any(map(alive, bench.pids()))
            assert tool.communicate(timeout=120) == (b"", b"")
    finally:
        os.close(line)
        os.close(screen)


def test_a_reader_that_went_away(bench: Bench) -> None:
    """A closed pipe downstream, as of head -n 1, ends tok-exec by SIGPIPE, silently, and ends the commands."""
    go = f"while [ ! -e go ]; do sleep 0.1; done; {SIGN}"
    body = f"case $line in 1) {SIGN} ;; 2) {go} ;; *) {HANGING['simple']} ;; esac"
    with bench.started("-j", "2", *by_line(body)) as tool:
        assert tool.stdout is not None
        assert tool.stdout.readline() == signed(DIGESTS[0])
        tool.stdout.close()
        bench.pids(1)
        (bench.shell.cwd / "go").touch()
        assert tool.wait(timeout=120) == -signal.SIGPIPE
        assert tool.stderr is not None
        assert tool.stderr.read() == b""
        assert not any(map(alive, bench.pids()))
