"""The forms that a key comes in: blocks of PEM or plain DER, each told by its shape before a library reads it."""

from __future__ import annotations

import binascii
import os
from collections.abc import Iterator, Sequence
from itertools import islice

from toktools.errors import ToktoolsError
from toktools.keys import der
from toktools.system import files

MAX_SIZE = 1 << 20
"""Bytes of the largest key file."""

PRIVATE, PUBLIC, CERTIFICATE, ENCRYPTED, PKCS12 = "private", "public", "certificate", "encrypted", "PKCS#12"
REQUEST, PKCS7, REVOKED, PARAMETERS = "request", "PKCS#7", "revoked", "parameters"

RSA = bytes.fromhex("2a864886f70d010101")
"""rsaEncryption (RFC 8017 appendix A.1)."""

OPENSSH = "OPENSSH PRIVATE KEY"
"""The label of a private key in OpenSSH's own format, which is not DER."""

_BEGIN, _DASHES = b"-----BEGIN ", b"-----"
_LABELS = {
    "PUBLIC KEY": PUBLIC,
    "RSA PUBLIC KEY": PUBLIC,
    "CERTIFICATE": CERTIFICATE,
    "X509 CERTIFICATE": CERTIFICATE,
    "PRIVATE KEY": PRIVATE,
    "ENCRYPTED PRIVATE KEY": PRIVATE,
    "RSA PRIVATE KEY": PRIVATE,
    "EC PRIVATE KEY": PRIVATE,
    "DSA PRIVATE KEY": PRIVATE,
    OPENSSH: PRIVATE,
    "CERTIFICATE REQUEST": REQUEST,
    "NEW CERTIFICATE REQUEST": REQUEST,
    "PKCS7": PKCS7,
    "CMS": PKCS7,
    "X509 CRL": REVOKED,
    "EC PARAMETERS": PARAMETERS,
    "DH PARAMETERS": PARAMETERS,
    "DSA PARAMETERS": PARAMETERS,
}
"""What a block of PEM is for (RFC 7468; OpenSSL's PEM_read_bio_PrivateKey(3))."""

_WRITES = " writes the {} in it; where that is DER, with -inform DER"
_WITHOUT_KEY = {
    REQUEST: (
        "a certificate request",
        "openssl req -in FILE -pubkey -noout" + _WRITES.format("public key"),
    ),
    PKCS7: (
        "a PKCS#7 file",
        "openssl pkcs7 -in FILE -print_certs" + _WRITES.format("certificates"),
    ),
    REVOKED: ("a list of revoked certificates", ""),
    PARAMETERS: ("parameters of a kind of key that CloudHSM does not take", ""),
}
"""What stands in the same formats, and is neither a key nor a certificate: its name, and how to get at one."""

_I, _S, _B, _O = der.INTEGER, der.SEQUENCE, der.BIT_STRING, der.OCTET_STRING
_SIGNED = bytes.fromhex("2a864886f70d010702")
"""signedData (RFC 2315 section 14)."""
_ENOUGH = 10
_OF_VERSION_3 = [0xA0, _I, _S, _S, _S, _S, _S]
_OF_VERSION_1 = _OF_VERSION_3[1:]


class Block:
    """A block of PEM, or a whole file in DER: the text for the library, its label (None in DER), and the DER in it."""

    def __init__(self, text: bytes, label: str | None = None, content: bytes | None = None) -> None:
        self.text = text
        self.label = label
        self.der = text if content is None else content


class Shape:
    """What DER looks like: its kind (one of those above or ""), the algorithm that it names, the numbers of RSA."""

    def __init__(self, kind: str, algorithm: bytes = b"", numbers: Sequence[tuple[int, memoryview]] = ()) -> None:
        self.kind = kind
        self.algorithm = algorithm
        self.numbers = numbers
        """Tag and content of each: n and e, or what RFC 8017 appendix A.1.2 lists."""


class KeyFile:
    """The content of a key file, and the blocks in it."""

    def __init__(self, name: str, content: bytes, status: os.stat_result | None = None) -> None:
        self.name = name
        self.content = content
        self.status = status
        """None where it is no file."""
        if len(content) > MAX_SIZE:
            raise ToktoolsError(f"{name}: larger than {MAX_SIZE} bytes")
        self.is_pem = _BEGIN in content
        self.blocks = list(_blocks(content)) if self.is_pem else [Block(content)]

    def first(self, kind: str) -> Block | None:
        """Return the first block of PEM with a label of this kind, or the DER, which may be of any kind."""
        fitting = (block for block in self.blocks if block.label is None or _LABELS.get(block.label) == kind)
        return next(fitting, None)


def read(path: str) -> KeyFile:
    """Read a key file, which is not standard input. Raises ToktoolsError."""
    if path == "-":
        raise ToktoolsError("-: a key cannot come from standard input")
    file = files.read(path, MAX_SIZE)
    if files.is_stdin(file.status):
        raise ToktoolsError(f"{file.name}: a key cannot come from standard input")
    if not file.content:
        raise ToktoolsError(f"{file.name}: an empty file, not a key")
    return KeyFile(file.name, file.content, file.status)


