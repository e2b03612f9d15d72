"""The forms that a key comes in, each told by its shape: what it is for, its algorithm, and the numbers of the key."""

from __future__ import annotations

import datetime as dt

import pytest
from asn1 import value
from conftest import rsa_key
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)

from toktools.keys import der, forms

PEM, DER = Encoding.PEM, Encoding.DER
KEY = rsa_key()
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "officer1")])
DAY = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - as an older library takes it
CERTIFICATE = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, DAY, DAY + dt.timedelta(1)).sign(KEY, SHA256())
REQUEST = x509.CertificateSigningRequestBuilder(NAME).sign(KEY, SHA256())
LOCK = BestAvailableEncryption(b"x")
PKCS8 = KEY.private_bytes(DER, PrivateFormat.PKCS8, NoEncryption())
PKCS1 = KEY.private_bytes(DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
SPKI = KEY.public_key().public_bytes(DER, PublicFormat.SubjectPublicKeyInfo)
LOCKED = KEY.private_bytes(DER, PrivateFormat.PKCS8, LOCK)
SIGNED = pkcs7.serialize_certificates([CERTIFICATE], DER)
PBES2 = bytes.fromhex("2a864886f70d01050d")
SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
NULL = b"\5\0"


def parts_of(content: bytes) -> list[bytes]:
    """The values in the first value, each in DER."""
    ((_, inner),) = der.values(content)
    return [value(tag, bytes(part)) for tag, part in der.values(inner)]


def sequence(*parts: bytes) -> bytes:
    return value(der.SEQUENCE, *parts)


SIGNING, ALGORITHM, SIGNATURE = parts_of(CERTIFICATE.public_bytes(DER))
VERSION, *OF_VERSION_1 = parts_of(SIGNING)
N, E = KEY.public_key().public_numbers().n, 65537
PUBLIC = (forms.RSA, [N, E])


def certificate(*signed: bytes) -> bytes:
    """A certificate of which the library has made no such."""
    return sequence(sequence(*signed), ALGORITHM, SIGNATURE)


def told(content: bytes) -> tuple[str, bytes, list[int]]:
    """What is told of DER."""
    shape = forms.shape(content)
    return shape.kind, shape.algorithm, [der.number(number) for _, number in shape.numbers]


SHAPES = {
    "SubjectPublicKeyInfo": (SPKI, forms.PUBLIC, *PUBLIC),
    "RSAPublicKey": (KEY.public_key().public_bytes(DER, PublicFormat.PKCS1), forms.PUBLIC, *PUBLIC),
    "PrivateKeyInfo": (PKCS8, forms.PRIVATE, forms.RSA, [0, N, E]),
    "PrivateKeyInfo with attributes": (sequence(*parts_of(PKCS8), value(0xA0)), forms.PRIVATE, forms.RSA, [0, N, E]),
    "RSAPrivateKey": (PKCS1, forms.PRIVATE, forms.RSA, [0, N, E]),
    "RSAPrivateKey of more primes": (sequence(*parts_of(PKCS1), sequence()), forms.PRIVATE, forms.RSA, [0, N, E]),
    "certificate": (CERTIFICATE.public_bytes(DER), forms.CERTIFICATE, *PUBLIC),
    "certificate of version 1": (certificate(*OF_VERSION_1), forms.CERTIFICATE, *PUBLIC),
    "certificate without a number": (certificate(*OF_VERSION_1[1:]), forms.CERTIFICATE, b"", []),
    "certificate with a version alone": (certificate(VERSION, *OF_VERSION_1[1:]), forms.CERTIFICATE, b"", []),
    "certificate with more in its key": (
        certificate(*OF_VERSION_1[:-1], sequence(*parts_of(OF_VERSION_1[-1]), NULL)),
        forms.CERTIFICATE,
        *PUBLIC,
    ),
    "EncryptedPrivateKeyInfo": (LOCKED, forms.ENCRYPTED, PBES2, []),
    "PFX": (pkcs12.serialize_key_and_certificates(None, KEY, None, None, LOCK), forms.PKCS12, b"", []),
    "PFX of version 4": (sequence(value(der.INTEGER, b"\4"), sequence()), "", b"", []),
    "certificate request": (REQUEST.public_bytes(DER), forms.REQUEST, b"", []),
    "PKCS#7, signed": (SIGNED, forms.PKCS7, b"", []),
    "PKCS#7, enveloped": (SIGNED.replace(SIGNED_DATA, SIGNED_DATA[:-1] + b"\3", 1), "", b"", []),
    "a key after something": (NULL + SPKI, "", b"", []),
    "a key before another": (SPKI + PKCS8, forms.PUBLIC, *PUBLIC),
    "an algorithm after something": (
        sequence(sequence(NULL, value(der.OBJECT_IDENTIFIER, forms.RSA)), parts_of(SPKI)[1]),
        forms.PUBLIC,
        b"",
        [N, E],
    ),
    "numbers after something": (
        sequence(parts_of(SPKI)[0], value(der.BIT_STRING, b"\0", NULL, sequence(NULL))),
        forms.PUBLIC,
        forms.RSA,
        [],
    ),
    "nothing": (b"", "", b"", []),
    "text": (b"text", "", b"", []),
}


@pytest.mark.parametrize(("content", "kind", "algorithm", "numbers"), SHAPES.values(), ids=SHAPES)
def test_shapes(content: bytes, kind: str, algorithm: bytes, numbers: list[int]) -> None:
    """DER is told by its first values; of a private key more numbers come than are compared here."""
    found = told(content)
    assert found[:2] == (kind, algorithm)
    assert found[2][: len(numbers) or None] == numbers


def blocks(content: bytes) -> list[tuple[str | None, bytes]]:
    return [(block.label, block.der) for block in forms.KeyFile("k", content).blocks]


TEXT = KEY.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo)
FOUND = ("PUBLIC KEY", SPKI)
OLD = KEY.private_bytes(PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).replace(
    b"KEY-----\n", b"KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1
)


