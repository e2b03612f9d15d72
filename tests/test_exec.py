"""tok-exec: any signer in place of tok-sign, its mistakes by name, and nobody left behind however it ends."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Done, Shell, need, wait_until
from test_interop import OPENSSL_SIGN, Desk

SIGNATURE = b"\xa5" * 256
# The first byte of a digest tells the signers below which line it came from.
DIGESTS = [bytes([number]) * 32 for number in range(1, 10)]
# A signer that needs no key: a digest eight times is as long as a signature, and tells which digest it was.
EIGHT_TIMES = ("cat", *["{}"] * 8)
# What a signer does first, where a test counts the runs and treats the lines differently.
COUNT = 'echo run >>runs; line=$(od -An -tu1 -N1 "$1"); line=$((line)); '
SIGN = 'cat "$1" "$1" "$1" "$1" "$1" "$1" "$1" "$1"'
DEADLY = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
# Longer than any test waits.
FOREVER = "sleep 300"


def stream(*digests: bytes) -> bytes:
    return b"".join(b64encode(digest) + b"\n" for digest in digests)


def signed(*digests: bytes) -> bytes:
    """Return what EIGHT_TIMES and SIGN make of digests."""
    return stream(*(8 * digest for digest in digests))


def by_line(body: str) -> tuple[str, ...]:
    """Return a signer that counts its runs, and knows the number of its line as $line and its file as $1."""
    return ("sh", "-c", COUNT + body, "sh", "{}")


def alive(pid: int) -> bool:
    """Say whether a process is there, and no zombie that only waits for init to take note of it."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


PATIENT = """
from toktools import cli
from toktools.keys import command
command._GRACE = 60.0
cli.run("exec")
"""


