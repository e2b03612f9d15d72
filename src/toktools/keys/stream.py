"""Sign a stream: read digests from standard input, and write their signatures, one for one and in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from toktools import encoding, records
from toktools.errors import ToktoolsError
from toktools.system import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from typing import TypeVar

    from toktools.system.terminal import Progress

    T = TypeVar("T")

    Numbered = Sequence[tuple[int, bytes]]
    """Digests with the numbers of their lines."""
    Sign = Callable[[bytes], bytes]

MAX_LINE_BYTES = 4096
"""The longest line, without its end. A signature of RSA-4096 takes 684 characters."""
_MANY = 32
"""Digests that must wait before a quick signer starts threads."""
_GROUP = 16
"""Digests that a quick signer signs in one task; a task for each would cost more than its signature."""
_LOOK_UP_SECONDS = 0.2
"""The longest single wait: a signal just before it, or to another thread, is noticed only after it."""


def read_digests() -> Iterator[list[tuple[int, bytes]]]:
    """Yield the 32-byte digests on standard input with the numbers of their lines, as many at a time as have come.

    ToktoolsError names a wrong line, after the digests before it.
    """
    return _records(records.digest)


def read_signatures() -> Iterator[bytes]:
    """Yield the signatures on standard input. ToktoolsError names a wrong line."""
    return (signature for batch in _records(records.signature) for _, signature in batch)


def sign_stream(sign: Sign, jobs: int, *, quick: bool = False, progress: Progress | None = None) -> None:
    """Read digests from standard input, and write what *sign* makes of each to standard output.

    Up to *jobs* threads sign what has come at once, and each signature is written as soon as those before it are. If
    *sign* is quick, the main thread calls it until many digests wait. An error comes after the signatures of the lines
    before it, and no line is begun after it. Raises ToktoolsError, which names the line; an empty stream is an error
    too.
    """
    if os.isatty(files.STDOUT):
        progress = None  # the signatures show it
    signed = False
    with closing(_signed(sign, jobs, quick=quick)) as signatures:
        for lines in signatures:
            files.write_stdout(lines)
            signed = True
            if progress:
                progress.step(lines.count(b"\n"))
    if not signed:
        raise ToktoolsError(f"{files.STDIN_NAME}: no digests", files.why_empty())


def sign_apart(sign: Sign, digest: bytes) -> bytes:
    """Call *sign* with *digest* in another thread, and return its result.

    Only the main thread gets the exception of a signal, so it never comes between the start of a command and the note
    that it runs. The other thread has ended when this returns, but not if a signal comes.
    """
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    try:
        signature = pool.submit(sign, digest)
    except RuntimeError:
        raise ToktoolsError("a thread cannot be started") from None
    try:
        return _result(signature)
    finally:
        pool.shutdown(wait=signature.done())


def _signed(sign: Sign, jobs: int, *, quick: bool) -> Generator[bytes]:
    """Yield the lines of signatures of standard input."""
    pool: ThreadPoolExecutor | None = None
    try:
        for batch in read_digests():
            if quick and (jobs == 1 or len(batch) < _MANY):
                for number, digest in batch:
                    yield _sign_line(sign, number, digest)
                continue
            if pool is None:
                from concurrent.futures import ThreadPoolExecutor

                pool = ThreadPoolExecutor(jobs)
            size = max(1, min(_GROUP, len(batch) // (2 * jobs))) if quick else 1
            yield from _sign_in_pool(pool, sign, batch, size, jobs)
    finally:
        if pool:
            pool.shutdown(wait=False, cancel_futures=True)


def _sign_in_pool(pool: ThreadPoolExecutor, sign: Sign, batch: Numbered, size: int, jobs: int) -> Iterator[bytes]:
    failed: list[int] = []  # the numbers of the lines that have failed
    try:
        groups = [
            pool.submit(_sign_group, sign, failed, batch[start : start + size]) for start in range(0, len(batch), size)
        ]
    except RuntimeError:  # no memory for it, say
        hint = "give -j a smaller number" if jobs > 1 else ""
        raise ToktoolsError(f"{encoding.count(jobs, 'thread')} cannot be started", hint) from None
    for group in groups:
        lines, error = _result(group)
        if lines:
            yield lines
        if error:
            raise error


def _sign_group(sign: Sign, failed: list[int], group: Numbered) -> tuple[bytes, ToktoolsError | None]:
    """Return the lines of signatures up to the first error, which *failed* gets, or to a line that failed before."""
    lines = b""
    for number, digest in group:
        if any(line < number for line in failed):
            break
        try:
            lines += _sign_line(sign, number, digest)
        except ToktoolsError as error:
            failed.append(number)
            return lines, error
    return lines, None


def _result(future: Future[T]) -> T:
    from concurrent.futures import wait

    while not future.done():
        wait([future], _LOOK_UP_SECONDS)
    return future.result()


def _sign_line(sign: Sign, number: int, digest: bytes) -> bytes:
    try:
        return encoding.line(sign(digest))
    except ToktoolsError as error:
        raise error.at(f"{files.STDIN_NAME}: line {number}") from None


def _records(decode: Callable[[bytes], bytes]) -> Iterator[list[tuple[int, bytes]]]:
    number = empty = 0
    for lines in _lines():
        batch: list[tuple[int, bytes]] = []
        wrong = None
        try:
            for number, line in enumerate(lines, start=number + 1):  # noqa: B020 - it goes on counting
                if not line and number > 1:
                    empty = empty or number  # an error only if something follows
                elif empty or not line:
                    raise ToktoolsError("empty")
                elif len(line) > MAX_LINE_BYTES:
                    raise ToktoolsError(f"longer than {MAX_LINE_BYTES} bytes", encoding.ONE_A_LINE)
                else:
                    batch.append((number, decode(line)))
        except ToktoolsError as error:
            wrong = error.at(f"{files.STDIN_NAME}: line {empty or number}")
        if batch:
            yield batch
        if wrong:
            raise wrong


def _lines() -> Iterator[list[bytes]]:
    """Yield the lines of each read, without their ends, and of one that is too long only the beginning."""
    rest = b""
    while len(rest) <= MAX_LINE_BYTES:
        with files.trouble_at(files.STDIN_NAME):
            chunk = os.read(files.STDIN, 1 << 16)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]