def refusal(file: KeyFile, reason: str) -> ToktoolsError:
    """Say that there is no key in a file, and what there is, where that is known."""
    for block in file.blocks:
        kind = _LABELS.get(block.label) if block.label is not None else shape(block.der).kind
        if kind in _WITHOUT_KEY:
            name, hint = _WITHOUT_KEY[kind]
            return ToktoolsError(f"{file.name}: {reason}: {name}", hint)
    from toktools import hints  # whose patterns take longer to prepare than all of this package

    return hints.not_key(file.name, file.content, reason)


def encrypted_keys(content: bytes | memoryview) -> Iterator[memoryview]:
    """Yield what looks like an EncryptedPrivateKeyInfo: the DER itself, or what is in a PKCS#12 file."""
    return (inner for tag, inner in der.nested(content) if tag == der.SEQUENCE and _shape(inner).kind == ENCRYPTED)


def shape(content: bytes | memoryview) -> Shape:
    """Say what DER looks like, from its first values alone."""
    return next((_shape(inner) for tag, inner in islice(der.values(content), 1) if tag == der.SEQUENCE), Shape(""))


def _shape(content: memoryview) -> Shape:
    parts = list(islice(der.values(content), _ENOUGH))
    tags = [tag for tag, _ in parts]
    if tags == [_S, _B]:  # SubjectPublicKeyInfo (RFC 5280 section 4.1)
        return Shape(PUBLIC, _algorithm(parts[0][1]), _numbers(parts[1][1][1:]))
    if tags == [_I, _I]:  # RSAPublicKey (RFC 8017 appendix A.1.1)
        return Shape(PUBLIC, RSA, parts)
    if tags == [_S, _S, _B] and _tags(parts[0][1])[:4] == [_I, _S, _S, 0xA0]:  # RFC 2986 section 4
        return Shape(REQUEST)
    if tags == [der.OBJECT_IDENTIFIER, 0xA0] and bytes(parts[0][1]) == _SIGNED:
        return Shape(PKCS7)
    if tags == [_S, _S, _B]:  # Certificate (RFC 5280 section 4.1)
        return _certificate(parts[0][1])
    if tags == [_S, _O]:  # EncryptedPrivateKeyInfo (RFC 5208 section 6)
        return Shape(ENCRYPTED, _algorithm(parts[0][1]))
    if tags[:3] == [_I, _S, _O]:  # PrivateKeyInfo (RFC 5208 section 5)
        return Shape(PRIVATE, _algorithm(parts[1][1]), _numbers(parts[2][1]))
    if tags[:9] == [_I] * 9:  # RSAPrivateKey (RFC 8017 appendix A.1.2)
        return Shape(PRIVATE, RSA, parts)
    # PFX (RFC 7292 section 4), which has version 3.
    return Shape(PKCS12 if tags[:2] == [_I, _S] and bytes(parts[0][1]) == b"\3" else "")


def _tags(content: memoryview) -> list[int]:
    return [tag for tag, _ in islice(der.values(content), _ENOUGH)]


def _certificate(content: memoryview) -> Shape:
    fields = list(islice(der.values(content), len(_OF_VERSION_3)))
    for expected in (_OF_VERSION_3, _OF_VERSION_1):
        if [tag for tag, _ in fields[: len(expected)]] == expected:
            parts = list(islice(der.values(fields[len(expected) - 1][1]), 2))
            if [tag for tag, _ in parts] == [_S, _B]:
                return Shape(CERTIFICATE, _algorithm(parts[0][1]), _numbers(parts[1][1][1:]))
    return Shape(CERTIFICATE)


def _algorithm(content: memoryview) -> bytes:
    return next((bytes(oid) for tag, oid in islice(der.values(content), 1) if tag == der.OBJECT_IDENTIFIER), b"")


def _numbers(content: memoryview) -> list[tuple[int, memoryview]]:
    """Return the numbers of the RSA key that is in this content, or of none."""
    for tag, inner in islice(der.values(content), 1):
        if tag == der.SEQUENCE:
            return list(islice(der.values(inner), _ENOUGH))
    return []


def _blocks(content: bytes) -> Iterator[Block]:
    """Yield the blocks of PEM, up to the first without an end."""
    at = 0
    while (begin := content.find(_BEGIN, at)) >= 0:
        after = content.find(_DASHES, begin + len(_BEGIN))
        label = content[begin + len(_BEGIN) : after]
        end_line = b"-----END " + label + _DASHES
        end = content.find(end_line, after)
        if after < 0 or end < 0:
            return
        at = end + len(end_line)
        body = content[after + len(_DASHES) : end].replace(b"\r", b"")
        if b":" in body:  # the header of the old encryption, and an empty line
            body = body.partition(b"\n\n")[2]
        try:
            decoded = binascii.a2b_base64(body)
        except binascii.Error:
            decoded = b""
        yield Block(content[begin:at] + b"\n", label.decode(errors="replace"), decoded)
