"""The emulation of macOS itself: "make macos" would show nothing if it were not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Shell

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux", reason="macOS is emulated on Linux alone")
HERE = Path(__file__).resolve().parent
ENVIRONMENT = {"PYTHONPATH": str(HERE), "PATH": f"{HERE / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def python(script: str) -> str:
    """Return what a script for the emulated Python prints."""
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run([sys.executable, "-c", script], env=environment, stdout=-1, text=True, check=True).stdout


@pytest.mark.parametrize(
    "expression",
    [
        "sys.platform == 'darwin'",
        "not [name for name in ('O_PATH', 'getxattr', 'pipe2', 'sched_getaffinity') if hasattr(os, name)]",
        "not os.path.exists('/proc') and not os.path.exists('/dev/full')",
        "os.path.realpath('/dev/fd/0') == '/dev/fd/0'",
        "select.poll and not hasattr(select, 'epoll')",
    ],
)
def test_what_macos_lacks(expression: str) -> None:
    """A Python that PYTHONPATH leads to the emulation has neither Linux's calls nor its files."""
    assert python(f"import os, select, sys; print(bool({expression}))") == "True\n"


def test_terminals() -> None:
    """There are no locks of them, poll(2) does not know them, and one that nobody has open ends."""
    script = """
        import fcntl, os, pty, select
        screen, line = pty.openpty()
        try:
            fcntl.lockf(line, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            print(error.strerror)
        poll = select.poll()
        poll.register(screen)
        print(poll.poll(0) == [(screen, select.POLLNVAL)])
        os.close(line)
        print(os.read(screen, 10))
    """
    said = python("\n".join(line[8:] for line in script.splitlines()))
    assert said == "Operation not supported\nTrue\nb''\n"


@pytest.mark.parametrize("command", ["sed -i s/a/b/ f", "sed 's/a\\|b//' f", "stat -c %a f", "nproc", "base64 -w0 f"])
def test_tools(shell: Shell, command: str) -> None:
    """What only GNU's tools take is refused, and what macOS does not have is not found."""
    shell.write("f", b"a\n")
    environment = {**shell.env, "PATH": ENVIRONMENT["PATH"]}
    assert shell.sh(command, env=environment).status in {64, 127}
    shell.sh("sed s/a/b/ f && stat f && base64 f", env=environment).check(0)


def test_the_demo(shell: Shell) -> None:
    """The demo runs with the tools and the Python of macOS."""
    environment = {**shell.env, **ENVIRONMENT, "PATH": f"{HERE / 'bin'}{os.pathsep}{shell.env['PATH']}"}
    shell.run("sh", "examples/demo.sh", cwd=ROOT, env=environment).check(0)
