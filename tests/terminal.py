"""A pseudo-terminal for a command that asks on the terminal itself, whatever its standard streams are."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import ptyprocess  # type: ignore[import-untyped]
from conftest import PATIENCE_SECONDS, Done, Shell


class Spawn(pexpect.spawn):  # type: ignore[type-arg] # of text
    """A command that pexpect talks to, at a terminal of its own."""

    def __init__(self, shell: Shell, *command: str | Path) -> None:
        self._shell = shell
        self._command = command
        program, *words = map(str, command)
        super().__init__(program, words, PATIENCE_SECONDS, cwd=shell.cwd, env=shell.env, encoding="utf-8")

    def _spawnpty(self, _args: object, **_: object) -> ptyprocess.PtyProcess:
        screen, line = pty.openpty()
        process = self._shell.start(*self._command, terminal=os.ttyname(line), stdin=line, stdout=line, stderr=line)
        os.close(line)
        process.returncode = 0  # as far as Popen is concerned; it is pexpect that waits
        return ptyprocess.PtyProcess(process.pid, screen)


class Terminal:
    """A command with a terminal of its own, though its standard input and output are pipes."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int, line: int) -> None:
        self.process = process
        self.shown = b""
        self._screen = screen
        self._line = line

    def echoes(self) -> bool:
        """Say whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._line)[3] & termios.ECHO)

    def wait_for(self, text: bytes) -> None:
        """Wait until a text is on the screen."""
        while text not in self.shown:
            assert select.select([self._screen], [], [], PATIENCE_SECONDS)[0], self.shown
            self.shown += os.read(self._screen, 1024)

    def type(self, keys: bytes) -> None:
        """Type once there is a prompt and nobody sees it."""
        self.wait_for(b"Enter ")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.echoes():
            assert time.monotonic() < deadline, "the echo stays on"
            time.sleep(0.002)
        os.write(self._screen, keys)

    def answer(self, phrase: str) -> None:
        """Type a pass phrase or a PIN, and the Enter key."""
        self.type(f"{phrase}\r".encode())

    def end(self) -> Done:
        """Wait for the command's end, and keep what else the screen shows."""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        while select.select([self._screen], [], [], 0)[0]:
            self.shown += os.read(self._screen, 1024)
        return Done(self.process.returncode, out, err.decode())


@contextmanager
def terminal(shell: Shell, *command: str | Path, stdin: bytes = b"") -> Iterator[Terminal]:
    """Run a command in a session whose terminal is a new one, with pipes as its standard streams."""
    screen, line = pty.openpty()
    pipe = subprocess.PIPE
    with shell.start(*command, terminal=os.ttyname(line), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
            process.stdin = None  # communicate() would flush it
            yield Terminal(process, screen, line)
        finally:
            process.kill()
            os.close(line)
            os.close(screen)
