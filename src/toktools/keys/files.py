"""RSA keys from files, read by the cryptography package alone: PEM, DER, PKCS#12 and OpenSSH's format."""

from __future__ import annotations

import binascii
import re
import warnings
from contextlib import suppress
from functools import partial

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import MD5, SHA256, Hash

from toktools.errors import ToktoolsError
from toktools.keys import DOCUMENTED_BITS, check_size
from toktools.keys.signer import Signer
from toktools.system import files, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from toktools.keys import Warn
    from toktools.system.prompt import Source

    T = TypeVar("T")

MAX_BYTES = 1 << 16
"""The size of the largest key file: an RSA-4096 key with a long chain of certificates has some 20,000 bytes."""

_NO_PRIVATE_KEY = "no private key that can be read"
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----((?:[^-]|-(?!-))*)-----END \1-----")
_OPENSSH_LINE = re.compile(rb"(?:ssh|ecdsa|sk)-[a-z0-9@.-]+[ \t]")
_OPENSSH = b"openssh-key-v1\0"
_OPENSSH_NOT_ENCRYPTED = _OPENSSH + b"\0\0\0\4none"
_PKCS12 = re.compile(rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)\x02\x01\x03\x30", re.DOTALL)
"""The beginning of a PFX in DER or BER: a SEQUENCE with version 3 and a SEQUENCE (RFC 7292 section 4)."""
_PSS_ONLY = re.compile(
    rb"\x30(?:\x81.|\x82..)(?:\x02\x01[\x00\x01])?\x30(?:\x81.|[\x00-\x7f])"
    rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
    re.DOTALL,
)
"""The beginning of a SubjectPublicKeyInfo or PrivateKeyInfo for RSASSA-PSS, which the library loads as plain RSA."""


class _UnreadableError(Exception):
    """The library cannot read a key, for another reason than its form or a wrong pass phrase."""


_NOT_READ = (TypeError, ValueError, _UnreadableError)


class KeyInMemory(Signer):
    """An RSA private key in the memory of this process."""

    def __init__(self, key: RSAPrivateKey) -> None:
        super().__init__(key.public_key())
        self._key = key
        self._padding, self._hash = PKCS1v15(), Prehashed(SHA256())
        self.is_quick = key.key_size <= DOCUMENTED_BITS

    def max_parallel(self, requested: int | None) -> int:
        """Return *requested*, or the number of cores on which this process may run."""
        return requested or process.cores()

    def _sign(self, digest: bytes) -> bytes:
        try:
            return _call(self._key.sign, digest, self._padding, self._hash)
        except _NOT_READ:
            raise ToktoolsError("the key cannot sign: broken, or refused by the library", _settings_hint()) from None


def open_signer(path: str, source: Source, warn: Warn) -> Signer:
    """Open the RSA private key in a file. *source* is asked for the pass phrase if one is needed.

    Raises ToktoolsError.
    """
    file = _read(path)
    if _PKCS12.match(file.content):
        key = _load_pkcs12(file.content, file.name, partial(source.read, file.name, "pass phrase", allow_empty=True))
    else:
        key = _load_private(file.content, file.name, partial(source.read, file.name, "pass phrase"))
    if key is None:
        is_public = _load_public(file.content, file.name) is not None
        reason = "a public key, but the private key is needed" if is_public else _NO_PRIVATE_KEY
        raise _not_found(file.content, file.name, reason)
    if not isinstance(key, RSAPrivateKey):
        raise _not_rsa(file.content, file.name, key)
    check_size(file.name, key.public_key(), warn)
    files.warn_of_exposure(file.name, file.status, "private key", warn)
    return KeyInMemory(key)


def read_public_key(path: str, warn: Warn = lambda _: None) -> RSAPublicKey:
    """Read the RSA public key in a file: a public key, a certificate or a private key. Raises ToktoolsError."""
    file = _read(path)
    return parse_public_key(file.content, file.name, warn)


def parse_public_key(content: str | bytes, name: str, warn: Warn = lambda _: None) -> RSAPublicKey:
    """Return the RSA public key in *content*, as read_public_key() does; messages call it *name*."""
    content = content.encode() if isinstance(content, str) else content
    if _PKCS12.match(content):
        hint = "openssl pkcs12 -in FILE -clcerts -nokeys writes its certificate"
        raise ToktoolsError(f"{name}: a PKCS#12 file, but only the public key is needed", hint)
    key = _load_public(content, name)
    if key is None:
        private_key = _load_private(content, name, partial(_refuse_to_ask, name))
        key = private_key.public_key() if isinstance(private_key, RSAPrivateKey) else private_key
    if key is None:
        raise _not_found(content, name, "no public key, certificate or private key that can be read")
    if not isinstance(key, RSAPublicKey):
        raise _not_rsa(content, name, key)
    check_size(name, key, warn)
    return key


