"""Decrypts a PKCS#8 key, so that what it holds can be judged before a library reads it (RFC 8018, RFC 7292)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from toktools.keys import der

Values = Sequence[tuple[int, memoryview]]

_PBES2 = bytes.fromhex("2a864886f70d01050d")
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_PKCS12_3DES = bytes.fromhex("2a864886f70d010c0103")
_HASHES = {
    b"": "sha1",  # the one that is not named
    bytes.fromhex("2a864886f70d0207"): "sha1",
    bytes.fromhex("2a864886f70d0208"): "sha224",
    bytes.fromhex("2a864886f70d0209"): "sha256",
    bytes.fromhex("2a864886f70d020a"): "sha384",
    bytes.fromhex("2a864886f70d020b"): "sha512",
}
_3DES_SIZE = 24
_KEY_SIZES = {
    bytes.fromhex("2a864886f70d0307"): _3DES_SIZE,
    bytes.fromhex("60864801650304 0102"): 16,
    bytes.fromhex("60864801650304 0116"): 24,
    bytes.fromhex("60864801650304 012a"): 32,
}
"""Of the ciphers in CBC mode: triple DES, and AES."""
_3DES = next(iter(_KEY_SIZES))


def decrypt(content: memoryview, phrase: bytes) -> bytes | None:
    """Return what an EncryptedPrivateKeyInfo holds, given without its head: nothing where the pass phrase is wrong.

    None where it is of a kind that only the library knows, or none at all.
    """
    try:
        (_, algorithm), (_, encrypted) = der.values(content)
        (_, scheme), (_, parameters) = der.values(algorithm)
        derive = {_PBES2: _pbes2, _PKCS12_3DES: _pkcs12_3des}[bytes(scheme)]
        cipher, key, vector = derive(list(der.values(parameters)), phrase)
    except (KeyError, ValueError, OverflowError, MemoryError):
        return None
    return _decrypted(cipher, key, vector, bytes(encrypted))


def _pbes2(parameters: Values, phrase: bytes) -> tuple[bytes, bytes, bytes]:
    (_, derivation), (_, encryption) = parameters
    (_, cipher), (_, vector) = der.values(encryption)
    (_, function), (_, numbers) = der.values(derivation)
    derive = {_PBKDF2: _pbkdf2, _SCRYPT: _scrypt}[bytes(function)]
    return bytes(cipher), derive(list(der.values(numbers)), phrase, _KEY_SIZES[bytes(cipher)]), bytes(vector)


def _pbkdf2(parameters: Values, phrase: bytes, size: int) -> bytes:
    (_, salt), (_, rounds), *more = parameters
    named = [inner for tag, inner in more if tag == der.SEQUENCE]
    function = next((bytes(oid) for inner in named for _, oid in der.values(inner)), b"")
    return hashlib.pbkdf2_hmac(_HASHES[function], phrase, salt, der.number(rounds), size)


def _scrypt(parameters: Values, phrase: bytes, size: int) -> bytes:
    (_, salt), *more = parameters
    n, r, p = (der.number(inner) for _, inner in more[:3])
    room = 128 * r * (n + p + 2)
    return hashlib.scrypt(phrase, salt=bytes(salt), n=n, r=r, p=p, maxmem=room, dklen=size)


def _pkcs12_3des(parameters: Values, phrase: bytes) -> tuple[bytes, bytes, bytes]:
    (_, salt), (_, rounds) = parameters
    password = (phrase.decode() + "\0").encode("utf-16-be")
    count = der.number(rounds)
    key = _pkcs12(1, password, bytes(salt), count, _3DES_SIZE)
    return _3DES, key, _pkcs12(2, password, bytes(salt), count, 8)


def _pkcs12(purpose: int, password: bytes, salt: bytes, rounds: int, size: int) -> bytes:
    """Derive bytes with SHA-1, whose blocks have 64 (RFC 7292 appendix B.2)."""
    block = 64
    mixed = b"".join(_repeated(text, block) for text in (salt, password))
    derived = b""
    while len(derived) < size:
        hashed = bytes([purpose]) * block + mixed
        for _ in range(rounds):
            hashed = hashlib.sha1(hashed, usedforsecurity=False).digest()
        derived += hashed
        add = int.from_bytes((hashed * 4)[:block], "big") + 1
        mixed = b"".join(
            ((int.from_bytes(mixed[at : at + block], "big") + add) % (1 << 8 * block)).to_bytes(block, "big")
            for at in range(0, len(mixed), block)
        )
    return derived[:size]


def _repeated(text: bytes, block: int) -> bytes:
    """Repeat a text until it fills whole blocks, as few as it takes."""
    size = -(-len(text) // block) * block
    return (text * block)[:size]


def _decrypted(cipher: bytes, key: bytes, vector: bytes, encrypted: bytes) -> bytes | None:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    try:
        algorithm = TripleDES(key) if cipher == _3DES else AES(key)
        decryptor = Cipher(algorithm, CBC(vector)).decryptor()
        padded = decryptor.update(encrypted) + decryptor.finalize()
    except ValueError:
        return None
    size = padded[-1] if padded else 0
    right = 0 < size <= len(vector) and padded.endswith(bytes([size]) * size)
    return padded[:-size] if right else b""
