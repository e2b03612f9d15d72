"""What is allowed: RSA keys of two primes, in sizes that can be signed with, and no endless work to find that out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from toktools.encoding import SIGNATURE_SIZES
from toktools.errors import ToktoolsError
from toktools.keys import der, forms

DOCUMENTED_BITS = 2048
"""The size that AWS documents for MFA and quorum keys ("Create key pairs for MFA", RSA_2048)."""

MAX_ROUNDS = 10_000_000
"""Of a hash, to make a key of a pass phrase: some seconds."""
MAX_SCRYPT_MEMORY = 1 << 30
"""Bytes, 128 N r (RFC 7914 section 2)."""
MAX_SCRYPT_WORK = 1 << 25
"""N r p: some seconds."""
MAX_BCRYPT_ROUNDS = 1000
"""Of bcrypt_pbkdf, of which each takes some 10 ms; ssh-keygen(1) has 24 by default."""

_OTHER_PADDINGS = {
    bytes.fromhex("2a864886f70d01010a"): "RSASSA-PSS",
    bytes.fromhex("2a864886f70d010107"): "RSAES-OAEP",
}
_NUMBERS_OF_TWO_PRIMES = 9
"""Version, n, e, d, p, q, d mod p-1, d mod q-1, and the inverse of q (RFC 8017 appendix A.1.2)."""


def not_rsa(name: str, kind: str) -> ToktoolsError:
    """Say that a key is of another kind than RSA."""
    return ToktoolsError(f"{name}: the key is {kind}, but CloudHSM takes only RSA keys")


def broken(name: str) -> ToktoolsError:
    """Say that the numbers of a key are not those of one key."""
    return ToktoolsError(f"{name}: a broken key: its numbers do not fit together")


def refuse_size(name: str, bits: int) -> None:
    """Raise ToktoolsError for a modulus that is too short, too long, or no multiple of 64 bits."""
    if bits < DOCUMENTED_BITS:
        raise ToktoolsError(f"{name}: the key is RSA-{bits}, but CloudHSM takes RSA-{DOCUMENTED_BITS}")
    if bits % 8 or bits // 8 not in SIGNATURE_SIZES:
        raise ToktoolsError(f"{name}: the key is RSA-{bits}, but the size must be a multiple of 64 bits, at most 16384")


def refuse_unfit(name: str, content: bytes | memoryview) -> None:
    """Raise ToktoolsError for DER of a key that the library would take, take long for, or not name: cheap before dear.

    That is a key for another padding alone, one of more than two primes, and one of a wrong size.
    """
    shape = forms.shape(content)
    if shape.algorithm in _OTHER_PADDINGS:
        padding = _OTHER_PADDINGS[shape.algorithm]
        raise ToktoolsError(f"{name}: the key is only for {padding}, but CloudHSM takes RSASSA-PKCS1-v1_5")
    if shape.algorithm != forms.RSA or not shape.numbers:
        return
    numbers = shape.numbers[shape.kind == forms.PRIVATE :]
    if any(tag == der.INTEGER and bytes(number[:1]) > b"\x7f" for tag, number in numbers):
        return  # the library does not take negative numbers
    sizes = [der.number(number).bit_length() for tag, number in numbers if tag == der.INTEGER]
    if not sizes:
        return
    refuse_size(name, sizes[0])
    if max(sizes) > sizes[0]:
        raise broken(name)
    if shape.kind == forms.PRIVATE and len(shape.numbers) > _NUMBERS_OF_TWO_PRIMES:
        primes = 2 + sum(1 for _ in der.values(shape.numbers[_NUMBERS_OF_TWO_PRIMES][1]))
        raise ToktoolsError(f"{name}: the key has {primes} primes, but CloudHSM takes keys of two")


def refuse_rounds(name: str, content: bytes | memoryview) -> None:
    """Raise ToktoolsError where it would take too long to make a key of a pass phrase, before it is tried.

    It looks for every algorithm of that kind in the DER, and for the check of a PKCS#12 file.
    """
    for tag, inner in der.nested(content):
        if tag == der.SEQUENCE:
            parts = list(islice(der.values(inner), 2))
            if len(parts) > 1 and parts[0][0] == der.OBJECT_IDENTIFIER and parts[1][0] == der.SEQUENCE:
                refuse = _DERIVATIONS.get(bytes(parts[0][1]))
                if refuse is not None:
                    refuse(name, [der.number(part) for tag, part in der.values(parts[1][1]) if tag == der.INTEGER])
    refuse_hashes(name, _mac_rounds(content))


def _mac_rounds(content: bytes | memoryview) -> list[int]:
    """Return the rounds of MacData, if this is a PFX with one (RFC 7292 section 4)."""
    for _, pfx in islice(der.values(content), 1):
        for tag, mac in islice(der.values(pfx), 2, 3):
            if tag == der.SEQUENCE:
                return [der.number(part) for tag, part in der.values(mac) if tag == der.INTEGER]
    return []


def refuse_hashes(name: str, numbers: list[int]) -> None:
    """Refuse too many rounds of a hash: the first of the numbers."""
    if numbers and numbers[0] > MAX_ROUNDS:
        raise ToktoolsError(
            f"{name}: one try of the pass phrase would take more than {MAX_ROUNDS} rounds of a hash; not tried"
        )


def refuse_scrypt(name: str, numbers: list[int]) -> None:
    """Refuse too much memory or work for scrypt: the numbers are N, r and p."""
    if len(numbers) > 2 and (  # noqa: PLR2004 - all of them
        128 * numbers[1] * (numbers[0] + numbers[2]) > MAX_SCRYPT_MEMORY
        or numbers[0] * numbers[1] * numbers[2] > MAX_SCRYPT_WORK
    ):
        raise ToktoolsError(
            f"{name}: one try of the pass phrase would take too much memory or work (scrypt); not tried"
        )


def refuse_bcrypt(name: str, rounds: int) -> None:
    """Refuse too many rounds of bcrypt."""
    if rounds > MAX_BCRYPT_ROUNDS:
        raise ToktoolsError(
            f"{name}: one try of the pass phrase would take more than {MAX_BCRYPT_ROUNDS} rounds of bcrypt; not tried"
        )


_PKCS5, _PKCS12_PBE = "2a864886f70d0105", "2a864886f70d010c01"
_DERIVATIONS: dict[bytes, Callable[[str, list[int]], None]] = {
    # PBES1 (1, 3, 4, 6, 10, 11) and PBKDF2 (12), in RFC 8018 appendix A; RFC 7292 appendix C; RFC 7914 section 7.
    **{bytes.fromhex(f"{_PKCS5}{number:02x}"): refuse_hashes for number in (1, 3, 4, 6, 10, 11, 12)},
    **{bytes.fromhex(f"{_PKCS12_PBE}{number:02x}"): refuse_hashes for number in range(1, 7)},
    bytes.fromhex("2b06010401da47040b"): refuse_scrypt,
}
