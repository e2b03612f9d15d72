"""The loop that every signer shares: a digest in, its signature out, one for one and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from toktools import files, records
from toktools.errors import ToktoolsError

TYPE_CHECKING = False  # see options.py
if TYPE_CHECKING:
    from queue import Queue, SimpleQueue

    Answer = SimpleQueue[bytes | BaseException]


def sign_stream(sign: Callable[[bytes], bytes], jobs: int = 1) -> None:
    """Read digests of 32 bytes from standard input, and write what sign makes of each to standard output.

    Up to jobs signatures are made at once, and each is written as soon as those before it are. An error comes after
    the signatures of the lines before it. Raises ToktoolsError, which names the line, and where there is no digest.
    """
    signed = 0
    for signature in _one_by_one(sign) if jobs == 1 else _side_by_side(sign, jobs):
        # One write a signature: a reader never waits for the next digest, and it costs a thousandth of the signing.
        files.write_stdout(records.line(signature))
        signed += 1
    if not signed:
        raise ToktoolsError(f"{files.STDIN_NAME}: no digests")


def _one_by_one(sign: Callable[[bytes], bytes]) -> Iterator[bytes]:
    for number, digest in enumerate(records.digests(), start=1):
        yield _signed(sign, digest, number)


def _side_by_side(sign: Callable[[bytes], bytes], jobs: int) -> Iterator[bytes]:
    from queue import Queue, SimpleQueue
    from threading import Thread

    # A place in the order for each digest that is under way; its bound is that of the memory.
    order: Queue[Answer | None] = Queue(maxsize=2 * jobs)
    work: SimpleQueue[tuple[bytes, int, Answer]] = SimpleQueue()

    def read() -> None:
        try:
            for number, digest in enumerate(records.digests(), start=1):
                answer: Answer = SimpleQueue()
                order.put(answer)
                work.put((digest, number, answer))
            order.put(None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised below
            answer = SimpleQueue()
            answer.put(error)
            order.put(answer)

    def answer_all() -> None:
        while True:
            digest, number, answer = work.get()
            try:
                answer.put(_signed(sign, digest, number))
            except BaseException as error:  # noqa: BLE001 - the same
                answer.put(error)

    # Daemons: after an error nobody waits for a digest that may never come.
    for target in (read, *[answer_all] * jobs):
        Thread(target=target, daemon=True).start()
    while (place := order.get()) is not None:
        answer = place.get()
        if isinstance(answer, BaseException):
            raise answer
        yield answer


def _signed(sign: Callable[[bytes], bytes], digest: bytes, number: int) -> bytes:
    try:
        return sign(digest)
    except ToktoolsError as error:
        raise error.at(f"{files.STDIN_NAME}: line {number}") from None
