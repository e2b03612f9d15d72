"""RSA keys from files, read by the cryptography package: PEM, DER, PKCS#12 and OpenSSH's format."""

from __future__ import annotations

import re
import warnings
from functools import partial

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import MD5, SHA256, Hash

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.keys import DOCUMENTED_BITS, check_size, import_extra
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

_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----((?:[^-]|-(?!-))*)-----END \1-----")
_OPENSSH_LINE = re.compile(rb"^(?:[^#\n]*[ \t])?((?:ssh|ecdsa|sk)-[a-z0-9@.-]+[ \t]+AAAA\S+)", re.MULTILINE)
"""A public key in OpenSSH's format, with the options that authorized_keys has before it."""
_KMS_ANSWER = re.compile(rb'"?PublicKey"?: *"?(MII[A-Za-z0-9+/]+=*)')
"""The public key in what aws kms get-public-key prints, in JSON or YAML."""
_OPENSSH = b"openssh-key-v1\0"
_OPENSSH_NOT_ENCRYPTED = _OPENSSH + b"\0\0\0\4none"
_PANICS = re.compile(
    rb"DEK-Info: *AES-\d+-CBC,[0-9A-Fa-f]{0,31}\s"
    rb"|\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c\x30.\x04(?:\x08.{8}|\x10.{16})\x02[\x05-\x09]",
    re.DOTALL,
)
"""Where the library's Rust panics, and writes to standard error: a short vector, and rounds of PBKDF2 above 2^31."""
_PSS_ONLY = bytes.fromhex("06092a864886f70d01010a")
"""The object identifier of RSASSA-PSS; the library loads a key that is only for this as a plain RSA key."""
_PSS_ONLY_END = 21
"""The end of its place in a SubjectPublicKeyInfo or PrivateKeyInfo; a certificate has it later, of its issuer."""
_CHANGE_ENCRYPTION = "openssl pkey -in FILE -aes256 -out NEW, or ssh-keygen -p -Z aes256-ctr -f FILE, changes it"
_WRITE_PUBLIC_KEY = "tok-sign -k FILE --public-key writes its public key"


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
        signature = _try(self._key.sign, digest, self._padding, self._hash)
        if signature is None:
            raise ToktoolsError("the key cannot sign: broken, or refused by the library", _settings_hint())
        return signature


def open_file(path: str, source: Source, warn: Warn) -> Signer:
    """Open the RSA private key in a file; *source* is asked for a pass phrase if needed. Raises ToktoolsError."""
    file = _read(path)
    ask = partial(source.read, file.name, "pass phrase")
    if _is_pkcs12(file.content):
        key = _load_pkcs12(file.content, file.name, partial(ask, allow_empty=True))
    else:
        key = _load_private(file.content, file.name, ask)
    if key is None and _load_public(file.content, file.name) is not None:
        raise ToktoolsError(f"{file.name}: a public key or a certificate, not a private key")
    if not isinstance(key, RSAPrivateKey):
        raise _not_rsa(file.content, file.name, key, "private key")
    files.warn_of_exposure(file.name, file.status, "private key", warn)
    return KeyInMemory(key)


def read_public_key(path: str, warn: Warn) -> RSAPublicKey:
    """Read the RSA public key in a file: a public key, a certificate or a private key. Raises ToktoolsError."""
    file = _read(path)
    return parse_public_key(file.content, file.name, warn)


def parse_public_key(content: str | bytes, name: str, warn: Warn = lambda _: None) -> RSAPublicKey:
    """Return the RSA public key in *content*, as read_public_key() does; messages call it *name*."""
    content = content.encode() if isinstance(content, str) else content
    if _is_pkcs12(content):
        hint = "openssl pkcs12 -in FILE -clcerts -nokeys writes its certificate"
        raise ToktoolsError(f"{name}: a PKCS#12 file, but only the public key is needed", hint)
    key = _load_public(content, name)
    if key is None:
        private_key = _load_private(content, name, None)
        key = private_key.public_key() if isinstance(private_key, RSAPrivateKey) else private_key
    if not isinstance(key, RSAPublicKey):
        raise _not_rsa(content, name, key, "public key")
    check_size(name, key, warn)
    return key


