"""The record loop by itself: how it groups, what it holds, and where it stops."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from toktools import files, pipeline, records
from toktools.errors import ToktoolsError

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
