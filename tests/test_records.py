"""The line protocol, read from a real pipe."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from toktools.errors import ToktoolsError
from toktools.keys import records

FIRST, SECOND, THIRD = bytes(32), b"\1" * 32, b"\2" * 32
LINE = base64.b64encode(FIRST)


class Pipe:
    """A pipe whose reader fails, instead of waiting for ever, where nothing has been written."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)

    def write(self, text: bytes) -> None:
        assert os.write(self._writer, text) == len(text)

    def close(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = -1

    def holding(self, text: bytes) -> int:
        """Write all of the stream, and return the descriptor to read it from."""
        self.write(text)
        self.close()
        return self.reader


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that is closed at the end."""
    pipe = Pipe()
    yield pipe
    pipe.close()
    os.close(pipe.reader)


def test_each_record_comes_as_soon_as_its_line(pipe: Pipe) -> None:
    """A record is there once its line feed is written, while the writer goes on."""
    digests = records.digests(pipe.reader)
    pipe.write(records.line(FIRST))
    assert next(digests) == [(1, FIRST)]
    pipe.write(records.line(SECOND) + records.line(THIRD)[:7])
    assert next(digests) == [(2, SECOND)]
    pipe.write(records.line(THIRD)[7:] + records.line(FIRST))
    assert next(digests) == [(3, THIRD), (4, FIRST)]
    pipe.close()
    assert list(digests) == []


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (LINE + b"\n", [FIRST]),
        (LINE, [FIRST]),
        (LINE + b"\r\n", [FIRST]),
        (LINE + b"\r", [FIRST]),
        (LINE + b"\r\n" + records.line(SECOND) + records.line(FIRST)[:-1], [FIRST, SECOND, FIRST]),
        (LINE + b"\n\n\r\n\n", [FIRST]),
    ],
)
def test_line_ends(pipe: Pipe, stream: bytes, expected: list[bytes]) -> None:
    """A line ends in LF or CR LF, and the last one need not end at all."""
    found = [digest for batch in records.digests(pipe.holding(stream)) for _, digest in batch]
    assert found == expected


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"\n" + LINE + b"\n", "empty"),
        (b"\r\n\n" + LINE, "empty"),
        (b"\n" * 5000, "empty"),
        (b" " + LINE + b"\n", "white space"),
        (LINE + b" \n", "white space"),
        (LINE + b"\r\r\n", "white space"),
        (LINE + b"\r" + LINE + b"\n", "white space"),
        (LINE[:-1] + b"\n", "not canonical"),
        (b"\xef\xbb\xbf" + LINE + b"\n", "not base64"),
        (FIRST + b"\n", "not base64"),
        (base64.b64encode(bytes(31)), "31 bytes"),
        (base64.b64encode(bytes(256)), "256 bytes"),
        (b"A" * records.MAX_LINE, "3072 bytes"),
        (b"A" * (records.MAX_LINE + 1), "longer than 4096 bytes"),
        (b"A" * 20000 + b"\n" + LINE + b"\n", "longer than 4096 bytes"),
    ],
)
def test_wrong_line(pipe: Pipe, wrong: bytes, said: str) -> None:
    """A wrong line is refused with its number, after the records before it."""
    digests = records.digests(pipe.holding(records.line(FIRST) + records.line(SECOND) + wrong))
    assert next(digests) == [(1, FIRST), (2, SECOND)]
    with pytest.raises(ToktoolsError, match=f"^standard input: line 3: .*{said}"):
        next(digests)


def test_line_without_end() -> None:
    """A line that never ends is refused, where it would otherwise fill the memory."""
    endless = os.open("/dev/zero", os.O_RDONLY)
    try:
        with pytest.raises(ToktoolsError, match=r"^standard input: line 1: longer than 4096 bytes$"):
            next(records.digests(endless))
    finally:
        os.close(endless)


@pytest.mark.parametrize("count", [256, 384, 2048])
def test_signatures(pipe: Pipe, count: int) -> None:
    """A signature of any size that is allowed fits on a line."""
    assert list(records.signatures(pipe.holding(records.line(bytes(count))))) == [bytes(count)]


def test_digest_for_a_signature(pipe: Pipe) -> None:
    """A digest where a signature belongs is refused with the line."""
    with pytest.raises(ToktoolsError, match=r"^standard input: line 1: wrong size: 32 bytes"):
        list(records.signatures(pipe.holding(records.line(FIRST))))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A read error of the system names the stream."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ToktoolsError, match=r"^standard input: is a directory$"):
            next(records.digests(folder))
    finally:
        os.close(folder)


@pytest.mark.parametrize("size", [4096, 4097])
def test_a_long_line_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """As long as it may be the longest line it is read on; one that cannot be is not."""
    (tmp_path / "f").write_bytes(b"A" * size + b"A" * 100_000)
    read = os.read
    monkeypatch.setattr(os, "read", lambda fd, _size: read(fd, size))
    with (tmp_path / "f").open("rb", buffering=0) as file:
        with pytest.raises(ToktoolsError, match=r"^standard input: line 1: longer than 4096 bytes$"):
            list(records.digests(file.fileno()))
        assert file.tell() == (2 * 4096 if size == 4096 else 4097)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\n", "line 1: empty"),
        (b"\r\n", "line 1: empty"),
        (LINE + b"\n" * 2, ""),
        (LINE + b"\n" * (1 + 4097), ""),
        (LINE + b"\n" * (1 + 4098), "line 2: empty"),
        (LINE + b"\n\n\n" + LINE, "line 2: empty"),
    ],
)
def test_empty_lines(pipe: Pipe, text: bytes, said: str) -> None:
    """They may end a stream, but not be all of it, nor go on for ever."""
    reader = pipe.holding(text)
    if said:
        with pytest.raises(ToktoolsError, match=f"^standard input: {said}$"):
            list(records.digests(reader))
    else:
        assert [batch for batch in records.digests(reader) if batch] == [[(1, FIRST)]]
