"""Reading records and signing a stream, in this process: what is read, the order, and where it stops."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from conftest import wait_until

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.keys import stream
from toktools.system import files

Numbered = list[tuple[int, bytes]]
FIRST, SECOND, THIRD = bytes(32), b"\1" * 32, b"\2" * 32
LINE = base64.b64encode(FIRST)


# Records from a real pipe.


class Pipe:
    """A pipe in place of standard input: who reads what has not been written fails, and does not wait for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        monkeypatch.setattr(files, "STDIN", self.reader)

    def write(self, text: bytes) -> None:
        assert os.write(self._writer, text) == len(text)

    def close(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = -1

    def hold(self, text: bytes) -> None:
        """Write all of the stream."""
        self.write(text)
        self.close()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """A pipe that is closed at the end."""
    pipe = Pipe(monkeypatch)
    yield pipe
    pipe.close()
    os.close(pipe.reader)


def test_each_record_comes_as_soon_as_its_line(pipe: Pipe) -> None:
    """A record is there once its line feed is written, while the writer goes on."""
    found = stream.read_digests()
    pipe.write(encoding.line(FIRST))
    assert next(found) == [(1, FIRST)]
    pipe.write(encoding.line(SECOND) + encoding.line(THIRD)[:7])
    assert next(found) == [(2, SECOND)]
    pipe.write(encoding.line(THIRD)[7:] + encoding.line(FIRST))
    assert next(found) == [(3, THIRD), (4, FIRST)]
    pipe.close()
    assert list(found) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (LINE, [FIRST]),
        (LINE + b"\r\n", [FIRST]),
        (LINE + b"\r", [FIRST]),
        (LINE + b"\r\n" + encoding.line(SECOND) + encoding.line(FIRST)[:-1], [FIRST, SECOND, FIRST]),
        (LINE + b"\n\n\r\n\n", [FIRST]),
        (LINE + b"\n" * 5000, [FIRST]),
    ],
)
def test_line_ends(pipe: Pipe, text: bytes, expected: list[bytes]) -> None:
    """A line ends in LF or CR LF, the last one need not end at all, and empty lines may follow it."""
    pipe.hold(text)
    assert [digest for batch in stream.read_digests() for _, digest in batch] == expected


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"\n" + LINE + b"\n", "empty"),
        (b"\r\n\n" + LINE, "empty"),
        (LINE + b" \n", "white space"),
        (LINE + b"\r\r\n", "white space"),
        (LINE[:-1] + b"\n", "not canonical"),
        (b"\xef\xbb\xbf" + LINE + b"\n", "not base64"),
        (base64.b64encode(bytes(31)), "31 bytes"),
        (b"A" * 4096, "3072 bytes"),
        (b"A" * 4097, "longer than 4096 bytes"),
        (b"A" * 20000 + b"\n" + LINE + b"\n", "longer than 4096 bytes"),
    ],
)
def test_wrong_line(pipe: Pipe, wrong: bytes, said: str) -> None:
    """A wrong line is refused with its number, after the records before it."""
    pipe.hold(encoding.line(FIRST) + encoding.line(SECOND) + wrong)
    found = stream.read_digests()
    assert next(found) == [(1, FIRST), (2, SECOND)]
    with pytest.raises(ToktoolsError, match=f"^standard input: line 3: .*{said}"):
        next(found)


@pytest.mark.parametrize("text", [b"\n", b"\r\n\n"])
def test_a_stream_of_empty_lines(pipe: Pipe, text: bytes) -> None:
    """The first line is not the end."""
    pipe.hold(text)
    with pytest.raises(ToktoolsError, match=r"^standard input: line 1: empty$"):
        list(stream.read_digests())


@pytest.mark.parametrize(
    ("path", "said"), [("/dev/zero", "line 1: longer than 4096 bytes"), (".", "is a directory")], ids=["endless", "."]
)
def test_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch, path: str, said: str) -> None:
    """A line without an end does not fill the memory; an error of the system names the stream."""
    fd = os.open(path, os.O_RDONLY)
    monkeypatch.setattr(files, "STDIN", fd)
    try:
        with pytest.raises(ToktoolsError, match=f"^standard input: {said}$"):
            next(stream.read_digests())
    finally:
        os.close(fd)


def test_signatures(pipe: Pipe) -> None:
    """A signature of any size fits on a line; a digest is none."""
    pipe.hold(b"".join(encoding.line(bytes(size)) for size in (256, 384, 512, 32)))
    found = stream.read_signatures()
    assert [len(next(found)) for _ in range(3)] == [256, 384, 512]
    with pytest.raises(ToktoolsError, match=r"^standard input: line 4: wrong size: 32 bytes"):
        next(found)


# Signing.


def digests(first: int, last: int) -> Numbered:
    return [(number, number.to_bytes(32, "big")) for number in range(first, last + 1)]


def number_of(digest: bytes) -> int:
    return int.from_bytes(digest, "big")


