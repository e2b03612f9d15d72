"""Commands and their time: CPU or wall, each beside the other, since a machine is not equally fast all day."""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Words = Sequence["str | Path"]


class Place:
    """A folder to work in, with the commands of a virtual environment on the path."""

    def __init__(self, commands: Path, folder: Path) -> None:
        self.python = commands / "python"
        self.folder = folder
        self._env = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "HOME": str(folder)}

    def cpu(self, words: Words, stdin: str = os.devnull) -> float:
        """Run a command, and return the seconds of CPU time that it and its children took."""
        return self.used(words, stdin)[1]

    def used(self, words: Words, stdin: str) -> tuple[int, float]:
        """Run a command, and return the bytes of its largest memory and the seconds of CPU time.

        Those of its children count; and the memory of this process does, if that has ever been larger.
        """
        with (self.folder / stdin).open("rb") as given:
            process = subprocess.Popen(words, stdin=given, stdout=subprocess.DEVNULL, cwd=self.folder, env=self._env)
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, [str(word) for word in words])
        return used.ru_maxrss * 1024, used.ru_utime + used.ru_stime

    def wall(self, script: str) -> float:
        """Run a script of the shell, and return the seconds that passed."""
        began = time.perf_counter()
        self.output("sh", "-c", script)
        return time.perf_counter() - began

    def wall_of(self, *words: str | Path) -> float:
        """Run a command, and return the seconds that passed."""
        began = time.perf_counter()
        self.output(*words)
        return time.perf_counter() - began

    def terminal(self, words: Words, *steps: tuple[str, str]) -> float:
        """Run a command at a terminal, and type each line when its words are shown.

        Returns the seconds from the last line to the end.
        """
        screen, line = pty.openpty()
        with subprocess.Popen(
            words, stdin=line, stdout=line, stderr=line, cwd=self.folder, env=self._env, start_new_session=True
        ):
            os.close(line)
            for question, answer in steps:
                shown = b""
                while question.encode() not in shown:
                    shown += os.read(screen, 65536)
                os.write(screen, answer.encode() + b"\r")
            began = time.perf_counter()
            try:
                while os.read(screen, 65536):
                    pass
            except OSError:  # nobody has the other end open any more
                pass
            taken = time.perf_counter() - began
        os.close(screen)
        return taken

    def output(self, *words: str | Path, stdin: bytes = b"") -> str:
        """Run a command, and return what it writes."""
        done = subprocess.run(
            words, input=stdin, stdout=subprocess.PIPE, stderr=None, cwd=self.folder, env=self._env, check=True
        )
        return done.stdout.decode()

    def started(self, *words: str | Path) -> subprocess.Popen[bytes]:
        """Start a command with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, cwd=self.folder, env=self._env, bufsize=0)


def medians(runs: int, *measured: Callable[[], float]) -> list[float]:
    """Call each in turn, so many times, and return the median of what each returned."""
    found: list[list[float]] = [[] for _ in measured]
    for _ in range(runs):
        for times, call in zip(found, measured):
            times.append(call())
    return [statistics.median(times) for times in found]