def pem(key: RSAPublicKey) -> str:
    """Encode a public key as PEM (SubjectPublicKeyInfo), as openssl rsa -pubout does."""
    public_format = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, public_format).decode()


def _read(path: str) -> files.Snapshot:
    if path == "-":
        raise ToktoolsError("-: a key cannot come from standard input")
    try:
        file = files.read(path, MAX_BYTES)
    except ToktoolsError as error:
        from toktools import hints  # its patterns take longer to compile than a key to load

        raise ToktoolsError(error.message, hints.mistyped_key(path)) from None
    if files.is_stdin(file.status):
        raise ToktoolsError(f"{file.name}: a key cannot come from standard input")
    if not file.content:
        raise ToktoolsError(f"{file.name}: an empty file, not a key")
    return file


def _is_pkcs12(content: bytes) -> bool:
    """Return whether a file begins as a PFX in DER or BER: a SEQUENCE with version 3 and a SEQUENCE (RFC 7292)."""
    return content.startswith(b"\x30") and b"\x02\x01\x03\x30" in content[:10]


def _load_pkcs12(content: bytes, name: str, ask: Callable[[], bytes]) -> object:
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    if encoding.der_size(content) > len(content):
        raise ToktoolsError(f"{name}: a PKCS#12 file that is cut short")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of BER
        key, *_ = _decrypt(partial(load_key_and_certificates, content), name, ask)
    if key is None:
        raise ToktoolsError(f"{name}: contains no private key")
    return key


def _load_private(content: bytes, name: str, ask: Callable[[], bytes] | None) -> object:
    """Return the private key in *content*, of whatever kind, or None.

    *ask* returns the pass phrase; without it, an encrypted key is refused.
    """
    text, der = _find(content, name, b"PRIVATE KEY")
    is_openssh = der.startswith(_OPENSSH)
    load: Callable[[bytes | None], object]
    if is_openssh:
        load = partial(serialization.load_ssh_private_key, text)
    else:
        # The test of the primes takes 35 ms; the verification of each signature makes it needless.
        is_pem = text.startswith(b"-----")
        loader = serialization.load_pem_private_key if is_pem else serialization.load_der_private_key
        load = partial(loader, text, unsafe_skip_rsa_key_validation=True)
    # For an encrypted key the library raises TypeError, but cryptography 43 for OpenSSH's format does not.
    if not is_openssh or der.startswith(_OPENSSH_NOT_ENCRYPTED):
        try:
            return _call(load, None)
        except TypeError:
            pass
        except Exception:  # noqa: BLE001 - whatever the library raises
            return None
    if _PANICS.search(text) or _PANICS.search(der):
        return None
    if ask is None:
        raise ToktoolsError(f"{name}: an encrypted private key, but only the public key is needed", _WRITE_PUBLIC_KEY)
    if is_openssh:
        import_extra("bcrypt", f"{name}: an encrypted key in OpenSSH's format", "bcrypt", "ssh")
    return _decrypt(load, name, ask)


def _decrypt(load: Callable[[bytes], T], name: str, ask: Callable[[], bytes]) -> T:
    phrase = ask()
    try:
        return _call(load, phrase)
    except MemoryError:  # scrypt wants much of it
        raise
    except Exception as error:  # noqa: BLE001 - whatever the library raises
        reason, hint = "no private key can be read", _settings_hint()
        # For a wrong pass phrase and for an unknown cipher it is a ValueError; only the text tells them apart.
        if isinstance(error, UnsupportedAlgorithm) or re.search("nknown (?:cipher|key encryption)", str(error)):
            reason, hint = f"{reason}: its encryption is not supported", hint or _CHANGE_ENCRYPTION
        elif isinstance(error, (TypeError, ValueError, InvalidTag)) and not hint:
            reason = "wrong pass phrase, or a damaged file"
        raise ToktoolsError(f"{name}: {reason}", hint) from None


