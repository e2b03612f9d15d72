"""Canonical base64, and the sizes of the two things that it carries here: digests and signatures."""

import binascii

from toktools.errors import ToktoolsError

DIGEST_SIZE = 32
"""Bytes of a SHA-256 digest (FIPS 180-4)."""

SIGNATURE_SIZES = range(256, 2048 + 1, 8)
"""Bytes that an RSA signature can have: as many as the modulus (RFC 8017 section 8.2.1).

CloudHSM documents RSA-2048, so 256. Larger keys come in steps of 64 bits: 257 bytes are a signature and a newline.
"""

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


def decode(text: bytes) -> bytes:
    """Return the bytes that canonical base64 (RFC 4648 section 4, padded) stands for, or raise ToktoolsError."""
    try:
        decoded = binascii.a2b_base64(text)
    except binascii.Error:
        decoded = b""
    # The decoder passes over what it does not know and accepts endings such as QR==; only the way back is strict.
    if not decoded or encode(decoded) != text:
        raise _not_base64(text)
    return decoded


def encode(content: bytes) -> bytes:
    """Return canonical base64 of any number of bytes, without a newline."""
    return binascii.b2a_base64(content, newline=False)


def digest(text: bytes) -> bytes:
    """Return the 32 bytes of a digest given as 44 characters of base64, or raise ToktoolsError."""
    decoded = decode(text)
    if len(decoded) != DIGEST_SIZE:
        hexadecimal = len(text) == 2 * DIGEST_SIZE and not text.strip(b"0123456789abcdefABCDEF")
        hint = "this looks like hexadecimal; the digest must be in base64" if hexadecimal else ""
        raise ToktoolsError(f"{size(len(decoded))}, but a SHA-256 digest has {DIGEST_SIZE}", hint)
    return decoded


def signature(text: bytes) -> bytes:
    """Return the 256 or more bytes of a signature given as 344 or more characters of base64, or raise ToktoolsError."""
    decoded = decode(text)
    if len(decoded) not in SIGNATURE_SIZES:
        wrapped = len(text) in (64, 76)
        hint = "base64 that is wrapped into lines looks like this; base64 -w0 does not wrap" if wrapped else ""
        raise ToktoolsError(wrong_signature_size(len(decoded)), hint)
    return decoded


def signature_file(content: bytes) -> bytes:
    """Return the signature that a file of its own holds, raw or as base64 with white space around it."""
    return signature(content.strip()) if is_text(content) else raw_signature(content)


def raw_signature(content: bytes) -> bytes:
    """Return the bytes as they are if a signature can have so many, or raise ToktoolsError."""
    if len(content) not in SIGNATURE_SIZES:
        raise ToktoolsError(wrong_signature_size(len(content)))
    return content


def is_text(content: bytes) -> bool:
    """Say whether there is nothing but base64 and white space; 256 raw bytes never look like that."""
    return not content.translate(None, _ALPHABET + b" \t\r\n")


def wrong_signature_size(count: int, right: int = SIGNATURE_SIZES[0]) -> str:
    """Say that a signature has a size that the key cannot have made, by default a key of RSA-2048."""
    return f"wrong size: {size(count)}, but an RSA-{8 * right} signature has {right}"


def count(number: int, noun: str) -> str:
    """Say how many there are of something, as in "1 token" and "3 tokens"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(number: int) -> str:
    """Say a number of bytes in words."""
    return count(number, "byte")


def _not_base64(text: bytes) -> ToktoolsError:
    if not text:
        return ToktoolsError("empty")
    if b"".join(text.split()) != text:
        return ToktoolsError("white space in the base64", "base64 -w0 does not wrap lines")
    if text.strip(_ALPHABET):
        return ToktoolsError("not base64")
    return ToktoolsError(
        "not canonical base64", "it is cut short, or its padding or last character is wrong (RFC 4648)"
    )
