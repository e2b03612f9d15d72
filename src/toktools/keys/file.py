"""A key from a file: formats, pass phrases, and a cheap check that its numbers fit."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from toktools.errors import ToktoolsError
from toktools.keys import allowed, forms, openssh, stream
from toktools.keys.signer import Signer
from toktools.system import files

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.system.prompt import Source

_NOT_READ = (ValueError, UnsupportedAlgorithm, InternalError)


class KeyInMemory(Signer):
    """An RSA private key in the memory of this process."""

    def __init__(self, key: RSAPrivateKey) -> None:
        super().__init__(key.public_key())  # once: the first verification with it takes longer than all the others
        self._key = key
        self._how = PKCS1v15(), Prehashed(SHA256())

    def pace(self, asked: int | None) -> tuple[int, bool]:
        """Return as many as there are cores. A key of the documented size is quick; a longer one where it is alone."""
        jobs = asked or stream.usable_cores()
        return jobs, jobs == 1 or self._key.key_size <= allowed.DOCUMENTED_BITS

    def _sign(self, digest: bytes) -> bytes:
        try:
            return self._key.sign(digest, *self._how)
        except ValueError as error:
            raise ToktoolsError(f"the key cannot sign: {error}") from None


def open_signer(path: str, passphrase: Source, warn: Callable[[str], None]) -> Signer:
    """Read an RSA private key: PEM or DER (PKCS#1, PKCS#8), PKCS#12 or OpenSSH's format, encrypted or not.

    passphrase is asked where one is needed. Raises ToktoolsError.
    """
    file = forms.read(path)
    key = load(file, passphrase)
    if key is None:
        raise _not_private(file)
    if not isinstance(key, RSAPrivateKey):
        raise allowed.not_rsa(file.name, kind(key))
    refuse_broken(file.name, key)
    if file.status is not None:
        files.warn_of_exposure(file.name, file.status, "private key", warn)
    return KeyInMemory(key)


def load(file: forms.KeyFile, passphrase: Source) -> object | None:
    """Return the private key in a file, of whatever kind, or None where there is none."""
    if openssh.is_private(file):
        return openssh.private(file, passphrase)
    block = file.first(forms.PRIVATE)
    if block is None:
        return None
    if forms.shape(block.der).kind == forms.PKCS12:
        return _load_pkcs12(file.name, block.der, passphrase)
    if _has_broken_iv(block.text):
        raise forms.refusal(file, "a broken key: its DEK-Info line is wrong")
    return _load(file.name, block, passphrase)


def _load(name: str, block: forms.Block, passphrase: Source) -> object | None:
    # A primality test, which the library makes of each key, takes longer than all the rest; _numbers_fit() and the
    # verification of every signature stand in for it.
    load_block = partial(
        serialization.load_pem_private_key if block.label is not None else serialization.load_der_private_key,
        block.text,
        unsafe_skip_rsa_key_validation=True,
    )
    allowed.refuse_unfit(name, block.der)
    try:
        return load_block(password=None)
    except TypeError:  # it is encrypted
        pass
    except UnsupportedAlgorithm:
        raise allowed.not_rsa(name, "of an unknown kind") from None
    except _NOT_READ:
        return None
    allowed.refuse_rounds(name, block.der)
    phrase = passphrase.read(name, "pass phrase")
    for plain in _opened(block.der, phrase):
        if not plain:
            raise ToktoolsError(f"{name}: wrong pass phrase")
        return _load(name, forms.Block(plain), passphrase)
    return _decrypted(name, load_block, phrase)


def _opened(content: bytes, phrase: bytes) -> Iterator[bytes]:
    """Yield each PKCS#8 key that is encrypted in this DER in a way that is known here; nothing for a wrong phrase."""
    from toktools.keys import pbes

    for encrypted in forms.encrypted_keys(content):
        plain = pbes.decrypt(encrypted, phrase)
        if plain is not None:
            yield plain if forms.shape(plain).kind == forms.PRIVATE else b""


def _load_pkcs12(name: str, content: bytes, passphrase: Source) -> object | None:
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    def load_key(password: bytes | None) -> object | None:
        for plain in _opened(content, password or b""):
            allowed.refuse_unfit(name, plain)
        # The library warns where a file is BER rather than DER, which openssl reads without a word.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_key_and_certificates(content, password)[0]

    allowed.refuse_rounds(name, content)
    for no_password in (None, b""):  # there are two ways to write a file without one
        try:
            return load_key(no_password)
        except _NOT_READ as error:
            if "deserialize" in str(error):
                raise ToktoolsError(f"{name}: a broken PKCS#12 file") from None
    return _decrypted(name, load_key, passphrase.read(name, "pass phrase"))


def _decrypted(name: str, load_with: Callable[[bytes], object | None], phrase: bytes) -> object | None:
    try:
        return load_with(phrase)
    except _NOT_READ as error:
        right_cipher = "password" in str(error)
        reason = "wrong pass phrase" if right_cipher else "wrong pass phrase, or a cipher that is not supported"
        raise ToktoolsError(f"{name}: {reason}") from None


def _has_broken_iv(content: bytes) -> bool:
    """Say whether the old PEM encryption has an initialization vector of a wrong size: the library would crash."""
    if b"DEK-Info:" not in content:
        return False
    found = re.search(rb"^DEK-Info: *(\w{1,16})[^,\n]*,(.*)", content, re.MULTILINE)
    sizes = {b"AES": 32, b"DES": 16}
    return found is not None and len(found[2].strip()) != sizes.get(found[1], len(found[2].strip()))


def _not_private(file: forms.KeyFile) -> ToktoolsError:
    public = (forms.PUBLIC, forms.CERTIFICATE)
    if openssh.is_public(file) or any(forms.shape(block.der).kind in public for block in file.blocks):
        return ToktoolsError(f"{file.name}: a public key, but the private key is needed")
    return forms.refusal(file, "no private key in PEM or DER")


def kind(key: object) -> str:
    """Name the kind of a key of the library."""
    return type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")


def refuse_broken(name: str, key: RSAPrivateKey) -> None:
    """Raise ToktoolsError where a key has a wrong size, or its numbers do not belong together."""
    allowed.refuse_size(name, key.key_size)
    if not _numbers_fit(key):
        raise allowed.broken(name)


def _numbers_fit(key: RSAPrivateKey) -> bool:
    """Say whether the private numbers belong together (RFC 8017 section 3.2), but for the primality of p and q."""
    numbers = key.private_numbers()
    p, q, d = numbers.p, numbers.q, numbers.d
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    return (
        # First those that make the rest cheap.
        max(p, q, d, e) < n
        # Half of n's bits each, in every key that is made; a quarter is allowed for.
        and min(p, q).bit_length() > n.bit_length() // 4
        and p & q & e & 1 == 1
        and p * q == n
        and e > 1
        and d > 1
        and e * d % (p - 1) == 1
        and e * d % (q - 1) == 1
        and numbers.dmp1 == d % (p - 1)
        and numbers.dmq1 == d % (q - 1)
        and numbers.iqmp < p
        and numbers.iqmp * q % p == 1  # so p is not q
    )
