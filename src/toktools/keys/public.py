"""A public key: from a file or a text, without any secret."""

from __future__ import annotations

import warnings

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from toktools.errors import ToktoolsError
from toktools.keys import allowed, forms, openssh
from toktools.keys.file import kind, load, refuse_broken
from toktools.system.prompt import Source

_NOT_READ = (ValueError, UnsupportedAlgorithm, InternalError)


def read(path: str) -> RSAPublicKey:
    """Read an RSA public key of 2,048 bits or more: a public key, a certificate or a private key, in PEM or DER.

    Or in OpenSSH's own formats. Raises ToktoolsError for anything else, an encrypted private key among it: to verify
    takes no secret.
    """
    return _read(forms.read(path))


def parse(content: str | bytes, name: str) -> RSAPublicKey:
    """Read an RSA public key as read() does, from a text that is not a file but has a name."""
    return _read(forms.KeyFile(name, content.encode() if isinstance(content, str) else content))


def pem(key: RSAPublicKey) -> str:
    """Return a public key as PEM, SubjectPublicKeyInfo, as openssl rsa -pubout writes it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def _read(file: forms.KeyFile) -> RSAPublicKey:
    if not file.is_pem and openssh.is_public(file):
        return openssh.public(file)
    key = _plain(file) or _certified(file) or _of_private(file)
    if not isinstance(key, RSAPublicKey):
        raise allowed.not_rsa(file.name, kind(key))
    allowed.refuse_size(file.name, key.key_size)
    return key


def _plain(file: forms.KeyFile) -> object | None:
    block = file.first(forms.PUBLIC)
    if block is None:
        return None
    allowed.refuse_unfit(file.name, block.der)
    load_block = serialization.load_pem_public_key if block.label is not None else serialization.load_der_public_key
    try:
        return load_block(block.text)
    except _NOT_READ:
        return None


def _certified(file: forms.KeyFile) -> object | None:
    block = file.first(forms.CERTIFICATE)
    if block is None:
        return None
    from cryptography import x509

    allowed.refuse_unfit(file.name, block.der)
    load_block = x509.load_pem_x509_certificate if block.label is not None else x509.load_der_x509_certificate
    try:
        # The library warns of small sins, such as a serial number of 0, which are not this tool's business.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_block(block.text).public_key()
    except (*_NOT_READ, x509.InvalidVersion):
        return None


def _of_private(file: forms.KeyFile) -> object:
    if openssh.is_private(file):
        return openssh.public(file)
    if any(forms.shape(block.der).kind == forms.PKCS12 for block in file.blocks):
        hint = "openssl pkcs12 -in FILE -clcerts -nokeys writes its certificate"
        raise ToktoolsError(f"{file.name}: a PKCS#12 file, but only the public key is needed", hint)
    key = load(file, _NoSource("-p", "ask"))
    if key is None:
        raise forms.refusal(file, "no public key, certificate or private key in PEM or DER")
    if not isinstance(key, RSAPrivateKey):
        return key
    refuse_broken(file.name, key)
    return key.public_key()


class _NoSource(Source):
    def read(self, name: str, what: str) -> bytes:
        del what
        hint = "openssl rsa -in KEY -pubout writes the public key of a private one"
        raise ToktoolsError(f"{name}: an encrypted private key, but only the public key is needed", hint)
