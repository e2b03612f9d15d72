"""The stream between the tools: one record a line, canonical base64, LF."""

import os
from collections.abc import Callable, Iterator

from toktools import encoding, files
from toktools.errors import ToktoolsError

MAX_LINE = 4096
"""Bytes of the longest line, without its end; the longest signature (2,048 bytes) takes 2,732."""


def digests(fd: int = files.STDIN) -> Iterator[bytes]:
    """Yield the 32-byte digests of a stream, each as soon as its line is there; ToktoolsError names a wrong line."""
    return _records(fd, encoding.digest)


def signatures(fd: int = files.STDIN) -> Iterator[bytes]:
    """Yield the signatures (256 bytes or more) of a stream; ToktoolsError names a wrong line."""
    return _records(fd, encoding.signature)


def line(record: bytes) -> bytes:
    """Return the line that stands for a digest or a signature."""
    return encoding.encode(record) + b"\n"


def _records(fd: int, decode: Callable[[bytes], bytes]) -> Iterator[bytes]:
    for number, text in enumerate(_lines(fd), start=1):
        try:
            if len(text) > MAX_LINE:
                raise ToktoolsError(f"longer than {MAX_LINE} bytes")
            yield decode(text)
        except ToktoolsError as error:
            raise error.at(f"{files.STDIN_NAME}: line {number}") from None


def _lines(fd: int) -> Iterator[bytes]:
    """Yield lines without their ends; of one that is too long, only so much that this shows."""
    rest = b""
    while chunk := _read(fd):
        *lines, rest = (rest + chunk).split(b"\n")
        for text in lines:
            yield text.removesuffix(b"\r")
        if len(rest) > MAX_LINE:
            break
    if rest:
        yield rest.removesuffix(b"\r")


def _read(fd: int) -> bytes:
    with files.trouble_at(files.STDIN_NAME):
        return os.read(fd, 1 << 16)
