"""The record loop by itself: how it groups, what it holds, and where it stops."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from queue import Empty

import pytest
from conftest import wait_until

from toktools.errors import ToktoolsError
from toktools.keys import pipeline, records
from toktools.system import files

Numbered = list[tuple[int, bytes]]


def digests(first: int, last: int) -> Numbered:
    return [(number, number.to_bytes(32, "big")) for number in range(first, last + 1)]


def number_of(digest: bytes) -> int:
    return int.from_bytes(digest, "big")


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is written to standard output, write by write."""
    written: list[bytes] = []
    monkeypatch.setattr(files, "write_stdout", written.append)
    return written


def feed(monkeypatch: pytest.MonkeyPatch, batches: Sequence[Numbered] | Iterator[Numbered]) -> None:
    monkeypatch.setattr(records, "digests", lambda: iter(batches))


@pytest.mark.parametrize("quick", [False, True])
def test_no_digests(monkeypatch: pytest.MonkeyPatch, out: list[bytes], quick: bool) -> None:  # noqa: FBT001 - pytest gives it
    """An empty stream is trouble, and not a success with nothing in it."""
    feed(monkeypatch, [])
    with pytest.raises(ToktoolsError, match=r"^standard input: no digests$"):
        pipeline.sign_stream(bytes, 2, quick=quick)
    assert out == []


@pytest.mark.parametrize(
    ("count", "jobs", "size", "sizes"),
    [
        (100, 2, 16, [16] * 6 + [4]),
        (12, 2, 16, [3] * 4),
        (3, 2, 16, [1] * 3),
        (100, 1, 1, [1] * 100),
        (64, 4, 16, [8] * 8),
    ],
)
def test_groups(count: int, jobs: int, size: int, sizes: list[int]) -> None:
    """Groups are small enough that every thread gets two, no larger than asked for, and leave no digest out."""
    batch = digests(1, count)
    groups = list(pipeline._groups(iter([batch]), jobs, size))  # noqa: SLF001 - how it groups shows nowhere else
    assert [len(group) for group in groups] == sizes
    assert [digest for group in groups for digest in group] == batch


