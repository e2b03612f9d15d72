"""Canonical base64, the sizes of digests and signatures, and how messages say sizes."""

from __future__ import annotations

import binascii

from toktools.errors import ToktoolsError

DIGEST_SIZE = 32
"""Bytes of a SHA-256 digest (FIPS 180-4)."""
SIGNATURE_SIZES = (256, 384, 512)
"""Bytes of a signature: as many as the modulus has (RFC 8017 section 8.2.1), which CloudHSM documents as RSA-2048."""
MIN_TEXT = 32
"""A number of random bytes that never look like text."""

ONE_A_LINE = "put each on its own line; openssl base64 -A and base64 -w0 write no line feed at the end, but echo does"
UNWRAPPED = "openssl base64 -A and GNU base64 -w0 do not wrap lines"

_PRINTABLE = bytes(range(ord(" "), 0x7F)) + b"\t\r\n"


def encode(content: bytes) -> bytes:
    """Return the canonical base64 of any number of bytes, without a newline."""
    return binascii.b2a_base64(content, newline=False)


def line(record: bytes) -> bytes:
    """Return a digest or a signature as a line of a stream."""
    return encode(record) + b"\n"


def decode(text: bytes) -> bytes:
    """Decode canonical base64 (RFC 4648 section 4, padded). Raises ToktoolsError."""
    decoded = decode_leniently(text)
    # The decoder skips unknown characters and accepts endings such as QR==, even in its strict mode.
    if not decoded or encode(decoded) != text:
        raise ToktoolsError("not canonical base64")
    return decoded


def decode_leniently(text: bytes) -> bytes:
    """Return the bytes that the library finds in *text*, or nothing."""
    try:
        return binascii.a2b_base64(text)
    except binascii.Error:
        return b""


def der_size(content: bytes) -> int:
    """Return the size that a key in DER has by its first bytes, or 0 for something else."""
    return 4 + int.from_bytes(content[2:4], "big") if content.startswith(b"\x30\x82") else 0


def is_text(content: bytes) -> bool:
    """Return whether there is nothing but printable ASCII and white space."""
    return content.isascii() and not content.strip(_PRINTABLE)


def is_hexadecimal(text: bytes) -> bool:
    """Return whether there are only hexadecimal digits, as many as a digest has or more, perhaps with colons between.

    Nothing but A is the base64 of zeros.
    """
    digits = text.removeprefix(b"0x").translate(None, b": \t\r\n")
    return len(digits) >= MIN_TEXT and not digits.strip(b"0123456789abcdefABCDEF") and bool(digits.strip(b"A"))


def count(number: int, noun: str) -> str:
    """Return a number and a noun, as in "1 token" and "3 tokens"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(number: int) -> str:
    """Return a number of bytes in words."""
    return count(number, "byte")


def wrong_signature_size(count: int, right: int = SIGNATURE_SIZES[0]) -> str:
    """Return the message on a signature of a size that the key, by default RSA-2048, cannot make."""
    return f"wrong size: {size(count)}, but an RSA-{8 * right} signature has {right}"


def undocumented_size(count: int) -> str:
    """Return the warning about a signature of a size that CloudHSM does not document."""
    return f"a signature of {size(count)}; CloudHSM documents only RSA-2048, with {SIGNATURE_SIZES[0]}"