class Bench(Desk):
    """A folder with a temporary folder of its own, where signers write down their process ids, and their runs."""

    def __init__(self, shell: Shell, key: Path) -> None:
        super().__init__(shell, key)
        self.folder = shell.cwd / "tmp"
        self.folder.mkdir()
        self.env = {**shell.unmeasured, "KEY": str(key), "TMPDIR": str(self.folder)}

    def exec(self, *words: str | Path, stdin: bytes = stream(*DIGESTS[:3]), **more: Any) -> Done:
        return self.shell.run("tok-exec", *words, stdin=stdin, **{"env": self.env, **more})

    def runs(self) -> int:
        path = self.shell.cwd / "runs"
        return len(path.read_text().split()) if path.exists() else 0

    def pids(self, count: int = 0) -> list[int]:
        """Return the process ids that signers wrote down, as soon as there are so many."""
        path = self.shell.cwd / "pids"
        deadline = time.monotonic() + 120
        while True:
            found = [int(pid) for pid in path.read_text().split()] if path.exists() else []
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, "the signer does not start"
            time.sleep(0.01)

    def left(self) -> list[int]:
        """Return the process ids of those that are still there; one that was killed may take a moment."""
        deadline = time.monotonic() + 120
        while (found := [pid for pid in self.pids() if alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    @contextmanager
    def started(
        self, *words: str, stdin: bytes = stream(*DIGESTS[:3]), patient: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start tok-exec and give it digests, without an end; kill it where the test did not get so far.

        Where it is patient, it gives deaf commands a minute in place of two seconds.
        """
        tool_words = (str(self.shell.bin / "python"), "-c", PATIENT) if patient else ("tok-exec",)
        pipe = subprocess.PIPE
        with self.shell.start(
            *tool_words, *words, stdin=pipe, stdout=pipe, stderr=pipe, env=self.env, bufsize=0
        ) as tool:
            try:
                assert tool.stdin is not None
                tool.stdin.write(stdin)
                yield tool
            finally:
                tool.kill()
                self.tidy()

    def tidy(self) -> None:
        for pid in self.pids():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def ended(tool: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait for a tool, but not long; what it wrote is read only when nobody can write any more."""
    tool.wait(timeout=120)
    out, err = tool.communicate(timeout=120)
    return tool.returncode, out, err


@pytest.fixture
def bench(shell: Shell, keys: Path) -> Iterator[Bench]:
    """A bench that is left as it was found: no temporary file, no process."""
    bench = Bench(shell, keys / "pkcs8.pem")
    shell.write("signature.bin", SIGNATURE)
    yield bench
    left = bench.left()
    bench.tidy()
    assert left == []
    assert list(bench.folder.iterdir()) == []


# The same bytes as openssl's.

CALLS = {
    "standard input": f"tok-exec -- {OPENSSL_SIGN}",
    "without --": f"tok-exec {OPENSSL_SIGN}",
    "a file": f"tok-exec -- {OPENSSL_SIGN} -in {{}}",
    "verified": f'tok-exec -p "$KEY" -j 2 -- {OPENSSL_SIGN}',
    "base64": f"tok-exec -b -- sh -c '{OPENSSL_SIGN} | base64 -w0'",
    "base64, wrapped": f"tok-exec -b -- sh -c '{OPENSSL_SIGN} | base64'",
    "base64, wrapped by openssl": f"tok-exec -b -- sh -c '{OPENSSL_SIGN} | openssl base64'",
    "base64 and white space": f"tok-exec -b -- sh -c 'printf \" \\r\\n\\t\"; {OPENSSL_SIGN} | base64 -w0; echo; echo'",
    "base64, -p and -j": f'tok-exec -bp "$KEY" -j3 sh -c \'{OPENSSL_SIGN} -in "$1" | base64 -w0\' sh {{}}',
    "tok-sign": 'tok-exec tok-sign -r -k "$KEY"',
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_bytes_are_those_of_openssl(bench: Bench, call: str) -> None:
    """Whichever way the signer takes the digest and gives the signature, the stream is what openssl makes."""
    need("base64")
    assert bench.sh(f"tok-extract f.json | {call}") == stream(*bench.openssl_signatures())


@pytest.mark.parametrize("dashes", [["--"], []], ids=["--", "no --"])
def test_arguments_arrive_as_they_are(bench: Bench, dashes: list[str]) -> None:
    """No shell reads the arguments, and options after COMMAND are COMMAND's own."""
    words = ["-b", "-j", "0", "--help", "--", "-p", "$HOME;*", "a b", "", "{", "}", "\n"]
    bench.shell.write("signer", b"#!/bin/sh\nprintf '%s\\0' \"$@\" >words; cat signature.bin\n").chmod(0o755)
    assert bench.exec(*dashes, "./signer", *words, stdin=stream(DIGESTS[0])) == Done(0, stream(SIGNATURE), "")
    assert bench.shell.read("words").split(b"\0") == [*(word.encode() for word in words), b""]


@pytest.mark.parametrize(
    ("reads", "got"),
    [
        ("cat", 32),
        ("sleep 0.2; cat", 32),
        ("dd bs=1 2>/dev/null", 32),
        ("dd bs=1000 count=1 2>/dev/null", 32),  # a reader that takes one read(2) for all, as pkcs11-tool does
        ("head -c 5", 5),
        (":", 0),
        ("exec <&-; :", 0),
    ],
)
def test_the_whole_digest_is_there(bench: Bench, reads: str, got: int) -> None:
    """A command finds all 32 bytes and then the end, however it reads; if it reads less, that is its own affair."""
    digests = [bytes([number]) * 31 + b"\n" for number in (1, 2)]
    done = bench.exec("sh", "-c", f"{{ {reads}; }} >$$.read; cat signature.bin", stdin=stream(*digests))
    assert done == Done(0, stream(SIGNATURE, SIGNATURE), "")
    found = sorted(path.read_bytes() for path in bench.shell.cwd.glob("*.read"))
    assert found == [digest[:got] for digest in digests]


# The file that stands for {}.


def test_the_file_holds_the_digest(bench: Bench) -> None:
    """{} stands anywhere in an argument, more than once, for a file that its owner alone can read."""
    # The names as they came, and the permissions of the folder and the file.
    look = 'echo "$2" >>names; ls -ld "${1%/*}" "$1" | cut -c1-10 >>modes; cat "$1"; tail -c +8 >/dev/null; '
    signer = f'set -- "${{1#fileb://}}" "$2"; {look} cat "$1" "$1" "$1" "$1" "$1" "$1" "$1"'
    done = bench.exec("-j", "2", "--", "sh", "-c", signer, "sh", "fileb://{}", "{},x{}{{}}")
    assert done == Done(0, signed(*DIGESTS[:3]), "")
    assert bench.shell.read("modes") == b"drwx------\n-rw-------\n" * 3
    for name in bench.shell.read("names").decode().splitlines():
        first, second = name.split(",")
        assert Path(first).parent.parent == bench.folder
        assert second == f"x{first}{{{first}}}"
        assert not Path(first).exists()


def test_a_signer_may_remove_its_file(bench: Bench) -> None:
    """A file that the command removed or renamed itself is nobody's trouble."""
    signer = f'{SIGN}; rm "$1"'
    assert bench.exec("sh", "-c", signer, "sh", "{}") == Done(0, signed(*DIGESTS[:3]), "")


# The order, and how many at once.


@pytest.mark.parametrize("jobs", [1, 2, 4])
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


def test_more_jobs_than_digests(bench: Bench) -> None:
    """The highest N is no trouble for three digests."""
    assert bench.exec("-j", "1000", *EIGHT_TIMES) == Done(0, signed(*DIGESTS[:3]), "")


def test_jobs_that_need_more_files_than_there_are(bench: Bench) -> None:
    """More commands at once than the limit on open files allows is one line that names the line and the reason."""
    signer = ("sh", "-c", "sleep 0.3; cat signature.bin")
    script = 'ulimit -n 24; exec tok-exec -j 40 "$@"'
    done = bench.shell.run("sh", "-c", script, "sh", *signer, stdin=stream(*DIGESTS * 5), env=bench.env)
    done.check(2, "tok-exec: standard input: line ", "too many open files")
    # A shell that is ended with the others may say so itself.
    assert [line.partition(":")[0] for line in done.err.splitlines() if line != "Terminated"] == ["tok-exec"]


@pytest.mark.parametrize("jobs", ["1", "2", "4"])
def test_a_signature_does_not_wait_for_the_next_digest(bench: Bench, jobs: str) -> None:
    """Each signature comes out while the next digest is not there yet."""
    with bench.started("-j", jobs, *EIGHT_TIMES, stdin=b"") as tool:
        assert tool.stdin is not None
        assert tool.stdout is not None
        for digest in DIGESTS[:3]:
            tool.stdin.write(stream(digest))
            assert select.select([tool.stdout], [], [], 20)[0], "no signature"
            assert tool.stdout.readline() == signed(digest)
        tool.stdin.close()
        assert tool.wait(timeout=120) == 0


# What goes wrong.

# What the signer does with the second of three digests, its options, and what is said of it.
FAILURES = {
    "exit status": ("exit 7", "", "exit status 7"),
    "exit status after a signature": (f"{SIGN}; exit 1", "", "exit status 1"),
    "killed": ("kill -9 $$", "", "killed by signal 9 (Killed)"),
    "ended": ("kill -15 $$", "", "killed by signal 15 (Terminated)"),
    "nothing": (":", "", "no output"),
    "closed output": ("exec >&-", "", "no output"),
    "text": ("echo 'Error: no such key'", "", "its output is not a signature: not base64"),
    "base64": (
        "base64 -w0 signature.bin",
        "",
        "its output is not a signature: base64 text\ntok-exec: hint: use -b for base64",
    ),
    "255 bytes": ("head -c 255 signature.bin", "", "its output is not a signature: wrong size: 255 bytes"),
    "257 bytes": ("cat signature.bin; echo", "", "its output is not a signature: wrong size: 257 bytes"),
    "two signatures": ("cat signature.bin signature.bin signature.bin; echo", "", "wrong size: 769 bytes"),
    "the digest": ('cat "$1"', "", "its output is not a signature: wrong size: 32 bytes"),
    "endless": ("exec cat /dev/zero", "", "more than 65536 bytes of output"),
    "endless, from a child": ("cat /dev/zero", "", "more than 65536 bytes of output"),
    "raw with -b": (
        "cat signature.bin",
        "-b",
        "its output is not a signature: raw bytes\ntok-exec: hint: leave out -b",
    ),
    "nothing with -b": (":", "-b", "no output"),
    "a newline with -b": ("echo", "-b", "its output is not a signature: empty"),
    "two signatures with -b": (
        "base64 -w0 signature.bin; base64 signature.bin",
        "-b",
        "its output is not a signature: several signatures, not one\n",
    ),
    "hexadecimal with -b": (
        "od -An -v -tx1 signature.bin",
        "-b",
        "its output is not a signature: hexadecimal digits, not base64\ntok-exec: hint: xxd -r -p",
    ),
    "hexadecimal": (
        "od -An -v -tx1 signature.bin | tr -d ' \\n'",
        "",
        "its output is not a signature: hexadecimal digits, not base64\ntok-exec: hint: xxd -r -p",
    ),
    "encoded twice with -b": (
        "base64 signature.bin | base64",
        "-b",
        "base64 of base64\ntok-exec: hint: it was encoded",
    ),
    "encoded twice": ("base64 signature.bin | base64", "", "base64 of base64\ntok-exec: hint: it was encoded"),
    "a digest with -b": ('base64 "$1"', "-b", "its output is not a signature: wrong size: 32 bytes"),
}


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize(("body", "option", "said"), FAILURES.values(), ids=FAILURES)
def test_a_failure_in_the_middle(bench: Bench, body: str, option: str, said: str, jobs: int) -> None:
    """A command that fails is named with its line after the signature before it, and no later digest is signed."""
    right = f"{SIGN} | base64 -w0" if option else SIGN
    options = [option] if option else []
    done = bench.exec(*options, "-j", str(jobs), *by_line(f"if [ $line != 2 ]; then {right}; else {body}; fi"))
    done.check(2)
    assert done.out == signed(DIGESTS[0])
    # Under -j the command of line 3 is ended, and may say how it lost its file.
    lines = [line for line in done.err.splitlines() if jobs == 1 or line.startswith("tok-exec: ")]
    assert lines[0].startswith("tok-exec: standard input: line 2: sh: ")
    assert said in "\n".join(lines)
    assert len(lines) == 1 + said.count("\n")
    if jobs == 1:
        assert bench.runs() == 2


def test_nothing_is_signed_after_a_failure_under_jobs(bench: Bench) -> None:
    """Once a command has failed no other is begun, though the error must wait for the slow line before it."""
    body = f"case $line in 1) sleep 1; {SIGN} ;; 2) exit 1 ;; *) {SIGN} ;; esac"
    done = bench.exec("-j", "2", *by_line(body), stdin=stream(*DIGESTS))
    done.check(2, "line 2: sh: exit status 1")
    assert done.out == signed(DIGESTS[0])
    assert bench.runs() == 2


def test_standard_error_is_passed_through(bench: Bench) -> None:
    """What a command has to say reaches the user before the message, whether it fails or not."""
    done = bench.exec(*by_line(f"echo line $line >&2; [ $line != 2 ] || exit 3; {SIGN}"))
    said = "line 1\nline 2\ntok-exec: standard input: line 2: sh: exit status 3\n"
    assert done == Done(2, signed(DIGESTS[0]), said)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-signer", "no-such-signer: cannot be run: no such file or directory"),
        ("./no-such-signer", "./no-such-signer: cannot be run: no such file or directory"),
        ("./signature.bin", "./signature.bin: cannot be run: permission denied"),
        ("./tmp", "./tmp: cannot be run: permission denied"),
        ("./text", "./text: cannot be run: exec format error"),
        ("./no-interpreter", "./no-interpreter: cannot be run: no such file or directory"),
        ("\x1b[2J", "\\x1b[2J: cannot be run: no such file or directory"),
    ],
)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_command_that_cannot_be_run(bench: Bench, command: str, said: str, jobs: str) -> None:
    """A command that is not there, or no program, is one line that names it and the reason."""
    bench.shell.write("text", b"echo\n").chmod(0o755)
    bench.shell.write("no-interpreter", b"#!/no/such/shell\n").chmod(0o755)
    said = f"tok-exec: standard input: line 1: {said}\n"
    assert bench.exec("-j", jobs, "--", command) == Done(2, b"", said)


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("second", "said"),
    [(b"\n", "line 2: empty"), (b"nonsense!\n", "line 2: not base64"), (stream(b"short"), "line 2: 5 bytes")],
)
def test_a_bad_line(bench: Bench, second: bytes, said: str, jobs: str) -> None:
    """A line that is no digest is named after the signature of the line before it, and no command sees it."""
    body = f"sleep 0.2; {SIGN}"
    done = bench.exec("-j", jobs, *by_line(body), stdin=stream(DIGESTS[0]) + second + stream(DIGESTS[2]))
    done.check(2, f"tok-exec: standard input: {said}")
    assert done.out == signed(DIGESTS[0])
    assert bench.runs() == 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_empty_stream(bench: Bench, jobs: str) -> None:
    """No digest at all is trouble, and nothing is run."""
    done = bench.exec("-j", jobs, *by_line(SIGN), stdin=b"")
    assert done == Done(
        2, b"", "tok-exec: standard input: no digests\ntok-exec: hint: the command before it wrote nothing\n"
    )
    assert bench.runs() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *((["-j", number], "-j: not a number from 1 to 1000") for number in ("0", "x", "1001", "", "-1", " 1", "1_0")),
        (["-j", "1", "-j", "2"], "-j is given twice"),
        (["-x"], "-x"),
        (["-p", "missing.pub"], "missing.pub: no such file or directory"),
        (["-p", "f.json"], "f.json: no public key"),
    ],
)
def test_what_cannot_be_meant(bench: Bench, words: list[str], said: str) -> None:
    """An option that makes no sense is refused before anything is run."""
    done = bench.exec(*words, "--", *by_line(SIGN)).check(2, "tok-exec: ", said)
    assert (done.out, bench.runs()) == (b"", 0)


