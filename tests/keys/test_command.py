"""A command that signs, run from this process: what it reads, what it may write, and how it is ended."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import alive, rsa_key, wait_until

from toktools.errors import ToktoolsError
from toktools.keys.command import Command

DIGEST = hashlib.sha256(b"token").digest()
RAW = r"head -c 256 /dev/zero | tr '\0' '\377'"
SIGNATURE = b"\xff" * 256


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to work in, where temporary files are too; no descriptor and no file stays behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = os.listdir("/dev/fd")
    yield tmp_path
    assert os.listdir("/dev/fd") == before
    assert not list(tmp_path.glob("toktools-*"))


def shell(script: str, *words: str, base64: bool = False, **more: Any) -> Command:
    return Command(["sh", "-c", script, "sh", *words], base64=base64, **more)


def refused(signer: Command) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        signer.sign(DIGEST)
    return raised.value


@pytest.mark.parametrize(
    ("script", "read"),
    [
        (f"cat > got; {RAW}", DIGEST),
        (f"dd bs=1000 count=1 > got; {RAW}", DIGEST),
        (f"head -c 5 > got; {RAW}", b"token"),
    ],
)
def test_what_it_reads(directory: Path, script: str, read: bytes) -> None:
    """The digest comes in, all at once, and the end of input behind it; it may read less."""
    assert shell(script).sign(DIGEST) == SIGNATURE
    assert (directory / "got").read_bytes() == DIGEST[: len(read)]


def test_what_it_may_write(directory: Path) -> None:
    """A signature, raw or in base64 however wrapped; it may go on after that, and its children with its output."""
    assert shell(f"{RAW} | base64", base64=True).sign(DIGEST) == SIGNATURE
    assert shell(f"{RAW}; exec >&-; sleep 0.2; cat > got").sign(DIGEST) == SIGNATURE
    assert (directory / "got").read_bytes() == DIGEST
    assert shell(f"sleep 600 & echo $! > pid; {RAW}").sign(DIGEST) == SIGNATURE
    os.kill(int((directory / "pid").read_text()), 9)  # it is still there


LARGE = b"token" * 100_000  # more than a pipe takes


@pytest.mark.parametrize("script", [f"cat > got; {RAW}", f"{RAW}; cat > got", f"{RAW}; exec >&-; cat > got"])
def test_approval_data(directory: Path, script: str) -> None:
    """It is read in place of its digest, however much it is, and whenever the command reads it."""
    assert shell(script, approval_data={DIGEST: LARGE}).sign(DIGEST) == SIGNATURE
    assert (directory / "got").read_bytes() == LARGE


def test_approval_data_that_is_not_read() -> None:
    """The command need not read; what it writes before it reads is bounded all the same."""
    assert shell(RAW, approval_data={DIGEST: LARGE}).sign(DIGEST) == SIGNATURE
    assert shell(RAW, approval_data={DIGEST: b""}).sign(DIGEST) == SIGNATURE
    error = refused(shell("head -c 100000 /dev/zero; cat", approval_data={DIGEST: LARGE}))
    assert error.message == "sh: more than 65536 bytes of output"
    error = refused(shell(RAW, approval_data={bytes(32): b""}))
    assert error.message == "no approval data for this digest"
    assert error.hint.startswith("give --approval-data")


@pytest.mark.parametrize(
    ("script", "base64", "said", "hint"),
    [
        ("exit 3", False, "exit status 3", ""),
        ("echo no card; exit 3", False, 'exit status 3; it wrote "no card"', ""),
        (
            "printf 'Schl\\303\\274ssel:\\n\\033[2J fehlt'",
            True,
            "its output is not a signature: wrong size: 22",
            "",
        ),
        (f"{RAW} | base64; exit 3", True, "exit status 3", ""),
        ("echo '{\"error\": 403}'; exit 3", True, 'exit status 3; it wrote "{\\"error\\": 403}"', ""),
        (f"{RAW}; exit 1", False, "exit status 1", ""),
        ("kill -KILL $$", False, "killed by signal 9 (Killed)", ""),
        (":", False, "no signature", ""),
        ("echo null", True, 'no signature; it wrote "null"', ""),
        ("echo None", False, 'no signature; it wrote "None"', ""),
        (RAW, True, "its output is raw bytes", "leave out -b"),
        (f"{RAW} | base64", False, "its output is base64 text", "use -b for base64"),
        (f"{RAW} | od -An -v -tx1", True, "its output is not a signature: hexadecimal digits", "xxd -r -p"),
        ("head -c 65536 /dev/zero | tr '\\0' '\\377'", False, "its output is not a signature: wrong size: 65536", ""),
        ("head -c 65537 /dev/zero", False, "more than 65536 bytes of output", ""),
        ("cat /dev/zero", False, "more than 65536 bytes of output", ""),
    ],
)
def test_what_is_no_signature(script: str, base64: bool, said: str, hint: str) -> None:  # noqa: FBT001 - pytest gives it
    """It is refused with the command's name; a command that never ends is ended."""
    error = refused(shell(script, base64=base64))
    assert error.message.startswith(f"sh: {said}")
    assert "//" not in error.message  # a part of the signature
    assert (error.hint.startswith(hint), bool(error.hint), error.status) == (True, bool(hint), 2)


