"""What an HSM does inside: it makes keys, wraps them, signs and verifies; here in software."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from toktools.keys.files import parse_public_key, pem

SECRET_SIZE = 32
"""Bytes of a secret that wraps others: an AES-256 key."""
MODULUS_SIZES = (2048, 3072, 4096)
HASHES: dict[str, tuple[hashes.HashAlgorithm, bytes]] = {
    "sha1": (hashes.SHA1(), bytes.fromhex("3021300906052b0e03021a05000414")),  # noqa: S303 - the CLI takes it
    "sha224": (hashes.SHA224(), bytes.fromhex("302d300d06096086480165030402040500041c")),
    "sha256": (hashes.SHA256(), bytes.fromhex("3031300d060960864801650304020105000420")),
    "sha384": (hashes.SHA384(), bytes.fromhex("3041300d060960864801650304020205000430")),
    "sha512": (hashes.SHA512(), bytes.fromhex("3051300d060960864801650304020305000440")),
}
"""What the CLI hashes with: the algorithm, and what its digest follows in a DigestInfo (RFC 8017 section 9.2)."""


class Damaged(Exception):  # noqa: N818 - no error of a user's
    """What is kept is not what was written."""


def wrap(secret: bytes, content: bytes) -> bytes:
    """Encrypt bytes under a secret of 32 bytes: AES key wrap with padding (RFC 5649)."""
    return keywrap.aes_key_wrap_with_padding(secret, content)


def unwrap(secret: bytes, wrapped: bytes) -> bytes:
    """Undo wrap(). Raises Damaged where the secret is another, or the bytes were changed."""
    try:
        return keywrap.aes_key_unwrap_with_padding(secret, wrapped)
    except (keywrap.InvalidUnwrap, ValueError):
        raise Damaged("what is wrapped does not open") from None


def new_pair(size: int, exponent: int) -> tuple[str, bytes]:
    """Make an RSA key pair, and return the public key as PEM and the private key as PKCS#8 in DER."""
    key = rsa.generate_private_key(exponent, size)
    form = serialization.PrivateFormat.PKCS8
    der = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    return pem(key.public_key()), der


def numbers(public_key: str) -> tuple[int, int]:
    """Return modulus and exponent of a public key in PEM."""
    found = parse_public_key(public_key, "public key").public_numbers()
    return found.n, found.e


def digest(name: str, content: bytes, *, is_digest: bool) -> bytes:
    """Return the digest that is signed: of the content, or the one in it, which is a DigestInfo in DER.

    Raises ValueError where it is none, or for another hash function.
    """
    algorithm, prefix = HASHES[name]
    if not is_digest:
        return hashlib.new(name, content).digest()
    found = content[len(prefix) :]
    if not content.startswith(prefix) or len(found) != algorithm.digest_size:
        raise ValueError(f"not the DigestInfo of a {name} digest in DER")
    return found


def sign(private_key: bytes, name: str, hashed: bytes) -> bytes:
    """Sign a digest: RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2). Raises ValueError where this system does not do that."""
    key = serialization.load_der_private_key(private_key, None)
    assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101 - it was made above
    try:
        return key.sign(hashed, padding.PKCS1v15(), Prehashed(HASHES[name][0]))
    except UnsupportedAlgorithm:
        raise ValueError(f"this system does not sign with {name}") from None


def is_signed(public_key: str, name: str, hashed: bytes, signature: bytes) -> bool:
    """Say whether a signature of a digest is good."""
    key = parse_public_key(public_key, "public key")
    try:
        key.verify(signature, hashed, padding.PKCS1v15(), Prehashed(HASHES[name][0]))
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def is_trust_anchor(certificates: str) -> bool:
    """Say whether a text is one certificate or more in PEM, each with a key that AWS CloudHSM takes in a trust anchor.

    That is RSA of 2,048, 3,072 or 4,096 bits, or EC on P-256, P-384 or P-521 (AWS CloudHSM User Guide, cluster mtls
    register-trust-anchor).
    """
    from cryptography import x509  # which nothing else here needs

    try:
        found = [one.public_key() for one in x509.load_pem_x509_certificates(certificates.encode())]
    except (ValueError, UnsupportedAlgorithm):
        return False
    return bool(found) and all(
        key.key_size in MODULUS_SIZES
        if isinstance(key, rsa.RSAPublicKey)
        else isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in {"secp256r1", "secp384r1", "secp521r1"}
        for key in found
    )