def pem(key: RSAPublicKey) -> str:
    """Encode a public key as PEM (SubjectPublicKeyInfo), as openssl rsa -pubout does."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def _read(path: str) -> files.Snapshot:
    if path == "-":
        raise ToktoolsError("-: a key cannot come from standard input")
    file = files.read(path, MAX_BYTES)
    if files.is_stdin(file.status):
        raise ToktoolsError(f"{file.name}: a key cannot come from standard input")
    if not file.content:
        raise ToktoolsError(f"{file.name}: an empty file, not a key")
    return file


def _load_private(content: bytes, name: str, ask: Callable[[], bytes]) -> object:
    """Return the private key in *content*, of whatever kind, or None; *ask* returns the pass phrase."""
    text, der = _find(content, b"PRIVATE KEY")
    if _PSS_ONLY.match(der):
        raise _not_for_pkcs1(name)
    load: Callable[[bytes | None], object]
    if der.startswith(_OPENSSH):
        load = partial(serialization.load_ssh_private_key, text)
    else:
        # The test of the primes takes 35 ms; the verification of each signature makes it needless.
        is_pem = text.startswith(b"-----")
        loader = serialization.load_pem_private_key if is_pem else serialization.load_der_private_key
        load = partial(loader, text, unsafe_skip_rsa_key_validation=True)
    # For an encrypted key the library raises TypeError, but cryptography 43 for OpenSSH's format does not.
    if not der.startswith(_OPENSSH) or der.startswith(_OPENSSH_NOT_ENCRYPTED):
        try:
            return _call(load, None)
        except TypeError:
            pass
        except _NOT_READ:
            return None
    elif not _has_bcrypt():
        hint = "the extra toktools[ssh] installs it; see tok-sign(1)"
        raise ToktoolsError(f"{name}: an encrypted key in OpenSSH's format needs the package bcrypt", hint)
    return _decrypt(load, name, ask)


def _has_bcrypt() -> bool:
    from importlib.util import find_spec

    return bool(find_spec("bcrypt"))


def _load_pkcs12(content: bytes, name: str, ask: Callable[[], bytes]) -> object:
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of BER
        key, *_ = _decrypt(partial(load_key_and_certificates, content), name, ask)
    if key is None:
        raise ToktoolsError(f"{name}: holds no private key")
    return key


def _decrypt(load: Callable[[bytes], T], name: str, ask: Callable[[], bytes]) -> T:
    phrase = ask()
    try:
        return _call(load, phrase)
    except _NOT_READ as error:
        hint = _settings_hint()
        is_unreadable = hint or isinstance(error, _UnreadableError)
        raise ToktoolsError(f"{name}: {_NO_PRIVATE_KEY if is_unreadable else 'wrong pass phrase'}", hint) from None


def _load_public(content: bytes, name: str) -> object | None:
    """Return the public key, of whatever kind, if *content* is a public key or a certificate."""
    line = content.strip()
    if _OPENSSH_LINE.match(line):
        with suppress(*_NOT_READ):
            return _call(serialization.load_ssh_public_key, line)
        return None
    _, der = _find(content, b"PUBLIC KEY")
    if _PSS_ONLY.match(der):
        raise _not_for_pkcs1(name)
    with suppress(*_NOT_READ):
        return _call(serialization.load_der_public_key, der)
    _, der = _find(content, b"CERTIFICATE")
    if not der:
        return None
    from cryptography import x509  # loading it takes half as long as a whole tok-sign

    with suppress(*_NOT_READ), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a serial number of 0, and the like
        certificate = _call(x509.load_der_x509_certificate, der)
        if certificate.public_key_algorithm_oid == x509.PublicKeyAlgorithmOID.RSASSA_PSS:
            raise _not_for_pkcs1(name)
        return _call(certificate.public_key)
    return None


def _find(content: bytes, label: bytes) -> tuple[bytes, bytes]:
    """Return the first block of PEM whose label ends in *label*, and the DER in it; or *content* if it is not PEM."""
    if b"-----BEGIN " not in content:
        return content, content
    block = next((block for block in _PEM_BLOCK.finditer(content) if block[1].endswith(label)), None)
    if block is None:
        return b"", b""
    try:
        der = binascii.a2b_base64(block[2])
    except binascii.Error:  # it is damaged, or has headers, as encrypted PKCS#1 does
        der = b""
    return block[0] + b"\n", der


def _call(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of the library, and raise only _NOT_READ or MemoryError, whatever it raises."""
    try:
        return function(*arguments)
    except (TypeError, ValueError, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # of the library's Rust
            raise _UnreadableError from None
        raise


def _refuse_to_ask(name: str) -> bytes:
    hint = "openssl rsa -in KEY -pubout writes the public key of a private one"
    raise ToktoolsError(f"{name}: an encrypted private key, but only the public key is needed", hint)


def _not_for_pkcs1(name: str) -> ToktoolsError:
    return ToktoolsError(f"{name}: the key is only for RSASSA-PSS, but CloudHSM takes RSASSA-PKCS1-v1_5")


def _not_rsa(content: bytes, name: str, key: object) -> ToktoolsError:
    kind = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    several = len(re.findall(rb"-----BEGIN [A-Z0-9 ]*KEY-----", content)) > 1
    which = "the first key in the file" if several else "the key"
    return ToktoolsError(f"{name}: {which} is {kind}, but CloudHSM takes only RSA keys")


def _not_found(content: bytes, name: str, reason: str) -> ToktoolsError:
    """Return the error for content without the key that is needed, with a hint if it is something else."""
    if hint := _settings_hint():
        return ToktoolsError(f"{name}: {reason}", hint)
    from toktools import hints  # its patterns take longer to compile than a key to load

    return hints.not_key(name, content, reason)


def _settings_hint() -> str:
    """Return a hint if settings, such as those of FIPS, keep the library from algorithms that a key may need."""
    try:
        _call(Hash, MD5())  # noqa: S303 - a test, and the one that all such settings refuse
    except _NOT_READ:
        return "OpenSSL refuses some algorithms, as FIPS does: see OPENSSL_CONF and the file that it names"
    return ""
