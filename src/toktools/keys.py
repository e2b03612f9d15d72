"""A key from a file: formats, pass phrases, the list of what is allowed, and a cheap check that its numbers fit."""

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from functools import partial

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from toktools import files
from toktools.encoding import SIGNATURE_SIZES
from toktools.errors import ToktoolsError
from toktools.passphrases import Secret
from toktools.signatures import SigningKey

DOCUMENTED_BITS = 2048
"""The size that AWS documents for MFA and quorum keys ("Create key pairs for MFA", RSA_2048)."""

_MAX_FILE = 1 << 20
_NOT_READ = (ValueError, UnsupportedAlgorithm, InternalError)


def private(where: str, secret: Secret) -> tuple[SigningKey, list[str]]:
    """Find an RSA private key of 2,048 bits or more: in a file, or on a PKCS#11 token (a pkcs11: URI, RFC 7512).

    The file is PEM or DER (PKCS#1, PKCS#8) or PKCS#12, encrypted or not. secret is asked for the pass phrase or the
    PIN, where one is needed. The second value is what a user should be warned of. Raises ToktoolsError.
    """
    on_token = where[:7].lower() == "pkcs11:"  # a scheme has no case (RFC 3986 section 3.1)
    key, warnings = _on_token(where, secret) if on_token else _in_file(where, secret)
    bits = key.public_key().key_size
    name = files.display(where.partition("?")[0] if on_token else where)
    _refuse_size(name, bits)
    if bits != DOCUMENTED_BITS:
        warnings.append(f"{name}: the key is RSA-{bits}; CloudHSM documents RSA-{DOCUMENTED_BITS} alone")
    return key, warnings


def _on_token(uri: str, pin: Secret) -> tuple[SigningKey, list[str]]:
    try:
        from toktools import pkcs11
    except ImportError:
        hint = "the extra toktools[pkcs11] installs it; see tok-sign(1)"
        raise ToktoolsError("a key on a PKCS#11 token needs the package python-pkcs11", hint) from None
    return pkcs11.private(uri, pin)


def _in_file(path: str, passphrase: Secret) -> tuple[SigningKey, list[str]]:
    file = _read(path)
    key = _load_private(file, passphrase)
    if key is None:
        raise _not_private(file)
    if not isinstance(key, RSAPrivateKey):
        raise _not_rsa(file, key)
    _refuse_broken(file, key)
    return key, list(_exposed(file))


def public(path: str) -> RSAPublicKey:
    """Read an RSA public key of 2,048 bits or more from a public key, a certificate or a private key, PEM or DER.

    Raises ToktoolsError for anything else, an encrypted private key among it: to verify takes no secret.
    """
    return _public(_read(path))


def public_in(content: str, name: str) -> RSAPublicKey:
    """Read an RSA public key as public() does, from a text that is not a file but has a name."""
    return _public(files.Snapshot(name, content.encode(), os.stat_result((0,) * 10)))


def _public(file: files.Snapshot) -> RSAPublicKey:
    key = _load_public(file) or _load_certified(file)
    if key is None:
        owner = _load_private(file, _refuse_encrypted)
        if owner is None:
            raise _unreadable(file, "no public key, certificate or private key in PEM or DER")
        if isinstance(owner, RSAPrivateKey):
            _refuse_broken(file, owner)
            owner = owner.public_key()
        key = owner
    if not isinstance(key, RSAPublicKey):
        raise _not_rsa(file, key)
    _refuse_size(file.name, key.key_size)
    return key