@pytest.mark.parametrize("words", [[], ["--"], ["-b", "--"]])
def test_no_command(bench: Bench, words: list[str]) -> None:
    """Without COMMAND there is nothing to do."""
    assert bench.exec(*words).check(2, "tok-exec: COMMAND is missing").out == b""


# The mistakes of real signers, by name. Each is right for the first digest and wrong for the second.

MISTAKES = {
    "without -pkeyopt": (
        'openssl pkeyutl -sign -inkey "$KEY"',
        "no DigestInfo was signed, only the bare digest (openssl needs -pkeyopt digest:sha256)",
    ),
    "dgst -sha256": ('openssl dgst -sha256 -sign "$KEY"', "the digest was hashed once more before it was signed"),
    "base64 text": (
        'base64 | openssl dgst -sha256 -sign "$KEY"',
        "the base64 text of the digest was hashed and signed, not the digest",
    ),
    "PSS": (f"{OPENSSL_SIGN} -pkeyopt rsa_padding_mode:pss", "made with PSS padding, not PKCS#1 v1.5"),
    "another key": (f"KEY=$OTHER; {OPENSSL_SIGN}", "not made by the given key"),
    "RSA-3072": (f"KEY=$LARGE; {OPENSSL_SIGN}", "wrong size: 384 bytes, but an RSA-2048 signature has 256"),
    "the digest before": (
        f"{OPENSSL_SIGN} -in first",
        f"the signature of another digest, {stream(DIGESTS[0]).decode()}",
    ),
    # What pkcs11-tool signs when it stops reading between the prefix and the digest.
    "short read": (
        'openssl pkeyutl -sign -inkey "$KEY" -in prefix.bin',
        "the signer stopped reading too early",
    ),
}
PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("wrong", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(bench: Bench, keys: Path, wrong: str, said: str, jobs: str) -> None:
    """With -p a signature that is not good is not passed on, its mistake is named, and those before it are out."""
    need("base64")
    bench.env |= {"OTHER": str(keys / "other.pem"), "LARGE": str(keys / "rsa3072.pem")}
    bench.shell.write("prefix.bin", PREFIX)
    bench.shell.write("first", DIGESTS[0])
    right = bench.sh(f"tok-exec -- {OPENSSL_SIGN} <<E\n{stream(DIGESTS[0]).decode()}E\n")
    signer = by_line(f'exec <"$1"; if [ $line = 2 ]; then {wrong}; else {OPENSSL_SIGN}; fi')
    done = bench.exec("-p", keys / "spki.pem", "-j", jobs, *signer).check(1)
    assert done.out == right
    assert done.err.startswith(f"tok-exec: standard input: line 2: sh: {said.rstrip()}")
    assert done.err.count("\n") == 1
    if jobs == "1":
        assert bench.runs() == 2


LIBRARIES = [Path("/usr/lib/softhsm/libsofthsm2.so"), *Path("/usr/lib").glob("*/softhsm/libsofthsm2.so")]


@pytest.fixture
def card(bench: Bench) -> Bench:
    """A bench whose key is also in a SoftHSM token; $PKCS11 signs with it."""
    need("pkcs11-tool", "softhsm2-util")
    library = next((path for path in LIBRARIES if path.exists()), None)
    if library is None:
        pytest.skip("SoftHSM's library is not where Debian and Fedora put it")
    (bench.shell.cwd / "tokens").mkdir()
    bench.shell.write("softhsm2.conf", f"directories.tokendir = {bench.shell.cwd}/tokens\n".encode())
    bench.shell.write("prefix.bin", PREFIX)
    bench.env |= {
        "SOFTHSM2_CONF": str(bench.shell.cwd / "softhsm2.conf"),
        "PKCS11": f"pkcs11-tool --module {library} --token-label officers --login --pin 1234 --id 01 -s",
    }
    bench.sh("softhsm2-util --init-token --free --label officers --so-pin 12345678 --pin 1234")
    bench.sh('softhsm2-util --import "$KEY" --token officers --label officer1 --id 01 --pin 1234')
    return bench


@pytest.mark.parametrize(
    "signer",
    [
        "cat prefix.bin - | $PKCS11 -m RSA-PKCS",
        # One write(2) for both, so that it does not matter how slow the first of them is.
        "(cat prefix.bin; sleep 0.3; cat) | dd obs=51 2>/dev/null | $PKCS11 -m RSA-PKCS",
    ],
    ids=["cat", "dd"],
)
def test_pkcs11_tool_done_right(card: Bench, signer: str) -> None:
    """pkcs11-tool with RSA-PKCS over the DigestInfo makes openssl's signatures."""
    signatures = card.sh(f"tok-extract f.json | tok-exec -p \"$KEY\" -- sh -c '{signer}'")
    assert signatures == stream(*card.openssl_signatures())


@pytest.mark.parametrize(
    ("signer", "said"),
    [
        ("(cat prefix.bin; sleep 1; cat) | $PKCS11 -m RSA-PKCS", "the signer stopped reading too early"),
        ("$PKCS11 -m RSA-PKCS </dev/null", "the signer stopped reading too early"),
        ("$PKCS11 -m RSA-PKCS", "no DigestInfo was signed, only the bare digest"),
        ("$PKCS11 -m SHA256-RSA-PKCS", "the digest was hashed once more before it was signed"),
    ],
    ids=["short read", "empty", "no prefix", "SHA256-RSA-PKCS"],
)
def test_pkcs11_tool_done_wrong(card: Bench, signer: str, said: str) -> None:
    """What pkcs11-tool signs with exit status 0, but of too little or of the wrong thing, is named."""
    done = card.exec("-p", card.env["KEY"], "--", "sh", "-c", signer, stdin=stream(DIGESTS[0]))
    # A later pkcs11-tool may read on to the end, or refuse to sign nothing.
    if said == "the signer stopped reading too early" and done.status != 1:
        assert (done.status, bool(done.out)) in {(0, True), (2, False)}
        return
    done.check(1, f"tok-exec: standard input: line 1: sh: {said}")
    assert done.out == b""


# Nobody is left behind.

# Signers that take forever, and how many process ids each of them writes down.
HANGING = {
    "simple": (f"echo $$ >>pids; exec {FOREVER}", 1),
    "with a child": (f"{FOREVER} & echo $$ $! >>pids; wait", 2),
    "with a grandchild": (f"sh -c '{FOREVER} & echo $! >>pids; wait' & echo $$ $! >>pids; wait", 3),
    "deaf": (f"trap '' TERM HUP INT; {FOREVER} & echo $$ $! >>pids; wait", 2),
    "with a deaf child": (f"(trap '' TERM HUP INT; exec {FOREVER}) & echo $$ $! >>pids; wait", 2),
    "without output": (f"exec >&-; echo $$ >>pids; exec {FOREVER}", 1),
    "with an orphan": (f"sh -c '{FOREVER} >/dev/null & echo $! >>pids'; echo $$ >>pids; exec {FOREVER}", 2),
    "stopped": ("echo $$ >>pids; kill -STOP $$", 1),
}
WITH_FILE = ("sh", "{}")


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("signer", "number"),
    [*((name, signal.SIGTERM) for name in HANGING), *(("with a child", number) for number in DEADLY[1:])],
    ids=str,
)
def test_a_signal_to_tok_exec_alone(bench: Bench, signer: str, number: signal.Signals, jobs: int) -> None:
    """Whichever signal ends tok-exec, it dies of it without a word, with all that its commands have started."""
    body, count = HANGING[signer]
    with bench.started("-j", str(jobs), "--", "sh", "-c", body, *WITH_FILE) as tool:
        assert any(map(alive, bench.pids(count * jobs)))
        time.sleep(0.1)  # until it waits for what will not come
        tool.send_signal(number)
        assert tool.wait(timeout=120) == -number
        assert bench.left() == []
        assert ended(tool) == (-number, b"", b"")