@pytest.mark.parametrize(("count", "jobs", "own"), [(31, 4, True), (32, 4, False), (1000, 1, True)])
def test_when_threads_are_worth_it(
    monkeypatch: pytest.MonkeyPatch,
    out: list[bytes],
    count: int,
    jobs: int,
    own: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    """A quick signer works in this thread until 32 digests wait, and always where one job is asked for."""
    feed(monkeypatch, [digests(1, count)])
    threads = set()

    def sign(digest: bytes) -> bytes:
        threads.add(threading.current_thread())
        return digest * 8

    pipeline.sign_stream(sign, jobs, quick=True)
    assert (threads == {threading.current_thread()}) == own
    assert b"".join(out) == b"".join(records.line(digest * 8) for _, digest in digests(1, count))


def test_no_more_is_read_than_the_jobs_need(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """While the first signature is not there yet, the stream is read no further than a few digests a job."""
    read: list[int] = []
    gate = threading.Event()

    def stream() -> Iterator[Numbered]:
        for number in range(1, 101):
            read.append(number)
            yield digests(number, number)

    def sign(digest: bytes) -> bytes:
        if number_of(digest) == 1:
            gate.wait(120)
        return digest * 8

    feed(monkeypatch, stream())
    held: list[int] = []

    def look() -> None:
        while len(read) < 8:
            time.sleep(0.01)
        time.sleep(0.2)  # in which a ninth would come
        held.append(len(read))
        gate.set()

    threading.Thread(target=look).start()
    pipeline.sign_stream(sign, 3)
    # Six wait in their order, one is waited for, one is at the door.
    assert held == [8]
    assert len(out) == 100


def test_after_an_error(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """Those before the line that failed are signed and written; the error is that of the first such line."""

    def sign(digest: bytes) -> bytes:
        if number_of(digest) in {5, 6, 7}:
            time.sleep(0.02 if number_of(digest) == 5 else 0)  # the others fail before it
            raise ToktoolsError(f"no {number_of(digest)}")
        if number_of(digest) < 5:
            time.sleep(0.05)
        return digest * 8

    feed(monkeypatch, [digests(1, 40)])
    with pytest.raises(ToktoolsError, match=r"^standard input: line 5: no 5$"):
        pipeline.sign_stream(sign, 8)
    assert b"".join(out).count(b"\n") == 4


def test_no_line_is_begun_after_one_that_failed(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """Not even one that stands before another that fails later."""
    begun: dict[int, threading.Thread] = {}

    def has_ended(number: int) -> bool:
        return number in begun and not begun[number].is_alive()

    def sign(digest: bytes) -> bytes:
        number = number_of(digest)
        begun[number] = threading.current_thread()
        # The second group is at its first line until line 5 of the first has failed, and then line 40 of the third.
        if number == 5:
            wait_until(lambda: {17, 40} <= begun.keys())
            raise ToktoolsError("no")
        if number == 40:
            wait_until(lambda: has_ended(5))
            raise ToktoolsError("no")
        if number == 17:
            wait_until(lambda: has_ended(40))
        return digest * 8

    feed(monkeypatch, [digests(1, 96)])
    with pytest.raises(ToktoolsError, match=r"^standard input: line 5: no$"):
        pipeline.sign_stream(sign, 3, quick=True)
    begun[17].join(20)
    assert sorted(begun) == [*range(1, 6), 17, *range(33, 41)]
    assert b"".join(out).count(b"\n") == 4


def test_a_panic_in_a_thread(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """What is no Exception comes out of the thread too."""

    class PanicError(BaseException):
        pass

    def sign(_digest: bytes) -> bytes:
        raise PanicError

    feed(monkeypatch, [digests(1, 40)])
    with pytest.raises(PanicError):
        pipeline.sign_stream(sign, 2)
    assert out == []


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """Where a signer is slow, and nothing signs beside this thread, that is told and nothing is read."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    feed(monkeypatch, [digests(1, 3)])
    with pytest.raises(ToktoolsError, match=r"^no thread can be started$"):
        pipeline.sign_stream(bytes, 2)
    assert out == []


@pytest.mark.parametrize(("cores", "usable"), [(None, 1), (1, 1), (6, 6)])
def test_cores_on_another_system(monkeypatch: pytest.MonkeyPatch, cores: int | None, usable: int) -> None:
    """Where the system does not say on which cores this process may run, it may run on all; there is one at least."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert pipeline.usable_cores() == usable


def test_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts those on which this process may run, which are perhaps not all."""
    allowed = {0: {1, 5, 7}}
    monkeypatch.setattr(os, "sched_getaffinity", allowed.__getitem__, raising=False)
    assert pipeline.usable_cores() == 3


@pytest.mark.parametrize(("jobs", "sizes"), [(2, [16] * 62 + [8]), (1, [1] * 1000)])
def test_a_quick_signer_goes_by_groups(
    monkeypatch: pytest.MonkeyPatch, out: list[bytes], jobs: int, sizes: list[int]
) -> None:
    """Two threads are worth it already, and each answer has sixteen lines; one job answers line by line."""
    feed(monkeypatch, [digests(1, 1000)])
    pipeline.sign_stream(lambda digest: digest * 8, jobs, quick=True)
    assert [lines.count(b"\n") for lines in out] == sizes


def test_a_slow_signer_answers_line_by_line(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """Each signature is written by itself, however many wait."""
    feed(monkeypatch, [digests(1, 200)])
    pipeline.sign_stream(lambda digest: digest * 8, 2)
    assert [lines.count(b"\n") for lines in out] == [1] * 200


@pytest.mark.parametrize(("terminal", "steps"), [(False, 100), (True, 0)])
def test_progress(
    monkeypatch: pytest.MonkeyPatch,
    out: list[bytes],
    terminal: bool,  # noqa: FBT001 - pytest gives it
    steps: int,
) -> None:
    """Each signature is a step, unless the signatures themselves are on the screen."""
    taken: list[int] = []

    class Progress:
        def step(self, count: int) -> None:
            taken.append(count)

    monkeypatch.setattr(os, "isatty", lambda fd: terminal and fd == files.STDOUT)
    feed(monkeypatch, [digests(1, 100)])
    pipeline.sign_stream(lambda digest: digest * 8, 2, quick=True, progress=Progress())  # type: ignore[arg-type]
    assert (sum(taken), b"".join(out).count(b"\n")) == (steps, 100)


@pytest.mark.parametrize("quick", [False, True])
def test_an_error_of_the_stream(monkeypatch: pytest.MonkeyPatch, out: list[bytes], quick: bool) -> None:  # noqa: FBT001 - pytest gives it
    """It comes after the signatures of the lines before it."""

    def stream() -> Iterator[Numbered]:
        yield digests(1, 40)
        raise ToktoolsError("standard input: line 41: not base64")

    feed(monkeypatch, stream())
    with pytest.raises(ToktoolsError, match=r"^standard input: line 41: not base64$"):
        pipeline.sign_stream(lambda digest: digest * 8, 2, quick=quick)
    assert b"".join(out).count(b"\n") == 40


class Room:
    """Room for so many threads and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.started: list[threading.Thread] = []
        self.refused = 0
        start = threading.Thread.start

        def perhaps(thread: threading.Thread) -> None:
            if self.alive() >= room:
                self.refused += 1
                raise RuntimeError("can't start new thread")
            self.started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", perhaps)

    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self.started)


def test_a_quick_signer_without_a_thread(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """It signs in this thread, and does not ask again."""
    room = Room(monkeypatch, 0)
    feed(monkeypatch, [digests(1, 40), digests(41, 80)])
    pipeline.sign_stream(lambda digest: digest * 8, 4, quick=True)
    assert b"".join(out) == b"".join(records.line(digest * 8) for _, digest in digests(1, 80))
    assert room.refused == 1


@pytest.mark.parametrize(("threads", "left"), [(8, 2), (7, 2), (4, 1), (2, 1)])
def test_few_threads_can_be_started(monkeypatch: pytest.MonkeyPatch, out: list[bytes], threads: int, left: int) -> None:
    """Where there is no room for all, a quarter of them sign: the others end first, and leave room for programs."""
    room = Room(monkeypatch, threads)
    feed(monkeypatch, [digests(1, 100)])
    alive: list[int] = []
    both = threading.Barrier(left)

    def sign(digest: bytes) -> bytes:
        alive.append(room.alive())
        if number_of(digest) <= left:
            both.wait(20)
        return digest * 8

    real, slept = time.sleep, []

    def sleep(pause: float) -> None:
        slept.append(pause)
        real(pause)

    monkeypatch.setattr(time, "sleep", sleep)
    pipeline.sign_stream(sign, 20)
    assert b"".join(out).count(b"\n") == 100
    assert set(slept) <= {0.001}
    assert alive[0] == left + 1  # the one that reads


def test_memory_for_the_work(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """While threads start, 32 MB are kept for what they do; where there is no room for that, there is none for them."""
    reserved: list[int] = []

    def reserve(size: int) -> bytes:
        reserved.append(size)
        if len(reserved) > 1:
            raise MemoryError
        return b""

    monkeypatch.setattr(pipeline, "bytes", reserve, raising=False)
    room = Room(monkeypatch, 1000)
    feed(monkeypatch, [digests(1, 40), digests(41, 80)])
    pipeline.sign_stream(lambda digest: digest * 8, 2, quick=True)
    assert len(room.started) == 3
    pipeline.sign_stream(lambda digest: digest * 8, 2, quick=True)
    assert len(room.started) == 3  # and none that reads where nobody signs
    assert reserved == [32 << 20] * 2
    assert b"".join(out).count(b"\n") == 160


def test_looks_up_now_and_then() -> None:
    """A signal that comes just before the waiting is seen after a fifth of a second."""
    waited: list[float] = []

    class Slow:
        def get(self, timeout: float) -> int:
            waited.append(timeout)
            if len(waited) < 3:
                raise Empty
            return 7

    assert pipeline._waited(Slow()) == 7  # type: ignore[arg-type]  # noqa: SLF001 - no wait is the same twice
    assert waited == [0.2] * 3


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_no_thread_to_read(monkeypatch: pytest.MonkeyPatch, out: list[bytes], error: type[Exception]) -> None:
    """Where there is room for those that sign and none for the one that reads, this thread does it alone."""
    start = threading.Thread.start
    asked: list[threading.Thread] = []

    def perhaps(thread: threading.Thread) -> None:
        asked.append(thread)
        if len(asked) == 3:
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", perhaps)
    feed(monkeypatch, [digests(1, 40), digests(41, 80)])
    pipeline.sign_stream(lambda digest: digest * 8, 2, quick=True)
    assert b"".join(out) == b"".join(records.line(digest * 8) for _, digest in digests(1, 80))
    assert len(asked) == 3
