"""Digests and signatures: base64 on a line or in a file, and raw bytes."""

import base64
import random
from unittest import mock

import pytest

from toktools import encoding, hints, records
from toktools.errors import ToktoolsError

DIGEST = bytes(range(32))
SIGNATURE = bytes(range(256))
TEXT = base64.b64encode(SIGNATURE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "empty"),
        (b"QQ==\n", "white space"),
        (b" QQ==", "white space"),
        (b"QQ\r\n==", "base64 wrapped into lines"),
        (b"-_8=", "not base64"),
        (b"QQ==\0", "not base64"),
        (b"\xff\xfe", "text in UTF-16"),
        (b"\xef\xbb\xbfQQ==", "text after a byte-order mark"),
        (b"QR==", "not canonical"),
        (b"Zm9=", "not canonical"),
        (b"QQ", "not canonical"),
        (b"QQ===", "not"),
        (b"QQ==QQ==", "not"),
        (b"====", "not"),
        (b"A", "not canonical"),
    ],
)
def test_refused_base64(text: bytes, said: str) -> None:
    """What is not canonical base64 is refused, and the message says what kind of wrong it is."""
    with pytest.raises(ToktoolsError, match=said):
        records.decode(text)


@pytest.mark.parametrize("size", [1, 20, 31, 33, 48, 64])
def test_digests(size: int) -> None:
    """32 bytes are taken, whatever they are; another number is refused, and told."""
    for byte in b"\0\t\r\n \xff":
        assert records.digest(base64.b64encode(bytes([byte]) * 32)) == bytes([byte]) * 32
    assert records.digest(base64.b64encode(DIGEST)) == DIGEST
    with pytest.raises(ToktoolsError, match=f"^{encoding.size(size)}, but a SHA-256 digest has 32$"):
        records.digest(base64.b64encode(bytes(size)))
    with pytest.raises(ToktoolsError, match=f"^{encoding.size(size)}, but a SHA-256 digest has 32$"):
        records.raw_digest(bytes(size))


@pytest.mark.parametrize("size", [1, 32, 128, 255, 257, 264, 2048])
def test_sizes_of_signatures(size: int) -> None:
    """Those of RSA-2048, 3072 and 4096 are taken; 257 bytes are one and a newline."""
    for right in (256, 384, 512):
        assert records.signature(base64.b64encode(bytes(right))) == records.raw_signature(bytes(right)) == bytes(right)
    for decode, content in ((records.signature, base64.b64encode(bytes(size))), (records.raw_signature, bytes(size))):
        with pytest.raises(ToktoolsError, match=f"^wrong size: {encoding.size(size)}, but an RSA-2048 signature has"):
            decode(content)


@pytest.mark.parametrize(("width", "hinted"), [(60, False), (64, True), (76, True), (80, False)])
def test_wrapped_signature(width: int, hinted: bool) -> None:  # noqa: FBT001
    """The first line of a base64 that openssl (64) or base64 (76) wrapped is refused with a hint at -w0."""
    with pytest.raises(ToktoolsError) as raised:
        records.signature(TEXT[:width])
    assert ("-w0" in raised.value.hint) == hinted


@pytest.mark.parametrize(
    "content",
    [
        SIGNATURE,
        TEXT,
        b" \t" + TEXT + b"\r\n\n",
        base64.encodebytes(SIGNATURE),
        base64.encodebytes(SIGNATURE).replace(b"\n", b"\r\n"),
        b"\n\t ".join(TEXT[at : at + 64] for at in range(0, 344, 64)),
    ],
)
def test_signature_file(content: bytes) -> None:
    """A signature's own file holds it raw, or as base64 with white space around and inside it, as tools wrap it."""
    assert records.signature_file(content) == [SIGNATURE]


def test_several_lines_in_a_file() -> None:
    """A file may hold what tok-sign wrote: a signature a line, also with the line ends of another system."""
    lines = TEXT, base64.b64encode(SIGNATURE[::-1])
    for content in (b"\n".join(lines) + b"\n", b"\r\n".join(lines) + b"\r\n", b"\n".join(lines) + b"\n\n\n"):
        assert records.signature_file(content) == [SIGNATURE, SIGNATURE[::-1]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (SIGNATURE + b"\n", "wrong size: 257 bytes"),
        (DIGEST, "wrong size: 32 bytes"),
        (TEXT + b"\n" + TEXT[:-1] + b"\n", "^line 2: not canonical"),
        (TEXT + b"\n\n" + TEXT + b"\n", "^line 2: empty"),
        (TEXT + b"\n" + base64.b64encode(DIGEST) + b"\n", "^line 2: wrong size: 32 bytes"),
        (2 * base64.encodebytes(SIGNATURE), "^base64 wrapped into lines"),
        (2 * TEXT, "^several on one line"),
        (TEXT[:-1], "not canonical"),
    ],
)
def test_refused_signature_file(content: bytes, said: str) -> None:
    """A signature's own file with anything else in it is refused."""
    with pytest.raises(ToktoolsError, match=said):
        records.signature_file(content)


def test_a_large_file_of_something_else() -> None:
    """It is looked at once for what it is instead, not line by line."""
    with mock.patch.object(hints, "not_base64", wraps=hints.not_base64) as looked, pytest.raises(ToktoolsError):
        records.signature_file(b"a line of a log\n" * 100)
    assert looked.call_count <= 1


@pytest.mark.parametrize("text", [DIGEST.hex().encode(), encoding.line(DIGEST), 3 * encoding.line(DIGEST)])
def test_text_for_a_raw_digest(text: bytes) -> None:
    """A text is no raw digest, though it may have 32 bytes."""
    with pytest.raises(ToktoolsError, match=r"^hexadecimal digits, not raw bytes$|^base64 text, not raw bytes$"):
        records.raw_digest(text)
    with pytest.raises(ToktoolsError, match=r"^hexadecimal digits, not raw bytes$"):
        records.raw_digest(DIGEST.hex().encode()[:32])


def test_random_bytes_are_no_text() -> None:
    """Raw signatures and digests are taken for what they are, whatever bytes they begin with."""
    generator = random.Random(1)
    marks = (b"", b"\xef\xbb\xbf", b"\xff\xfe", b"0x", b"data:", b"{", b'"', b"vault:v1:", b"-----BEGIN ", b">")
    for start in marks * 100:
        signature = start + generator.randbytes(256 - len(start))
        assert records.signature_file(signature) == [signature]
        assert records.signature(base64.b64encode(signature)) == signature
        assert records.digest(base64.b64encode(signature[:32])) == records.raw_digest(signature[:32])
