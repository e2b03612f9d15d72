"""A command as a signer: it runs once for each digest."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from threading import Condition

from toktools import encoding, records
from toktools.errors import ToktoolsError, shown
from toktools.keys.signer import Signer
from toktools.system import files, process, terminal
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.signatures import PublicKey

_FILE = "{}"
_MAX_OUTPUT_BYTES = 1 << 16
_GRACE_SECONDS = 0.5
"""The time between terminate and kill."""
_LOOK_UP_SECONDS = 0.05
"""How soon to see that a command has ended whose output another process holds open."""


class Command(Signer):
    """A command that reads a digest of 32 raw bytes, or its approval data, and writes the signature.

    In an argument, {} becomes the path of a private file with the input. No shell is between. The signature is raw, or
    base64 with white space around it. Several threads may call sign(), and the main thread close() in the meantime.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        base64: bool,
        public_key: PublicKey | None = None,
        approval_data: Mapping[bytes, bytes] | None = None,
    ) -> None:
        super().__init__(public_key)
        self._argv = argv
        self._base64 = base64
        self._approval_data = approval_data
        self._name = shown(argv[0]) or "''"
        self._changed = Condition()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._busy = 0  # threads that have a command, or a file for it
        self._closed = False

    def close(self) -> None:
        """Start no more commands, and end those that run, first by TERM, then by KILL; their children are theirs."""
        with self._changed:
            self._closed = True
            for number in (signal.SIGTERM, signal.SIGKILL):
                for child in self._running:
                    child.send_signal(number)
                self._changed.wait_for(lambda: not self._busy, _GRACE_SECONDS)

    def _sign(self, digest: bytes) -> bytes:
        content = digest if self._approval_data is None else self._approval_data.get(digest)
        if content is None:
            hint = "give --approval-data the token file that the digest comes from"
            raise ToktoolsError("no approval data for this digest", hint)
        with self._changed:
            self._busy += 1
        try:
            with self._arguments(content) as argv, self._started(argv) as child:
                output, status = _communicate(child, content)
                event(f"{argv[0]} ended, pid {child.pid}: {process.exit_text(status)}, {len(output)} bytes of output")
                return self._decode(output, status)
        except ToktoolsError as error:
            raise error.at(self._name) from None
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify()

    @contextmanager
    def _arguments(self, content: bytes) -> Iterator[Sequence[str]]:
        if not any(_FILE in argument for argument in self._argv):
            yield self._argv
            return
        with files.trouble_at("a file for the digest, in TMPDIR or /tmp"):
            directory = TemporaryDirectory(prefix="toktools-", dir=files.temporary())
        with directory:
            path = os.path.join(directory.name, "digest.bin")
            with files.trouble_at("a file for the digest, in TMPDIR or /tmp"), open(path, "wb") as file:
                file.write(content)
            yield [argument.replace(_FILE, path) for argument in self._argv]

    @contextmanager
    def _started(self, argv: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        with self._changed, files.trouble_at("cannot be run"):  # under the lock, so that close() knows every command
            if self._closed:
                raise ToktoolsError("not run any more")
            try:
                child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - the user's
            except FileNotFoundError:
                hint = "no shell runs it: give each word separately, or run sh -c '...'" if " " in argv[0] else ""
                raise ToktoolsError("cannot be run: no such file or directory", hint) from None
            self._running.add(child)
            event(f"{argv[0]} started, pid {child.pid}")
        try:
            with child:
                try:
                    yield child
                finally:
                    child.kill()  # if it has not ended
        finally:
            with self._changed:
                self._running.remove(child)

    def _decode(self, output: bytes, returncode: int) -> bytes:
        if len(output) > _MAX_OUTPUT_BYTES:
            raise ToktoolsError(f"more than {_MAX_OUTPUT_BYTES} bytes of output")
        if returncode:
            raise ToktoolsError(process.exit_text(returncode))
        if not output:
            raise ToktoolsError("no output")
        is_text = encoding.is_text(output)
        try:
            signature = records.wrapped_signature(output) if is_text else records.raw_signature(output)
            if is_text and not self._base64:
                raise ToktoolsError("base64 text", "use -b for base64")
            if self._base64 and not is_text:
                raise ToktoolsError("raw bytes", "leave out -b")
        except ToktoolsError as error:
            raise error.at("its output is not a signature") from None
        return signature

    def _wrong_signature(self, problem: str) -> ToktoolsError:
        return ToktoolsError(f"{self._name}: {problem}", status=1)


def _communicate(child: subprocess.Popen[bytes], content: bytes) -> tuple[bytes, int]:
    """Feed a command; return what it writes until it ends, or too much, and its exit status.

    Unlike Popen.communicate(), it does not wait for another process that holds the output open.
    """
    try:
        with child.stdin as stdin:  # type: ignore[union-attr] # a pipe, as the next
            stdin.write(content)
    except BrokenPipeError:
        pass  # it need not read
    output, stdout = b"", child.stdout.fileno()  # type: ignore[union-attr]
    while len(output) <= _MAX_OUTPUT_BYTES:
        ended = child.poll() is not None  # before the look, so that nothing is missed
        if terminal.wait([stdout], [], 0 if ended else _LOOK_UP_SECONDS)[0]:
            chunk = os.read(stdout, _MAX_OUTPUT_BYTES)
            if not chunk:
                return output, child.wait()
            output += chunk
        elif ended:
            break
    return output, child.returncode or 0
