"""The forms that a key comes in, each told by its shape: what it is for, its algorithm, and the numbers of the key."""

from __future__ import annotations

import datetime as dt

import pytest
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
from rehearsing import rsa_key

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
NULL = b"\5\0"


def value(tag: int, *parts: bytes) -> bytes:
    """DER of a value, of 128 to 65,535 bytes or short."""
    content = b"".join(parts)
    size = len(content)
    return bytes([tag, *([size] if size < 128 else [0x82, *size.to_bytes(2, "big")])]) + content


def said_alone(value: object) -> str:
    """Name a row by what is told: the key is another one in each process."""
    return value if isinstance(value, str) else "it"


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


def told(content: bytes) -> tuple[str, bytes, list[int]]:
    """What is told of DER."""
    shape = forms.shape(content)
    return shape.kind, shape.algorithm, [der.number(number) for _, number in shape.numbers]


@pytest.mark.parametrize(
    ("content", "kind", "algorithm", "numbers"),
    [
        (SPKI, forms.PUBLIC, *PUBLIC),
        (KEY.public_key().public_bytes(DER, PublicFormat.PKCS1), forms.PUBLIC, *PUBLIC),
        (PKCS8, forms.PRIVATE, forms.RSA, [0, N, E]),
        (sequence(*parts_of(PKCS8), value(0xA0, b"")), forms.PRIVATE, forms.RSA, [0, N, E]),
        (PKCS1, forms.PRIVATE, forms.RSA, [0, N, E]),
        (sequence(*parts_of(PKCS1), sequence()), forms.PRIVATE, forms.RSA, [0, N, E]),
        (CERTIFICATE.public_bytes(DER), forms.CERTIFICATE, *PUBLIC),
        (sequence(sequence(*OF_VERSION_1), ALGORITHM, SIGNATURE), forms.CERTIFICATE, *PUBLIC),
        (sequence(sequence(*OF_VERSION_1[1:]), ALGORITHM, SIGNATURE), forms.CERTIFICATE, b"", []),
        (sequence(sequence(VERSION, *OF_VERSION_1[1:]), ALGORITHM, SIGNATURE), forms.CERTIFICATE, b"", []),
        (LOCKED, forms.ENCRYPTED, PBES2, []),
        (pkcs12.serialize_key_and_certificates(None, KEY, None, None, LOCK), forms.PKCS12, b"", []),
        (REQUEST.public_bytes(DER), forms.REQUEST, b"", []),
        (SIGNED, forms.PKCS7, b"", []),
        (SIGNED.replace(bytes.fromhex("2a864886f70d010702"), bytes.fromhex("2a864886f70d010703"), 1), "", b"", []),
        (sequence(value(der.INTEGER, b"\4"), sequence()), "", b"", []),
        (NULL + SPKI, "", b"", []),
        (SPKI + PKCS8, forms.PUBLIC, *PUBLIC),
        (sequence(sequence(NULL, value(6, forms.RSA)), parts_of(SPKI)[1]), forms.PUBLIC, b"", [N, E]),
        (sequence(parts_of(SPKI)[0], value(3, b"\0", NULL, sequence(NULL))), forms.PUBLIC, forms.RSA, []),
        (b"", "", b"", []),
        (b"text", "", b"", []),
    ],
    ids=said_alone,
)
def test_shapes(content: bytes, kind: str, algorithm: bytes, numbers: list[int]) -> None:
    """DER is told by its first values; of a private key more numbers come than are compared here."""
    found = told(content)
    assert found[:2] == (kind, algorithm)
    assert found[2][: len(numbers) or None] == numbers


def test_a_key_in_a_certificate_with_more() -> None:
    """What follows the key is not looked at."""
    key = sequence(*parts_of(OF_VERSION_1[-1]), NULL)
    assert told(sequence(sequence(*OF_VERSION_1[:-1], key), ALGORITHM, SIGNATURE)) == (forms.CERTIFICATE, *PUBLIC)


def blocks(content: bytes) -> list[tuple[str | None, bytes]]:
    return [(block.label, block.der) for block in forms.KeyFile("k", content).blocks]


TEXT = KEY.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo)
FOUND = ("PUBLIC KEY", SPKI)
OLD = KEY.private_bytes(PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).replace(
    b"KEY-----\n", b"KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1
)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (TEXT, [FOUND]),
        (TEXT.replace(b"\n", b"\r\n"), [FOUND]),
        (b"Bag Attributes\n" + TEXT + b"and more\n", [FOUND]),
        (TEXT + TEXT, [FOUND, FOUND]),
        (TEXT.partition(b"-----END")[0], []),
        (TEXT + TEXT.partition(b"-----END")[0], [FOUND]),
        (TEXT + b"-----BEGIN PUBLIC KEY", [FOUND]),
        (TEXT.replace(b"KEY-----", b"KEY----", 1), []),
        (TEXT.replace(b"-----END PUBLIC", b"-----END PRIVATE"), []),
        (b"-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----", [("PUBLIC KEY", b"")]),
        (SPKI, [(None, SPKI)]),
    ],
    ids=said_alone,
)
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
