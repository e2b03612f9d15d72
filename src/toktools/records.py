"""Digests and signatures, as lines of base64 and as raw bytes."""

from __future__ import annotations

from io import BytesIO

from toktools import encoding
from toktools.encoding import DIGEST_SIZE, MIN_TEXT, SIGNATURE_SIZES, is_hexadecimal, is_text
from toktools.errors import ToktoolsError

NOTHING = {b"", b"null", b"None"}
"""The answers of commands, jq and the AWS CLI if they find nothing; the words are base64 too."""


def find(text: bytes) -> bytes:
    """Return the bytes of a digest or a signature, which look random, from canonical base64; none if it is none.

    A signature in hexadecimal, or encoded twice, is base64 too, and as many bytes as one of a larger key.
    """
    decoded = encoding.decode_leniently(text)
    if encoding.encode(decoded) != text or is_hexadecimal(text) or text in NOTHING:
        return b""
    is_twice = len(decoded) >= MIN_TEXT and is_text(decoded) and decoded.strip()
    return b"" if is_twice else decoded


def decode(text: bytes) -> bytes:
    """Return the same bytes. Raises ToktoolsError if there are none."""
    decoded = find(text)
    if not decoded:
        from toktools import hints  # only what is wrong needs its table

        raise hints.not_base64(text)
    return decoded


def digest(text: bytes) -> bytes:
    """Decode a digest from 44 characters of base64. Raises ToktoolsError."""
    return _checked_digest(decode(text))


def raw_digest(content: bytes) -> bytes:
    """Return *content* if it is a digest in raw bytes. Raises ToktoolsError."""
    if len(content) >= MIN_TEXT and is_text(content):
        from toktools import hints

        raise hints.not_raw(content)
    return _checked_digest(content)


def signature(text: bytes) -> bytes:
    """Decode a signature from base64 on one line. Raises ToktoolsError."""
    decoded = decode(text)
    if len(decoded) not in SIGNATURE_SIZES:
        is_line_of_several = len(text) in {64, 76}  # as openssl and base64 wrap it
        hint = f"this looks like base64 that was wrapped into lines; {encoding.UNWRAPPED}" if is_line_of_several else ""
        raise ToktoolsError(encoding.wrong_signature_size(len(decoded)), hint)
    return decoded


def wrapped_signature(text: bytes) -> bytes:
    """Decode a signature from base64 with white space anywhere. Raises ToktoolsError."""
    try:
        return signature(b"".join(text.split()))
    except ToktoolsError as error:
        from toktools import hints

        raise hints.known_record(text.strip()) or error from None


def raw_signature(content: bytes) -> bytes:
    """Return *content*, which is not text, if it is a signature in raw bytes. Raises ToktoolsError."""
    if len(content) not in SIGNATURE_SIZES:
        from toktools import hints

        raise hints.known_record(content.strip()) or ToktoolsError(encoding.wrong_signature_size(len(content)))
    return content


def signature_file(content: bytes) -> list[bytes]:
    """Return the signatures in a file: one in raw bytes, one in base64 however wrapped, or one on each line.

    Raises ToktoolsError, which names the line if there are several.
    """
    if not is_text(content):
        return [raw_signature(content)]
    content = content.strip()
    if not any(len(find(line.strip())) in SIGNATURE_SIZES for line in BytesIO(content)):
        return [wrapped_signature(content)]
    signatures = []
    for number, line in enumerate(BytesIO(content), start=1):
        try:
            signatures.append(signature(line.strip()))
        except ToktoolsError as error:
            raise error.at(f"line {number}") from None
    return signatures


def _checked_digest(content: bytes) -> bytes:
    if len(content) != DIGEST_SIZE:
        raise ToktoolsError(f"{encoding.size(len(content))}, but a SHA-256 digest has {DIGEST_SIZE}")
    return content
