"""Digests and signatures as lines of canonical base64, and as raw bytes."""

from __future__ import annotations

import binascii

from toktools.errors import ToktoolsError

DIGEST_SIZE = 32
"""Bytes of a SHA-256 digest (FIPS 180-4)."""
SIGNATURE_SIZES = (256, 384, 512)
"""Bytes of a signature: as many as the modulus has (RFC 8017 section 8.2.1), which CloudHSM documents as RSA-2048."""

ONE_A_LINE = "put each on its own line; openssl base64 -A and base64 -w0 write no line feed at the end, but echo does"
UNWRAPPED = "openssl base64 -A and GNU base64 -w0 do not wrap lines"

_PRINTABLE = bytes(range(ord(" "), 0x7F)) + b"\t\r\n"
MIN_TEXT = 32
"""So many random bytes never look like text."""


def decode(text: bytes) -> bytes:
    """Return the bytes that canonical base64 (RFC 4648 section 4, padded) stands for. Raises ToktoolsError."""
    try:
        decoded = binascii.a2b_base64(text)
    except binascii.Error:
        decoded = b""
    # The decoder skips unknown characters and accepts endings such as QR==, even in its strict mode.
    if not decoded or encode(decoded) != text:
        from toktools import hints

        raise hints.not_base64(text)
    return decoded


def decode_bytes(text: bytes) -> bytes:
    """Return the bytes of a digest or a signature, which look random. Raises ToktoolsError.

    A signature in hexadecimal, or encoded twice, is base64 too, and as many bytes as one of a larger key.
    """
    decoded = decode(text)
    if is_hexadecimal(text) or (len(decoded) >= MIN_TEXT and is_text(decoded) and decoded.strip()):
        from toktools import hints

        raise hints.not_base64(text)
    return decoded


def encode(content: bytes) -> bytes:
    """Return the canonical base64 of any number of bytes, without a newline."""
    return binascii.b2a_base64(content, newline=False)


def line(record: bytes) -> bytes:
    """Return the line of a stream that stands for a digest or a signature."""
    return encode(record) + b"\n"


def digest(text: bytes) -> bytes:
    """Return the digest that 44 characters of base64 stand for. Raises ToktoolsError."""
    decoded = decode_bytes(text)
    if len(decoded) != DIGEST_SIZE:
        raise wrong_digest_size(len(decoded))
    return decoded


def raw_digest(content: bytes) -> bytes:
    """Return *content* if it is a digest in raw bytes. Raises ToktoolsError."""
    if len(content) >= MIN_TEXT and is_text(content):
        from toktools import hints

        raise hints.not_raw(content)
    if len(content) != DIGEST_SIZE:
        raise wrong_digest_size(len(content))
    return content


def signature(text: bytes) -> bytes:
    """Return the signature that base64 on one line stands for. Raises ToktoolsError."""
    decoded = decode_bytes(text)
    if len(decoded) not in SIGNATURE_SIZES:
        hint = f"this looks like base64 that was wrapped into lines; {UNWRAPPED}" if len(text) in {64, 76} else ""
        raise ToktoolsError(wrong_signature_size(len(decoded)), hint)
    return decoded


def wrapped_signature(text: bytes) -> bytes:
    """Return the signature that base64 stands for, with white space anywhere. Raises ToktoolsError."""
    try:
        return signature(b"".join(text.split()))
    except ToktoolsError as error:
        from toktools import hints

        raise hints.not_one_signature(text) or error from None


def raw_signature(content: bytes) -> bytes:
    """Return *content*, which is not text, if it is a signature in raw bytes. Raises ToktoolsError."""
    if len(content) not in SIGNATURE_SIZES:
        from toktools import hints

        raise hints.not_one_signature(content) or ToktoolsError(wrong_signature_size(len(content)))
    return content


def signature_file(content: bytes) -> list[bytes]:
    """Return the signatures in a file: one in raw bytes, one in base64 however wrapped, or one on each line.

    Raises ToktoolsError, which names the line if there are several.
    """
    if not is_text(content):
        return [raw_signature(content)]
    lines = content.strip().splitlines()
    if not any(map(is_signature, lines)):
        return [wrapped_signature(content)]
    signatures = []
    for number, text in enumerate(lines, start=1):
        try:
            signatures.append(signature(text.strip()))
        except ToktoolsError as error:
            raise error.at(f"line {number}") from None
    return signatures


def is_signature(text: bytes) -> bool:
    """Return whether *text* is a signature in base64, with white space around it."""
    try:
        return bool(signature(text.strip()))
    except ToktoolsError:
        return False


def is_text(content: bytes) -> bool:
    """Return whether there is nothing but printable ASCII and white space."""
    return content.isascii() and not content.strip(_PRINTABLE)


def is_hexadecimal(text: bytes) -> bool:
    """Return whether there are only hexadecimal digits, as many as a digest has or more, perhaps with colons between.

    Nothing but A is the base64 of zeros.
    """
    digits = text.removeprefix(b"0x").translate(None, b": \t\r\n")
    return len(digits) >= MIN_TEXT and not digits.strip(b"0123456789abcdefABCDEF") and bool(digits.strip(b"A"))


def wrong_digest_size(count: int) -> ToktoolsError:
    """Return the error for a digest of a wrong size."""
    return ToktoolsError(f"{size(count)}, but a SHA-256 digest has {DIGEST_SIZE}")


def wrong_signature_size(count: int, right: int = SIGNATURE_SIZES[0]) -> str:
    """Say that a signature has a size that the key cannot have made, by default a key of RSA-2048."""
    return f"wrong size: {size(count)}, but an RSA-{8 * right} signature has {right}"


def undocumented_size(count: int) -> str:
    """Say that a signature has a size that CloudHSM does not document."""
    return f"a signature of {size(count)}; CloudHSM documents only RSA-2048, with {SIGNATURE_SIZES[0]}"


def count(number: int, noun: str) -> str:
    """Say how many there are of something, as in "1 token" and "3 tokens"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(number: int) -> str:
    """Say a number of bytes in words."""
    return count(number, "byte")
