"""Canonical base64, and the sizes of the two things that it carries here: digests and signatures."""

from __future__ import annotations

import binascii
from collections.abc import Callable

from toktools.errors import ToktoolsError

DIGEST_SIZE = 32
"""Bytes of a SHA-256 digest (FIPS 180-4)."""

SIGNATURE_SIZES = range(256, 2048 + 1, 8)
"""Bytes that an RSA signature can have: as many as the modulus (RFC 8017 section 8.2.1).

CloudHSM documents RSA-2048, so 256. Larger keys come in steps of 64 bits: 257 bytes are a signature and a newline.
"""

_SPACE = b" \t\r\n"
_HEXADECIMAL = b"0123456789abcdefABCDEF:" + _SPACE
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_PRINTABLE = bytes(range(ord(" "), 0x7F)) + _SPACE
_SHORTEST = 32
"""Characters of the shortest text that is named rather than measured: random bytes never look like so much text."""
_MARKS = _UTF8_MARK, *_UTF16_MARKS = b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"
ONE_A_LINE = "put each on its own line; openssl base64 -A and base64 -w0 write no line feed at the end, but echo does"
"""What to do about several digests or signatures in one line."""
_UNWRAPPED = "openssl base64 -A and GNU base64 -w0 do not wrap lines"


def decode(text: bytes) -> bytes:
    """Return the bytes that canonical base64 (RFC 4648 section 4, padded) stands for, or raise ToktoolsError."""
    try:
        decoded = binascii.a2b_base64(text)
    except binascii.Error:
        decoded = b""
    # The decoder passes over what it does not know and accepts endings such as QR==; only the way back is strict.
    if not decoded or binascii.b2a_base64(decoded, newline=False) != text:
        raise _not_base64(text)
    return decoded


def decode_bytes(text: bytes) -> bytes:
    """Return the bytes that canonical base64 stands for, or raise ToktoolsError where they are a text again.

    Digests and signatures look random. Hexadecimal digits, which are base64 too, and what was encoded twice do not.
    """
    decoded = decode(text)
    # Most end in padding, which no hexadecimal text does.
    if not text.endswith(b"=") and _is_hexadecimal(text):
        raise _not_base64(text)
    if is_text(decoded) and len(decoded) >= _SHORTEST and decoded.strip():
        name, hint = _kind(decoded.strip()) or ("base64", "it was encoded twice")
        raise ToktoolsError(f"base64 of {name}", hint)
    return decoded


def encode(content: bytes) -> bytes:
    """Return canonical base64 of any number of bytes, without a newline."""
    return binascii.b2a_base64(content, newline=False)


def line(record: bytes) -> bytes:
    """Return the line of a stream that stands for a digest or a signature."""
    return encode(record) + b"\n"


def digest(text: bytes) -> bytes:
    """Return the 32 bytes of a digest given as 44 characters of base64, or raise ToktoolsError."""
    decoded = decode_bytes(text)
    if len(decoded) != DIGEST_SIZE:
        raise wrong_digest_size(len(decoded))
    return decoded


def raw_digest(content: bytes) -> bytes:
    """Return the 32 bytes as they are, or raise ToktoolsError where they are more, fewer, or a text."""
    if len(content) >= _SHORTEST and is_text(content):
        for text in content.split():
            digest(text)  # which names what else it is
        raise ToktoolsError("base64 text, not raw bytes", "leave out -r, or decode it with openssl base64 -d -A")
    if len(content) != DIGEST_SIZE:
        raise wrong_digest_size(len(content))
    return content


def signature(text: bytes) -> bytes:
    """Return the 256 or more bytes of a signature given as 344 or more characters of base64, or raise ToktoolsError."""
    decoded = decode_bytes(text)
    if len(decoded) not in SIGNATURE_SIZES:
        wrapped = len(text) in (64, 76)
        hint = f"this looks like base64 that was wrapped into lines; {_UNWRAPPED}" if wrapped else ""
        raise ToktoolsError(wrong_signature_size(len(decoded)), hint)
    return decoded