def eight_times(digest: bytes) -> bytes:
    return digest * 8


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is written to standard output, write by write."""
    written: list[bytes] = []
    monkeypatch.setattr(files, "write_stdout", written.append)
    return written


def feed(monkeypatch: pytest.MonkeyPatch, batches: Sequence[Numbered] | Iterator[Numbered]) -> None:
    monkeypatch.setattr(stream, "read_digests", lambda: iter(batches))


@pytest.mark.parametrize("quick", [False, True])
def test_no_digests(monkeypatch: pytest.MonkeyPatch, out: list[bytes], quick: bool) -> None:  # noqa: FBT001 - pytest gives it
    """An empty stream is an error."""
    feed(monkeypatch, [])
    with pytest.raises(ToktoolsError, match=r"^standard input: no digests$"):
        stream.sign_stream(eight_times, 2, quick=quick)
    assert out == []


@pytest.mark.parametrize(
    ("call", "in_main", "sizes"),
    [
        ((31, 4, True), True, [1] * 31),
        ((100, 1, True), True, [1] * 100),
        ((100, 2, True), False, [16] * 6 + [4]),
        ((32, 4, True), False, [4] * 8),
        ((12, 2, False), False, [1] * 12),
        ((3, 1, False), False, [1] * 3),
    ],
)
def test_threads(
    monkeypatch: pytest.MonkeyPatch,
    out: list[bytes],
    call: tuple[int, int, bool],
    in_main: bool,  # noqa: FBT001 - pytest gives it
    sizes: list[int],
) -> None:
    """A quick signer has threads, and signs in groups, only if many digests wait; a slow one signs one by one."""
    count, jobs, quick = call
    feed(monkeypatch, [digests(1, count)])
    threads = set()

    def sign(digest: bytes) -> bytes:
        threads.add(threading.current_thread())
        return eight_times(digest)

    stream.sign_stream(sign, jobs, quick=quick)
    assert (threading.current_thread() in threads) == in_main
    assert b"".join(out) == b"".join(encoding.line(eight_times(digest)) for _, digest in digests(1, count))
    assert [lines.count(b"\n") for lines in out] == sizes


def test_no_more_is_read_before_it_is_signed(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """What has come is signed before more is read, so the memory does not grow with the stream."""

    def batches() -> Iterator[Numbered]:
        for number in range(1, 101, 4):
            yield digests(number, number + 3)
            assert len(out) == number + 3

    feed(monkeypatch, batches())
    stream.sign_stream(eight_times, 3)
    assert len(out) == 100


def test_after_an_error(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """Those before the line that failed are signed and written; the error is that of the first such line."""

    def sign(digest: bytes) -> bytes:
        if number_of(digest) in {5, 6, 7}:
            time.sleep(0.02 if number_of(digest) == 5 else 0)  # the others fail before it
            raise ToktoolsError(f"no {number_of(digest)}")
        if number_of(digest) < 5:
            time.sleep(0.05)
        return eight_times(digest)

    feed(monkeypatch, [digests(1, 40)])
    with pytest.raises(ToktoolsError, match=r"^standard input: line 5: no 5$"):
        stream.sign_stream(sign, 8)
    assert b"".join(out).count(b"\n") == 4


def test_no_line_is_begun_after_one_that_failed(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """In groups too: one that was at work when a line before it failed begins no other line."""
    begun: set[int] = set()
    failed = threading.Event()

    def sign(digest: bytes) -> bytes:
        number = number_of(digest)
        begun.add(number)
        if number == 5:
            wait_until(lambda: 17 in begun)
            threading.Timer(0.1, failed.set).start()
            raise ToktoolsError("no")
        if number == 17:
            failed.wait(20)
        return eight_times(digest)

    feed(monkeypatch, [digests(1, 96)])
    with pytest.raises(ToktoolsError, match=r"^standard input: line 5: no$"):
        stream.sign_stream(sign, 2, quick=True)
    failed.wait(20)
    time.sleep(0.1)  # in which line 18 would begin
    assert begun == {*range(1, 6), 17}
    assert b"".join(out).count(b"\n") == 4


def test_an_exception_in_a_thread(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """What is no ToktoolsError comes out of the thread too."""
    feed(monkeypatch, [digests(1, 40)])
    with pytest.raises(ZeroDivisionError):
        stream.sign_stream(lambda digest: digest * (1 // 0), 2)
    assert out == []


@pytest.mark.parametrize("quick", [False, True])
def test_an_error_of_the_stream(monkeypatch: pytest.MonkeyPatch, out: list[bytes], quick: bool) -> None:  # noqa: FBT001 - pytest gives it
    """It comes after the signatures of the lines before it."""

    def batches() -> Iterator[Numbered]:
        yield digests(1, 40)
        raise ToktoolsError("standard input: line 41: not base64")

    feed(monkeypatch, batches())
    with pytest.raises(ToktoolsError, match=r"^standard input: line 41: not base64$"):
        stream.sign_stream(eight_times, 2, quick=quick)
    assert b"".join(out).count(b"\n") == 40


def test_threads_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, out: list[bytes]) -> None:
    """It is an error of one line that names the option."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "ThreadPool" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    feed(monkeypatch, [digests(1, 3)])
    with pytest.raises(ToktoolsError, match=r"^1000 threads cannot be started$") as raised:
        stream.sign_stream(eight_times, 1000)
    assert raised.value.hint == "give -j a smaller number"
    assert out == []


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
    stream.sign_stream(eight_times, 2, quick=True, progress=Progress())  # type: ignore[arg-type]
    assert (sum(taken), b"".join(out).count(b"\n")) == (steps, 100)


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, as any trouble of a signer."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(ToktoolsError, match=r"^a thread cannot be started$"):
        stream.sign_apart(bytes, bytes(32))
