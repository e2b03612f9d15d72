"""The stream between the tools: one record a line, canonical base64, LF."""

import os
from collections.abc import Callable, Iterator

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.system import files

MAX_LINE = 4096
"""Bytes of the longest line, without its end; the longest signature (2,048 bytes) takes 2,732."""


def digests(fd: int = files.STDIN) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the 32-byte digests of a stream with the numbers of their lines: as many at a time as are there.

    Each comes as soon as its line is there; ToktoolsError names a wrong line, after the digests before it.
    """
    return _records(fd, encoding.digest)


def signatures(fd: int = files.STDIN) -> Iterator[bytes]:
    """Yield the signatures (256 bytes or more) of a stream; ToktoolsError names a wrong line."""
    return (signature for batch in _records(fd, encoding.signature) for _, signature in batch)


def line(record: bytes) -> bytes:
    """Return the line that stands for a digest or a signature."""
    return encoding.encode(record) + b"\n"


def _records(fd: int, decode: Callable[[bytes], bytes]) -> Iterator[list[tuple[int, bytes]]]:
    number = empty = 0
    for texts in _lines(fd):
        batch: list[tuple[int, bytes]] = []
        wrong = None
        for number, text in enumerate(texts, start=number + 1):  # noqa: B020 - it goes on counting
            try:
                # Empty lines are forgiven at the end, and nobody needs many. The first line is not the end.
                empty = empty or (0 if text else number)
                if empty and (text or empty == 1 or number > empty + MAX_LINE):
                    raise ToktoolsError("empty")
                if text:
                    if len(text) > MAX_LINE:
                        raise ToktoolsError(f"longer than {MAX_LINE} bytes", encoding.ONE_A_LINE)
                    batch.append((number, decode(text)))
            except ToktoolsError as error:
                wrong = error.at(f"{files.STDIN_NAME}: line {empty or number}")
                break
        if batch:
            yield batch
        if wrong:
            raise wrong


def _lines(fd: int) -> Iterator[list[bytes]]:
    """Yield lines without their ends, those of one read together; of one that is too long, only as much as shows it."""
    rest = b""
    while chunk := _read(fd):
        *lines, rest = (rest + chunk).split(b"\n")
        yield [text.removesuffix(b"\r") for text in lines]
        if len(rest) > MAX_LINE:
            break
    if rest:
        yield [rest.removesuffix(b"\r")]


def _read(fd: int) -> bytes:
    with files.trouble_at(files.STDIN_NAME):
        return os.read(fd, 1 << 16)
