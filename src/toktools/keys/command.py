"""Another program that signs: a command that is run once for each digest."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from toktools import encoding
from toktools.errors import ToktoolsError, shown
from toktools.keys.signer import Signer, fault
from toktools.system import files, process

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.signatures import PublicKey

_FILE = "{}"
_MAX_OUTPUT = 1 << 16
_GRACE = 2.0
"""Seconds between asking a command to end and ending it."""
_PAUSE = 0.05
"""Seconds from one look to the next."""
_NO_ROOM = (errno.EAGAIN, errno.ENOMEM)
"""How the system says that it can start no process now."""


class Command(Signer):
    """A command that reads a digest of 32 raw bytes from its standard input, and writes the signature.

    One that always hashes reads what was hashed instead, where that is given for each digest. It is run without a shell
    between. Where an argument holds {}, the path of a private file with what it reads stands there. The signature is
    raw, or base64 with white space around it. Several threads may call sign().
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        base64: bool,
        public: PublicKey | None = None,
        hashed: Mapping[bytes, bytes] | None = None,
    ) -> None:
        super().__init__(public)
        self._argv = argv
        self._hashed = hashed
        self._name = shown(argv[0]) or "''"
        self._base64 = base64
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._folder = ""
        self._others = _descendants()
        """Processes of the shell that has become this one."""

    def _sign(self, digest: bytes) -> bytes:
        """Run the command for a digest, and return the signature: as many bytes as an RSA key can make.

        Raises ToktoolsError where the command cannot be run, fails, or writes something else.
        """
        content = digest if self._hashed is None else self._hashed.get(digest)
        if content is None:
            raise ToktoolsError(
                "no approval data for this digest", "give --approval-data the token file that the digest comes from"
            )
        with self._arguments(content) as argv, self._run(argv, content) as child:
            output = _output(child)
            if len(output) > _MAX_OUTPUT:
                child.kill()
            status = child.wait()
        if len(output) > _MAX_OUTPUT:
            raise ToktoolsError(f"{self._name}: more than {_MAX_OUTPUT} bytes of output")
        if status:
            raise ToktoolsError(f"{self._name}: {process.exit_text(status)}")
        return self._signature(output)

    def stop(self) -> None:
        """Begin no more, end every process that was started, kindly and then by force, and leave no file.

        A signal may call this, but in no thread that may be in here already, or in sign().
        """
        with self._lock:
            self._stopped = True
        asked: set[int] = set()
        began = time.monotonic()
        # Again and again, since a process that is not yet ended may start others.
        while (alive := self._alive()) and time.monotonic() < began + 2 * _GRACE:
            if time.monotonic() < began + _GRACE:
                _send(signal.SIGTERM, alive - asked)
                asked |= alive
            else:
                _send(signal.SIGKILL, alive)
            time.sleep(_PAUSE)
        self.close()

    def close(self) -> None:
        """Leave no file."""
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)

    def _unverified(self, public: PublicKey, digest: bytes, signature: bytes) -> ToktoolsError:
        return ToktoolsError(f"{self._name}: {fault(public, digest, signature)}", status=1)

    def _alive(self) -> set[int]:
        with self._lock:
            started = {child.pid for child in self._running if child.poll() is None}
        return started | _descendants() - self._others

    @contextmanager
    def _arguments(self, content: bytes) -> Iterator[Sequence[str]]:
        if not any(_FILE in argument for argument in self._argv):
            yield self._argv
            return
        with files.trouble_at("a file for the digest, in TMPDIR or /tmp"):
            path = self._write(content)
        yield [argument.replace(_FILE, path) for argument in self._argv]
        # Once stop() is at work, what the command has started may still read it, until close().
        if not self._stopped:
            try:
                os.unlink(path)
            except OSError:
                pass  # the command has removed it, or worse; close() sees to the rest

    def _write(self, content: bytes) -> str:
        from tempfile import mkdtemp, mkstemp

        with self._lock:
            self._go_on()
            # A folder that is its owner's alone, so that stop() knows what threads have left.
            self._folder = self._folder or mkdtemp(prefix="toktools-", dir=files.temporary())
            fd, path = mkstemp(suffix=".bin", dir=self._folder)
        with open(fd, "wb") as file:
            file.write(content)
        return path

    @contextmanager
    def _run(self, argv: Sequence[str], content: bytes) -> Iterator[subprocess.Popen[bytes]]:
        # All that it reads, and the end, are in the pipe before the command starts: it cannot read too little of it,
        # and if it reads nothing, that harms nobody.
        with files.trouble_at(f"{self._name}: cannot be run"):
            stdin, feed = os.pipe()
        try:
            _fill(feed, content)
            while (child := self._started(argv, stdin)) is None:
                time.sleep(_PAUSE)
        finally:
            os.close(stdin)
        try:
            yield child
        finally:
            with self._lock:
                # One that is not over stays in the set, and stop() ends it.
                if child.returncode is not None:
                    self._running.discard(child)

    def _started(self, argv: Sequence[str], stdin: int) -> subprocess.Popen[bytes] | None:
        """Start a command; or return None where there is no room for one more before another is over."""
        with self._lock, files.trouble_at(f"{self._name}: cannot be run"):
            self._go_on()
            try:
                child = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE)  # noqa: S603 - the user's own
            except OSError as error:
                if error.errno in _NO_ROOM and self._running:
                    return None
                if isinstance(error, FileNotFoundError) and " " in argv[0]:
                    hint = "no shell runs it: give each word separately, or run sh -c '...'"
                    raise ToktoolsError(f"{self._name}: cannot be run: no such file or directory", hint) from None
                raise
            self._running.add(child)
            return child

    def _go_on(self) -> None:
        if self._stopped:
            raise ToktoolsError(f"{self._name}: not run any more")

    def _signature(self, output: bytes) -> bytes:
        if not output:
            raise ToktoolsError(f"{self._name}: no output")
        is_text = encoding.is_text(output)
        try:
            signature = encoding.wrapped_signature(output) if is_text else encoding.raw_signature(output)
            if is_text != self._base64:
                raise ToktoolsError(
                    *(("base64 text", "use -b for base64") if is_text else ("raw bytes", "leave out -b"))
                )
        except ToktoolsError as error:
            raise error.at(f"{self._name}: its output is not a signature") from None
        return signature


