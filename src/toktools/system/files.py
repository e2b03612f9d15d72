"""Read files and standard input; write standard output."""

from __future__ import annotations

import os
import re
import stat
from binascii import crc32
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from signal import SIGPIPE

from toktools.errors import ToktoolsError, shown
from toktools.system import process

STDIN, STDOUT = 0, 1
STDIN_NAME = "standard input"
_STDOUT_NAME = "standard output"
_CHUNK = 1 << 16
_LINES = 1 << 10
_NO_NAME = r"\Apass:|[\r\n]|-----BEGIN|[0-9A-Fa-f]{64}|(?=(?:[a-z0-9+/=]{0,20}[A-Z]){10})[A-Za-z0-9+/=]{64}|[^/]{256}"
"""A part of what is hardly the name of a file: of PEM, hexadecimal or base64, which has more capitals than a path."""
_OF_OTHERS = (("read", stat.S_IRGRP | stat.S_IROTH), ("write", stat.S_IWGRP | stat.S_IWOTH))


class Snapshot:
    """A file as it was when it was read: path (None for standard input), name for messages, bytes and stat."""

    def __init__(self, path: str | None, content: bytes, status: os.stat_result) -> None:
        self.path = path
        self.name = display(path)
        self.content = content
        self.checksum = checksum(content)
        self.status = status


def display(path: str | None) -> str:
    """Return how messages name a file; a text in its place that may be a key or another secret is not shown."""
    if path is None:
        return STDIN_NAME
    # In this order, the pattern is compiled only for a file that is not there.
    if not (os.path.lexists(path) or os.path.isdir(os.path.dirname(path))) and re.search(_NO_NAME, path):
        return f"a text of {len(path)} characters, which is not the name of a file"
    return shown(path) or "''"


@contextmanager
def trouble_at(prefix: str, hint: str = "") -> Iterator[None]:
    """Turn an OSError into a ToktoolsError whose message begins with *prefix*."""
    try:
        yield
    except OSError as error:
        raise ToktoolsError(f"{prefix}: {reason(error)}", hint) from None


def temporary() -> str:
    """Return the directory in TMPDIR, or /tmp; the tempfile module would take another if it cannot use that one."""
    return os.path.abspath(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - for directories of our own


def reason(error: OSError) -> str:
    """Return the system's description of an error, in lower case."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def read(path: str | None, limit: int) -> Snapshot:
    """Read a whole file, or standard input if *path* is None or "-".

    Raises ToktoolsError if it cannot be read or has more than *limit* bytes.
    """
    path = None if path == "-" else path
    source = STDIN if path is None else path
    with trouble_at(display(path)), open(source, "rb", buffering=0, closefd=path is not None) as file:
        chunks, size = [], 0
        while size <= limit and (chunk := os.read(file.fileno(), _CHUNK)):
            chunks.append(chunk)
            size += len(chunk)
        snapshot = Snapshot(path, b"".join(chunks), os.fstat(file.fileno()))
    if size > limit:
        raise ToktoolsError(f"{snapshot.name}: larger than {limit} bytes")
    return snapshot


def checksum(content: bytes) -> tuple[int, int]:
    """Return the size and the CRC-32 of a content, which reveal another program's change, but not a forgery."""
    return len(content), crc32(content)


def why_empty() -> str:
    """Return why nothing came from standard input, or an empty string."""
    mode = os.fstat(STDIN).st_mode
    return "the command before it wrote nothing" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else ""


def is_stdin(status: os.stat_result) -> bool:
    """Return whether a file is also standard input, which carries the stream, never a key or a pass phrase.

    The null device does not count: it is always empty.
    """
    return _is_open_as(STDIN, status) and not os.path.samestat(status, os.stat(os.devnull))


def refuse_stdin_twice(paths: Sequence[str]) -> None:
    """Refuse "-", which is standard input, for two files: the second would find nothing."""
    if paths.count("-") > 1:
        raise ToktoolsError("standard input can be only one of the files")


def refuse_as_stdout(snapshot: Snapshot) -> None:
    """Refuse, as cat(1) does, a file that is also standard output."""
    if stat.S_ISREG(snapshot.status.st_mode) and _is_open_as(STDOUT, snapshot.status):
        emptied = "" if snapshot.content else ", and the shell has already emptied it"
        raise ToktoolsError(
            f"{snapshot.name}: standard output is this same file{emptied}",
            "send standard output to another file, or change a token file in place with tok-merge -i",
        )


def warn_of_exposure(name: str, status: os.stat_result, what: str, warn: Callable[[str], None]) -> None:
    """Warn if other users than the owner can read or write a file with a secret."""
    if not stat.S_ISREG(status.st_mode):
        return
    permissions = stat.S_IMODE(status.st_mode)
    allowed = [verb for verb, bits in _OF_OTHERS if permissions & bits]
    if allowed:
        warn(
            f"{name}: other users can {' and '.join(allowed)} this {what} (mode {permissions:04o}; chmod 600 fixes it)"
        )


def refuse_irregular(path: str) -> None:
    """Refuse to change in place what is not a regular file, before waiting for a pipe, for example."""
    with trouble_at(display(path)):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise not_regular(path)


def not_regular(path: str) -> ToktoolsError:
    """Return the error that a file to write is a directory, a device or the like."""
    try:
        status = os.stat(path)
    except OSError:
        return ToktoolsError(f"{display(path)}: {'no such directory' if path else 'an empty name'}")
    hint = "leave out -o to write to standard output" if _is_open_as(STDOUT, status) else ""
    return ToktoolsError(f"{display(path)}: not a regular file", hint)


def refuse_terminal() -> None:
    """Refuse to write raw bytes to a terminal."""
    if os.isatty(STDOUT):
        raise ToktoolsError(
            f"{_STDOUT_NAME}: raw bytes are not written to a terminal", "redirect it to a file or a pipe"
        )


def write_stdout(content: bytes) -> None:
    """Write all of it to standard output at once. Raises ToktoolsError."""
    with trouble_at(_STDOUT_NAME):
        try:
            write(STDOUT, content)
        except BrokenPipeError:
            raise process.Terminated(SIGPIPE) from None  # as it ends cat(1)


def write_lines(lines: Iterable[bytes]) -> None:
    """Write lines to standard output, some at a time, so that they are never all in memory."""
    lines = iter(lines)
    while some := b"".join(islice(lines, _LINES)):
        write_stdout(some)


def close_stdout() -> None:
    """Close standard output: NFS and quotas report some errors only then, and a reader waits for it."""
    with trouble_at(_STDOUT_NAME):
        os.close(STDOUT)


def _is_open_as(fd: int, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.fstat(fd))
    except OSError:
        return False


def sync(fd: int) -> None:
    """Wait until a file is on the disk; on macOS, fsync(2) alone leaves it in the drive's cache."""
    import fcntl

    if full := getattr(fcntl, "F_FULLFSYNC", 0):
        try:
            fcntl.fcntl(fd, full)
        except OSError:
            pass  # a file system that has no such thing
        else:
            return
    os.fsync(fd)


def write(fd: int, content: bytes) -> None:
    """Write all of it, in as many pieces as the system takes."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
