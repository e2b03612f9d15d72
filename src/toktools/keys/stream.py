"""Sign a stream: read digests from standard input, and write their signatures, one for one and in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain

from toktools import encoding, records
from toktools.errors import ToktoolsError
from toktools.system import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from queue import Queue
    from typing import Optional, TypeVar

    from toktools.system.terminal import Progress

    T = TypeVar("T")

    Numbered = Sequence[tuple[int, bytes]]
    """Digests with the numbers of their lines."""
    Signed = tuple[bytes, Optional[ToktoolsError]]
    """The lines of signatures, and the error that stopped there."""

MAX_LINE_BYTES = 4096
"""The longest line, without its end. A signature of RSA-4096 takes 684 characters."""
_MANY = 32
"""Digests that must wait before threads are worth their start to a quick signer."""
_GROUP = 16
"""Digests that a quick signer signs in one task: one alone would take less time than its task."""
_LOOK_UP_SECONDS = 0.2
"""The longest wait at once: a signal that comes just before a wait is seen only after it."""


def read_digests(fd: int = files.STDIN) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the 32-byte digests of a stream with the numbers of their lines, as many at a time as have come.

    ToktoolsError names a wrong line, after the digests before it.
    """
    return _records(fd, records.digest)


def read_signatures(fd: int = files.STDIN) -> Iterator[bytes]:
    """Yield the signatures of a stream. ToktoolsError names a wrong line."""
    return (signature for batch in _records(fd, records.signature) for _, signature in batch)


def sign_stream(
    sign: Callable[[bytes], bytes], jobs: int, *, quick: bool = False, progress: Progress | None = None
) -> None:
    """Read digests from standard input, and write what *sign* makes of each to standard output.

    Up to *jobs* threads sign at once, and each signature is written as soon as those before it are. If *sign* is quick,
    the main thread calls it until many digests wait. An error comes after the signatures of the lines before it, and
    no line is begun after it. Raises ToktoolsError, which names the line; an empty stream is an error too.
    """
    batches = read_digests()
    if os.isatty(files.STDOUT):
        progress = None  # the signatures show it
    signed = False
    with closing(
        _sign_quickly(sign, jobs, batches) if quick else _sign_in_threads(sign, jobs, batches, 1)
    ) as signatures:
        for lines in signatures:
            files.write_stdout(lines)
            signed = True
            if progress:
                progress.step(lines.count(b"\n"))
    if not signed:
        raise ToktoolsError(f"{files.STDIN_NAME}: no digests", files.why_empty())


def sign_apart(sign: Callable[[bytes], bytes], digest: bytes) -> bytes:
    """Return what *sign* makes of *digest* in another thread.

    Only the main thread gets the exception of a signal, so it never comes between the start of a command and the note
    that it runs. The other thread has ended when this returns, but not if a signal comes.
    """
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    signature = pool.submit(sign, digest)
    try:
        return _result(signature)
    finally:
        pool.shutdown(wait=signature.done())


def _sign_quickly(sign: Callable[[bytes], bytes], jobs: int, batches: Iterator[Numbered]) -> Generator[bytes]:
    for batch in batches:
        if jobs > 1 and len(batch) >= _MANY:
            yield from _sign_in_threads(sign, jobs, chain([batch], batches), _GROUP)
            return
        for number, digest in batch:
            yield _sign_line(sign, number, digest)


def _sign_in_threads(
    sign: Callable[[bytes], bytes], jobs: int, batches: Iterator[Numbered], group_size: int
) -> Generator[bytes]:
    """Yield the lines of signatures that *jobs* threads make; this thread only waits, and so can see a signal."""
    from concurrent.futures import ThreadPoolExecutor
    from queue import Queue
    from threading import Thread

    pool = ThreadPoolExecutor(jobs)
    queue: Queue[Future[Signed] | None] = Queue(2 * jobs)  # in the order of the lines; its bound is that of the memory
    failed: list[int] = []  # the numbers of the lines that have failed

    def submit(group: Numbered) -> Future[Signed]:
        try:
            return pool.submit(_sign_group, sign, failed, group)
        except RuntimeError:
            raise _no_thread(jobs) from None

    groups = _groups(batches, jobs, group_size)
    try:
        # The reader may wait for a digest for ever, so nothing may wait for the reader.
        reader = Thread(target=_submit_groups, args=(groups, submit, queue), daemon=True)
        try:
            reader.start()
        except RuntimeError:
            raise _no_thread(jobs) from None
        for lines, error in _results(queue):
            if lines:
                yield lines
            if error:
                raise error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _no_thread(jobs: int) -> Exception:
    """Return the error for a thread that the system does not start, because there is no memory for it."""
    if jobs == 1:
        return MemoryError()
    return ToktoolsError(f"{jobs} threads cannot be started", "give -j a smaller number")


def _submit_groups(
    groups: Iterator[Numbered], submit: Callable[[Numbered], Future[Signed]], queue: Queue[Future[Signed] | None]
) -> None:
    from concurrent.futures import Future

    try:
        for group in groups:
            queue.put(submit(group))
        queue.put(None)
    except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
        failed: Future[Signed] = Future()
        failed.set_exception(error)
        queue.put(failed)


def _sign_group(sign: Callable[[bytes], bytes], failed: list[int], group: Numbered) -> Signed:
    """Return the lines of signatures up to the first error, which *failed* is told, or to a line that failed before."""
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


def _groups(batches: Iterator[Numbered], jobs: int, size: int) -> Iterator[Numbered]:
    """Divide *batches* into groups of up to *size*, small enough that every thread gets some."""
    for batch in batches:
        step = max(1, min(size, len(batch) // (2 * jobs)))
        for start in range(0, len(batch), step):
            yield batch[start : start + step]


def _results(queue: Queue[Future[Signed] | None]) -> Iterator[Signed]:
    from queue import Empty

    while True:
        try:
            future = queue.get(timeout=_LOOK_UP_SECONDS)
        except Empty:
            continue
        if future is None:
            return
        yield _result(future)


def _result(future: Future[T]) -> T:
    from concurrent.futures import wait

    while not future.done():
        wait([future], _LOOK_UP_SECONDS)
    return future.result()


def _sign_line(sign: Callable[[bytes], bytes], number: int, digest: bytes) -> bytes:
    try:
        return encoding.line(sign(digest))
    except ToktoolsError as error:
        raise error.at(f"{files.STDIN_NAME}: line {number}") from None


def _records(fd: int, decode: Callable[[bytes], bytes]) -> Iterator[list[tuple[int, bytes]]]:
    number = empty = 0
    for lines in _lines(fd):
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


def _lines(fd: int) -> Iterator[list[bytes]]:
    """Yield the lines that came with each read, without their ends; of one that is too long, enough to show it."""
    rest = b""
    while len(rest) <= MAX_LINE_BYTES:
        with files.trouble_at(files.STDIN_NAME):
            chunk = os.read(fd, 1 << 16)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]
