"""A command that signs, run from this process: what it reads, what it may write, and how it is ended."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from conftest import rsa_key, wait_until

from toktools.errors import ToktoolsError
from toktools.keys import command
from toktools.keys.command import Command
from toktools.system import kernel

DIGEST = hashlib.sha256(b"token").digest()
RAW = r"head -c 256 /dev/zero | tr '\0' '\377'"
SIGNATURE = b"\xff" * 256
FOREVER = "while :; do sleep 600; done"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, where temporary files are too; no descriptor and no child stays behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(kernel, "adopt_orphans", lambda: False)
    before = os.listdir("/dev/fd")
    yield tmp_path
    assert os.listdir("/dev/fd") == before
    assert not list(tmp_path.glob("toktools-*"))


def shell(script: str, *words: str, base64: bool = False, **more: Any) -> Command:
    return Command(["sh", "-c", script, "sh", *words], base64=base64, **more)


def refused(signer: Command) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        signer.sign(DIGEST)
    signer.close()
    return raised.value


def test_what_it_reads_and_writes(here: Path) -> None:
    """The digest comes in, and the end of input behind it; a signature goes out, raw or in base64 however wrapped."""
    assert shell(f"cat > got; {RAW}").sign(DIGEST) == SIGNATURE
    assert (here / "got").read_bytes() == DIGEST
    assert shell(f"{RAW} | base64", base64=True).sign(DIGEST) == SIGNATURE
    assert shell(f"{RAW}; exec >&-; cat > got").sign(DIGEST[::-1]) == SIGNATURE
    assert (here / "got").read_bytes() == DIGEST[::-1]


def test_what_was_hashed(here: Path) -> None:
    """It is read in place of its digest, where it is given; a pipe does not hold any amount of it."""
    assert shell(f"cat > got; {RAW}", hashed={DIGEST: b"token"}).sign(DIGEST) == SIGNATURE
    assert (here / "got").read_bytes() == b"token"
    error = refused(shell(RAW, hashed={bytes(32): b""}))
    assert error.message == "no approval data for this digest"
    assert error.hint.startswith("give --approval-data")
    error = refused(shell(RAW, hashed={DIGEST: bytes(3_000_000)}))
    assert error.message == "the approval data have 3000000 bytes, more than a pipe holds"


@pytest.mark.parametrize(
    ("script", "base64", "said", "hint"),
    [
        ("exit 3", False, "exit status 3", ""),
        (f"{RAW}; exit 1", False, "exit status 1", ""),
        ("kill -KILL $$", False, "killed by signal 9 (Killed)", ""),
        (":", False, "no output", ""),
        (RAW, True, "its output is not a signature: raw bytes", "leave out -b"),
        (f"{RAW} | base64", False, "its output is not a signature: base64 text", "use -b for base64"),
        ("head -c 65536 /dev/zero | tr '\\0' '\\377'", False, "its output is not a signature: wrong size: 65536", ""),
        ("head -c 65537 /dev/zero", False, "more than 65536 bytes of output", ""),
        ("exec cat /dev/zero", False, "more than 65536 bytes of output", ""),
    ],
)
def test_what_is_no_signature(script: str, base64: bool, said: str, hint: str) -> None:  # noqa: FBT001 - pytest gives it
    """It is refused with the command's name; what never ends is ended."""
    error = refused(shell(script, base64=base64))
    assert error.message.startswith(f"sh: {said}")
    assert (error.hint, error.status) == (hint, 2)


def test_another_key(here: Path) -> None:
    """Where the public key is known, what it did not make is told, with the status of an answer."""
    error = refused(shell(RAW, public=rsa_key("stranger").public_key()))
    assert (error.message, error.status) == ("sh: not made by the given key", 1)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("./none", "./none: cannot be run: no such file or directory", ""),
        ("./a b", "./a b: cannot be run: no such file or directory", "no shell runs it: give each word separately"),
        (".", ".: cannot be run: permission denied", ""),
    ],
)
def test_what_cannot_be_run(name: str, said: str, hint: str) -> None:
    """It is named."""
    error = refused(Command([name], base64=False))
    assert error.message == said
    assert error.hint.startswith(hint)
    assert bool(error.hint) == bool(hint)
    assert refused(Command(["./none", "a b"], base64=False)).hint == ""
    assert refused(Command([""], base64=False)).message.startswith("'': cannot be run: ")


def test_the_file_of_a_digest(here: Path) -> None:
    """Wherever {} stands is its path, in a private folder; it goes with the signature, and the folder with the end."""
    script = f'cat "$1" > got; echo "$1 $2" > paths; stat -c %a "${{1%/*}}" "$1" > modes; {RAW}'
    signer = shell(script, "{}", "--in={}")
    for digest in (DIGEST, DIGEST[::-1]):
        assert signer.sign(digest) == SIGNATURE
        assert (here / "got").read_bytes() == digest
        path, again = (here / "paths").read_text().split()
        assert again == f"--in={path}"
        assert Path(path).parent.parent == here
        assert path.endswith(".bin")
        assert not Path(path).exists()
    assert (here / "modes").read_text().split() == ["700", "600"]
    assert stat.S_ISDIR(Path(path).parent.stat().st_mode)
    assert shell(f'rm "$1"; {RAW}', "{}").sign(DIGEST) == SIGNATURE
    for folder in here.glob("toktools-*"):
        signer._folder = str(folder)  # noqa: SLF001 - each is left by a signer that is not closed
        signer.close()