@pytest.mark.parametrize("output", ["", ">/dev/null"], ids=["holds the output", "holds nothing"])
@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("exit 3", "sh: exit status 3"),
        ("kill -9 $$", "sh: killed by signal 9"),
        ("head -c 100 /dev/zero", "sh: its output is not a signature"),
    ],
)
def test_a_failure_with_a_child_left(bench: Bench, end: str, said: str, output: str) -> None:
    """A command that fails is told at once, whatever it has left running, and that is ended."""
    done = bench.exec("--", "sh", "-c", f"{FOREVER} {output} & echo $! >>pids; {end}")
    assert done.check(2, f"tok-exec: standard input: line 1: {said}").out == b""
    assert bench.left() == []


def test_what_a_good_command_leaves_is_its_own_business(bench: Bench) -> None:
    """An agent that a command has started goes on after success, and holds nothing up."""
    body = f"{FOREVER} >agent.log 2>&1 & echo $! >>pids; cat signature.bin"
    assert bench.exec("--", "sh", "-c", body).check(0).out == stream(*[SIGNATURE] * 3)
    agents = bench.pids(3)
    assert all(map(alive, agents))
    for pid in agents:
        os.kill(pid, signal.SIGKILL)


def test_a_signal_while_it_winds_down(bench: Bench) -> None:
    """A signal that comes while a failed command's deaf child is given its time waits for that, and strikes."""
    deaf = "trap 'echo told >>told' TERM; echo >>ready; until [ -e enough ]; do sleep 0.05; done"
    body = f"({deaf}) >/dev/null 2>&1 & echo $! >>pids; until [ -e ready ]; do sleep 0.05; done; exit 1"
    with bench.started("--", "sh", "-c", body, patient=True) as tool:
        wait_until((bench.shell.cwd / "told").exists)
        tool.send_signal(signal.SIGTERM)
        assert tool.poll() is None
        bench.shell.write("enough", b"")
        assert tool.wait(timeout=120) == -signal.SIGTERM
        assert bench.left() == []