BLOCKS = {
    "one": (TEXT, [FOUND]),
    "of Windows": (TEXT.replace(b"\n", b"\r\n"), [FOUND]),
    "with text around it": (b"Bag Attributes\n" + TEXT + b"and more\n", [FOUND]),
    "two": (TEXT + TEXT, [FOUND, FOUND]),
    "without an end": (TEXT.partition(b"-----END")[0], []),
    "before one without an end": (TEXT + TEXT.partition(b"-----END")[0], [FOUND]),
    "before half a line": (TEXT + b"-----BEGIN PUBLIC KEY", [FOUND]),
    "with four dashes": (TEXT.replace(b"KEY-----", b"KEY----", 1), []),
    "with another end": (TEXT.replace(b"-----END PUBLIC", b"-----END PRIVATE"), []),
    "not in base64": (b"-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----", [("PUBLIC KEY", b"")]),
    "DER": (SPKI, [(None, SPKI)]),
}


@pytest.mark.parametrize(("content", "found"), BLOCKS.values(), ids=BLOCKS)
def test_blocks(content: bytes, found: list[tuple[str | None, bytes]]) -> None:
    """Each block of PEM up to the first without an end, whatever stands around them; or the DER."""
    assert blocks(content) == found


def test_a_header() -> None:
    """The header of the old encryption is not what is encrypted."""
    ((label, content),) = blocks(OLD)
    assert label == "RSA PRIVATE KEY"
    assert content == PKCS1


@pytest.mark.parametrize(
    "content",
    [REQUEST.public_bytes(PEM), REQUEST.public_bytes(DER), b"x" + REQUEST.public_bytes(PEM)],
    ids=["PEM", "DER", "after text"],
)
def test_what_is_there_in_its_place(content: bytes) -> None:
    """What is neither a key nor a certificate is told by its name, in both forms."""
    error = forms.refusal(forms.KeyFile("k", content), "no public key")
    assert error.message == "k: no public key: a certificate request"
    assert error.hint.startswith("openssl req -in FILE")