def pem(key: RSAPublicKey) -> str:
    """Return a public key as PEM, SubjectPublicKeyInfo, as openssl rsa -pubout writes it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def _refuse_encrypted(name: str, _what: str) -> bytes:
    hint = "openssl rsa -in KEY -pubout writes the public key of a private one"
    raise ToktoolsError(f"{name}: an encrypted private key, where the public key is enough", hint)


def _read(path: str) -> files.Snapshot:
    if path == "-":
        raise ToktoolsError("-: a key is not read from standard input")
    file = files.read(path, _MAX_FILE)
    if files.is_stdin(file.status):
        raise ToktoolsError(f"{file.name}: a key is not read from standard input")
    if not file.content:
        raise ToktoolsError(f"{file.name}: an empty file, not a key")
    return file


def _is_pem(file: files.Snapshot) -> bool:
    return b"-----BEGIN " in file.content


def _load_private(file: files.Snapshot, passphrase: Secret) -> object | None:
    # A primality test, which the library makes of each key, takes longer than all the rest; _numbers_fit() and the
    # verification of every signature stand in for it.
    load = partial(
        serialization.load_pem_private_key if _is_pem(file) else serialization.load_der_private_key,
        file.content,
        unsafe_skip_rsa_key_validation=True,
    )
    if _is_pkcs12(file.content):
        return _load_pkcs12(file, passphrase)
    if _has_broken_iv(file.content):
        raise ToktoolsError(f"{file.name}: a broken key: its DEK-Info line is wrong")
    try:
        return load(password=None)
    except TypeError:  # it is encrypted
        pass
    except UnsupportedAlgorithm:
        raise ToktoolsError(f"{file.name}: the key is of an unknown kind, but CloudHSM takes RSA keys alone") from None
    except _NOT_READ:
        return None
    return _decrypted(file, load, passphrase)


def _load_pkcs12(file: files.Snapshot, passphrase: Secret) -> object | None:
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    def load(password: bytes | None) -> object | None:
        # The library warns where a file is BER rather than DER, which openssl reads without a word.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_key_and_certificates(file.content, password)[0]

    for no_password in (None, b""):  # there are two ways to write a file without one
        try:
            return load(no_password)
        except _NOT_READ as error:
            if "deserialize" in str(error):
                raise ToktoolsError(f"{file.name}: a broken PKCS#12 file") from None
    return _decrypted(file, load, passphrase)


def _decrypted(file: files.Snapshot, load: Callable[[bytes], object | None], passphrase: Secret) -> object | None:
    phrase = passphrase(file.name, "pass phrase")
    try:
        return load(phrase)
    except _NOT_READ as error:
        right_cipher = "password" in str(error)
        reason = "wrong pass phrase" if right_cipher else "wrong pass phrase, or a cipher that is not supported"
        raise ToktoolsError(f"{file.name}: {reason}") from None


def _is_pkcs12(content: bytes) -> bool:
    """Say whether this is a SEQUENCE that begins with the INTEGER 3, the version of a PFX (RFC 7292 section 4)."""
    length = content[1] & 0x7F if len(content) > 1 and content[1] & 0x80 else 0
    return content[:1] == b"\x30" and content[2 + length :].startswith(b"\x02\x01\x03")


def _has_broken_iv(content: bytes) -> bool:
    """Say whether the old PEM encryption has an initialization vector of a wrong size: the library would crash."""
    if b"DEK-Info:" not in content:
        return False
    found = re.search(rb"^DEK-Info: *(\w+)[^,]*,(.*)", content, re.MULTILINE)
    sizes = {b"AES": 32, b"DES": 16}
    return found is not None and len(found[2].strip()) != sizes.get(found[1], len(found[2].strip()))


def _load_public(file: files.Snapshot) -> object | None:
    load = serialization.load_pem_public_key if _is_pem(file) else serialization.load_der_public_key
    try:
        return load(file.content)
    except _NOT_READ:
        return None


def _load_certified(file: files.Snapshot) -> object | None:
    from cryptography import x509

    load = x509.load_pem_x509_certificate if _is_pem(file) else x509.load_der_x509_certificate
    try:
        # The library warns of small sins, such as a serial number of 0, which are not this tool's business.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(file.content).public_key()
    except (*_NOT_READ, x509.InvalidVersion):
        return None


def _not_private(file: files.Snapshot) -> ToktoolsError:
    if _load_public(file) or _load_certified(file):
        return ToktoolsError(f"{file.name}: a public key, where the private key is needed")
    return _unreadable(file, "no private key in PEM or DER")


def _unreadable(file: files.Snapshot, reason: str) -> ToktoolsError:
    if b"BEGIN OPENSSH PRIVATE KEY" in file.content:
        hint = "ssh-keygen -p -m PEM -f COPY rewrites a copy of it in PEM"
        return ToktoolsError(f"{file.name}: a private key in OpenSSH's own format", hint)
    if file.content.startswith(b"ssh-"):
        hint = "ssh-keygen -e -m PKCS8 -f FILE writes it in PEM"
        return ToktoolsError(f"{file.name}: a public key in OpenSSH's own format", hint)
    return ToktoolsError(f"{file.name}: {reason}")


def _not_rsa(file: files.Snapshot, key: object) -> ToktoolsError:
    kind = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    return ToktoolsError(f"{file.name}: the key is {kind}, but CloudHSM takes RSA keys alone")


def _refuse_size(name: str, bits: int) -> None:
    if bits < DOCUMENTED_BITS:
        raise ToktoolsError(f"{name}: the key is RSA-{bits}, but CloudHSM takes RSA-{DOCUMENTED_BITS}")
    if bits % 8 or bits // 8 not in SIGNATURE_SIZES:
        raise ToktoolsError(f"{name}: the key is RSA-{bits}, but the sizes come in steps of 64 bits up to 16384")


def _refuse_broken(file: files.Snapshot, key: RSAPrivateKey) -> None:
    if not _numbers_fit(key):
        raise ToktoolsError(f"{file.name}: a broken key: its numbers do not fit together")


def _numbers_fit(key: RSAPrivateKey) -> bool:
    """Say whether the private numbers belong together (RFC 8017 section 3.2), but for the primality of p and q."""
    numbers = key.private_numbers()
    p, q, d = numbers.p, numbers.q, numbers.d
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    return (
        # Half of n's bits each, in every key that is made; a quarter is allowed for.
        min(p, q).bit_length() > n.bit_length() // 4
        and p & q & e & 1 == 1
        and p != q
        and p * q == n
        and 1 < e < n
        and 1 < d < n
        and e * d % (p - 1) == 1
        and e * d % (q - 1) == 1
        and numbers.dmp1 == d % (p - 1)
        and numbers.dmq1 == d % (q - 1)
        and 0 < numbers.iqmp < p
        and numbers.iqmp * q % p == 1
    )


def _exposed(file: files.Snapshot) -> Iterator[str]:
    mode = stat.S_IMODE(file.status.st_mode)
    if stat.S_ISREG(file.status.st_mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        yield f"{file.name}: others can read this private key (mode {mode:04o}; chmod 600 closes it)"
