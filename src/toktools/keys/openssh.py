"""Keys in OpenSSH's own formats (its PROTOCOL.key, and RFC 4253 section 6.6)."""

from __future__ import annotations

import binascii

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from toktools.errors import ToktoolsError, shown
from toktools.keys import allowed, forms

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.system.prompt import Source

_MAGIC = b"openssh-key-v1\0"
_SIZE = 4
_MAX_SECRET = 1 << 14
"""Bytes of the part that may be encrypted: the numbers of the largest RSA key, and a comment."""
_RSA = b"ssh-rsa"
_KINDS = {
    b"ssh-ed25519": "Ed25519",
    b"ssh-ed448": "Ed448",
    b"ssh-dss": "DSA",
    b"ecdsa-sha2-": "ECDSA",
    b"sk-ssh-ed25519": "Ed25519 on a security key",
    b"sk-ecdsa-sha2-": "ECDSA on a security key",
    b"webauthn-sk-ecdsa-sha2-": "ECDSA on a security key",
}
"""By how the name of a kind begins."""
_CERTIFICATE = b"-cert-v0"
_BROKEN = "a broken key in OpenSSH's format"
_NAMES = (b"ssh-", b"ecdsa-", b"sk-", b"webauthn-")


def is_private(file: forms.KeyFile) -> bool:
    """Say whether the private key of a file is in this format."""
    block = file.first(forms.PRIVATE)
    return block is not None and block.label == forms.OPENSSH


def is_public(file: forms.KeyFile) -> bool:
    """Say whether a file is a public key in this format: a line that begins with the name of its kind."""
    return file.content.lstrip().startswith(_NAMES)


def public(file: forms.KeyFile) -> RSAPublicKey:
    """Read the public key of a line such as "ssh-rsa AAAA...", or of a private key, where it is never encrypted.

    Raises ToktoolsError.
    """
    if is_private(file):
        return _rsa(file.name, _PrivateKey(file).public)
    _, *words = file.content.split(None, 2)
    try:
        return _rsa(file.name, binascii.a2b_base64(words[0]))
    except (binascii.Error, IndexError):
        raise _broken(file.name) from None


def private(file: forms.KeyFile, passphrase: Source) -> object:
    """Read the private key of a file, once its public half has said that it is RSA, and of which size.

    Raises ToktoolsError.
    """
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = _PrivateKey(file)
    _rsa(file.name, key.public)
    if len(key.secret) > _MAX_SECRET:
        raise _broken(file.name)
    allowed.refuse_bcrypt(file.name, key.rounds)
    if key.is_encrypted:
        _need_bcrypt(file.name)
    phrase = passphrase.read(file.name, "pass phrase") if key.is_encrypted else None
    try:
        # Before cryptography 45 the library's test of the primes cannot be left out here.
        return load_ssh_private_key(key.text, phrase)
    except UnsupportedAlgorithm:
        raise ToktoolsError(f"{file.name}: the key is encrypted with a cipher that is not supported") from None
    except (ValueError, TypeError):
        raise (ToktoolsError(f"{file.name}: wrong pass phrase") if phrase else _broken(file.name)) from None


class _PrivateKey:
    """A private key as far as it is not encrypted."""

    def __init__(self, file: forms.KeyFile) -> None:
        block = file.first(forms.PRIVATE)
        content = block.der if block is not None else b""
        self.text = block.text if block is not None else b""
        if not content.startswith(_MAGIC):
            raise forms.refusal(file, _BROKEN)
        try:
            cipher, at = _string(content, len(_MAGIC))
            _, at = _string(content, at)
            options, at = _string(content, at)
            self.public, at = _string(content, at + _SIZE)  # after the number of keys, which is 1
            self.secret, at = _string(content, at)
        except ValueError:
            raise _broken(file.name) from None
        self.is_encrypted = cipher != b"none"
        self.rounds = int.from_bytes(options[-_SIZE:], "big")


def _need_bcrypt(name: str) -> None:
    try:
        import bcrypt  # noqa: F401 - the library wants it
    except ImportError:
        hint = "the extra toktools[ssh] installs it; see tok-sign(1)"
        raise ToktoolsError(f"{name}: an encrypted key in OpenSSH's format needs the package bcrypt", hint) from None


def _rsa(name: str, blob: bytes) -> RSAPublicKey:
    """Return the RSA public key in a blob, which says of which kind it is."""
    try:
        kind, at = _string(blob, 0)
        if kind != _RSA:
            raise _not_rsa(name, kind)
        exponent, at = _string(blob, at)
        modulus, at = _string(blob, at)
        e, n = int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
        allowed.refuse_size(name, n.bit_length())
        if e.bit_length() > n.bit_length():
            raise allowed.broken(name)
        return RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise _broken(name) from None


def _string(content: bytes, at: int) -> tuple[bytes, int]:
    """Return the string that stands here (RFC 4251 section 5), and where it ends, or raise ValueError."""
    start = at + _SIZE
    end = start + int.from_bytes(content[at:start], "big")
    if end > len(content):
        raise ValueError
    return content[start:end], end


def _not_rsa(name: str, kind: bytes) -> ToktoolsError:
    if _CERTIFICATE in kind:
        return ToktoolsError(f"{name}: an OpenSSH certificate, not a key")
    known = [text for beginning, text in _KINDS.items() if kind.startswith(beginning)]
    return allowed.not_rsa(name, known[0] if known else shown(kind[:32].decode(errors="replace")) or "of no kind")


def _broken(name: str) -> ToktoolsError:
    return ToktoolsError(f"{name}: {_BROKEN}")