def test_no_folder_for_a_digest(bench: Bench) -> None:
    """Where TMPDIR is not there, no other folder is taken."""
    done = bench.exec("cat", "{}", env={**bench.env, "TMPDIR": str(bench.folder / "none")})
    done.check(2, "a file for the digest, in TMPDIR or /tmp: no such file or directory\n")


def test_many_deaf_commands_take_one_moment(bench: Bench) -> None:
    """Commands that do not listen are given time together, not one after the other."""
    # Each ends once all are told; of those that were given their time one after the other, only the last would.
    body = """trap 'echo told >>told' TERM; echo $$ >>pids
until [ -e told ] && [ $(wc -l <told) -eq 6 ]; do sleep 0.05; done
echo went >>went; exit 1"""
    with bench.started("-j", "6", "--", "sh", "-c", body, stdin=stream(*DIGESTS[:6]), patient=True) as tool:
        bench.pids(6)
        tool.terminate()
        assert tool.wait(timeout=120) == -signal.SIGTERM
        assert bench.left() == []
    assert bench.shell.read("went").split() == 6 * [b"went"]


def test_a_signal_while_the_command_is_being_started(bench: Bench) -> None:
    """A signal that comes while the system looks for the command finds it nevertheless."""
    # Many folders without it make the search long.
    bench.env["PATH"] = "x:" * 50_000 + bench.env["PATH"]
    command = str(bench.shell.bin / "tok-exec")
    body = f"echo $$ >>pids; exec {FOREVER}"
    for delay in (0.02, 0.04, 0.06, 0.08, 0.1, 0.12):
        pipe = subprocess.PIPE
        with bench.shell.start(command, "sh", "-c", body, stdin=pipe, stderr=pipe, env=bench.env) as tool:
            time.sleep(0.5)  # until it waits for a digest
            assert tool.stdin is not None
            tool.stdin.write(stream(DIGESTS[0]))
            tool.stdin.flush()
            time.sleep(delay)
            tool.terminate()
            assert tool.wait(timeout=120) == -signal.SIGTERM
            time.sleep(0.3)  # one that was left would write its process id now
            left = bench.left()
            bench.tidy()
            assert left == [], delay


