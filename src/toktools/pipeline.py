"""The loop that every signer shares: a digest in, its signature out, one for one and in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from toktools import files, records
from toktools.errors import ToktoolsError

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from queue import Queue, SimpleQueue
    from typing import TypeVar

    T = TypeVar("T")

_LOOK_UP = 0.2
"""Seconds."""


def sign_stream(sign: Callable[[bytes], bytes], jobs: int = 0) -> None:
    """Read digests of 32 bytes from standard input, and write what sign makes of each to standard output.

    Up to jobs signatures are made at once, in threads of their own (0: one after the other, in this thread), and each
    is written as soon as those before it are. An error comes after the signatures of the lines before it, and no line
    is begun after it. Raises ToktoolsError, which names the line, and where there is no digest at all.
    """
    signed = 0
    for signature in _side_by_side(sign, jobs) if jobs else _one_by_one(sign):
        # One write a signature: a reader never waits for the next digest, and it costs a thousandth of the signing.
        files.write_stdout(records.line(signature))
        signed += 1
    if not signed:
        raise ToktoolsError(f"{files.STDIN_NAME}: no digests")


def _one_by_one(sign: Callable[[bytes], bytes]) -> Iterator[bytes]:
    for number, digest in enumerate(records.digests(), start=1):
        yield _signed(sign, digest, number)


def _side_by_side(sign: Callable[[bytes], bytes], jobs: int) -> Iterator[bytes]:
    crew = _Crew(sign, jobs)
    while (answer := _waited(crew.order)) is not None:
        signature = _waited(answer)
        if isinstance(signature, BaseException):
            raise signature
        yield signature


class _Crew:
    """A thread that reads, and threads that sign: daemons, so that after an error nobody waits for them."""

    def __init__(self, sign: Callable[[bytes], bytes], jobs: int) -> None:
        from queue import Queue, SimpleQueue
        from threading import Lock, Thread

        self._sign = sign
        # The place of each answer, in the order of the lines; its bound is that of the memory.
        self.order: Queue[SimpleQueue[bytes | BaseException] | None] = Queue(maxsize=2 * jobs)
        self._work: SimpleQueue[tuple[bytes, int, SimpleQueue[bytes | BaseException]]] = SimpleQueue()
        self._lock = Lock()
        self._failed = math.inf
        """The first line that has failed."""
        for target in (self._read, *[self._answer] * jobs):
            Thread(target=target, daemon=True).start()

    def _read(self) -> None:
        from queue import SimpleQueue

        try:
            for number, digest in enumerate(records.digests(), start=1):
                answer: SimpleQueue[bytes | BaseException] = SimpleQueue()
                self.order.put(answer)
                self._work.put((digest, number, answer))
            self.order.put(None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits raises it
            answer = SimpleQueue()
            answer.put(error)
            self.order.put(answer)

    def _answer(self) -> None:
        while True:
            digest, number, answer = self._work.get()
            # Those before the one that failed are still waited for, and those after it are not begun.
            if number > self._failed:
                return
            try:
                answer.put(_signed(self._sign, digest, number))
            except BaseException as error:  # noqa: BLE001 - the same
                with self._lock:
                    self._failed = min(self._failed, number)
                answer.put(error)


def _waited(queue: Queue[T] | SimpleQueue[T]) -> T:
    """Take what comes next. A signal that comes just before the waiting does not end it: look up now and then."""
    from queue import Empty

    while True:
        try:
            return queue.get(timeout=_LOOK_UP)
        except Empty:
            pass


def _signed(sign: Callable[[bytes], bytes], digest: bytes, number: int) -> bytes:
    try:
        return sign(digest)
    except ToktoolsError as error:
        raise error.at(f"{files.STDIN_NAME}: line {number}") from None
