"""Other programs that sign: a command that is run once for each digest."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
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
        self._lock = threading.Lock()
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
                _end([child])
            status = child.wait()
        if len(output) > _MAX_OUTPUT:
            raise ToktoolsError(f"{self._name}: more than {_MAX_OUTPUT} bytes of output")
        if status:
            raise ToktoolsError(f"{self._name}: {_ending(status)}")
        return self._signature(output)

    def stop(self) -> None:
        """End every run that is under way, with all that it has started, leave no file, and begin no more.

        A signal may call this, but in no thread that may be in sign().
        """
        with self._lock:
            self._stopped = True
            running = list(self._running)
        _end(running)
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
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # the command has removed it

    def _write(self, digest: bytes) -> str:
        from tempfile import mkdtemp, mkstemp

        with self._lock:
            self._go_on()
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
        with files.trouble_at(f"{self._name}: cannot be run"):
            stdin, feed = os.pipe()
        try:
            os.write(feed, digest)
            os.close(feed)
            with self._lock:
                self._go_on()
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

    def _go_on(self) -> None:
        if self._stopped:
            raise ToktoolsError(f"{self._name}: not run any more")

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


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """End commands with all that they have started: kindly, and after a moment that they share, by force."""
    families = [(child, _family(child)) for child in running]
    for child, family in families:
        _send(signal.SIGTERM, [child.pid, *family])
    deadline = time.monotonic() + _GRACE
    for child, family in families:
        try:
            child.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            family.extend(_family(child))  # whom it has started since
            child.kill()
            child.wait()
        _send(signal.SIGKILL, family)


def _family(child: subprocess.Popen[bytes]) -> list[int]:
    """Return all that a command has started, and those that hold its output, though they may be orphans.

    As far as /proc tells; where there is none, nothing is known.
    """
    children: dict[int, list[int]] = {}
    output = f"pipe:[{os.fstat(child.stdout.fileno()).st_ino}]" if child.stdout else ""
    found = [child.pid]
    for pid in map(int, filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else [])):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # pid (comm) state ppid, and comm may hold anything.
                parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it is over, or another user's
        if pid != os.getpid() and any(_target(f"/proc/{pid}/fd/{fd}") == output for fd in descriptors):
            found.append(pid)
    for process in found:
        found += [pid for pid in children.get(process, []) if pid not in found]
    return found[1:]


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
