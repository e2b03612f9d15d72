"""A command as a signer: it runs once for each digest."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Condition, get_ident

from toktools import encoding, records
from toktools.errors import ToktoolsError, quoted
from toktools.keys.signer import Signer
from toktools.system import files, process, terminal
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.signatures import PublicKey

_FILE = "{}"
_MAX_OUTPUT_BYTES = 1 << 16
_MAX_SHOWN = 80
_KEY_OR_SIGNATURE = re.compile("[A-Za-z0-9+/]{40}")
"""A part of one, in base64 or hexadecimal."""
_GRACE_SECONDS = 0.5
"""The time between terminate and kill."""
_LOOK_UP_SECONDS = 0.05
"""The longest time until the end of a command is noticed if another process holds its output open."""


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
        if not argv[0].strip():
            raise ToktoolsError(
                "the command of the signer is empty", "name the program that signs; a shell variable may be empty"
            )
        self._argv = argv
        self._base64 = base64
        self._approval_data = approval_data
        self._name = files.display(argv[0])
        self._changed = Condition()
        self._runs: dict[int, subprocess.Popen[bytes] | None] = {}
        """The command of each thread that works; None while it makes a file for one."""
        self._closed = False

    def close(self) -> None:
        """Start no more commands, and end those that run, by TERM and then by KILL, but not their children."""
        with self._changed:
            self._closed = True
            for number in (signal.SIGTERM, signal.SIGKILL):
                for child in filter(None, self._runs.values()):
                    child.send_signal(number)
                self._changed.wait_for(lambda: not self._runs, _GRACE_SECONDS)

    def _sign(self, digest: bytes) -> bytes:
        content = digest if self._approval_data is None else self._approval_data.get(digest)
        if content is None:
            hint = "give --approval-data the token file that the digest comes from"
            raise ToktoolsError("no approval data for this digest", hint)
        output = b""
        with self._changed:
            self._runs[get_ident()] = None
        try:
            with self._arguments(content) as argv:
                child = self._start(argv)
                output = _communicate(child, content)
            ended = process.exit_text(child.returncode)
            event(f"{argv[0]} ended, pid {child.pid}: {ended}, {len(output)} bytes of output")
            if child.returncode:
                raise ToktoolsError(ended)
            return self._decode(output)
        except ToktoolsError as error:
            raise _with_words(error, output).at(self._name) from None
        finally:
            with self._changed:
                del self._runs[get_ident()]
                self._changed.notify()

    @contextmanager
    def _arguments(self, content: bytes) -> Iterator[Sequence[str]]:
        if not any(_FILE in argument for argument in self._argv):
            yield self._argv
            return
        from tempfile import TemporaryDirectory

        with (
            files.trouble_at(f"a file for the digest, in {files.display(files.temporary())}"),
            TemporaryDirectory(prefix="toktools-", dir=files.temporary()) as directory,
        ):
            path = os.path.join(directory, "digest.bin")
            with open(path, "wb") as file:
                file.write(content)
            yield [argument.replace(_FILE, path) for argument in self._argv]

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        hint = "no shell runs it: give each word separately, or run sh -c '...'" if " " in argv[0] else ""
        with self._changed, files.trouble_at("cannot be run", hint):  # locked, so that close() knows every command
            if self._closed:
                raise ToktoolsError("not run any more")
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - the user's
            event(f"{argv[0]} started, pid {child.pid}")
            self._runs[get_ident()] = child
        return child

    def _decode(self, output: bytes) -> bytes:
        if output.strip() in records.NOTHING:
            raise ToktoolsError("no signature")
        is_text = encoding.is_text(output)
        try:
            signature = records.wrapped_signature(output) if is_text else records.raw_signature(output)
        except ToktoolsError as error:
            raise error.at("its output is not a signature") from None
        if is_text and not self._base64:
            raise ToktoolsError("its output is base64 text", "use -b for base64")
        if self._base64 and not is_text:
            raise ToktoolsError("its output is raw bytes", "leave out -b")
        return signature

    def _wrong_signature(self, problem: str) -> ToktoolsError:
        return ToktoolsError(f"{self._name}: {problem}", status=1)


def _communicate(child: subprocess.Popen[bytes], content: bytes) -> bytes:
    """Feed a command, and return its output. Raises ToktoolsError for more than is allowed.

    Unlike Popen.communicate(), it does not wait for another process that holds the output open.
    """
    stdin, stdout = child.stdin, child.stdout
    assert stdin and stdout  # noqa: S101, PT018 - Popen has made both pipes
    os.set_blocking(stdin.fileno(), False)
    writers, readers = [stdin.fileno()], [stdout.fileno()]
    output = b""
    with child:
        try:
            while len(output) <= _MAX_OUTPUT_BYTES:
                if not writers and not readers:
                    child.wait()
                ended = child.poll() is not None  # before the look at what it has written
                readable, writable = terminal.wait(readers, writers, 0 if ended else _LOOK_UP_SECONDS)
                if writable:
                    try:
                        content = content[os.write(stdin.fileno(), content) :]
                    except BrokenPipeError:  # it need not read
                        content = b""
                    if not content:
                        stdin.close()
                        writers = []
                if readable:
                    chunk = os.read(stdout.fileno(), _MAX_OUTPUT_BYTES)
                    output += chunk
                    readers = readers if chunk else []
                elif ended:
                    return output
        finally:
            child.kill()  # if it has not ended
    raise ToktoolsError(f"more than {_MAX_OUTPUT_BYTES} bytes of output")


def _with_words(error: ToktoolsError, output: bytes) -> ToktoolsError:
    """Add the beginning of an error message on standard output; it has no key or signature in it."""
    try:
        text = " ".join(output.decode().split())
    except UnicodeDecodeError:
        return error
    if not text or _KEY_OR_SIGNATURE.search(text) or encoding.is_hexadecimal(output):
        return error
    return error.also(f"it wrote {quoted(text[:_MAX_SHOWN])}")