def wrapped_signature(text: bytes) -> bytes:
    """Return the signature that base64 stands for, wherever a tool has put white space; or raise ToktoolsError."""
    text = text.strip()
    if _kind(text):
        raise _not_base64(text)
    lines = text.split()
    joined = b"".join(lines)
    if len(lines) > 1 and _is_several(joined):
        raise ToktoolsError("several signatures, not one", "" if any(map(_is_signature, lines)) else _UNWRAPPED)
    return signature(joined)


def signature_file(content: bytes) -> list[bytes]:
    """Return the signatures that a file holds: one raw, one in base64 however wrapped, or one in each of its lines.

    Raises ToktoolsError, which names the line where there are several.
    """
    if not is_text(content):
        return [raw_signature(content)]
    lines = content.strip().splitlines()
    if _kind(content.strip()) or not any(map(_is_signature, lines)):
        return [wrapped_signature(content)]
    signatures = []
    for number, line in enumerate(lines, start=1):
        try:
            signatures.append(signature(line.strip()))
        except ToktoolsError as error:
            raise error.at(f"line {number}") from None
    return signatures


def raw_signature(content: bytes) -> bytes:
    """Return the bytes as they are if a signature can have so many and they are no text, or raise ToktoolsError."""
    if is_text(content):
        raise _not_base64(content.strip())
    if len(content) not in SIGNATURE_SIZES:
        raise ToktoolsError(wrong_signature_size(len(content)))
    return content


def is_text(content: bytes) -> bool:
    """Say whether there is nothing but text in ASCII, in UTF-16 too; as many raw bytes never look like that."""
    # Most bytes that are no text are known by the first of them that is not ASCII.
    return (content.isascii() or content.startswith(_MARKS)) and not _plain(content).strip(_PRINTABLE)


def wrong_digest_size(count: int) -> ToktoolsError:
    """Say that a digest has not as many bytes as one of SHA-256 has."""
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


def _not_base64(text: bytes) -> ToktoolsError:
    """Say what a text is that is not the base64 of a digest or a signature."""
    if not text:
        return ToktoolsError("empty")
    kind = _kind(text)
    if kind:
        return ToktoolsError(f"{kind[0]}, not base64", kind[1])
    if b"".join(text.split()) != text:
        return ToktoolsError("white space in the base64", _UNWRAPPED)
    if text.strip(_ALPHABET):
        return ToktoolsError("not base64")
    return ToktoolsError(
        "not canonical base64", "it is cut short, or its padding or last character is wrong (RFC 4648)"
    )


def _kind(text: bytes) -> tuple[str, str] | None:
    """Name what people have in place of base64, with a hint at how it becomes that."""
    return next(((name, hint) for name, hint, is_it in _KINDS if is_it(text)), None)


def _is_signature(text: bytes) -> bool:
    try:
        return bool(signature(text.strip()))
    except ToktoolsError:
        return False


def _plain(content: bytes) -> bytes:
    """Return a text without its byte-order mark, and one in UTF-16 as it would be in ASCII."""
    content = content.removeprefix(_UTF8_MARK)
    for mark in _UTF16_MARKS:
        content = content.removeprefix(mark)
    for high in (0, 1):
        if len(content) > 1 and not content[high::2].strip(b"\0"):
            return content[1 - high :: 2]
    return content


def _is_utf16(text: bytes) -> bool:
    return text.startswith(tuple(_UTF16_MARKS)) or (b"\0" in text and is_text(text))


def _is_hexadecimal(text: bytes) -> bool:
    """Say whether there are only hexadecimal digits, however wrapped, or with colons between."""
    digits = text.removeprefix(b"0x")
    # Nothing but A is the base64 of zeros.
    return len(digits) >= _SHORTEST and bool(digits.strip(b"A")) and not digits.strip(_HEXADECIMAL)


