"""Other programs that sign: a command that is run once for each digest."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from toktools import encoding, files
from toktools.errors import ToktoolsError, shown

_FILE = "{}"
_MAX_OUTPUT = 1 << 16
_GRACE = 2.0
"""Seconds between asking a command to end and ending it."""


class Command:
    """A command that reads a digest of 32 raw bytes from its standard input, and writes the signature.

    It is run without a shell between. Where an argument holds {}, the path of a private file with the digest stands
    there. The signature is raw, or base64 with white space around it. Several threads may call sign().
    """

    def __init__(self, argv: Sequence[str], *, base64: bool) -> None:
        self._argv = argv
        self._name = shown(argv[0])
        self._base64 = base64
        # stop() may come by a signal, in the thread that holds it.
        self._lock = threading.RLock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._folder = ""

    def sign(self, digest: bytes) -> bytes:
        """Run the command for a digest, and return the signature: as many bytes as an RSA key can make.

        Raises ToktoolsError where the command cannot be run, fails, or writes something else.
        """
        with self._arguments(digest) as argv, self._run(argv, digest) as child:
            output = child.stdout.read(_MAX_OUTPUT + 1) if child.stdout else b""
            if len(output) > _MAX_OUTPUT:
                child.kill()
            status = child.wait()
        if len(output) > _MAX_OUTPUT:
            raise ToktoolsError(f"{self._name}: more than {_MAX_OUTPUT} bytes of output")
        if status:
            raise ToktoolsError(f"{self._name}: {_ending(status)}")
        return self._signature(output)

    def stop(self) -> None:
        """End every run that is under way, with all that it has started, leave no file, and begin no more."""
        with self._lock:
            self._stopped = True
            families = [(child, _descendants(child.pid)) for child in self._running]
        for child, descendants in families:
            _send(signal.SIGTERM, [child.pid, *descendants])
        for child, descendants in families:
            try:
                child.wait(_GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            _send(signal.SIGKILL, descendants)
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _arguments(self, digest: bytes) -> Iterator[Sequence[str]]:
        if not any(_FILE in argument for argument in self._argv):
            yield self._argv
            return
        with files.trouble_at("a file for the digest"):
            path = self._write(digest)
        yield [argument.replace(_FILE, path) for argument in self._argv]
        os.unlink(path)

    def _write(self, digest: bytes) -> str:
        from tempfile import mkdtemp, mkstemp

        with self._lock:
            # A folder that is its owner's alone, so that stop() knows what threads have left.
            self._folder = self._folder or mkdtemp(prefix="toktools-")
            fd, path = mkstemp(suffix=".bin", dir=self._folder)
        with open(fd, "wb") as file:
            file.write(digest)
        return path

    @contextmanager
    def _run(self, argv: Sequence[str], digest: bytes) -> Iterator[subprocess.Popen[bytes]]:
        # The whole digest, and its end, are in the pipe before the command starts: it cannot read too little of it,
        # and if it reads nothing, that harms nobody.
        stdin, feed = os.pipe()
        try:
            os.write(feed, digest)
            os.close(feed)
            with self._lock:
                if self._stopped:
                    raise ToktoolsError(f"{self._name}: not run any more")
                with files.trouble_at(f"{self._name}: cannot be run"):
                    child = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE)  # noqa: S603 - the user's own
                self._running.add(child)
        finally:
            os.close(stdin)
        try:
            yield child
        finally:
            with self._lock:
                # One that is not over stays in the set, and stop() ends it.
                if child.returncode is not None:
                    self._running.discard(child)

    def _signature(self, output: bytes) -> bytes:
        if not output:
            raise ToktoolsError(f"{self._name}: no output")
        try:
            if self._base64:
                return encoding.signature(output.strip())
            if encoding.is_text(output):
                raise ToktoolsError("base64 text", "-b takes base64")
            return encoding.raw_signature(output)
        except ToktoolsError as error:
            raise error.at(f"{self._name}: its output is no signature") from None


def _ending(status: int) -> str:
    if status > 0:
        return f"exit status {status}"
    return f"killed by signal {-status} ({signal.strsignal(-status) or 'unknown'})"


def _send(number: int, pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass  # it is over


def _descendants(pid: int) -> list[int]:
    """Return all that a process has started, as far as /proc tells; where there is none, nothing is known."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # pid (comm) state ppid, and comm may hold anything.
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue  # it is over
        children.setdefault(parent, []).append(int(name))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found[1:]