@pytest.mark.parametrize("jobs", [1, 6])
def test_a_signal_at_once(bench: Bench, jobs: int) -> None:
    """A signal that comes while everything is just beginning is not lost."""
    body = f"echo $$ >>pids; exec {FOREVER}"
    for round_ in range(1, 13):
        with bench.started("-j", str(jobs), "--", "sh", "-c", body, stdin=stream(*DIGESTS[:6])) as tool:
            bench.pids(jobs * round_)
            tool.terminate()
            assert tool.wait(timeout=120) == -signal.SIGTERM
            assert bench.left() == []


@pytest.mark.parametrize("signer", ["simple", "with a child", "deaf", "without output"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c(bench: Bench, signer: str, jobs: int) -> None:
    """Ctrl-C on a terminal, which reaches the whole foreground group, ends tok-exec by SIGINT and leaves nobody."""
    body, count = HANGING[signer]
    screen, line = pty.openpty()
    words = ("tok-exec", "-j", str(jobs), "--", "sh", "-c", body, *WITH_FILE)
    pipe = subprocess.PIPE
    with bench.shell.start(
        *words, terminal=os.ttyname(line), stdin=pipe, stdout=pipe, stderr=pipe, env=bench.env, bufsize=0
    ) as tool:
        try:
            assert tool.stdin is not None
            tool.stdin.write(stream(*DIGESTS[:3]))
            assert any(map(alive, bench.pids(count * jobs)))
            time.sleep(0.1)
            os.write(screen, b"\x03")
            assert tool.wait(timeout=120) == -signal.SIGINT
            assert bench.left() == []
            assert ended(tool) == (-signal.SIGINT, b"", b"")
        finally:
            tool.kill()
            bench.tidy()
            os.close(line)
            os.close(screen)


@pytest.mark.parametrize("signer", ["simple", "with a grandchild", "deaf"])
def test_an_error_ends_the_others(bench: Bench, signer: str) -> None:
    """Where one command fails, those beside it are ended with all that they have started."""
    body, count = HANGING[signer]
    wait = f'while [ "$(wc -w <pids)" -lt {count} ]; do sleep 0.1; done'
    done = bench.exec("-j", "2", *by_line(f"if [ $line = 1 ]; then : >>pids; {wait}; exit 5; fi; {body}"))
    assert done == Done(2, b"", "tok-exec: standard input: line 1: sh: exit status 5\n")
    assert len(bench.pids()) >= count
    assert bench.left() == []


def test_an_endless_output_ends_all_that_make_it(bench: Bench) -> None:
    """A command that is stopped for its endless output takes with it what it has started."""
    done = bench.exec("sh", "-c", f"{FOREVER} 2>/dev/null & echo $! >>pids; cat /dev/zero", timeout=120)
    assert done == Done(2, b"", "tok-exec: standard input: line 1: sh: more than 65536 bytes of output\n")
    assert bench.left() == []


@pytest.mark.parametrize("signer", ["simple", "with a child", "deaf"])
def test_a_reader_that_went_away(bench: Bench, signer: str) -> None:
    """A closed pipe downstream, as of head -n 1, ends tok-exec by SIGPIPE, silently, and ends the commands."""
    body, count = HANGING[signer]
    go = f"while [ ! -e go ]; do sleep 0.1; done; {SIGN}"
    cases = f"case $line in 1) {SIGN} ;; 2) {go} ;; *) {body} ;; esac"
    with bench.started("-j", "2", *by_line(cases)) as tool:
        assert tool.stdout is not None
        assert tool.stdout.readline() == signed(DIGESTS[0])
        tool.stdout.close()
        bench.pids(count)
        (bench.shell.cwd / "go").touch()
        assert tool.wait(timeout=120) == -signal.SIGPIPE
        assert tool.stderr is not None
        assert bench.left() == []
        assert tool.stderr.read() == b""


# What a command is given besides the digest.


def test_the_environment_is_that_of_the_caller(bench: Bench) -> None:
    """A command finds the variables that tok-exec was started with, and no others."""
    bench.shell.write("signer", b"#!/bin/sh\nenv | sort >seen; cat signature.bin\n").chmod(0o755)
    bench.shell.run("./signer", env=bench.env).check(0)
    wanted = bench.shell.read("seen")
    assert bench.exec("./signer").check(0).out == stream(*[SIGNATURE] * 3)
    assert bench.shell.read("seen").splitlines() == wanted.splitlines()


def test_other_signals_are_as_they_were(bench: Bench) -> None:
    """A command inherits no signal that is blocked or ignored, SIGPIPE included."""
    # Were it ignored, yes would go on, and the shell would tell of its error.
    done = bench.exec("-j", "2", "sh", "-c", "yes | head -n 1 >&2; cat signature.bin", stdin=stream(DIGESTS[0]))
    assert done == Done(0, stream(SIGNATURE), "y\n")


# Where it is run.


def test_a_parent_that_ignores_the_end_of_children(bench: Bench) -> None:
    """A failed command is no success where the parent does not care for its children: trap '' CHLD."""
    script = "trap '' CHLD; tok-exec sh -c 'cat signature.bin; exit 3'; exit $?"
    done = bench.shell.sh(script, stdin=stream(DIGESTS[0]), shell="bash", env=bench.env)
    assert done == Done(2, b"", "tok-exec: standard input: line 1: sh: exit status 3\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has orphans come to tok-exec")
def test_orphans_are_reaped(bench: Bench) -> None:
    """A child that a command leaves behind, and that ends, takes up no process while tok-exec goes on."""
    signer = ("-j", "3", "--", "sh", "-c", "(sleep 0.01 & ) >&- 2>&-; cat signature.bin")
    with bench.started(*signer, stdin=stream(*DIGESTS * 5)) as tool:
        assert tool.stdout is not None
        assert tool.stdin is not None
        for _ in range(5 * len(DIGESTS)):
            tool.stdout.readline()

        def few_are_left() -> bool:
            """After one digest more: those that have ended since the last are reaped."""
            assert tool.stdin is not None
            assert tool.stdout is not None
            tool.stdin.write(stream(*DIGESTS[:1]))
            tool.stdout.readline()
            return len(Path(f"/proc/{tool.pid}/task/{tool.pid}/children").read_text().split()) <= 3

        wait_until(few_are_left)
        tool.stdin.close()
        assert tool.wait(timeout=120) == 0


@pytest.mark.parametrize("limit", ["--as=200000000", "--as=1000000000"])
def test_no_room_for_threads(bench: Bench, limit: str) -> None:
    """Where memory is limited, as many threads as there is room for do the work."""
    need("prlimit")
    words = ("prlimit", limit, "tok-exec", "-j", "1000", *EIGHT_TIMES)
    done = bench.shell.run(*words, stdin=stream(*DIGESTS[:8] * 10), env=bench.env)
    assert done == Done(0, signed(*DIGESTS[:8] * 10), "")


def test_no_room_for_processes(bench: Bench) -> None:
    """Where the number of processes is limited, as many as there is room for do the work."""
    need("prlimit", "setpriv")
    if os.geteuid() != 0:
        pytest.skip("counts the processes of a user who has no others")
    # The Python of the tests may be open to root alone; without -p the tool needs no library.
    user = ("setpriv", "--reuid=65533", "--clear-groups")
    python = (shutil.which("python3", path="/usr/bin") or sys.executable, "-B", ROOT / "bin" / "tok-exec")
    env = {**bench.env, "PYTHONPATH": str(ROOT / "src")}
    if bench.shell.run(*user, *python, "--help", env=env).status:
        pytest.skip("neither this Python nor this checkout is open to another user")
    tool = (*user, "prlimit", "--nproc=20", *python, "-j", "1000", "--", "sh", "-c", "head -c 256 /dev/zero; exit")
    done = bench.shell.run(*tool, stdin=stream(*DIGESTS[:8] * 10), env=env)
    assert done == Done(0, stream(*[bytes(256)] * 80), "")


def test_a_size_that_aws_does_not_document(bench: Bench) -> None:
    """A signature that no RSA-2048 key has made is warned of once, unless -p says whose it is."""
    done = bench.exec("sh", "-c", "head -c 384 /dev/zero").check(0, "tok-exec: warning: a signature of 384 bytes")
    assert done.err.count("\n") == 1
    assert bench.exec("cat", "signature.bin").err == ""