def _fill(pipe: int, content: bytes) -> None:
    """Write all there is to read into a pipe that nobody reads yet, and close it."""
    try:
        os.set_blocking(pipe, False)
        if os.write(pipe, content) < len(content):
            raise ToktoolsError(f"the approval data have {encoding.size(len(content))}, more than a pipe holds")
    finally:
        os.close(pipe)


def _output(child: subprocess.Popen[bytes]) -> bytes:
    """Return what a command writes until it ends, though what it has started may hold its output open."""
    output = b""
    if child.stdout is None:
        return output
    descriptor = child.stdout.fileno()
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    while len(output) <= _MAX_OUTPUT:
        # Asked before, so that what it has written by then is seen below.
        over = child.poll() is not None
        if readable.poll(0 if over else _PAUSE * 1000):
            chunk = os.read(descriptor, _MAX_OUTPUT)
            if not chunk:
                break
            output += chunk
        elif over:
            break
    child.stdout.close()
    return output


def _send(number: int, pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass  # it is over


def _descendants() -> set[int]:
    """Return all processes that descend from this one and are not over, as far as /proc tells."""
    children: dict[int, list[int]] = {}
    over = set()
    for pid in map(int, filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else [])):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # pid (comm) state ppid, and comm may hold anything.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue  # it is over
        children.setdefault(int(parent), []).append(pid)
        if state in b"ZX":
            over.add(pid)
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return set(found[1:]) - over