def test_another_key() -> None:
    """A signature that the public key does not verify has the exit status of an answer."""
    error = refused(shell(RAW, public_key=rsa_key("stranger").public_key()))
    assert (error.message, error.status) == ("sh: not made by the given key", 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./none", "./none: cannot be run: no such file or directory"),
        ("./a b", "./a b: cannot be run: no such file or directory"),
        ("./text", "./text: cannot be run: exec format error"),
        (".", ".: cannot be run: permission denied"),
        ("\x1b[2J", "\\x1b[2J: cannot be run: no such file or directory"),
    ],
)
def test_what_cannot_be_run(directory: Path, name: str, said: str) -> None:
    """It is named, and so is the missing shell."""
    (directory / "text").write_text("echo")
    (directory / "text").chmod(0o700)
    error = refused(Command([name, "{}"], base64=False))
    assert error.message.startswith(said)
    assert error.hint.startswith("no shell runs it: give each word separately" if name == "./a b" else "")
    assert bool(error.hint) == (name == "./a b")


def test_the_file_of_a_digest(directory: Path) -> None:
    """Its path stands wherever {} was, in a private directory, and both go with the signature."""
    script = f'cat "$1" > got; echo "$1 $2" > paths; stat -c %a "${{1%/*}}" > mode; {RAW}'
    signer = shell(script, "{}", "--in={},{}")
    for digest in (DIGEST, DIGEST[::-1]):
        assert signer.sign(digest) == SIGNATURE
        assert (directory / "got").read_bytes() == digest
        path, again = (directory / "paths").read_text().split()
        assert again == f"--in={path},{path}"
        assert not Path(path).parent.exists()
    assert (directory / "mode").read_text() == "700\n"
    assert shell(f'rm "$1"; {RAW}', "{}").sign(DIGEST) == SIGNATURE
    assert shell(f'rm -r "${{1%/*}}"; {RAW}', "{}").sign(DIGEST) == SIGNATURE


def test_no_directory_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """If TMPDIR is not there, no other directory is taken."""
    monkeypatch.setenv("TMPDIR", "none")
    said = f"sh: a file for the digest, in {Path.cwd()}/none: no such file or directory"
    assert refused(shell(RAW, "{}")).message == said


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("exec sleep 600", "15 (Terminated)"),
        ("trap '' TERM; echo >> ready; while :; do sleep 0.1; done", "9 (Killed)"),
        ("kill -STOP $$", "9 (Killed)"),
        ("sleep 20 & wait", "15 (Terminated)"),
    ],
)
def test_close(directory: Path, script: str, number: str) -> None:
    """All that run are asked to end together, and killed after half a second; their children are theirs."""
    signer = shell(f'echo "$1" >> ready; {script}', "{}")
    errors: list[str] = []
    threads = [threading.Thread(target=lambda: errors.append(refused(signer).message)) for _ in range(4)]
    for thread in threads:
        thread.start()
    count = 8 if "trap" in script else 4
    wait_until(lambda: (directory / "ready").exists() and (directory / "ready").read_text().count("\n") == count)
    signer.close()
    assert not list(directory.glob("toktools-*"))
    for thread in threads:
        thread.join(5)
    assert errors == [f"sh: killed by signal {number}"] * 4
    assert refused(signer).message == "sh: not run any more"


SIGN_FOR_EVER = """
import sys
from toktools.errors import ToktoolsError
from toktools.keys import stream
from toktools.keys.command import Command
from toktools.system import process

command = Command(["sh", "-c", "echo $$ >> pids; cat; exec sleep 0.0$1", "sh", *sys.argv[1:], "{}"], base64=False)
try:
    with process.unwind_on_signals():
        try:
            print(flush=True)
            while True:
                try:
                    stream.sign_apart(command.sign, bytes(32))
                except ToktoolsError:
                    pass
        finally:
            command.close()
except process.Terminated as fatal:
    process.end_by_signal(fatal.number)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_at_any_moment(directory: Path, number: signal.Signals) -> None:
    """As in tok-login: no signal hangs the process that signs, or leaves a command or a file behind."""
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", SIGN_FOR_EVER, "9"], stdout=subprocess.PIPE) as tool:
            assert tool.stdout is not None
            tool.stdout.readline()
            time.sleep(random.uniform(0, 0.2))  # also while a command is being started
            tool.send_signal(number)
            assert tool.wait(10) == -number
        pids = (directory / "pids").read_text().split() if (directory / "pids").exists() else []
        assert not any(alive(int(pid)) for pid in pids)
        assert not list(directory.glob("toktools-*"))
