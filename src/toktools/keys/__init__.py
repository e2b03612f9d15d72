"""RSA keys in a file or in one of the places of the table below."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module

from toktools.errors import ToktoolsError, shown
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toktools.keys.signer import Signer
    from toktools.signatures import PublicKey
    from toktools.system.prompt import Source

    Warn = Callable[[str], None]

DOCUMENTED_BITS = 2048
"""The size that AWS documents ("Create key pairs for MFA using CloudHSM CLI": RSA_2048)."""
LARGER_BITS = (3072, 4096)
"""Other sizes, which an HSM may take."""

_SCHEMES = {
    "awskms": ("toktools.keys.awskms", "in AWS KMS", "boto3", "kms"),
    "pkcs11": ("toktools.keys.pkcs11", "on a PKCS#11 token", "python-pkcs11", "pkcs11"),
}
"""By the scheme of a URI: the module that opens the signer, where the key is, the package it needs, and the extra."""


def open_signer(key: str, source: Source, warn: Warn) -> Signer:
    """Open the RSA private key *key*: a file, or a URI of one of the schemes.

    *source* is asked for the pass phrase or PIN if one is needed. Raises ToktoolsError.
    """
    source.warn_of_exposure(warn)
    scheme = _scheme(key)
    if not scheme:
        return _open_file(key, source, warn)
    module, where, package, extra = _SCHEMES[scheme]
    opener = import_extra(module, f"a key {where}", package, extra)
    signer: Signer = opener.open_signer(key, source, warn)
    event(f"key {where} opened")
    if signer.public_key is not None:
        check_size(shown(key.partition("?")[0]), signer.public_key, warn)
    return signer


def read_public_key(text: str, warn: Warn) -> PublicKey:
    """Read the RSA public key *text*: a file with a public key, a certificate or a private key, or a URI.

    A person is asked for the PIN if a token needs one. Raises ToktoolsError.
    """
    if _scheme(text):
        from toktools.system.prompt import Source

        public_key = open_signer(text, Source.ask("pin-source=file:PATH in the URI"), warn).public_key
        assert public_key is not None  # noqa: S101 - only that of a command may be unknown
        return public_key
    from toktools.keys import files

    return files.read_public_key(text, warn)


def _scheme(key: str) -> str:
    """Return the scheme of a URI, or an empty string for a file."""
    scheme, colon, _ = key.partition(":")
    scheme = scheme.lower()  # RFC 3986 section 3.1
    return scheme if colon and scheme in _SCHEMES else ""


def import_extra(module: str, what: str, package: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Import a module that needs the package of an extra. Raises ToktoolsError, which says how to install it."""
    try:
        return import_module(module)
    except ImportError:
        hint = f"pip install 'toktools[{extra}]', pipx inject toktools {package}, or the bundle's install.sh"
        raise ToktoolsError(f"{what} needs the package {package}", hint) from None


def check_size(name: str, key: PublicKey, warn: Warn) -> None:
    """Warn about a size that CloudHSM does not document. Raises ToktoolsError for one that it cannot use."""
    bits = key.key_size
    if bits in LARGER_BITS:
        warn(f"{name}: the key is RSA-{bits}; CloudHSM documents only RSA-{DOCUMENTED_BITS}")
    elif bits != DOCUMENTED_BITS:
        raise ToktoolsError(f"{name}: the key is RSA-{bits}, but CloudHSM takes RSA-{DOCUMENTED_BITS}")


def _open_file(path: str, source: Source, warn: Warn) -> Signer:
    from toktools.keys import files

    try:
        return files.open_signer(path, source, warn)
    except ToktoolsError as error:
        if os.path.exists(path):
            raise
        from toktools import hints

        raise ToktoolsError(error.message, error.hint or hints.mistyped_key(path)) from None
