"""What a tool asks of the kernel: nobody reads a secret from its memory, while it lives or after it has crashed."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import pytest
from conftest import Shell  # noqa: TC002 - as everywhere

from toktools import cli
from toktools.options import CommandLine
from toktools.system import kernel

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="prctl and prlimit are Linux's own")
DIGEST = b"A" * 43 + b"=\n"


def reads_fifo(_: Popen[bytes], folder: Path) -> None:
    """Wait until it has opened the named pipe, which is where its secret would come from."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return os.set_blocking(os.open(folder / "fifo", os.O_WRONLY | os.O_NONBLOCK), True)
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
    "tok-sign, pass phrase": ("tok-sign -k encrypted.pem --passin file:fifo", reads_fifo),
    "tok-exec, key": ("tok-exec -p fifo -- cat", reads_fifo),
    "tok-sign, signing": ("tok-sign -k key.pem", signs),
    "tok-login": ("tok-login -k fifo --username officer1 --role admin --cli 'sleep 60' -- 'user list'", reads_fifo),
    "tok-enroll": ("tok-enroll -k fifo --username officer1 --role admin --cli 'sleep 60'", reads_fifo),
    "tok-rehearse": ("tok-rehearse --state cluster.sqlite interactive", prompts),
    "tok-verify": ("tok-verify -p fifo f.json", reads_fifo),
    "tok-merge": ("tok-merge -p fifo f.json f.json", reads_fifo),
}


@contextmanager
def waiting(
    shell: Shell, keys: Path, words: str, until: Callable[[Popen[bytes], Path], None]
) -> Iterator[Popen[bytes]]:
    """A command at a certain moment, where a core dump would be as large as it likes."""
    os.mkfifo(shell.cwd / "fifo")
    shutil.copy(keys / "pkcs8.pem", shell.cwd / "key.pem")
    shutil.copy(keys / "pbes2.pem", shell.cwd / "encrypted.pem")
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
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)
        assert not dumps_core(process)
    assert not list(shell.cwd.glob("core*"))


@LINUX
@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="no process here may leave a core dump")
def test_another_tool_dumps_core(shell: Shell, keys: Path) -> None:
    """A tool without a secret dumps core as any program does, so that the tests above could fail."""
    with waiting(shell, keys, "tok-extract fifo", reads_fifo) as process:
        assert dumps_core(process)


@LINUX
def test_memory_is_roots() -> None:
    """The files of /proc that show the memory belong to root, whoever runs the tool."""
    script = """
        import os, resource, _ctypes
        from toktools.system import kernel
        if os.getuid() == 0:
            os.setuid(65534)
            kernel._prctl(4, 1)  # after a change of user it is off
        print(os.stat("/proc/self/mem").st_uid == os.getuid())
        kernel.hide_memory()
        print(os.stat("/proc/self/mem").st_uid, resource.getrlimit(resource.RLIMIT_CORE))
        out, into = os.pipe()
        os.write(into, b"as usual")
        print(os.read(os.open(f"/dev/fd/{out}", os.O_RDONLY), 9))
    """
    lines = "\n".join(line[8:] for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, check=True)
    assert done.stdout.decode().splitlines() == ["True", "0 (0, 0)", "b'as usual'"]


def test_only_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that runs within another program leaves that one's memory as it is."""
    hidden: list[bool] = []
    monkeypatch.setattr(kernel, "hide_memory", lambda: hidden.append(True))
    tool = cli.Tool(CommandLine("tok-any", "Be a test.", "tok-any"), lambda _: 0, has_secrets=True)
    monkeypatch.setattr(sys, "argv", ["tok-any"])
    assert tool.run([]) == 0
    assert not hidden


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no prctl, the limit is set, and orphans are their own business."""
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda *arguments: limits.append(arguments))
    monkeypatch.setitem(sys.modules, "_ctypes", None)
    kernel.hide_memory()
    assert limits == [(resource.RLIMIT_CORE, (0, 0))]
    assert not kernel.adopt_orphans()