def _is_checksum(text: bytes) -> bool:
    """Say whether there is a digest in hexadecimal and something beside it, as sha256sum and openssl dgst print it."""
    words = text.split()
    return len(words) > 1 and any(_is_hexadecimal(word.lstrip(b"\\")) for word in (words[0], words[-1]))


def _is_several(text: bytes) -> bool:
    """Say whether there are several digests, or signatures, with something between or only their padding."""
    words = [word for word in text.translate(_APART).split(b" ") if word]
    sizes = set(map(len, words))
    return len(words) > 1 and len(sizes) == 1 and sizes <= {_unpadded(DIGEST_SIZE), *map(_unpadded, SIGNATURE_SIZES)}


def _unpadded(count: int) -> int:
    return (8 * count + 5) // 6


_APART = bytes.maketrans(b"=,;\t", b"    ")
_URL_ALPHABET = _ALPHABET.replace(b"+/", b"-_") + _SPACE
_KINDS: tuple[tuple[str, str, Callable[[bytes], object]], ...] = (
    (
        "hexadecimal digits",
        "xxd -r -p | openssl base64 -A converts them to base64",
        _is_hexadecimal,
    ),
    (
        "UTF-16",
        "PowerShell redirection (>) writes UTF-16; iconv -f UTF-16 -t UTF-8 converts it",
        _is_utf16,
    ),
    (
        "raw bytes",
        "openssl base64 -A converts them to base64",
        lambda text: len(text) >= _SHORTEST and text.decode(errors="ignore").encode() != text,
    ),
    (
        "a byte-order mark before the text",
        "Windows programs write it; tail -c +4 removes it",
        lambda text: text.startswith(_UTF8_MARK),
    ),
    (
        "a key",
        "a key goes to -k or -p",
        lambda text: b" KEY-----" in text,
    ),
    (
        "a certificate",
        "a certificate goes to -p",
        # In certutil's armour the same lines may be around anything; this is around DER.
        lambda text: b"BEGINCERTIFICATE-----MII" in b"".join(text.split()),
    ),
    (
        "text between BEGIN and END lines",
        "certutil -encode writes such lines, which grep -v -e ----- removes; in PEM they mean a key or a certificate",
        lambda text: b"---- BEGIN " in text or b"-----BEGIN " in text,
    ),
    (
        "several in one line",
        ONE_A_LINE,
        _is_several,
    ),
    (
        "a signature of HashiCorp Vault",
        "cut -d: -f3 removes what is before the base64",
        lambda text: text.startswith(b"vault:v"),
    ),
    (
        "a hexadecimal digest with words beside it",
        "sha256sum and openssl dgst print it; sign the digests that tok-extract writes",
        _is_checksum,
    ),
    (
        "text in quotes",
        "jq -r writes no quotes, and neither does the AWS CLI with --output text",
        lambda text: text[:1] in {b'"', b"'"},
    ),
    (
        "JSON",
        "tok-extract gets the digests from a token file, jq -r gets a string from other JSON",
        lambda text: text[:1] in {b"{", b"["},
    ),
    (
        "base64url",
        "to get base64, run tr _- /+ and add the padding = or ==",
        lambda text: len(text) >= _SHORTEST and (b"-" in text or b"_" in text) and not text.strip(_URL_ALPHABET),
    ),
    (
        "a data: URL",
        "cut -d, -f2 removes what is before the base64",
        lambda text: text.startswith(b"data:"),
    ),
    (
        "text with backslashes",
        "jq -r writes a JSON string without them, and printf %b makes line feeds of \\n",
        lambda text: b"\\" in text and is_text(text),
    ),
    (
        "percent-encoded text",
        "%2B is +, %2F is / and %3D is =",
        lambda text: b"%3D" in text.upper() or b"%2B" in text.upper(),
    ),
)
"""What people have in place of base64, the likely first: its name, how to mend it, and how to know it."""