def _load_public(content: bytes, name: str) -> object | None:
    """Return the public key, of whatever kind, if *content* is a public key or a certificate."""
    if b"-----BEGIN " not in content and (line := _OPENSSH_LINE.search(content)):
        return _try(serialization.load_ssh_public_key, line[1])
    if answer := _KMS_ANSWER.search(content):
        content = encoding.decode_leniently(answer[1])
    _, der = _find(content, name, b"PUBLIC KEY")
    key = _try(serialization.load_der_public_key, der)
    return _load_certificate(content, name) if key is None else key


def _load_certificate(content: bytes, name: str) -> object | None:
    text, der = _find(content, name, b"CERTIFICATE")
    if not der:
        return None
    if text.startswith(b"-----BEGIN TRUSTED "):  # OpenSSL's own data are behind the certificate, a SEQUENCE
        der = der[: 4 + int.from_bytes(der[2:4], "big")]
    from cryptography import x509  # loading it takes half as long as a whole tok-sign

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a serial number of 0, and the like
        certificate = _try(x509.load_der_x509_certificate, der)
        if certificate and certificate.public_key_algorithm_oid == x509.PublicKeyAlgorithmOID.RSASSA_PSS:
            raise _not_for_pkcs1(name)
        return certificate and _try(certificate.public_key)


def _find(content: bytes, name: str, label: bytes) -> tuple[bytes, bytes]:
    """Return the first block of PEM whose label ends in *label*, and the DER in it; or *content* if it is not PEM.

    Raises ToktoolsError for a key that is only for RSASSA-PSS.
    """
    text = der = content
    if b"-----BEGIN " in content:
        block = next((block for block in _PEM_BLOCK.finditer(content) if block[1].endswith(label)), None)
        text, der = (block[0] + b"\n", encoding.decode_leniently(block[2])) if block else (b"", b"")
    if _PSS_ONLY in der[:_PSS_ONLY_END]:
        raise _not_for_pkcs1(name)
    return text, der


def _try(function: Callable[..., T], *arguments: object) -> T | None:
    """Return what a function of the library returns, or None for an error."""
    try:
        return _call(function, *arguments)
    except Exception:  # noqa: BLE001 - ValueError, UnsupportedAlgorithm, InvalidVersion, and what is to come
        return None


def _call(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of the library; a panic of its Rust, which is no Exception, becomes a RuntimeError."""
    try:
        return function(*arguments)
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise RuntimeError from None
        raise


def _not_for_pkcs1(name: str) -> ToktoolsError:
    return ToktoolsError(f"{name}: the key is only for RSASSA-PSS, but CloudHSM takes RSASSA-PKCS1-v1_5")


def _not_rsa(content: bytes, name: str, key: object, needed: str) -> ToktoolsError:
    """Return the error for a file without an RSA key; *key* is the key of another kind in it, or None."""
    if key is not None:
        algorithm = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
        several = len(re.findall(rb"-----BEGIN [A-Z0-9 ]*KEY-----", content)) > 1
        which = "the first key in the file" if several else "the key"
        return ToktoolsError(f"{name}: {which} is {algorithm}, but CloudHSM takes only RSA keys")
    if hint := _settings_hint():
        return ToktoolsError(f"{name}: no {needed} can be read", hint)
    from toktools import hints

    return hints.not_key(name, content, needed)


def _settings_hint() -> str:
    """Return a hint if settings, such as those of FIPS, forbid algorithms that a key may need."""
    if _try(Hash, MD5()):  # noqa: S303 - a test, and the one that all such settings refuse
        return ""
    return "OpenSSL refuses some algorithms, as FIPS does: see OPENSSL_CONF and the file that it names"