def test_who_holds_the_output_open(here: Path) -> None:
    """What a command has started may go on with its output; the signature does not wait for that."""
    assert shell(f"sleep 600 & echo $! > pid; {RAW}").sign(DIGEST) == SIGNATURE
    os.kill(int((here / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("script", "said"), [("", "15 (Terminated)"), ("trap '' TERM; ", "9 (Killed)")])
def test_to_stop(here: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    """All that runs is asked to end, and then made to; what it has started too. Nothing is begun any more."""
    monkeypatch.setattr(command, "_GRACE", 0.2 if script else 60.0)
    signer = shell(f'{script}echo "$1" > path; (echo > ready; {FOREVER}) & {FOREVER}', "{}")
    errors: list[str] = []

    def sign() -> None:
        try:
            signer.sign(DIGEST)
        except ToktoolsError as error:
            errors.append(error.message)

    before = command._descendants()  # noqa: SLF001 - what stop() goes by
    thread = threading.Thread(target=sign)
    thread.start()
    wait_until((here / "ready").exists)
    begun = command._descendants() - before  # noqa: SLF001 - the same
    assert len(begun) >= 2
    signer.stop()
    thread.join()
    assert errors == [f"sh: killed by signal {said}"]
    assert not begun & command._descendants()  # noqa: SLF001 - the same
    assert not list(here.glob("toktools-*"))
    assert refused(signer).message == "sh: not run any more"


def test_to_stop_without_proc(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a system does not tell who descends from whom, what was started itself is ended all the same."""
    monkeypatch.setattr(command, "_descendants", set)
    signer = shell("echo > ready; exec sleep 600")
    errors: list[ToktoolsError] = []
    thread = threading.Thread(target=lambda: errors.append(refused(signer)))
    thread.start()
    wait_until((here / "ready").exists)
    signer.stop()
    thread.join()
    assert errors[0].message == "sh: killed by signal 15 (Terminated)"


def test_what_ran_before_goes_on() -> None:
    """To stop ends what the signer has started, not what was there when it was made."""
    with subprocess.Popen(["sleep", "600"]) as other:
        signer = shell(RAW)
        signer.stop()
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EACCES])
def test_no_room_for_a_process(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It is waited for while others run, which make room when they end; else, and for other trouble, it is told."""
    popen, tries = subprocess.Popen, []

    def start(*words: Any, **more: Any) -> Any:
        tries.append(words)
        if len(tries) < 3:
            raise OSError(number, os.strerror(number))
        return popen(*words, **more)

    monkeypatch.setattr(subprocess, "Popen", start)
    said = f"sh: cannot be run: {os.strerror(number).lower()}"
    assert refused(shell(RAW)).message == said
    assert len(tries) == 1
    signer = shell(RAW)
    other: Any = Mock(pid=-1)
    signer._running.add(other)  # noqa: SLF001 - one that is not over
    if number == errno.EACCES:
        assert refused(signer).message == said
    else:
        assert signer.sign(DIGEST) == SIGNATURE
        assert len(tries) == 3
    assert signer._running == {other}  # noqa: SLF001 - what is over is forgotten


def test_orphans_are_reaped() -> None:
    """Where this process gets them, those that are over; the status of a command is for the one who waits for it."""
    signer = shell(RAW)
    signer._adopts = True  # noqa: SLF001 - as where the system gives them
    orphan = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 1"], {})
    os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
    assert signer.sign(DIGEST) == SIGNATURE
    with pytest.raises(ChildProcessError):
        os.waitpid(orphan, os.WNOHANG)
    with subprocess.Popen(["sh", "-c", "exit 7"]) as own:
        os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
        signer._running.add(own)  # noqa: SLF001 - a command that another thread has started
        signer._reap()  # noqa: SLF001 - what comes after each command
        assert own.wait() == 7
        signer._adopts = False  # noqa: SLF001 - as elsewhere
    other = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 1"], {})
    os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
    signer._reap()  # noqa: SLF001 - the same
    assert os.waitpid(other, 0)[0] == other


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_who_descends_from_this_process(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children and their children, but for those that are over, even between two looks."""
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*["99999999"] * (path == "/proc"), *listdir(path)])
    before = command._descendants()  # noqa: SLF001 - what stop() goes by
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo > ready; wait"], stdin=subprocess.PIPE) as child:
        wait_until((here / "ready").exists)
        there = command._descendants() - before  # noqa: SLF001 - the same
        assert child.pid in there
        assert os.getpid() not in before
        assert len(there) == 2
        for pid in there:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not command._descendants() - before)  # noqa: SLF001 - the same
