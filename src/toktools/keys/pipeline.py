"""The loop that every signer shares: a digest in, its signature out, one for one and in order."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from toktools.errors import ToktoolsError
from toktools.keys import records
from toktools.system import files

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from queue import Queue, SimpleQueue
    from typing import TypeVar

    from toktools.system.terminal import Progress

    T = TypeVar("T")

    Numbered = Sequence[tuple[int, bytes]]
    """Digests with the numbers of their lines."""
    Answer = tuple[bytes, BaseException | None]
    """The lines of signatures, and what stopped it."""

_MANY = 32
"""As many digests have to wait before threads are worth their start."""
_GROUP = 16
"""Of so many signatures, each of a fraction of a millisecond, a thread makes the hand-over worth its while."""
_LOOK_UP = 0.2
"""Seconds."""
_PAUSE = 0.001
_RESERVE = 1 << 25
"""Bytes that threads may not take from each other where memory is limited; nothing touches them."""


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # another system than Linux
        return os.cpu_count() or 1


def sign_stream(
    sign: Callable[[bytes], bytes], jobs: int, *, quick: bool = False, progress: Progress | None = None
) -> None:
    """Read digests of 32 bytes from standard input, and write what sign makes of each to standard output.

    Up to jobs signatures are made at once, in threads of their own, and each is written as soon as those before it
    are. Where sign is quick, this thread makes them itself until many digests wait, and always where jobs is 1; then
    it goes by groups. An error comes after the signatures of the lines before it, and no line is begun after it.
    Raises ToktoolsError, which names the line, and where there is no digest at all.
    """
    batches = records.digests()
    signed = False
    if os.isatty(files.STDOUT):
        progress = None  # the signatures show it, and would be among its line
    for lines in _quickly(sign, jobs, batches) if quick else _side_by_side(sign, jobs, batches, 1):
        files.write_stdout(lines)
        signed = True
        if progress:
            progress.step(lines.count(b"\n"))
    if not signed:
        raise ToktoolsError(f"{files.STDIN_NAME}: no digests", files.why_empty())


def _quickly(sign: Callable[[bytes], bytes], jobs: int, batches: Iterator[Numbered]) -> Iterator[bytes]:
    for batch in batches:
        if jobs > 1 and len(batch) >= _MANY:
            try:
                yield from _side_by_side(sign, jobs, chain([batch], batches), _GROUP)
            except _NoThreadError:
                jobs = 1  # none has taken anything yet, and this thread can do it alone
            else:
                return
        for number, digest in batch:
            yield _line(sign, number, digest)


def _side_by_side(sign: Callable[[bytes], bytes], jobs: int, batches: Iterator[Numbered], size: int) -> Iterator[bytes]:
    crew = _Crew(sign, jobs, _groups(batches, jobs, size))
    while (answer := _waited(crew.order)) is not None:
        lines, error = _waited(answer)
        if lines:
            yield lines
        if error:
            raise error


def _groups(batches: Iterator[Numbered], jobs: int, size: int) -> Iterator[Numbered]:
    """Part batches into groups of up to size, and small enough that every thread gets some."""
    for batch in batches:
        step = max(1, min(size, len(batch) // (2 * jobs)))
        for at in range(0, len(batch), step):
            yield batch[at : at + step]


class _NoThreadError(ToktoolsError):
    """There is no room for a thread."""


class _Crew:
    """A thread that reads, and threads that sign: daemons, so that after an error nobody waits for them."""

    def __init__(self, sign: Callable[[bytes], bytes], jobs: int, groups: Iterator[Numbered]) -> None:
        from queue import Queue, SimpleQueue
        from threading import Lock, Thread
        from time import sleep

        self._sign = sign
        self._groups = groups
        # The place of each answer, in the order of the lines; its bound is that of the memory.
        self.order: Queue[SimpleQueue[Answer] | None] = Queue(maxsize=2 * jobs)
        self._work: SimpleQueue[tuple[Numbered, SimpleQueue[Answer]] | None] = SimpleQueue()
        self._lock = Lock()
        self._failed = sys.maxsize
        """The first line that has failed."""
        threads: list[Thread] = []
        reserve = None
        try:
            reserve = bytes(_RESERVE)  # a bytearray would be written to at once
            for _ in range(jobs):
                thread = Thread(target=self._answer, daemon=True)
                thread.start()
                threads.append(thread)
        except (RuntimeError, MemoryError):
            # Fewer will do; and as many as there is room for would leave none for the programs that each may start.
            ending = len(threads) * 3 // 4
            for _ in range(ending):
                self._work.put(None)
            while sum(thread.is_alive() for thread in threads) > len(threads) - ending:
                sleep(_PAUSE)
        del reserve  # it is free for their work
        # The reader comes last, and not where nobody signs: until then nothing is taken from the stream.
        try:
            if threads:
                Thread(target=self._read, daemon=True).start()
                return
        except (RuntimeError, MemoryError):
            pass
        raise _NoThreadError("no thread can be started")

    def _read(self) -> None:
        from queue import SimpleQueue

        try:
            for group in self._groups:
                answer: SimpleQueue[Answer] = SimpleQueue()
                self.order.put(answer)
                self._work.put((group, answer))
            self.order.put(None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits raises it
            answer = SimpleQueue()
            answer.put((b"", error))
            self.order.put(answer)

    def _answer(self) -> None:
        while (work := self._work.get()) is not None:
            group, answer = work
            lines = b""
            for number, digest in group:
                # Those before the one that failed are still waited for, and those after it are not begun.
                if number > self._failed:
                    return
                try:
                    lines += _line(self._sign, number, digest)
                except BaseException as error:  # noqa: BLE001 - the same
                    with self._lock:
                        self._failed = min(self._failed, number)
                    answer.put((lines, error))
                    return
            answer.put((lines, None))


def _waited(queue: Queue[T] | SimpleQueue[T]) -> T:
    """Take what comes next. A signal that comes just before the waiting does not end it: look up now and then."""
    from queue import Empty

    while True:
        try:
            return queue.get(timeout=_LOOK_UP)
        except Empty:
            pass


def _line(sign: Callable[[bytes], bytes], number: int, digest: bytes) -> bytes:
    try:
        return records.line(sign(digest))
    except ToktoolsError as error:
        raise error.at(f"{files.STDIN_NAME}: line {number}") from None
