"""Fatal signals unwind or end a process, and a crash leaves no secret behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import pytest
from conftest import Shell  # noqa: TC002 - as everywhere

from toktools.system import process as own

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prlimit and /proc are Linux's own")
DIGEST = b"A" * 43 + b"=\n"


def reads_fifo(_: Popen[bytes], directory: Path) -> None:
    """Wait until it has opened the named pipe, which is where its secret would come from."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return os.set_blocking(os.open(directory / "fifo", os.O_WRONLY | os.O_NONBLOCK), True)
        except OSError:  # nobody has opened it
            assert time.monotonic() < deadline, "it never reads"
            time.sleep(0.01)


def signs(process: Popen[bytes], _: Path) -> None:
    """Wait for a signature, after which the key is in the memory."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(DIGEST)
    process.stdin.flush()
    assert len(process.stdout.readline()) == 345


def prompts(process: Popen[bytes], _: Path) -> None:
    """Wait for the first words."""
    assert process.stdout is not None
    assert process.stdout.read(1)


# A tool that may hold a secret, and what it does by the moment when it may have one.
SECRETIVE = {
    "tok-sign, key": ("tok-sign -k fifo", reads_fifo),
    "tok-sign, signing": ("tok-sign -k key.pem", signs),
    "tok-login": ("tok-login -k fifo --username officer1 --role admin --cli 'sleep 60' -- 'user list'", reads_fifo),
    "tok-rehearse": ("tok-rehearse --state cluster.json interactive", prompts),
}


@contextmanager
def waiting(
    shell: Shell, keys: Path, words: str, until: Callable[[Popen[bytes], Path], None]
) -> Iterator[Popen[bytes]]:
    """A command at a certain moment, where a core dump would be as large as it likes."""
    os.mkfifo(shell.cwd / "fifo")
    shutil.copy(keys / "pkcs8.pem", shell.cwd / "key.pem")
    process = Popen(
        ["sh", "-c", f"ulimit -S -c $(ulimit -H -c); exec {words}"],
        cwd=shell.cwd,
        env=shell.unmeasured,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        until(process, shell.cwd)
        yield process
    finally:
        process.kill()
        process.communicate()


def dumps_core(process: Popen[bytes]) -> bool:
    """Abort a process, and say whether the kernel has made a core dump, wherever it went."""
    process.send_signal(signal.SIGABRT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -os.WTERMSIG(status)
    assert process.returncode == -signal.SIGABRT
    return os.WCOREDUMP(status)


@LINUX
@pytest.mark.parametrize(("words", "until"), SECRETIVE.values(), ids=SECRETIVE)
def test_no_core_dump(shell: Shell, keys: Path, words: str, until: Callable[[Popen[bytes], Path], None]) -> None:
    """An abort leaves no core dump of a tool that may hold a secret."""
    with waiting(shell, keys, words, until) as process:
        if sys.platform == "linux":  # for mypy
            assert resource.prlimit(process.pid, resource.RLIMIT_CORE)[0] == 0
        assert not dumps_core(process)
    assert not list(shell.cwd.glob("core*"))


@LINUX
def test_core_dumps_of_children() -> None:
    """Children can have core dumps again; what goes to a program all the same has nothing of the memory in it."""
    script = """
import resource, subprocess
from toktools.system import process
before = resource.getrlimit(resource.RLIMIT_CORE)[1]
process.forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE) == (0, before), flush=True)
subprocess.run("ulimit -S -c $(ulimit -H -c) && ulimit -c; cat /proc/self/coredump_filter", shell=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    again = "unlimited" if hard == resource.RLIM_INFINITY else str(hard // 1024)
    assert done.stdout.splitlines() == ["True", again, "00000000"]


UNWINDING = """
import os, signal, sys, threading, time
from toktools.system import process

process.restore_default_signals()
number, how = int(sys.argv[1]), sys.argv[2]

def interrupt():
    os.kill(os.getpid(), number)

if how == "ignored":
    signal.signal(number, signal.SIG_IGN)
if how == "outside":
    interrupt()
try:
    with process.unwind_on_signals():
        with process.unwind_on_signals():
            pass
        try:
            if how == "held":
                with process.held():
                    interrupt()
                    print("held", flush=True)
            try:
                interrupt()
            except process.Terminated:
                if how != "lost":
                    raise
            print("after", flush=True)
        finally:
            if how == "late":
                process._Pending.since -= 60
            if how in {"second", "late"}:
                interrupt()
            print("clean", flush=True)
except process.Terminated as fatal:
    assert fatal.number == process.pending_signal() == number
    process.end_by_signal(fatal.number)
print("end", flush=True)
"""


@pytest.mark.parametrize("number", own.FATAL, ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raised", "clean"),
        ("lost", "after clean"),
        ("second", "clean"),
        ("late", ""),
        ("held", "held clean"),
        ("outside", ""),
        ("ignored", "after clean end"),
    ],
)
def test_a_fatal_signal(number: signal.Signals, how: str, said: str) -> None:
    """It unwinds the block, which cleans up, and then ends the process, though something swallows the exception."""
    done = subprocess.run([sys.executable, "-c", UNWINDING, str(int(number)), how], capture_output=True, check=False)
    assert done.stdout.decode().split() == said.split()
    assert (done.returncode, done.stderr) == (0 if how == "ignored" else -number, b"")


def test_handlers_are_as_before() -> None:
    """After the block, and in another thread nothing is changed at all."""
    before = [signal.getsignal(number) for number in own.FATAL]
    inside: list[object] = []

    def enter() -> None:
        with own.unwind_on_signals():
            inside.extend(signal.getsignal(number) for number in own.FATAL)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert inside == before
    enter()
    assert signal.SIG_DFL not in inside[len(before) :]
    assert [signal.getsignal(number) for number in own.FATAL] == before


def test_signals_that_wait() -> None:
    """Fatal ones and more, until the block is done; a child that is started in it can let them through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with own.held(signal.SIGTSTP):
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before | {*own.FATAL, signal.SIGTSTP}
        own.release()
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {*own.FATAL}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_signal_as_they_begin_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask is as before, though the call that sets it raises the exception of a signal."""
    change = signal.pthread_sigmask
    before = change(signal.SIG_BLOCK, ())

    def interrupted(how: int, numbers: Iterable[int]) -> set[int]:
        mask = change(how, numbers)
        if how == signal.SIG_BLOCK and numbers:
            raise own.Terminated(signal.SIGTERM)
        return mask

    monkeypatch.setattr(signal, "pthread_sigmask", interrupted)
    with pytest.raises(own.Terminated), own.held():
        pass
    assert change(signal.SIG_SETMASK, before) == before


@pytest.mark.parametrize(
    ("returncode", "said"),
    [
        (0, "exit status 0"),
        (255, "exit status 255"),
        (-9, "killed by signal 9 (Killed)"),
    ],
)
def test_how_a_process_ended(returncode: int, said: str) -> None:
    """By its exit status, or by a signal."""
    assert own.exit_text(returncode) == said


def test_a_parent_that_ignores_children() -> None:
    """Their exit status is told all the same."""
    script = "from toktools.system import process; process.restore_default_signals(); import subprocess as s"
    script += "; raise SystemExit(s.call(['sh', '-c', 'exit 3']))"
    done = subprocess.run(["sh", "-c", 'trap "" CHLD; exec "$0" -c "$1"', sys.executable, script], check=False)
    assert done.returncode == 3
